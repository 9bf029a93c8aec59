"""Writes report.html: what became of the files, for people. It needs no network and no script."""

import base64
import html
import io
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from flax_unet.media.images import read_image
from flax_unet.nn.decision import THRESHOLD, digits_beside, in_digits
from flax_unet.predict.findings import MOST, Findings, Folder, Worst, disagrees, problem, stretches
from flax_unet.predict.plan import WHOLE
from flax_unet.predict.results import Json
from flax_unet.predict.stretch import LEAST_FRAMES, LEAST_SECONDS, LEAST_SHARE, NEAR
from flax_unet.predict.summary import Summary
from flax_unet.utils.errors import InputError, counted
from flax_unet.utils.filenames import shown

REPORT = "report.html"
_WIDTH, _HEIGHT, _LINE = 640, 160, 20  # of the histogram and a line of text, in its own units
_CHECKSUM = 8  # digits of a checksum that are shown
_OF_VIDEO = {"close_up": 320, "timeline": 640}  # pictures of a file, and pixels a side of copies:
_OF_PICTURE = {"overlay": 320, "mask": 320}  # the first of these that there is
PICTURES = (*_OF_VIDEO, *_OF_PICTURE)  # keys of results whose files the report copies
_STYLE = """\
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; vertical-align: top; padding: .4rem .6rem; border-top: 1px solid #8886; }
td.number { white-space: nowrap; font-variant-numeric: tabular-nums; }
td.name { overflow-wrap: anywhere; min-width: 9rem; }
a { display: inline-block; margin: .2rem .6rem .2rem 0; }
img { display: block; max-width: 100%; max-height: 12rem; }
svg { width: 100%; height: auto; }
.fake { fill: #c2410c; } .real { fill: #0f766e; } text { fill: currentColor; font-size: 12px; }
@media (max-width: 40rem) {
  table, tbody, tr, td { display: block; } tr:first-child { display: none; }
  td { border: 0; padding: .1rem 0; } td.number::before { content: attr(title) " "; }
  tr { border-top: 1px solid #8886; padding: .4rem 0; } text { font-size: 18px; }
}
"""


def write_report(
    directory: Path,
    found: Findings,
    *,
    head: Mapping[str, Any],
    summary: Summary,
    left_out: Iterable[Json],
) -> None:
    """Writes the report on the results in a directory, of whose pictures it has small copies.

    `found` has the threshold of `head`, which is of `predictions.head_of`; `left_out` is of
    `LeftOut.to_json`.

    Raises:
        InputError: it cannot be written.
    """
    threshold = head["options"]["threshold"]
    folder, worst, doubtful = found.folder, found.worst, found.doubtful
    listed = [entry["fake_probability"] for entry in (*worst, *doubtful)]
    digits = digits_beside(threshold, listed)
    sections: dict[str, Iterable[str]] = {}  # by their headings
    if doubtful.count:
        which = "in which the network contradicts itself, or finds a part of a video forged"
        signs = _list(directory, doubtful, which, folder, digits)
        sections["Called REAL, but look at these"] = signs
    sections["How to read this"] = _items(map(_text, _explained(head, found, digits)))
    if worst.count:
        sections["Probability of FAKE"] = [_histogram(found, threshold, digits)]
        suspicious = _list(directory, worst, "with a face", folder, digits)
        sections["Most suspicious first"] = suspicious
    if found.reasons:
        sections["Failed: not checked"] = [
            "<p>Nothing is known of these files, or only of the part that could be read.</p>",
            _failures(found.reasons, folder),
        ]
    if left := [_left_out(one, folder) for one in left_out]:
        sections["Left out"] = _items(left)
    body = "\n".join([*_top(head, summary, found), *_with_contents(sections)])
    page = f"""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; \
img-src 'self' file: data:; style-src 'unsafe-inline'">
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


def _top(head: Mapping[str, Any], summary: Summary, found: Findings) -> Iterator[str]:
    """The counts, and what they are worth."""
    more = f"; besides these, {summary.left_out:,} left out" if summary.left_out else ""
    yield f"<h1>{summary.in_words(found.real_with_signs)}{more}</h1>"
    if folder := str(found.folder):
        yield f"<p>In the folder {_text(shown(folder))}</p>"
    yield f"<p><strong>How far to trust this?</strong> {_text(head['worth_in_short'])}</p>"
    if found.worst.count:
        yield (
            "<p>REAL means that no sign of a forgery was found, or too few for FAKE. It does not "
            "certify that a file is genuine.</p>"
        )


def _with_contents(sections: Mapping[str, Iterable[str]]) -> Iterator[str]:
    """Links to the sections, then these."""
    links = (f'<a href="#{number}">{name}</a>' for number, name in enumerate(sections, 1))
    yield f"<nav>{' '.join(links)}</nav>"
    for number, (name, parts) in enumerate(sections.items(), 1):
        yield f'<h2 id="{number}">{name}</h2>'
        yield from parts


def _items(items: Iterable[str]) -> Iterator[str]:
    """The HTML of a list."""
    yield f"<ul>{''.join(f'<li>{item}</li>' for item in items)}</ul>"


def _explained(head: Mapping[str, Any], found: Findings, digits: int) -> Iterator[str]:
    """What the figures and pictures mean, and how they were made."""
    options = head["options"]
    if found.worst.count:
        yield (
            f"A file is called FAKE from a probability of FAKE of "
            f"{in_digits(options['threshold'], digits)} on. {_origin(head)} A higher threshold "
            "misses more forgeries, a lower one calls more real faces FAKE. A picture counts as "
            "its most suspicious face, a video as its most suspicious person among those seen in "
            "enough frames, on average over the frames."
        )
    unseen = ["sound"]
    if options["faces"] != "none":
        unseen.append("what lies outside the faces that were found")
    if options["keyframes"] or options["frames"] is not None or options["every"] > 1:
        unseen.append("the other frames")
    yield f"Of videos, {_sampling(options)} looked at. Not examined: {', '.join(unseen)}."
    if found.has_both_heads:
        yield (
            "For each face the network gives two answers: a probability of FAKE, and a marked area "
            "of the crop, the rectangle around a face, which also holds hair and background. Where "
            "they contradict each other, look yourself."
        )
    is_drawn = head["overlays"] or found.has_close_ups
    if is_drawn and found.worst.count:
        yield (
            "On pictures the frame of a face is red if it is FAKE and green if it is REAL, and its "
            "label is the probability of FAKE."
        )
    if found.has_marks and is_drawn:
        yield (
            "A white line surrounds what is marked; heat from yellow to red is the probability of "
            "a manipulation."
        )
    if found.has_marks and not head["overlays"]:
        yield "The pictures beside pictures are masks, white where a picture is marked."
    if found.has_stretches:
        yield (
            f"A stretch of a video looks forged if it has {LEAST_SECONDS:g} s, {LEAST_FRAMES} "
            f"frames and {LEAST_SHARE:.0%} of the person's frames or more, and near each of them "
            f"(within {NEAR:g} s, at least the neighbours) most frames are FAKE; single ones may "
            "be REAL. Only the longest is named, and shaded in the timeline."
        )
    shard = head["shard"]
    day, time = head["made_by"]["created"][:16].split("T")
    part = "" if shard == str(WHOLE) else f" This is part {shard} of the files."
    yield (
        f"Made on {day} at {time} UTC with {_checkpoint(head)}. {head['worth']}{part} The "
        "pictures here are small copies; the whole ones and films lie beside this page: keep it in "
        "its folder. Everything is also in predictions.csv "
        "and predictions.json, whose `meaning` explains both."
    )


def _origin(head: Mapping[str, Any]) -> str:
    """Where the threshold comes from, in a sentence."""
    options = head["options"]
    threshold, calibration = options["threshold"], options.get("calibration")
    if calibration is not None and threshold == calibration["threshold"]:
        if (rate := head.get("false_alarm_rate")) is None:
            return "The calibration of the checkpoint has set it."
        return (
            f"The calibration of the checkpoint has set it so that at most {100 * rate:.3g}% of "
            "the real frames it used are called FAKE; of others it may be more."
        )
    if calibration is None and threshold == THRESHOLD:
        return "This is the published threshold."
    return "It was given by --threshold."


def _checkpoint(head: Mapping[str, Any]) -> str:
    """The checkpoint's name, and the file that it was converted from."""
    file, checksum = (head["checkpoint_source"].get(key) for key in ("file", "sha256"))
    source = [] if file is None else [f"from {shown(file)}"]
    source += [] if checksum is None else [f"SHA-256 {checksum[:_CHECKSUM]}..."]
    return f"the checkpoint {shown(head['checkpoint'])}" + (
        f" ({', '.join(source)})" if source else ""
    )


def _sampling(options: Mapping[str, Any]) -> str:
    """Which frames of videos were looked at, with the verb."""
    if options["keyframes"]:
        return "the keyframes were"
    if (frames := options["frames"]) is not None:
        return "one frame was" if frames == 1 else f"{frames:,} evenly spaced frames were"
    every = options["every"]
    return "all frames were" if every == 1 else f"one frame in {every:,} was"


def _histogram(found: Findings, threshold: float, digits: int) -> str:
    bottom, most = _HEIGHT + 2 * _LINE, max(found.bins)
    shapes = []
    for (low, high), count in zip(itertools.pairwise(found.edges), found.bins, strict=True):
        height, left, width = _HEIGHT * count / most, _WIDTH * low, _WIDTH * (high - low)
        shapes.append(
            f'<rect class="{"real" if low < threshold else "fake"}" x="{left + 1:.1f}" '
            f'y="{bottom - height:.1f}" width="{max(width - 2, 1):.1f}" height="{height:.1f}">'
            f"<title>{low:.2f} to {high:.2f}: {counted(count, 'file')}</title></rect>"
        )
        if count:
            shapes.append(_label(left + width / 2, bottom - height - 4, f"{count:,}"))
    at = _WIDTH * threshold
    is_left = threshold < 0.5
    limit = f"threshold {in_digits(threshold, digits)}"
    shapes += [
        f'<line x1="0" x2="{_WIDTH}" y1="{bottom}" y2="{bottom}" stroke="currentColor"/>',
        f'<line x1="{at:.1f}" x2="{at:.1f}" y1="0" y2="{bottom}" stroke="currentColor" '
        'stroke-dasharray="4"/>',
        _label(at + (6 if is_left else -6), _LINE - 5, limit, "start" if is_left else "end"),
    ]
    for tick, anchor in ((0, "start"), (0.5, "middle"), (1, "end")):
        x = _WIDTH * tick
        shapes += [
            f'<line x1="{x}" x2="{x}" y1="{bottom}" y2="{bottom + 5}" stroke="currentColor"/>',
            _label(x, bottom + _LINE, f"{tick:g}", anchor),
        ]
    label = "How many files have which probability of FAKE"
    return (
        "<p>Numbers of files by their probability, REAL ones in teal, FAKE ones in orange:</p>"
        f'<svg viewBox="0 0 {_WIDTH} {bottom + _LINE + 4}" role="img" aria-label="{label}">'
        f"{''.join(shapes)}</svg>"
    )


def _label(x: float, y: float, text: str, anchor: str = "middle") -> str:
    """A text in the histogram."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'


def _list(directory: Path, listed: Worst, which: str, folder: Folder, digits: int) -> Iterator[str]:
    where = "; all are in predictions.csv" if listed.count > MOST else ""
    count = counted(listed.count, "file")
    yield f"<p>{min(listed.count, MOST)} of {count} {which}{where}.</p>"
    columns = ("called", "probability of FAKE", "file", "what was found")
    rows = [f"<tr>{''.join(f'<th>{column}</th>' for column in columns)}</tr>"]
    for entry in listed:
        found = f"<div>{_text('; '.join(_found(entry)))}</div>"
        for picture, side in _pictures(entry):
            found += (
                f'<a href="{quote(picture)}"><img loading="lazy" alt="{_text(picture)}" '
                f'src="{_copy(directory / picture, side)}"></a>'
            )
        if (film := entry.get("overlay", "")).endswith(".mp4"):
            found += f'<a href="{quote(film)}">film with markings</a>'
        rows.append(
            f"<tr><td>{_text(entry['verdict'])}</td>"
            f'<td class="number" title="probability of FAKE">'
            f"{_text(in_digits(entry['fake_probability'], digits))}</td>"
            f'<td class="name">{_name(folder, entry["file"])}</td><td>{found}</td></tr>'
        )
    yield f"<table>{''.join(rows)}</table>"


def _pictures(entry: Json) -> list[tuple[str, int]]:
    """The names of the pictures that show most of a file, and the sides of their copies."""
    of_video = [(entry[kind], side) for kind, side in _OF_VIDEO.items() if kind in entry]
    of_picture = [(entry[kind], side) for kind, side in _OF_PICTURE.items() if kind in entry]
    return of_video or [one for one in of_picture if one[0].endswith(".png")][:1]


def _copy(path: Path, side: int) -> str:
    """A URL of a picture's copy; of the picture itself where it cannot be read any more."""
    try:
        picture = read_image(path)
    except InputError:
        return quote(path.name)
    picture.thumbnail((side, side))
    file = io.BytesIO()
    picture.save(file, "JPEG")
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def _found(entry: Json) -> Iterator[str]:
    """What is said of a file, in words."""
    yield from stretches(entry)
    if (seconds := entry.get("worst_seconds")) is not None:
        yield f"most suspicious at {seconds:.1f} s"
    if (share := entry.get("manipulated_share")) is not None:
        yield f"{share:.1%} of the crop marked"
    if disagrees(entry):
        other = "" if entry.get("heads_disagree") else " about another face"
        yield f"the two answers contradict each other{other}"
    yield from _several(entry)
    if entry["problem"] is not None:
        yield f"failed: {problem(entry)}"
    if (frames := entry.get("frames_judged")) is not None:
        yield f"{counted(frames, 'frame')} judged"
    yield from entry["notes"]


def _several(entry: Json) -> Iterator[str]:
    """Whose the numbers of a file are, where several people or faces are in it."""
    if (people := len(entry.get("people", ()))) > 1:
        yield f"{people:,} people; the figures are of person {entry['person']}"
    if len(faces := entry.get("faces", ())) > 1:
        worst = max(faces, key=lambda face: face["fake_probability"])
        place = sorted(face["box"] for face in faces).index(worst["box"]) + 1
        which = f"the figures are of the most suspicious, number {place} from the left"
        yield f"{len(faces):,} faces; {which}"


def _failures(reasons: Mapping[str, tuple[int, list[Json]]], folder: Folder) -> str:
    rows = ["<tr><th>files</th><th>reason</th><th>such as</th></tr>"]
    for count, examples in sorted(reasons.values(), key=lambda one: -one[0]):
        problems = "<br>".join(map(_text, dict.fromkeys(map(problem, examples))))
        files = "<br>".join(_name(folder, entry["file"]) for entry in examples)
        rows.append(
            f'<tr><td class="number" title="files:">{count:,}</td>'
            f'<td>{problems}</td><td class="name">{files}</td></tr>'
        )
    return f"<table>{''.join(rows)}</table>"


def _left_out(one: Json, folder: Folder) -> str:
    names = [_name(folder, path) for path in one["such_as"]]
    names += ["..."] * (one["count"] > len(names))
    text = _text(f"{one['count']:,} {one['kind']} ({one['reason']}): ")
    return f"{text}{', '.join(names)}"


def _name(folder: Folder, file: str) -> str:
    """The HTML of a file's name in a folder, with places where a line may break."""
    return re.sub(rf"([{re.escape(os.sep)}_])", r"\1<wbr>", _text(shown(folder.within(file))))


def _text(text: str) -> str:
    return html.escape(text)
