"""The report on many files: right counts, nothing of a file's name or notes is taken for HTML."""

import base64
import csv
import io
import re
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flax_unet.media.discover import LeftOut
from flax_unet.predict.findings import Findings
from flax_unet.predict.predictions import write_summary
from flax_unet.predict.report import REPORT, write_report
from flax_unet.predict.summary import Summary

HOSTILE = '<script src="//example.org/x.js"></script>&amp;"\'.png'


class Tags(HTMLParser):
    """The tags of a page, with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def entry(file: str, fake: float | None = None, **more: Any) -> dict[str, Any]:
    found = {"file": file, "kind": "picture", "status": "ok", "problem": None, "notes": []}
    if fake is not None:
        found |= {"fake_probability": fake, "verdict": "FAKE" if fake >= 0.5 else "REAL"}
    return found | more


def report(
    directory: Path,
    entries: list[dict[str, Any]],
    outcomes: dict[str, int],
    *,
    more: dict[str, Any] | None = None,
    **options: Any,
) -> Tags:
    options = {"frames": None, "every": 1, "keyframes": False} | (options or {"frames": 32})
    (left_out := LeftOut()).add(Path("<i>.txt"), "not a picture")
    summary = Summary.of(Counter(outcomes), left_out)
    head = {
        **{"checkpoint": "<b>model</b>", "worth": "Of unknown worth.", "worth_in_short": "Hardly."},
        "checkpoint_source": {"file": "<b>.pth", "sha256": "6ba2d965" + 56 * "0", "layout": None},
        "options": {"threshold": 0.5, "faces": "auto", **options},
        **{"shard": "2/3", "overlays": True, "made_by": {"created": "2026-11-28T09:30:00+00:00"}},
        **(more or {}),
    }
    left = left_out.to_json()
    found = Findings.of(iter(entries), head["options"]["threshold"])
    write_report(directory, found, head=head, summary=summary, left_out=left)
    write_summary(directory, found, summary)
    return Tags((directory / REPORT).read_text(encoding="utf-8"))


def test_the_most_suspicious_come_first(tmp_path: Path) -> None:
    entries = [entry(f"{number:03}.png", number / 100) for number in range(100)]
    page = report(tmp_path, entries, {"real": 50, "fake": 50})
    assert "100 files: 50 REAL, 50 FAKE; besides these, 1 left out" in page.text
    assert re.findall(r"\d{3}\.png", page.text) == [f"{n:03}.png" for n in range(99, 49, -1)]
    assert "50 of 100 files with a face; all are in predictions.csv." in page.text
    for text in (
        "Hardly.",
        "2026-11-28 at 09:30",
        "the checkpoint <b>model</b> (from <b>.pth, SHA-256 6ba2d965...)",
        "0.50 on. This is the published threshold. A higher threshold misses more forgeries",
        "It does not certify that a file is genuine.",
        "Not examined: sound, what lies outside the faces that were found, the other frames.",
        "32 evenly spaced frames",
        "part 2/3",
        "1 .txt (not a picture): <i>",
    ):
        assert text in page.text
    bars = [of["height"] for tag, of in page.tags if tag == "rect"]
    assert bars == ["160.0"] * 20  # five files each


def test_names_and_notes_are_text(tmp_path: Path) -> None:
    entries = [
        entry(HOSTILE, 0.9, notes=[HOSTILE], overlay="<'\":&>.png", heads_disagree=True),
        entry("b.png", 0.2, problem="b.png is cut short: <i>", status="failed"),
        *(
            entry(f"{n}.png", problem=f"{n}.png is not a <b>picture</b>", status="failed")
            for n in range(4)
        ),
    ]
    page = report(tmp_path, entries, {"fake": 1, "failed": 5})
    assert HOSTILE in page.text
    assert "the two answers contradict each other" in page.text
    assert "2 of 2 files with a face" in page.text
    assert "failed: is cut short: <i>" in page.text
    assert "Failed: not checked" in page.text
    assert "4is not a <b>picture</b>0.png" in page.text
    allowed = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "table", "tr"}
    allowed |= {"th", "td", "br", "div", "a", "img", "svg", "rect", "line", "text", "strong"}
    allowed |= {"ul", "li", "wbr", "nav"}
    assert {tag for tag, _ in page.tags} <= allowed
    (image,) = [of["src"] for tag, of in page.tags if tag == "img"]
    assert image is not None
    assert not re.search(r"[<>\"':&]", image)


def test_a_forged_stretch_is_noted(tmp_path: Path) -> None:
    stretch = {"suspicious_from": 4.0, "suspicious_to": 9.04}
    people = [
        {"person": 1, "verdict": "REAL"} | stretch,
        {"person": 2, "verdict": "REAL", "suspicious_from": None, "suspicious_to": None},
        {"person": 3, "verdict": "FAKE"} | stretch,
    ]
    frames = [
        {"seconds": at, "faces": [{"person": person, "fake_probability": fake}]}
        for at, person, fake in ((1.0, 1, 0.2), (4.04, 1, 0.9), (5.0, 1, 0.9), (6.0, 3, 0.99))
    ]
    film = entry("a.mp4", 0.3, people=people, person=1, frames=frames, frames_judged=4)
    film |= {"close_up": "a.closeup.jpg", "timeline": "a.timeline.png", "overlay": "a.overlay.mp4"}
    page = report(tmp_path, [film], {"real": 1})
    assert "; most suspicious at 4.0 s; " in page.text
    shown = [of["src"] for tag, of in page.tags if tag == "img"]
    assert shown == ["a.closeup.jpg", "a.timeline.png"] * 2

    assert page.text.count("on the whole") == 2  # in both lists
    looks = "person 1 is REAL on the whole, but FAKE from 4.0 to 9.0 s (longest stretch)"
    assert looks in page.text
    assert page.text.count("; person 3 looks forged from 4.0 to 9.0 s (longest stretch)") == 2
    assert page.text.count("person 2") == 0
    assert "3 people; the figures are of person 1; " in page.text
    assert "if it has 1 s, 3 frames and 10% of the person's frames or more, and near" in page.text
    assert "(within 0.5 s, at least the neighbours) most frames are FAKE" in page.text


def test_pictures_are_small_copies(tmp_path: Path) -> None:
    """A browser would load fifty whole ones; the page alone shows them, too."""
    sizes = {
        "a.overlay.png": (2000, 1000),
        "b.closeup.jpg": (320, 300),
        "b.timeline.png": (960, 384),
    }
    for number, (name, size) in enumerate(sizes.items()):
        Image.new("RGB", size, (200, 100 * number, 50)).save(tmp_path / name)
    film = {"close_up": "b.closeup.jpg", "timeline": "b.timeline.png", "overlay": "b.overlay.mp4"}
    entries = [entry("a.png", 0.9, overlay="a.overlay.png"), entry("b.mp4", 0.8, **film)]
    page = report(tmp_path, entries, {"fake": 2})
    shown = [of["src"] or "" for tag, of in page.tags if tag == "img"]
    copies = []
    for source in shown:
        kind, _, data = source.partition(",")
        assert kind == "data:image/jpeg;base64"
        copies.append(Image.open(io.BytesIO(base64.b64decode(data))))
    assert [copy.size for copy in copies] == [(320, 160), (320, 300), (640, 256)]
    for number, copy in enumerate(copies):
        np.testing.assert_allclose(np.asarray(copy)[5, 5], (200, 100 * number, 50), atol=3)
    links = [of["href"] for tag, of in page.tags if tag == "a"]
    assert links[-4:] == [*sizes, "b.overlay.mp4"]
    (policy,) = [of["content"] for _, of in page.tags if "http-equiv" in of]
    assert "img-src 'self' file: data:;" in (policy or "")


def test_what_pictures_show_is_explained(tmp_path: Path) -> None:
    """What there is, and nothing else: a network may have one head, and overlays be left out."""
    frames, marks, masks = "red if it is FAKE", "A white line surrounds", "are masks, white where"
    probability, share = {"fake": 0.9}, {"manipulated_share": 0.1}
    with_close_up: dict[str, Any] = probability | share | {"close_up": "a.jpg"}
    for given, overlays, said in (
        (with_close_up, False, {frames, marks, masks}),
        (probability | share, True, {frames, marks}),
        (probability, True, {frames}),
        (share, True, {marks}),
        (probability | share, False, {masks}),
        (probability, False, set()),
    ):
        page = report(tmp_path, [entry("a.png", **given)], {"fake": 1}, more={"overlays": overlays})
        assert {text for text in (frames, marks, masks) if text in page.text} == said


SIGNS = "Called REAL, but look at these"
OTHERS = "How to read this"


def test_signs_of_a_forgery_come_first_whatever_else_there_is(tmp_path: Path) -> None:
    certain = [entry(f"{number}.jpg", 0.9) for number in range(60)]
    share = {"heads_disagree": True, "manipulated_share": 0.271}
    cut = entry("cut.mp4", 0.2, problem="cut.mp4 is cut short", status="failed", **share)
    entries = [entry("a.png", 0.1, **share), cut, *certain]
    page = report(tmp_path, entries, {"real": 3, "fake": 60, "failed": 1})
    counts = "64 files: 3 REAL (of which 1 with signs of a forgery), 60 FAKE, 1 failed; "
    assert counts in page.text
    signs, others = page.text.split(SIGNS)[-1].split(OTHERS)
    assert "REAL0.10a.png27.1% of the crop marked; the two answers contradict each other" in signs
    assert "REAL0.20cut.mp4" in signs
    assert "2 of 2 files in which the network contradicts itself" in signs
    assert "a.png" not in others


def test_any_face_about_which_the_heads_disagree_is_a_sign(tmp_path: Path) -> None:
    faces = [
        {"heads_disagree": False, "fake_probability": 0.4, "box": [300, 0, 400, 100]},
        {"heads_disagree": True, "fake_probability": 0.1, "box": [10, 50, 110, 150]},
    ]
    share = {"heads_disagree": False, "manipulated_share": 0.0}
    certain = [entry(f"{number}.jpg", 0.9) for number in range(50)]
    entries = [entry("a.png", 0.4, faces=faces, **share), entry("b.png", 0.4), *certain]
    page = report(tmp_path, entries, {"real": 2, "fake": 50})
    signs = page.text.split(SIGNS)[-1].split(OTHERS)[0]
    assert "b.png" not in signs
    assert (
        "a.png0.0% of the crop marked; the two answers contradict each other about another face"
        "; 2 faces; the figures are of the most suspicious, number 2 from the left" in signs
    )
    assert "the network gives two answers" in page.text


def test_numbers_show_on_which_side_of_the_threshold_they_are(tmp_path: Path) -> None:
    """Two digits, or as many more as that takes; none is rounded to certainty."""
    for fakes, shown in (
        ((0.6481, 0.7, 0.9984), ("0.65", "0.65", "0.70", "> 99%")),
        ((0.6481, 0.6474, 0.9), ("0.648", "0.648", "0.647", "0.900")),
    ):
        threshold = 0.648
        entries = [
            entry("a.png", fake, verdict="FAKE" if fake >= threshold else "REAL") for fake in fakes
        ]
        page = report(tmp_path, entries, {"fake": 3}, threshold=threshold, every=1)
        limit, *numbers = shown
        assert f"threshold {limit}" in page.text
        assert f"from a probability of FAKE of {limit} on" in page.text
        rows = re.findall(r"(?:FAKE|REAL)([\d.]+|> 99%)a\.png", page.text)
        assert sorted(rows) == sorted(numbers)


@pytest.mark.parametrize("threshold", [0.001, 0.3, 0.5, 0.6519, 0.974, 0.9999])
def test_no_bar_is_of_both_verdicts(threshold: float, tmp_path: Path) -> None:
    fakes = [number / 500 for number in range(501)] + [threshold, threshold - 1e-9]
    entries = [
        entry(f"{fake}.png", fake, verdict="FAKE" if fake >= threshold else "REAL")
        for fake in fakes
    ]
    page = report(tmp_path, entries, {}, threshold=threshold, every=1)
    bars = [of for tag, of in page.tags if tag == "rect"]
    counts = [int(count) for count in re.findall(r"\d\.\d\d to \d\.\d\d: (\d+) file", page.text)]
    assert len(bars) == len(counts) == 20
    for kind, is_fake in (("fake", True), ("real", False)):
        found = sum(n for bar, n in zip(bars, counts, strict=True) if bar["class"] == kind)
        assert found == sum((fake >= threshold) == is_fake for fake in fakes)
    assert all(float(bar["width"] or 0) > 0 for bar in bars)


CALIBRATION = {"temperature": 1.5, "threshold": 0.65}


@pytest.mark.parametrize(
    ("threshold", "calibration", "rate", "words"),
    [
        (0.5, None, None, "This is the published threshold."),
        (0.7, None, None, "It was given by --threshold."),
        (0.5, CALIBRATION, 0.05, "It was given by --threshold."),
        (0.65, CALIBRATION, None, "The calibration of the checkpoint has set it."),
        (0.65, CALIBRATION, 0.025, "set it so that at most 2.5% of the real frames it used"),
    ],
)
def test_where_the_threshold_comes_from(
    threshold: float,
    calibration: dict[str, float] | None,
    rate: float | None,
    words: str,
    tmp_path: Path,
) -> None:
    options: dict[str, Any] = {} if calibration is None else {"calibration": calibration}
    options |= {"threshold": threshold, "frames": 9}
    entries = [entry("a.png", 0.9)]
    page = report(tmp_path, entries, {"fake": 1}, more={"false_alarm_rate": rate}, **options)
    assert words in page.text


@pytest.mark.parametrize(
    ("files", "folder", "names"),
    [
        (["/a/b/c/x.png", "/a/b/cd/y_1.png"], "/a/b", ["c/x.png", "cd/y_1.png"]),
        (["/a/b/x.png", "/a/b/y.png"], "/a/b", ["x.png", "y.png"]),
        (["/a/x.png", "/b/y.png"], None, ["/a/x.png", "/b/y.png"]),
        (["a/x.png", "y.png"], None, ["a/x.png", "y.png"]),
        (["<a>/x.png"], "<a>", ["x.png"]),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="these folders are of other systems")
def test_files_are_named_from_the_folder_that_all_are_in(
    files: list[str], folder: str | None, names: list[str], tmp_path: Path
) -> None:
    entries = [entry(file, 0.9) for file in files]
    entries[-1] |= {"status": "failed", "problem": f"{files[-1]} is cut short"}
    page = report(tmp_path, entries, {"fake": 1, "failed": 1})
    assert ("In the folder " in page.text) == (folder is not None)
    if folder is not None:
        assert f"In the folder {folder}" in page.text
    assert all(f"FAKE0.90{name}" in page.text for name in names)
    assert f"1is cut short{names[-1]}" in page.text


@pytest.mark.parametrize(
    ("sampling", "words"),
    [
        ({"keyframes": True}, "the keyframes were looked at"),
        ({"frames": 1}, "one frame was looked at"),
        ({"every": 1}, "all frames were looked at"),
        ({"every": 25}, "one frame in 25 was looked at"),
    ],
)
def test_which_frames_were_looked_at(sampling: dict[str, Any], words: str, tmp_path: Path) -> None:
    page = report(tmp_path, [entry("a.png")], {"without_face": 1}, **sampling)
    assert f"Of videos, {words}." in page.text
    assert "two answers" not in page.text  # nor are there verdicts
    assert "called FAKE" not in page.text
    assert "REAL means" not in page.text
    assert ("the other frames" in page.text) == (sampling != {"every": 1})


def test_a_film_is_a_link(tmp_path: Path) -> None:
    page = report(tmp_path, [entry("a.mp4", 0.9, overlay="a b.mp4")], {"fake": 1})
    *contents, film = [of["href"] for tag, of in page.tags if tag == "a"]
    assert film == "a%20b.mp4"
    assert contents == [f"#{of['id']}" for tag, of in page.tags if tag == "h2"]
    assert "How to read this Probability of FAKE Most suspicious first" in page.text
    assert "film with markings" in page.text


def test_messages_that_differ_are_shown(tmp_path: Path) -> None:
    failed = [entry(f"{n}.png", problem=f"{n}.png holds {n} megapixels") for n in (200, 300, 300)]
    page = report(tmp_path, failed, {"failed": 3})
    assert "3holds 200 megapixelsholds 300 megapixels200.png" in page.text


def test_the_summary_counts_files(tmp_path: Path) -> None:
    entries = [
        *(entry(f"{fake}.png", fake) for fake in (0.0, 0.04, 0.05, 0.5, 0.99, 1.0)),
        *(entry(f"{n}.mp4", problem=f"{n}.mp4 lacks {n} s", status="failed") for n in range(3)),
        entry("a.png", problem="=1+1", status="failed"),
    ]
    report(tmp_path, entries, {"real": 3, "fake": 3, "failed": 4})
    with (tmp_path / "summary.csv").open(encoding="utf-8", newline="") as file:
        rows = [*csv.reader(file)]
    assert rows[0] == ["kind", "name", "count"]
    counts = {(kind, name): int(count) for kind, name, count in rows[1:]}
    assert len(counts) == len(rows) - 1
    assert {name: count for (kind, name), count in counts.items() if kind == "files"} == (
        {"files": 10, "real": 3, "fake": 3, "without_verdict": 0, "without_face": 0}
        | {"failed": 4, "left_out": 1}
    )
    shares = {name: n for (kind, name), n in counts.items() if kind == "fake_probability"}
    assert len(shares) == 20
    assert {name: count for name, count in shares.items() if count} == (
        {"0 to 0.05": 2, "0.05 to 0.1": 1, "0.5 to 0.55": 1, "0.95 to 1": 2}
    )
    assert rows[-2:] == [["failed", "lacks N s", "3"], ["failed", "'=N+N", "1"]]


def test_without_verdicts_there_is_no_chart(tmp_path: Path) -> None:
    page = report(tmp_path, [entry("a.png")], {"without_face": 1})
    assert "svg" not in {tag for tag, _ in page.tags}
    assert "1 without a face to judge" in page.text
