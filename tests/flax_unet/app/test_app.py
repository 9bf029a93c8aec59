"""The page: what it says is what `Detector` says, and it says so in a browser."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Dialog, Locator, Page, expect

from flax_unet.app import __main__ as app
from flax_unet.app import html as page_html
from flax_unet.app import judge as judging
from flax_unet.app import page as serving
from flax_unet.app import queue as queueing
from flax_unet.app import templates
from flax_unet.app.judge import Judge
from flax_unet.app.queue import AWAY, KEPT
from flax_unet.checkpoint.worth import UNKNOWN, Worth
from flax_unet.detector import Detector
from flax_unet.media.faces import FaceFinder, find
from flax_unet.media.images import read_image
from flax_unet.media.videos import Sampling, VideoWriter
from flax_unet.predict import __main__ as predict
from flax_unet.utils.errors import InputError
from tests.flax_unet.app.browser import PATIENCE, judged, needs_browser
from tests.flax_unet.app.test_queue import StandIn
from tests.flax_unet.samples import CLIP, needs_shared, png_of_size, small_checkpoint

EXAMPLES = Path(judging.__file__).parent / "examples"
FACE, FACES = EXAMPLES / "2_forged.jpg", EXAMPLES / "3_both.jpg"
SAID = {"REAL": "real", "FAKE": "forged"}
FRAMES, RATE = 20, 10.0
# Put in the server's way: it notes every address that the server asks for or connects to.
WITNESS = """\
import os, sys

def note(event, args):
    if event in ("socket.connect", "socket.getaddrinfo"):
        address = args[1] if event == "socket.connect" else args[0]
        host = address[0] if isinstance(address, tuple) else address
        with open(os.environ["WITNESS"], "a") as file:
            print(host, file=file)

sys.addaudithook(note)
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def judge(checkpoint: Path) -> Judge:
    return Judge(checkpoint)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A face that grows darker."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    face = np.asarray(read_image(FACE))
    with VideoWriter(path, (256, 256), RATE) as film:
        for number in range(FRAMES):
            film.write(Image.fromarray((face * (1 - number / (2 * FRAMES))).astype(np.uint8)))
    return path


def test_a_picture_of_two_faces(judge: Judge, checkpoint: Path, tmp_path: Path) -> None:
    report = judge(FACES, tmp_path)
    picture = read_image(FACES)
    boxes = find(FaceFinder(), picture, "auto").boxes
    verdicts = Detector.from_checkpoint(checkpoint)([picture, picture], list(boxes))
    reals = [verdict.real_probability for verdict in verdicts]
    assert report.result.decision.real_probability == min(
        real for real in reals if real is not None
    )
    assert [face.verdict.real_probability for face in report.faces] == sorted(reals)  # type: ignore[type-var]
    assert "that of the face that looks forged most" in page_html.verdict(report)
    html = page_html.picture(report)
    assert html.count('class="heat"') == html.count('class="box') == 2
    partly = [face.mask is not None and 0 < face.mask.mean() < 1 for face in verdicts]
    assert html.count('class="contour"') == sum(partly)
    assert page_html.faces(report).count("<figure") == 2


def test_a_video_is_judged_as_far_as_the_limit(
    judge: Judge, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "MOST_FRAMES", 5)
    monkeypatch.setattr(judging, "MOST_FACES", 3)
    progress: list[tuple[int, int | None]] = []
    report = judge(clip, tmp_path, "none", Sampling(every=2), lambda *done: progress.append(done))
    assert [frame.index for frame in report.result.frames] == [0, 2, 4, 6, 8]
    assert progress == [(done, 5) for done in range(1, 6)]
    assert any("only the first 5" in note for note in report.result.notes)
    assert report.end == 0.8  # seconds
    assert report.faces_found == 5
    fakes = [face.verdict.fake_probability for face in report.faces]
    every = [frame.decision.fake_probability or 0.0 for frame in report.result.frames]
    assert fakes == sorted(every, reverse=True)[:3]
    assert report.frame is not None
    assert report.frame.verdicts[0].fake_probability == max(every)
    assert "mean over the frames of the person who looks forged most" in page_html.verdict(report)


def test_faces_are_judged_as_far_as_the_limits(
    judge: Judge, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a picture or frame, and those of all frames of a video; the page says so."""
    monkeypatch.setattr(judging, "MOST_AT_ONCE", 1)
    monkeypatch.setattr(judging, "MOST_JUDGED", 3)
    (tmp_path / "picture").mkdir()
    report = judge(FACES, tmp_path / "picture")
    assert report.faces_found == len(report.faces) == 1
    note = "at most 1 faces of a picture are judged, the largest"
    assert report.result.notes == [note]
    assert note in page_html.verdict(report)
    (tmp_path / "video").mkdir()
    report = judge(clip, tmp_path / "video", "none", Sampling(every=2))
    assert [frame.index for frame in report.result.frames] == [0, 2, 4]
    assert report.result.notes == [
        "at most 1 faces of a frame are judged, the largest",
        "only the first 3 of the chosen frames were judged: they have 3 faces",
    ]
    assert report.end == 0.4


@pytest.mark.parametrize("pixels", [10 * 2**16, FRAMES * 2**16])
def test_a_video_is_decoded_as_far_as_the_limit(
    pixels: int, judge: Judge, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The headline says so, unless the frames are spread over the whole of it all the same."""
    monkeypatch.setattr(judging, "MOST_PIXELS", pixels)
    for sampling in (Sampling(every=3), Sampling(frames=3)):
        directory = tmp_path / str(sampling.frames)
        directory.mkdir()
        report = judge(clip, directory, "none", sampling)
        is_cut = pixels < FRAMES * 2**16 and sampling.frames is None
        assert report.end == (0.9 if is_cut else None)
        assert ("Only the first " in page_html.verdict(report)) == is_cut


def test_the_command_sets_the_threshold(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It decides, the page shows it, and so do the results."""
    reports = []

    def judge_one(judge: Judge, *_: object) -> None:
        reports.append(judge(FACE, tmp_path))
        raise InputError("that is enough")

    monkeypatch.setattr(serving, "serve", judge_one)
    with pytest.raises(SystemExit):
        app.main([str(checkpoint), "--threshold", "0.9"])
    (report,) = reports
    assert report.result.decision.threshold == 0.9
    assert "called forged from 90% on" in page_html.verdict(report)
    found = json.loads((tmp_path / "results" / "predictions.json").read_text())
    assert found["options"]["threshold"] == 0.9


@pytest.mark.parametrize("suffix", ["png", "webm"])
def test_a_broken_file_is_reported(judge: Judge, tmp_path: Path, suffix: str) -> None:
    """Neither where the server keeps it nor what its name would do as HTML gets to the page."""
    path = tmp_path / f"<img src=x onerror=alert(1)>.{suffix}"
    path.write_bytes(b"this is neither")
    (tmp_path / "out").mkdir()
    report = judge(path, tmp_path / "out")
    html = page_html.verdict(report)
    assert 'role="alert"' in html
    assert "known format" in html
    assert "MP4" in html
    assert "<img" not in html
    assert str(tmp_path) not in html + json.dumps(report.result.to_json())
    assert page_html.picture(report) == page_html.faces(report) == page_html.timeline(report) == ""


def test_a_picture_that_is_too_large_names_no_option_of_a_command(
    judge: Judge, tmp_path: Path
) -> None:
    (tmp_path / "large.png").write_bytes(png_of_size(100_000, 100_000))
    (tmp_path / "out").mkdir()
    html = page_html.verdict(judge(tmp_path / "large.png", tmp_path / "out"))
    assert "make it smaller." in html
    assert "--" not in html


def test_no_face(judge: Judge, tmp_path: Path) -> None:
    Image.new("RGB", (300, 200), "grey").save(tmp_path / "wall.png")
    (tmp_path / "out").mkdir()
    report = judge(tmp_path / "wall.png", tmp_path / "out")
    assert "No verdict" in page_html.verdict(report)
    assert "no face found" in page_html.verdict(report)
    assert 'class="photo"' in page_html.picture(report)
    assert not page_html.has_heat(report)


def test_heads_that_a_network_lacks_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "classifier").mkdir()
    report = Judge(small_checkpoint(tmp_path, "classifier-224"))(FACE, tmp_path / "classifier")
    assert SAID[str(report.result.decision.verdict)] in page_html.verdict(report)
    assert "This model does not mark what was altered" in page_html.verdict(report)
    assert not page_html.has_heat(report)
    assert "marked" not in page_html.faces(report)

    (tmp_path / "segmenter").mkdir()
    report = Judge(small_checkpoint(tmp_path, "segmenter-224"))(FACE, tmp_path / "segmenter")
    assert "This model gives no verdict" in page_html.verdict(report)
    assert "is marked as altered" in page_html.verdict(report)
    assert 'class="bar' not in page_html.verdict(report)
    assert page_html.has_heat(report)
    assert "forgery" not in page_html.faces(report)


def test_banner_on_the_weights_is_text() -> None:
    judge = StandIn()
    judge.worth = Worth("<script>alert(1)</script> & more")
    for text in (templates.page(judge, 2**20, ""), templates.card(judge, "")):
        assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in text
        assert "<script>" not in text


def test_where_files_go_is_said_on_every_device() -> None:
    text = " ".join(templates.page(StandIn(), 2**20, "").split())
    assert "sent to the computer that runs this page" in text
    assert "on a phone or another computer, they leave that device" in text
    assert "deleted when you close or reload the page" in text
    assert f"without a connection for {AWAY / 60:g} minutes" in text
    assert f"after {KEPT / 3600:g} hours at the latest" in text


class Served(NamedTuple):
    url: str
    folder: Path  # for temporary files

    def results(self) -> set[Path]:
        return set(self.folder.glob("*/*/results"))


class Visit(NamedTuple):
    page: Page
    requests: list[str]  # URLs
    errors: list[str]  # of scripts


@pytest.fixture(scope="module")
def served(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The command, running. Ended, it leaves nothing, and was in touch with this host alone."""
    place = tmp_path_factory.mktemp("server")
    (place / "sitecustomize.py").write_text(WITNESS)
    (place / "tmp").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["-m", "flax_unet.app", str(checkpoint), "--port", str(port), "--max-upload", "1"]
    place_of = {"PYTHONPATH": place, "TMPDIR": place / "tmp", "WITNESS": place / "hosts"}
    with (
        (place / "errors").open("w") as errors,
        subprocess.Popen(
            [sys.executable, *command],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=os.environ | {name: str(path) for name, path in place_of.items()},
        ) as server,
    ):
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            assert f"http://127.0.0.1:{port}/" in line, (place / "errors").read_text()
            yield Served(f"http://127.0.0.1:{port}/", place / "tmp")
        finally:
            server.terminate()
            assert server.wait(60) == 128 + signal.SIGTERM
    assert "Traceback" not in (place / "errors").read_text()
    assert not list((place / "tmp").iterdir())
    assert set((place / "hosts").read_text().split()) <= {"127.0.0.1", "localhost"}


@pytest.fixture
def visit(served: Served, browser: Browser) -> Iterator[Visit]:
    with browser.new_page() as page:
        page.set_default_timeout(PATIENCE)
        visit = Visit(page, [], [])
        page.on("request", lambda request: visit.requests.append(request.url))
        page.on("pageerror", lambda error: visit.errors.append(str(error)))
        page.goto(served.url)
        yield visit
    assert visit.errors == []
    assert {urlsplit(url).hostname for url in visit.requests} <= {"127.0.0.1", None}
    assert {urlsplit(url).scheme for url in visit.requests} <= {"http", "data", "blob"}


def probabilities(page: Page) -> dict[str, str]:
    page.get_by_text("Details and figures").click()
    return {name: page.locator(f"#verdict output.{name}").inner_text() for name in ("real", "fake")}


# Resolves when a video has come to a time.
PLAYED = """(video, seconds) => new Promise((done) => {
    const look = () => video.currentTime >= seconds ? done() : requestAnimationFrame(look);
    look();
})"""


def seek(page: Page, video: Locator) -> None:
    """Goes about in the video by its timeline: with the mouse, and with the keys."""
    lane = page.get_by_role("slider", name="Person 1")
    size = lane.bounding_box()
    assert size is not None
    lane.click(position={"x": size["width"] * 0.75, "y": size["height"] / 2})
    assert abs(video.evaluate("video => video.currentTime") - 0.75 * FRAMES / RATE) < 0.05
    expect(lane).to_have_attribute("aria-valuetext", re.compile(r"^1\.5 s: forgery .*%$"))
    lane.press("ArrowRight")
    expect(lane).to_have_attribute("aria-valuetext", re.compile(r"^1\.6 s: "))
    lane.press("Home")
    expect(lane).to_have_attribute("aria-valuetext", re.compile(r"^0\.0 s: "))
    page.get_by_role("button", name="Most suspicious moment").click()
    expect(page.locator("#picture")).to_be_visible()
    lane.press("End")
    expect(lane).to_have_attribute("aria-valuetext", re.compile(r"^1\.9 s: "))
    expect(page.locator("#picture")).to_be_hidden()
    expect(video).to_be_visible()


def downloaded(page: Page, folder: Path) -> dict[str, bytes]:
    with page.expect_download() as download:
        page.locator("#archive").click()
    download.value.save_as(folder / "results.zip")
    assert download.value.suggested_filename.endswith(".zip")
    with zipfile.ZipFile(folder / "results.zip") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@needs_browser
def test_page_with_a_picture(visit: Visit, checkpoint: Path, tmp_path: Path) -> None:
    page = visit.page
    expect(page.locator(".worth span")).to_have_text(UNKNOWN.in_short)
    expect(page.locator(".worth p")).to_be_hidden()
    page.locator(".worth summary").click()
    expect(page.locator(".worth p")).to_have_text(f"As recorded: {UNKNOWN.sentence}")
    judged(page, FACE)
    picture = read_image(FACE)
    boxes = find(FaceFinder(), picture, "auto").boxes
    (verdict,) = Detector.from_checkpoint(checkpoint)([picture], list(boxes))
    real, share = verdict.real_probability, verdict.manipulated_share
    assert real is not None
    said = SAID["REAL" if real > 0.5 else "FAKE"]
    is_close = abs(real - 0.5) < 0.1
    headline = "Too close to call." if is_close else f"The face in this picture looks {said}."
    expect(page.locator("#verdict h2")).to_have_text(headline)
    if is_close:
        expect(page.locator("#verdict .sure")).to_contain_text(f"leaning towards {said}")
    assert probabilities(page) == {"real": f"{real:.4f}", "fake": f"{1 - real:.4f}"}
    expect(page.locator("#verdict")).to_contain_text(f"{share:.1%} of the face's area")
    expect(page.locator("#faces figure")).to_have_count(1)
    expect(page.locator("#video")).to_have_count(0)

    slider, layers = page.locator("input[type=range]"), page.locator("#picture .layers")
    asked = len(visit.requests)
    pictures = []
    for opacity in ("0", "100"):
        slider.fill(opacity)
        expect(page.locator("#picture .heat")).to_have_css("opacity", str(int(opacity) // 100))
        pictures.append(layers.screenshot(animations="disabled"))
    assert pictures[0] != pictures[1]
    assert visit.requests[asked:] == []  # no network of either kind

    files = downloaded(page, tmp_path)
    assert set(files) == {
        *("predictions.json", "predictions.csv"),
        *("2_forged.mask.png", "2_forged.overlay.png"),
    }
    (result,) = json.loads(files["predictions.json"])["files"]
    assert result["file"] == FACE.name
    assert abs(result["real_probability"] - real) < 1e-6


@needs_browser
def test_page_with_a_video(visit: Visit, clip: Path, tmp_path: Path) -> None:
    page = visit.page
    judged(page, clip)
    expect(page.locator("#verdict")).to_contain_text("mean over the frames of the person")
    expect(page.locator("#verdict")).to_contain_text(f"frames judged: {FRAMES}")
    expect(page.locator(".person")).to_have_count(1)
    expect(page.locator("#faces figure")).to_have_count(judging.MOST_FACES)
    video = page.locator("#video video")
    video.evaluate("video => { video.muted = true; return video.play() }")
    video.evaluate(PLAYED, 0.5)
    assert video.evaluate("video => video.readyState") >= 2
    assert video.evaluate("video => video.videoWidth") == 256
    assert abs(video.evaluate("video => video.duration") - FRAMES / RATE) < 2 / RATE
    seek(page, video)

    files = downloaded(page, tmp_path)
    (result,) = json.loads(files["predictions.json"])["files"]
    assert probabilities(page)["fake"] == f"{result['fake_probability']:.4f}"
    assert len(result["frames"]) == FRAMES
    assert files[result["overlay"]][4:8] == b"ftyp"
    assert files[result["timeline"]].startswith(b"\x89PNG")
    assert files["predictions.csv"].count(b"\n") == 3 + FRAMES  # head, file, person


@needs_browser
def test_page_goes_on_after_what_it_cannot_judge(
    visit: Visit, served: Served, tmp_path: Path
) -> None:
    page = visit.page
    (tmp_path / "broken.png").write_bytes(b"this is not a picture")
    page.locator("input[type=file]").set_input_files(tmp_path / "broken.png")
    expect(page.get_by_role("alert")).to_contain_text(
        "broken.png is not a picture",
    )
    expect(page.locator("#archive")).to_be_hidden()

    page.get_by_label("Remove broken.png").click()
    expect(page.locator("#files li")).to_have_count(0)
    noise = np.random.default_rng(0).integers(0, 256, (700, 700, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "large.png")
    page.locator("input[type=file]").set_input_files(tmp_path / "large.png")
    page.get_by_text("maximum allowed size").wait_for()

    page.reload()
    page.get_by_text("Both in one picture").click()
    expect(page.locator("#faces figure")).to_have_count(2)
    kept = served.results()
    page.get_by_text("Options").click()
    page.get_by_label("none: the whole picture is one face").check()
    page.get_by_text("Judge again").click()
    expect(page.locator("#faces figure")).to_have_count(1)
    assert len(kept) == len(served.results()) == 1  # of one file, one

    refusal = {"status": 429, "body": "You have reached the limit."}
    page.route("**/again?*", lambda route: route.fulfill(**refusal))
    page.get_by_text("Judge again").click()
    expect(page.get_by_role("alert")).to_have_text("You have reached the limit.")
    page.unroute("**/again?*")
    page.get_by_text("Judge again").click()
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(page.locator("#faces figure")).to_have_count(1)


@needs_browser
def test_a_lost_connection(browser: Browser, tmp_path: Path) -> None:
    """The page says so, and that it is back, and why the files are gone with another server."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = serving.Place(*free.getsockname())
    judge, limits = StandIn(), serving.Limits(2**20)
    judge.may_go_on.release()
    page = browser.new_page()
    status, files = page.locator("#queue"), page.locator("#files li")
    page.route("**/events", lambda route: route.fulfill(status=502))
    with serving.serve(judge, tmp_path, place, limits) as url:
        page.goto(url)
        expect(status).to_contain_text("The connection is lost.")
        page.unroute("**/events")
        expect(status).to_have_text("The connection is back.")
        page.locator("#file").set_input_files(FACE)
        expect(page.locator("#files .failed")).to_have_count(1)
        expect(status).to_be_empty()
    expect(status).to_contain_text("The connection is lost.")
    expect(files).to_have_count(1)
    with serving.serve(judge, tmp_path, place, limits):
        expect(status).to_contain_text("your files were deleted meanwhile. Add them again.")
        expect(files).to_have_count(0)
    page.close()


@needs_browser
def test_the_page_is_not_left_by_mistake(browser: Browser, tmp_path: Path) -> None:
    """While it has files, the browser asks: a reload deletes them."""
    judge, limits = StandIn(), serving.Limits(2**20)
    page = browser.new_page()
    files = page.locator("#files li")
    asked: list[str] = []

    def stay(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.dismiss()

    page.on("dialog", stay)
    with serving.serve(judge, tmp_path, serving.Place("127.0.0.1", 0), limits) as url:
        page.goto(url)
        page.get_by_text("Options").click()
        page.reload()
        assert asked == []
        page.locator("#file").set_input_files(FACE)
        for state in ("judging", "failed"):  # the result of the stand-in
            expect(page.locator(f"#files .{state}")).to_have_count(1)
            page.locator("#files .pick").click()
            with page.expect_event("dialog"):
                page.evaluate("setTimeout(() => location.reload())")
            expect(files).to_have_count(1)
            judge.may_go_on.release()
        assert asked == ["beforeunload"] * 2
        page.get_by_label(f"Remove {FACE.name}").click()
        expect(files).to_have_count(0)
        page.reload()
        assert asked == ["beforeunload"] * 2
        page.close()


@needs_browser
@pytest.mark.parametrize(
    ("width", "motion", "scrolls"),
    [(390, "no-preference", True), (390, "reduce", True), (1440, "no-preference", False)],
)
def test_a_chosen_result_is_in_sight(
    width: int,
    motion: Literal["no-preference", "reduce"],
    scrolls: bool,
    browser: Browser,
    tmp_path: Path,
) -> None:
    """On a phone it stands below the list; with reduced motion, the page is there at once."""
    judge, count = StandIn(), 12
    files = [tmp_path / f"{number}.png" for number in range(count)]
    for file in files:
        file.write_bytes(b"content")
        judge.may_go_on.release()
    (tmp_path / "served").mkdir()
    place, limits = serving.Place("127.0.0.1", 0), serving.Limits(2**20)
    with serving.serve(judge, tmp_path / "served", place, limits) as url:
        page = browser.new_page(viewport={"width": width, "height": 844}, reduced_motion=motion)
        page.goto(url)
        page.locator("#file").set_input_files(files)
        expect(page.locator("#files .failed")).to_have_count(count)
        page.evaluate("window.steps = 0; addEventListener('scroll', () => window.steps++)")
        headline = page.locator("#verdict h2")
        if scrolls:
            expect(headline).not_to_be_in_viewport()
        page.locator("#files .pick").nth(1).click()
        expect(page.locator("#verdict .file")).to_have_text("1.png")
        expect(headline).to_be_in_viewport(ratio=1)
        assert (page.evaluate("scrollY") > 0) == scrolls
        if motion == "reduce":
            assert page.evaluate("window.steps") == 1
        page.close()


@needs_browser
def test_a_result_that_does_not_arrive(browser: Browser, tmp_path: Path) -> None:
    """The page says so, and asks for it again when the file is chosen."""
    judge, place = StandIn(), serving.Place("127.0.0.1", 0)
    judge.may_go_on.release()
    page = browser.new_page()
    page.route("**/report", lambda route: route.abort())
    with serving.serve(judge, tmp_path, place, serving.Limits(2**20)) as url:
        page.goto(url)
        page.locator("#file").set_input_files(FACE)
        expect(page.get_by_role("alert")).to_contain_text("The result did not arrive.")
        expect(page.get_by_role("alert")).to_contain_text("Check your connection.")
        page.unroute("**/report")
        page.locator("#files .pick").click()
        expect(page.get_by_role("alert")).to_contain_text("is not a picture of a known format")
        page.close()


@needs_browser
def test_old_files_are_deleted_with_a_word(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that the visitor removes go without one."""
    monkeypatch.setattr(serving, "_LOOK", 0.05)
    judge, place = StandIn(), serving.Place("127.0.0.1", 0)
    for _ in range(2):
        judge.may_go_on.release()
    page = browser.new_page()
    status, done = page.locator("#queue"), page.locator("#files .failed")
    with serving.serve(judge, tmp_path, place, serving.Limits(2**20)) as url:
        page.goto(url)
        page.locator("#file").set_input_files([FACE, FACES])
        expect(done).to_have_count(2)
        page.get_by_label(f"Remove {FACE.name}").click()
        expect(done).to_have_count(1)
        expect(status).to_be_empty()
        monkeypatch.setattr(queueing, "KEPT", 0)
        expect(status).to_have_text(f"Files that were sent {KEPT / 3600:g} hours ago were deleted.")
        expect(done).to_have_count(0)
        page.close()


@needs_browser
def test_file_of_no_known_type(visit: Visit, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    visit.page.locator("input[type=file]").set_input_files(tmp_path / "notes.txt")
    expect(visit.page.get_by_role("alert")).to_contain_text("notes.txt is not a picture of a known")


def test_work_ends_when_it_is_not_wanted(judge: Judge, clip: Path, tmp_path: Path) -> None:
    """While frames are counted, too, before there is any to report."""

    class LeftError(Exception):
        pass

    asked = 0

    def check_wanted() -> None:
        nonlocal asked
        asked += 1
        if asked > 3:
            raise LeftError

    def progress(*_: object) -> None:
        raise AssertionError("a frame was judged")

    with pytest.raises(LeftError):
        judge(clip, tmp_path, "none", Sampling(frames=5), progress, check_wanted)
    assert asked == 4


@needs_browser
def test_work_for_a_page_that_was_closed_ends(
    visit: Visit, browser: Browser, served: Served, tmp_path: Path
) -> None:
    face = read_image(FACE).resize((128, 128))
    with VideoWriter(tmp_path / "long.mp4", face.size, RATE) as film:
        for _ in range(judging.MOST_FRAMES):
            film.write(face)
    before = served.results()
    page = browser.new_page()
    page.goto(served.url)
    page.get_by_text("Options").click()
    page.get_by_label("every N-th frame").check()
    page.get_by_label("N", exact=True).fill("1")
    page.locator("input[type=file]").set_input_files(tmp_path / "long.mp4")
    page.get_by_text("Judging: ").wait_for()
    page.close(run_before_unload=True)
    judged(visit.page, FACE)  # only one file is judged at a time
    assert len(served.results() - before) == 1


@needs_browser
@needs_shared
def test_overlay_of_the_clip_plays(browser: Browser, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict.main([str(checkpoint), str(CLIP), "--every", "3", "--out", str(out)])
    (result,) = json.loads((out / "predictions.json").read_text())["files"]
    (out / "player.html").write_text(f'<video muted src="{result["overlay"]}"></video>')
    page = browser.new_page()
    page.goto((out / "player.html").as_uri())
    video = page.locator("video")
    played = """video => new Promise((resolve, reject) => {
        video.onerror = () => reject(video.error.message);
        video.onended = () => resolve(video.getVideoPlaybackQuality().totalVideoFrames);
        video.playbackRate = 4;
        video.play();
    })"""
    frames = video.evaluate(played)
    assert frames > 30  # those that were due at this pace
    size = video.evaluate("video => [video.videoWidth, video.videoHeight]")
    assert size == [result["width"], result["height"]]
    seconds = video.evaluate("video => video.duration")
    assert abs(seconds - result["frames"][-1]["seconds"]) < 0.2
    page.close()


@needs_browser
def test_files_of_the_server_are_not_given_out(visit: Visit, checkpoint: Path) -> None:
    for path in ("/etc/passwd", checkpoint / "config.json", Path(__file__)):
        for route in ("static", "static/..%2f..", "examples", f"sessions/{'0' * 32}/files/.."):
            answer = visit.page.request.get(f"{visit.page.url}{route}/{path}")
            assert answer.status == 404


BEHIND = """
import http.client, json, re, sys, tempfile, types
from pathlib import Path
from flax_unet.app import page
from flax_unet.checkpoint.worth import UNKNOWN

place = page.Place("127.0.0.1", int(sys.argv[1]), "/faces", ["faces.example", "*.many.example"])
judge = types.SimpleNamespace(checkpoint=Path("model"), worth=UNKNOWN, card=None)
found = {}
limits = page.Limits(2**20)
with tempfile.TemporaryDirectory() as folder, page.serve(judge, Path(folder), place, limits):
    for host in sys.argv[2:]:
        connection = http.client.HTTPConnection("127.0.0.1", place.port, timeout=30)
        connection.request("GET", "/", headers={"Host": host})
        answer = connection.getresponse()
        content = answer.read().decode()
        base = re.search('<base href="(.*?)">', content)
        found[host] = base[1] if answer.status == 200 else answer.status
print(json.dumps(found))
"""


def test_behind_a_proxy() -> None:
    """One that removes --root-path: addresses on the page have it, other names are refused."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    allowed = ("faces.example", "a.many.example:8080", f"127.0.0.1:{port}", "localhost")
    refused = ("evil.example", "many.example", "faces.example.evil.example")
    ended = subprocess.run(
        [sys.executable, "-c", BEHIND, str(port), *allowed, *refused],
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(ended.stdout.splitlines()[-1])
    assert [found[host] for host in allowed] == ["/faces/"] * len(allowed)
    assert [found[host] for host in refused] == [400] * 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--root-path", "faces"], "expected a path such as /faces, or a URL, got faces"),
        (["--allowed-host", "https://a.example"], "expected a name without scheme and port"),
        (["--allowed-host", "a.example:80"], "such as faces.example.org, got a.example:80"),
        (["--allowed-host", "a.*.example"], "expected a name"),
    ],
)
def test_addresses_that_are_none(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        app.main(["checkpoint", *arguments])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


@needs_browser
def test_other_sites_cannot_speak_to_the_page(visit: Visit) -> None:
    address = f"{visit.page.url}card"
    assert visit.page.request.get(address).status == 200
    assert visit.page.request.get(address, headers={"Host": "evil.example"}).status == 400
