"""Makes the pictures of the page in docs/: `python -m tests.flax_unet.app.screenshots CHECKPOINT`.

They show public-domain photographs; see flax_unet/app/examples/README.md.
"""

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from flax_unet.app import page as served
from flax_unet.app.judge import Judge
from flax_unet.media.videos import VideoWriter
from tests.flax_unet.app.browser import BROWSER, NO_CALLS, judged
from tests.flax_unet.samples import photo

DOCS = Path(__file__).parents[3] / "docs"
EXAMPLES = Path(served.__file__).parent / "examples"
DESKTOP, PHONE = (1440, 900), (390, 844)
RATE, SECONDS = 12, 8
SOUGHT = """film => new Promise((done) => {
    const look = () => film.seeking || film.readyState < 4 ? requestAnimationFrame(look)
        : setTimeout(done, 1500);  // the browser's own controls fade
    look();
})"""


def film(path: Path) -> Path:
    """Two people beside each other; the right one has another face for some of the time."""
    real = photo().crop((40, 0, 512, 512)).resize((350, 380))
    both = Image.open(EXAMPLES / "3_both.jpg").convert("RGB")
    with VideoWriter(path, (760, 428), RATE) as writer:
        for number in range(RATE * SECONDS):
            scene = both.copy()
            if not 2 * RATE < number < 6 * RATE:
                scene.paste(real, (350, 0))
            drift = number / (RATE * SECONDS)
            width = round(700 - 60 * drift)
            scene = scene.crop((0, 0, 700, 380)).crop((700 - width, 0, 700, 380))
            writer.write(scene.resize((760, 428)), number / RATE)
    return path


@contextlib.contextmanager
def page(browser: Browser, url: str, size: tuple[int, int], scheme: str) -> Iterator[Page]:
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    page = context.new_page()
    page.goto(url)
    yield page
    context.close()


def take(page: Page, name: str, *, whole: bool = False) -> None:
    """A picture of at most 128 colours, which is small."""
    path = DOCS / f"page-{name}.png"
    page.mouse.move(0, 0)
    page.screenshot(path=path, full_page=whole)
    picture = Image.open(path).convert("RGB")
    few = picture.quantize(128, Image.Quantize.FASTOCTREE)
    picture.quantize(palette=few, dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)
    print(path.name, path.stat().st_size)


def main(checkpoint: Path) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        served.serve(
            Judge(checkpoint),
            Path(folder),
            served.Place("127.0.0.1", 0),
            served.Limits(200 * 2**20),
        ) as url,
        sync_playwright() as playwright,
        tempfile.TemporaryDirectory() as own,
    ):
        browser = playwright.chromium.launch(executable_path=BROWSER, args=NO_CALLS.split())
        video = film(Path(own) / "two people.mp4")
        broken = Path(own) / "interview.mp4"
        broken.write_bytes(b"this is not a video")
        for size, scheme, device in (
            (DESKTOP, "light", "desktop"),
            (DESKTOP, "dark", "dark"),
            (PHONE, "light", "phone"),
        ):
            whole = device == "phone"
            with page(browser, url, size, scheme) as one:
                one.locator(".examples img").last.evaluate("image => image.decode()")
                take(one, f"{device}-start", whole=whole)
                judged(one, EXAMPLES / "3_both.jpg")
                take(one, f"{device}-picture", whole=whole)
                judged(one, video)
                one.locator(".lane").last.click(position={"x": 150, "y": 20})
                one.locator("#video video").evaluate(SOUGHT)
                take(one, f"{device}-video", whole=whole)
                one.locator("#file").set_input_files(broken)
                one.get_by_role("alert").wait_for()
                take(one, f"{device}-error", whole=whole)
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
