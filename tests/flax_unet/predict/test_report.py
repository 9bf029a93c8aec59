"""The report on many files: right counts, nothing of a file's name or notes is taken for HTML."""

import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from flax_unet.media.discover import LeftOut
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
    directory: Path, entries: list[dict[str, Any]], outcomes: dict[str, int], **sampling: Any
) -> Tags:
    sampling = {"frames": None, "every": 1, "keyframes": False} | (sampling or {"frames": 32})
    (left_out := LeftOut()).add(Path("<i>.txt"), "not a picture")
    summary = Summary.of(Counter(outcomes), left_out)
    head = {
        **{"checkpoint": "<b>model</b>", "worth": "Of unknown worth.", "worth_in_short": "Hardly."},
        "options": {"threshold": 0.5, **sampling},
        **{"shard": "2/3", "made_by": {"created": "2026-11-28T09:30:00+00:00"}},
    }
    left = left_out.to_json()
    write_report(directory, iter(entries), head=head, summary=summary, left_out=left)
    return Tags((directory / REPORT).read_text(encoding="utf-8"))


def test_the_most_suspicious_come_first(tmp_path: Path) -> None:
    entries = [entry(f"{number:03}.png", number / 100) for number in range(100)]
    page = report(tmp_path, entries, {"real": 50, "fake": 50})
    assert "100 files: 50 REAL, 50 FAKE" in page.text
    assert re.findall(r"\d{3}\.png", page.text) == [f"{n:03}.png" for n in range(99, 49, -1)]
    assert "The highest 50 of 100; all are in predictions.csv." in page.text
    for text in (
        "Hardly.",
        "2026-11-28 at 09:30",
        "<b>model</b>",
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
    assert "the two heads disagree" in page.text
    assert "4is not a <b>picture</b>0.png" in page.text
    allowed = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "table", "tr"}
    allowed |= {"th", "td", "br", "div", "a", "img", "svg", "rect", "line", "text", "strong"}
    allowed |= {"ul", "li"}
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
    page = report(tmp_path, [entry("a.mp4", 0.3, people=people)], {"real": 1})
    assert page.text.count("on the whole") == 1
    assert "person 1 is REAL on the whole, but FAKE from 4.0 to 9.0 s" in page.text
    assert page.text.count("; person 3 looks forged from 4.0 to 9.0 s") == 1
    assert page.text.count("person 2") == 0


def test_signs_of_a_forgery_are_listed_behind_any_number_of_others(tmp_path: Path) -> None:
    certain = [entry(f"{number}.jpg", 0.9) for number in range(60)]
    share = {"heads_disagree": True, "manipulated_share": 0.271}
    page = report(tmp_path, [entry("a.png", 0.1, **share), *certain], {"real": 1, "fake": 60})
    listed, signs = page.text.split("Others called REAL, with signs of a forgery")
    assert "a.png" not in listed
    assert "REAL0.1000a.png27.1% of the face marked; the two heads disagree" in signs


def test_any_face_about_which_the_heads_disagree_is_a_sign(tmp_path: Path) -> None:
    faces = [{"heads_disagree": False}, {"heads_disagree": True}]
    share = {"heads_disagree": False, "manipulated_share": 0.0}
    certain = [entry(f"{number}.jpg", 0.9) for number in range(50)]
    entries = [entry("a.png", 0.4, faces=faces, **share), entry("b.png", 0.4), *certain]
    page = report(tmp_path, entries, {"real": 2, "fake": 50})
    _, signs = page.text.split("Others called REAL, with signs of a forgery")
    assert "b.png" not in signs
    assert "a.png0.0% of the face marked; the two heads disagree about another face" in signs
    assert "It has two heads" in page.text


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
    assert "heads" not in page.text  # nor are there verdicts
    assert "called FAKE" not in page.text


def test_a_film_is_a_link(tmp_path: Path) -> None:
    page = report(tmp_path, [entry("a.mp4", 0.9, overlay="a b.mp4")], {"fake": 1})
    assert [of["href"] for tag, of in page.tags if tag == "a"] == ["a%20b.mp4"]


def test_messages_that_differ_are_shown(tmp_path: Path) -> None:
    failed = [entry(f"{n}.png", problem=f"{n}.png holds {n} megapixels") for n in (200, 300, 300)]
    page = report(tmp_path, failed, {"failed": 3})
    assert "3holds 200 megapixelsholds 300 megapixels200.png" in page.text


def test_without_verdicts_there_is_no_chart(tmp_path: Path) -> None:
    page = report(tmp_path, [entry("a.png")], {"without_face": 1})
    assert "svg" not in {tag for tag, _ in page.tags}
    assert "1 without a face to judge" in page.text
