"""Writes report.html: what became of the files, for people. It needs no network and no script."""

import heapq
import html
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from flax_unet.nn.decision import in_digits
from flax_unet.predict.plan import WHOLE
from flax_unet.predict.results import Json
from flax_unet.predict.summary import Summary
from flax_unet.utils.errors import InputError, counted
from flax_unet.utils.filenames import shown

REPORT = "report.html"
_MOST = 50  # files of a list
_BINS = 20  # of the histogram
_EXAMPLES = 3  # files that are named for each reason of a failure
_WIDTH, _HEIGHT, _LINE = 640, 160, 16  # of the histogram and a line of text, in its own units
_FILES = ("timeline", "overlay", "mask")  # of an entry: what may be shown of it, the best first
_STYLE = """\
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; vertical-align: top; padding: .4rem .6rem; border-top: 1px solid #8886; }
td.number { white-space: nowrap; font-variant-numeric: tabular-nums; }
td.name { overflow-wrap: anywhere; }
img { display: block; max-width: 100%; max-height: 12rem; }
svg { width: 100%; height: auto; }
.fake { fill: #c2410c; } .real { fill: #0f766e; } text { fill: currentColor; font-size: 12px; }
@media (max-width: 40rem) {
  table, tbody, tr, td { display: block; } th { display: none; }
  td { border: 0; padding: .1rem 0; } td.number::before { content: attr(title) " "; }
  tr { border-top: 1px solid #8886; padding: .4rem 0; }
}
"""


def _slim(entry: Json) -> Json:
    """An entry without the frames of a video: many are kept until the end."""
    return {key: of for key, of in entry.items() if key != "frames"}


class _Worst:
    """The files of a list with the highest probabilities of FAKE."""

    def __init__(self) -> None:
        self.count = 0
        self._heap: list[tuple[float, int, Json]] = []

    def add(self, entry: Json) -> Json | None:
        """Adds a file that has a probability. Returns the file that it displaces, if any."""
        self.count += 1
        one = entry["fake_probability"], -self.count, entry
        if len(self._heap) < _MOST:
            heapq.heappush(self._heap, one)
            return None
        return heapq.heappushpop(self._heap, one)[-1]

    def __iter__(self) -> Iterator[Json]:
        """The highest first, and of the same the one that came first."""
        return (entry for _, _, entry in sorted(self._heap, reverse=True))


def write_report(
    directory: Path,
    entries: Iterable[Json],
    *,
    head: Mapping[str, Any],
    summary: Summary,
    left_out: Iterable[Json],
) -> None:
    """Writes the report on the results in a directory, whose pictures it shows.

    `entries` are of `FileResult.to_json`, `head` is of `predictions.head_of`, and `left_out` of
    `LeftOut.to_json`.

    Raises:
        InputError: it cannot be written.
    """
    threshold = head["options"]["threshold"]
    bins = [0] * _BINS
    reasons: dict[str, tuple[int, list[Json]]] = {}  # with a count and examples
    worst, doubtful = _Worst(), _Worst()
    has_both_heads = False
    for entry in entries:
        if entry["problem"] is not None:
            count, examples = reasons.get(reason := _reason(entry), (0, []))
            reasons[reason] = count + 1, [*examples, _slim(entry)][:_EXAMPLES]
        has_both_heads |= entry.get("heads_disagree") is not None
        if (probability := entry.get("fake_probability")) is not None:
            bins[min(int(probability * _BINS), _BINS - 1)] += 1
            other = worst.add(_slim(entry))
            if other is not None and other["verdict"] == "REAL" and _has_signs(other):
                doubtful.add(other)
    parts = [f"<h1>{_text(str(summary))}</h1>", *_about(head, any(bins), has_both_heads)]
    if any(bins):
        parts += ["<h2>Probability of FAKE</h2>", _histogram(bins, threshold)]
    parts += _list("Highest probabilities of FAKE", worst)
    parts += _list("Others called REAL, with signs of a forgery", doubtful)
    if reasons:
        parts += ["<h2>Failed</h2>", _failures(reasons)]
    if left := [*map(_left_out, left_out)]:
        parts += ["<h2>Left out</h2>", f"<ul>{''.join(left)}</ul>"]
    body = "\n".join(parts)
    page = f"""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src 'self' file:; \
style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width">
<title>Report on {counted(summary.files, "file")}</title>
<style>
{_STYLE}</style>
</head>
<body>
{body}
</body>
</html>
"""
    try:
        (directory / REPORT).write_text(page, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{directory / REPORT} cannot be written: {error.strerror}") from error


def _about(head: Mapping[str, Any], has_verdicts: bool, has_both_heads: bool) -> Iterator[str]:
    """What the figures mean, and how they were made."""
    options = head["options"]
    yield f"<p><strong>How far to trust this?</strong> {_text(head['worth_in_short'])}</p>"
    sentences = [f"Of videos, {_sampling(options)} looked at."]
    if has_verdicts:
        sentences += [
            f"A file is called FAKE from a probability of FAKE of {in_digits(options['threshold'])}"
            " on. A picture counts as its most suspicious face, a video as its most suspicious "
            "person, on average over these frames."
        ]
    if has_both_heads:
        sentences += [
            "Heat and outlines on pictures show where the network sees a manipulation. It has two "
            "heads: they disagree where the one calls a face REAL and the other marks much of it, "
            "or the other way round."
        ]
    yield f"<p>{' '.join(sentences)}</p>"
    shard = head["shard"]
    day, time = head["made_by"]["created"][:16].split("T")
    part = "" if shard == str(WHOLE) else f" This is part {_text(shard)} of the files."
    yield (
        f"<p>Made on {_text(day)} at {_text(time)} UTC with {_text(shown(head['checkpoint']))}. "
        f"{_text(head['worth'])}{part} Pictures and films lie beside this page: keep it in its "
        "folder. Everything is also in predictions.csv and predictions.json.</p>"
    )


def _sampling(options: Mapping[str, Any]) -> str:
    """Which frames of videos were looked at, with the verb."""
    if options["keyframes"]:
        return "the keyframes were"
    if (frames := options["frames"]) is not None:
        return "one frame was" if frames == 1 else f"{frames:,} evenly spaced frames were"
    every = options["every"]
    return "all frames were" if every == 1 else f"one frame in {every:,} was"


def _histogram(bins: list[int], threshold: float) -> str:
    step, highest, bottom = _WIDTH / _BINS, max(bins), _HEIGHT + _LINE
    bars, marks = [], []
    for number, count in enumerate(bins):
        height = _HEIGHT * count / highest
        is_fake = (number + 0.5) / _BINS >= threshold
        low, high = number / _BINS, (number + 1) / _BINS
        bars.append(
            f'<rect class="{"fake" if is_fake else "real"}" x="{step * number + 1:.1f}" '
            f'y="{bottom - height:.1f}" width="{step - 2:.1f}" height="{height:.1f}">'
            f"<title>{low:.2f} to {high:.2f}: {counted(count, 'file')}</title></rect>"
        )
        if count:
            middle, top = step * (number + 0.5), bottom - height - 4
            marks.append(
                f'<text x="{middle:.1f}" y="{top:.1f}" text-anchor="middle">{count:,}</text>'
            )
    at = _WIDTH * threshold
    limit = f"FAKE from {in_digits(threshold)}"
    marks += [
        f'<line x1="{at:.1f}" x2="{at:.1f}" y1="0" y2="{bottom}" stroke="currentColor" '
        'stroke-dasharray="4"/>',
        f'<text x="0" y="{bottom + _LINE}">0: REAL</text>',
        f'<text x="{at:.1f}" y="{bottom + _LINE}" text-anchor="middle">{limit}</text>',
        f'<text x="{_WIDTH}" y="{bottom + _LINE}" text-anchor="end">1</text>',
    ]
    label = "How many files have which probability of FAKE"
    shapes = "".join([*bars, *marks])
    box = f"0 0 {_WIDTH} {bottom + _LINE + 4}"
    return (
        f'<p>Numbers of files:</p><svg viewBox="{box}" role="img" aria-label="{label}">{shapes}'
        "</svg>"
    )


def _list(title: str, listed: _Worst) -> Iterator[str]:
    if not listed.count:
        return
    yield f"<h2>{title}</h2>"
    if listed.count > _MOST:
        yield f"<p>The highest {_MOST} of {listed.count:,}; all are in predictions.csv.</p>"
    columns = ("called", "probability of FAKE", "file", "what was found")
    rows = [f"<tr>{''.join(f'<th>{column}</th>' for column in columns)}</tr>"]
    for entry in listed:
        found = f"<div>{_text('; '.join(_found(entry)))}</div>"
        picture = next((entry[kind] for kind in _FILES if kind in entry), None)
        if picture is not None and picture.endswith(".png"):
            found += (
                f'<a href="{quote(picture)}">'
                f'<img loading="lazy" alt="{_text(picture)}" src="{quote(picture)}"></a>'
            )
        if (film := entry.get("overlay", "")).endswith(".mp4"):
            found += f'<a href="{quote(film)}">{_text(film)}</a>'
        rows.append(
            f"<tr><td>{entry['verdict']}</td>"
            f'<td class="number" title="probability of FAKE">'
            f"{in_digits(entry['fake_probability'])}</td>"
            f'<td class="name">{_text(entry["file"])}</td><td>{found}</td></tr>'
        )
    yield f"<table>{''.join(rows)}</table>"


def _found(entry: Json) -> Iterator[str]:
    """What is said of a file, in words."""
    yield from _stretches(entry)
    if (share := entry.get("manipulated_share")) is not None:
        yield f"{share:.1%} of the face marked"
    if _disagrees(entry):
        other = "" if entry.get("heads_disagree") else " about another face"
        yield f"the two heads disagree{other}"
    if entry["problem"] is not None:
        yield entry["problem"]
    if (frames := entry.get("frames_judged")) is not None:
        yield f"{counted(frames, 'frame')} judged"
    yield from entry["notes"]


def _has_signs(entry: Json) -> bool:
    """Whether anything in a file looks forged."""
    return _disagrees(entry) or any(_stretches(entry))


def _disagrees(entry: Json) -> bool:
    """Whether the two heads disagree about anyone."""
    everyone = entry.get("people") or entry.get("faces") or []
    return any(one.get("heads_disagree") for one in [entry, *everyone])


def _stretches(entry: Json) -> Iterator[str]:
    """When people of a video look forged."""
    for one in entry.get("people", ()):
        if one.get("suspicious_from") is not None:
            when = f"from {one['suspicious_from']:.1f} to {one['suspicious_to']:.1f} s"
            is_real = one["verdict"] == "REAL"
            looks = "is REAL on the whole, but FAKE" if is_real else "looks forged"
            yield f"person {one['person']} {looks} {when}"


def _failures(reasons: Mapping[str, tuple[int, list[Json]]]) -> str:
    rows = ["<tr><th>files</th><th>reason</th><th>such as</th></tr>"]
    for count, examples in sorted(reasons.values(), key=lambda one: -one[0]):
        problems = "<br>".join(map(_text, dict.fromkeys(map(_problem, examples))))
        files = "<br>".join(_text(entry["file"]) for entry in examples)
        rows.append(
            f'<tr><td class="number" title="files:">{count:,}</td>'
            f'<td>{problems}</td><td class="name">{files}</td></tr>'
        )
    return f"<table>{''.join(rows)}</table>"


def _problem(entry: Json) -> str:
    """Why a file failed, without its name."""
    return entry["problem"].removeprefix(f"{entry['file']} ")


def _reason(entry: Json) -> str:
    """The same for all files of one kind of failure."""
    return re.sub(r"\d[\d,.]*", "N", _problem(entry))


def _left_out(one: Json) -> str:
    names = ", ".join([*one["such_as"], *["..."] * (one["count"] > len(one["such_as"]))])
    text = f"{one['count']:,} {one['kind']} ({one['reason']}): {names}"
    return f"<li>{_text(text)}</li>"


def _text(text: str) -> str:
    return html.escape(text)
