"""Writes report.html: what became of the files, for people. It needs no network and no script."""

import heapq
import html
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote

from flax_unet.nn.decision import POLARITY, in_digits
from flax_unet.predict.results import Json
from flax_unet.predict.summary import Summary
from flax_unet.utils.errors import InputError, counted

REPORT = "report.html"
_MOST = 50  # files that are shown
_BINS = 20  # of the histogram
_EXAMPLES = 3  # files that are named for each reason of a failure
_WIDTH, _HEIGHT, _LINE = 640, 160, 16  # of the histogram and a line of text, in its own units
_STYLE = """\
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; vertical-align: top; padding: .4rem .6rem; border-top: 1px solid #8886; }
td.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
td.name { overflow-wrap: anywhere; }
img { max-width: 16rem; max-height: 8rem; }
svg { width: 100%; height: auto; }
.fake { fill: #c2410c; } .real { fill: #0f766e; } text { fill: currentColor; font-size: 12px; }
"""


def write_report(
    directory: Path,
    entries: Iterable[Json],
    *,
    checkpoint: str,
    worth: str,
    threshold: float,
    summary: Summary,
) -> None:
    """Writes the report on the results in a directory, whose pictures it shows.

    `entries` are of `FileResult.to_json`; `checkpoint` is a name, `worth` a sentence.

    Raises:
        InputError: it cannot be written.
    """
    bins = [0] * _BINS
    reasons: dict[str, tuple[int, list[str]]] = {}  # with a count and examples
    worst: list[tuple[float, int, Json]] = []
    for number, entry in enumerate(entries):
        if entry["problem"] is not None:
            count, examples = reasons.get(reason := _reason(entry), (0, []))
            reasons[reason] = count + 1, [*examples, entry["file"]][:_EXAMPLES]
        if (fake := entry.get("fake_probability")) is not None:
            bins[min(int(fake * _BINS), _BINS - 1)] += 1
            slim = {key: of for key, of in entry.items() if key not in ("frames", "faces")}
            push = heapq.heappush if len(worst) < _MOST else heapq.heappushpop
            push(worst, (fake, -number, slim))
    parts = [
        f"<h1>{_text(str(summary))}</h1>",
        f"<p>Judged by {_text(checkpoint)}. {_text(worth)}</p>",
        "<p>The probability of FAKE is the classifier's; a file is called FAKE from "
        f"{in_digits(threshold)} on. A picture has that of the face that is most likely FAKE, a "
        f"video that of a person. {_text(POLARITY)}</p>",
    ]
    if any(bins):
        parts += ["<h2>Probability of FAKE</h2>", _histogram(bins, threshold)]
        parts += [f"<h2>Highest probabilities of FAKE</h2>{_table(sorted(worst, reverse=True))}"]
    if reasons:
        parts += ["<h2>Failed</h2>", _failures(reasons)]
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
    marks += [
        f'<line x1="{at:.1f}" x2="{at:.1f}" y1="0" y2="{bottom}" stroke="currentColor" '
        'stroke-dasharray="4"/>',
        f'<text x="0" y="{bottom + _LINE}">0: REAL</text>',
        f'<text x="{at:.1f}" y="{bottom + _LINE}" text-anchor="middle">threshold</text>',
        f'<text x="{_WIDTH}" y="{bottom + _LINE}" text-anchor="end">1: FAKE</text>',
    ]
    label = "How many files have which probability of FAKE"
    shapes = "".join([*bars, *marks])
    box = f"0 0 {_WIDTH} {bottom + _LINE + 4}"
    return f'<svg viewBox="{box}" role="img" aria-label="{label}">{shapes}</svg>'


def _table(worst: Iterable[tuple[float, int, Json]]) -> str:
    rows = ["<tr><th>FAKE</th><th>file</th><th>what was found</th></tr>"]
    for fake, _, entry in worst:
        notes = [*([] if entry["problem"] is None else [entry["problem"]]), *entry["notes"]]
        if entry.get("heads_disagree"):
            notes.insert(0, "the two heads disagree")
        notes = [*_stretches(entry), *notes]
        shown = entry.get("timeline") or entry.get("overlay") or entry.get("mask")
        picture = ""
        if shown is not None and shown.endswith(".png"):  # not a film
            picture = f'<br><img loading="lazy" alt="" src="{quote(shown)}">'
        rows.append(
            f'<tr><td class="number">{entry["verdict"]} {in_digits(fake)}</td>'
            f'<td class="name">{_text(entry["file"])}</td>'
            f"<td>{_text('; '.join(notes))}{picture}</td></tr>"
        )
    return f"<table>{''.join(rows)}</table>"


def _stretches(entry: Json) -> Iterator[str]:
    """When people of a video look forged who are REAL on the whole."""
    for one in entry.get("people", ()):
        if one["verdict"] == "REAL" and one.get("suspicious_from") is not None:
            when = f"from {one['suspicious_from']:.1f} to {one['suspicious_to']:.1f} s"
            yield f"person {one['person']} is REAL on the whole, but FAKE {when}"


def _failures(reasons: dict[str, tuple[int, list[str]]]) -> str:
    rows = ["<tr><th>files</th><th>reason</th><th>such as</th></tr>"]
    for reason, (count, files) in sorted(reasons.items(), key=lambda one: -one[1][0]):
        rows.append(
            f'<tr><td class="number">{count:,}</td><td>{_text(reason)}</td>'
            f'<td class="name">{"<br>".join(map(_text, files))}</td></tr>'
        )
    return f"<table>{''.join(rows)}</table>"


def _reason(entry: Json) -> str:
    """Why a file failed, without its name and numbers: the same reason is the same text."""
    return re.sub(r"\d[\d,.]*", "N", entry["problem"].removeprefix(f"{entry['file']} "))


def _text(text: str) -> str:
    return html.escape(text)
