"""The report on many files: right counts, nothing of a file's name or notes is taken for HTML."""

import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

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


def report(directory: Path, entries: list[dict[str, Any]], outcomes: dict[str, int]) -> Tags:
    summary = Summary.of(Counter(outcomes), LeftOut())
    about = {"checkpoint": "<b>model</b>", "worth": "Of unknown worth.", "threshold": 0.5}
    write_report(directory, iter(entries), summary=summary, **about)
    return Tags((directory / REPORT).read_text(encoding="utf-8"))


def test_the_most_suspicious_come_first(tmp_path: Path) -> None:
    entries = [entry(f"{number:03}.png", number / 100) for number in range(100)]
    page = report(tmp_path, entries, {"real": 50, "fake": 50})
    assert "100 files: 50 REAL, 50 FAKE" in page.text
    assert re.findall(r"\d{3}\.png", page.text) == [f"{n:03}.png" for n in range(99, 49, -1)]
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
    allowed |= {"th", "td", "br", "img", "svg", "rect", "line", "text"}
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


def test_without_verdicts_there_is_no_chart(tmp_path: Path) -> None:
    page = report(tmp_path, [entry("a.png")], {"without_face": 1})
    assert "svg" not in {tag for tag, _ in page.tags}
    assert "1 without a face to judge" in page.text
