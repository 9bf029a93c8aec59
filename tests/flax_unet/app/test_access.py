"""Everyone can use the page: axe-core finds nothing serious, and keys are enough."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, HttpCredentials, Page, Route, expect

from flax_unet.app import page as served
from flax_unet.app.judge import Judge
from flax_unet.checkpoint.worth import UNKNOWN
from tests.flax_unet.app.browser import PATIENCE, judged, needs_browser
from tests.flax_unet.app.screenshots import EXAMPLES, film
from tests.flax_unet.samples import small_checkpoint

pytestmark = needs_browser
LOOKS = {
    "light": {"viewport": {"width": 1366, "height": 768}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1366, "height": 768}, "color_scheme": "dark"},
    "phone": {
        "viewport": {"width": 390, "height": 844},
        "color_scheme": "light",
        "has_touch": True,
    },
}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("served")
    judge = Judge(small_checkpoint(tmp_path_factory.mktemp("model")))
    judge.worth = UNKNOWN.measured("52 frames of some faces, split test: AUC 0.978")
    place, limits = served.Place("127.0.0.1", 0), served.Limits(2**20)
    with served.serve(judge, folder, place, limits) as url:
        yield url


def serious(page: Page) -> list[str]:
    """What axe-core finds to be serious or critical."""
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [
        f"{one['id']}: {node['html'][:120]} {node['failureSummary']}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


def is_as_wide_as_the_window(page: Page) -> bool:
    return page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("look", LOOKS)
def test_nothing_serious(browser: Browser, url: str, look: str, tmp_path: Path) -> None:
    """At the start, with a picture, a video of two people, an error, and all that is folded."""
    context = browser.new_context(**LOOKS[look])
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(url)

    def check() -> None:
        assert serious(page) == []
        assert is_as_wide_as_the_window(page)

    check()
    page.get_by_text("Options").click()
    page.locator(".worth summary").click()
    expect(page.locator(".worth dt").first).to_be_visible()
    judged(page, EXAMPLES / "3_both.jpg")
    page.get_by_text("Details and figures").click()
    check()
    judged(page, film(tmp_path / "two people.mp4"))
    expect(page.locator(".person")).to_have_count(2)
    for folded in ("Details and figures", "The most suspicious moments"):
        page.get_by_text(folded).click()
    check()
    (tmp_path / "broken.mp4").write_bytes(b"this is not a video")
    page.locator("#file").set_input_files(tmp_path / "broken.mp4")
    page.get_by_role("alert").wait_for()
    check()
    page.get_by_role("button", name="Take a picture").click()
    check()
    page.goto(f"{url}card")
    check()
    context.close()


def test_a_long_name_and_a_long_sentence_have_room(
    browser: Browser, url: str, tmp_path: Path
) -> None:
    """Beside a picture on a desktop: the name is whole, the sentence has four lines at most."""
    path = tmp_path / "two people at the station.jpg"
    path.write_bytes((EXAMPLES / "3_both.jpg").read_bytes())
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.goto(url)
    judged(page, path)
    name, headline = page.locator("#files .name"), page.locator("#verdict h2")
    assert name.evaluate("of => of.scrollHeight <= of.clientHeight")
    assert name.evaluate("of => of.scrollWidth <= of.clientWidth")
    said = "Too close to call on average, but from 0:02 to 0:07 person 1 looks forged."
    headline.evaluate("(h2, said) => { h2.textContent = said; }", said)
    lines = "h2 => h2.clientHeight / parseFloat(getComputedStyle(h2).lineHeight)"
    assert headline.evaluate(lines) <= 4.5
    page.close()


def test_the_threshold_has_a_mark_and_a_number(browser: Browser, url: str) -> None:
    """On a phone, wherever the threshold is; who cannot see the scale gets both numbers."""
    context = browser.new_context(**LOOKS["phone"])
    page = context.new_page()
    page.goto(url)
    judged(page, EXAMPLES / "1_real.jpg")
    number = page.locator(".scale .threshold")
    expect(number).to_have_text("called forged from 50% on")
    scale = page.get_by_role("img", name=re.compile(r"forgery: .*%\. Called forged from 50% on"))
    for threshold in (50, 2, 98):
        scale.evaluate(f"scale => scale.style.setProperty('--from', '{threshold}%')")
        mark, whole = page.locator(".scale i").bounding_box(), scale.bounding_box()
        words = number.bounding_box()
        assert mark is not None
        assert whole is not None
        assert words is not None
        middle = mark["x"] + mark["width"] / 2
        assert abs(middle - whole["x"] - threshold / 100 * whole["width"]) < 1
        assert whole["x"] - 1 <= words["x"] <= middle
        assert middle <= words["x"] + words["width"] <= whole["x"] + whole["width"] + 1
        assert is_as_wide_as_the_window(page)
    context.close()


def test_keys_are_enough(browser: Browser, url: str) -> None:
    """An example is judged, shown again and removed without a mouse."""
    page = browser.new_page()
    page.goto(url)

    def reach(name: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate(NAME) == name:
                return
        raise AssertionError(f"{name} is not reached by Tab")

    reach("A real photograph: an astronaut")
    page.keyboard.press("Enter")
    expect(page.locator("#verdict .file")).to_have_text("1_real.jpg")
    expect(page.locator("#verdict[aria-live], [aria-live] #verdict")).to_have_count(1)
    page.locator("#verdict h2").wait_for()
    page.reload()
    page.locator(".welcome").wait_for()
    reach("Both in one picture")
    page.keyboard.press("Enter")
    page.locator("#picture").wait_for()
    page.locator("#file").focus()
    reach("Remove 3_both.jpg")
    page.keyboard.press("Enter")
    page.locator(".welcome").wait_for()
    expect(page.locator("#file")).to_be_focused()
    page.close()


NAME = """() => {
    const element = document.activeElement;
    return element.ariaLabel ?? element.textContent.trim();
}"""


def test_several_files_and_cancel(browser: Browser, url: str, tmp_path: Path) -> None:
    """Each has its place in the list; one that waits can be taken away."""
    names = [f"{number}.png" for number in range(4)]
    for name in names:
        Image.open(EXAMPLES / "1_real.jpg").save(tmp_path / name)
    page = browser.new_page()
    page.goto(url)
    long = film(tmp_path / "long.mp4")
    page.locator("#file").set_input_files([long, *(tmp_path / name for name in names)])
    page.get_by_role("button", name="Cancel 3.png").or_(
        page.get_by_role("button", name="Remove 3.png")
    ).click()
    expect(page.locator("#files .name")).to_have_text(["long.mp4", *names[:3]])
    expect(page.locator("#files :is(.real, .fake, .open)")).to_have_count(4)
    page.locator("#files .pick", has_text="1.png").click()
    expect(page.locator("#verdict .file")).to_have_text("1.png")
    expect(page.locator("#files [aria-current=true]")).to_contain_text("1.png")
    page.close()


def test_cancelled_when_it_has_just_arrived(browser: Browser, url: str) -> None:
    """The server has it already, and the page does not know that yet."""
    page, held = browser.new_page(), []

    def hold(route: Route) -> None:
        if route.request.method == "POST":
            held.append((route, route.fetch()))
        else:
            route.continue_()

    page.goto(url)
    page.route("**/files*", hold)
    page.locator("#file").set_input_files(EXAMPLES / "1_real.jpg")
    expect(page.locator("#files li:not(.sending)")).to_have_count(1)  # so says the server
    page.locator("#files .sending .away").click()
    ((route, answer),) = held
    route.fulfill(response=answer)
    expect(page.locator("#files li")).to_have_count(0)
    page.close()


def test_picture_of_the_camera(browser: Browser, url: str) -> None:
    context = browser.new_context(permissions=["camera"])
    page = context.new_page()
    page.goto(url)
    page.get_by_role("button", name="Take a picture").click()
    page.get_by_role("button", name="Take it").click()
    expect(page.locator("#verdict .file")).to_contain_text("camera")
    expect(page.locator("#verdict h2")).to_have_text("No verdict: no face was found.")
    context.close()


def test_the_model_is_described(browser: Browser, tmp_path: Path) -> None:
    """By the checkpoint's README.md, as text; the page says what the weights are worth."""
    model = small_checkpoint(tmp_path)
    card = "# Card\n<script>alert(1)</script> ŻÓŁĆ"
    (model / "README.md").write_text(f'---\nlibrary_name: "flax-unet"\n---\n\n{card}')
    (tmp_path / "served").mkdir()
    place, limits = served.Place("127.0.0.1", 0), served.Limits(2**20)
    with served.serve(Judge(model), tmp_path / "served", place, limits) as url:
        page = browser.new_page()
        page.goto(url)
        expect(page.locator(".worth")).to_contain_text("How far to trust it")
        with page.expect_popup() as popup:
            page.get_by_role("link", name="About the model").click()
        expect(popup.value.locator("pre")).to_have_text(card)
        expect(popup.value.locator("section").first).to_contain_text(UNKNOWN.sentence)
        page.close()


def test_page_with_a_password(browser: Browser, tmp_path: Path) -> None:
    """All that the page asks for carries the password; without it, it does not open."""
    (tmp_path / "served").mkdir()
    place, limits = served.Place("127.0.0.1", 0), served.Limits(2**20)
    judge = Judge(small_checkpoint(tmp_path))
    with served.serve(judge, tmp_path / "served", place, limits, {"anna": "s3:cret"}) as url:
        who: HttpCredentials = {"username": "anna", "password": "s3:cret"}
        context = browser.new_context(http_credentials=who)
        page = context.new_page()
        page.goto(url)
        judged(page, EXAMPLES / "1_real.jpg")
        context.close()
        page = browser.new_page()
        assert page.request.get(url).status == 401
        page.close()
