"""The page's HTML: a report as sections that need no other file."""

import base64
import io
from collections.abc import Iterator
from html import escape

import numpy as np
from PIL import Image, ImageOps

from flax_unet.app.judge import Face, Report
from flax_unet.media.faces import Box
from flax_unet.nn.decision import (
    IN_WORDS,
    decision_in_words,
    fake_probability,
    in_digits,
    per_cent,
)
from flax_unet.predict.draw import TINT, label
from flax_unet.predict.results import AGGREGATION, VideoResult
from flax_unet.verdict import Verdict

_LARGEST = 1280  # pixels a side of the picture that is shown
_FAINT = (255, 215, 0)  # heat of probability 0; TINT is that of 1
_HINT = "A verdict is a hint, not a proof."
WELCOME = f"""\
<section class="verdict welcome">
  <p>Drop a picture or a video. It is judged on the machine that runs this page and sent nowhere
  else; its results are deleted when the page is closed.</p>
  <p class="fine">{IN_WORDS} {_HINT}</p>
</section>"""


def waiting(name: str) -> str:
    """Stands where the verdict will be."""
    return f'<section class="verdict waiting"><p class="file">{escape(name)}</p></section>'


def problem(message: str) -> str:
    """A message about a file that cannot be judged."""
    return f"""\
<section class="verdict failed" role="alert">
  <h2>Not judged</h2>
  <p>{escape(message)}</p>
  <p class="fine">The page goes on working: drop another file.</p>
</section>"""


def verdict(report: Report) -> str:
    """The verdict on a file, with its probabilities and what they mean."""
    result, decision = report.result, report.result.decision
    if result.problem is not None and report.frame is None:
        return problem(result.problem)
    heading = decision.verdict or "No verdict"
    parts = [f'<p class="file">{escape(result.file)}</p>', f"<h2>{heading}</h2>"]
    if (real := decision.real_probability) is not None:
        parts += [_bar("fake", fake_probability(real)), _bar("real", real)]
    elif report.faces_found:
        parts.append("<p>This checkpoint has no classifier.</p>")
    parts += [f"<p>{paragraph}</p>" for paragraph in _paragraphs(report)]
    meaning = f"{IN_WORDS} {decision_in_words(decision.threshold)} {_HINT}"
    parts.append(f'<p class="fine">{meaning}</p>')
    kind = (decision.verdict or "none").lower()
    return f'<section class="verdict {kind}" role="status">{"".join(parts)}</section>'


def picture(report: Report) -> str:
    """The picture, the heat map of its faces over it, and their boxes; empty without a picture."""
    frame = report.frame
    if frame is None:
        return ""
    shown, size = frame.image, frame.image.size
    if max(size) > _LARGEST:
        shown = ImageOps.contain(shown, (_LARGEST, _LARGEST))
    layers = [f'<img class="photo" alt="the picture that was judged" src="{_uri(shown, "JPEG")}">']
    for face in frame.verdicts:
        if face.mask_probability is not None:
            style, heat = _position(face.box, size), _uri(_heat(face.mask_probability), "PNG")
            layers.append(f'<img class="heat" alt="" style="{style}" src="{heat}">')
    boxes = [(face.box, _kind(face), label(face, digits=1)) for face in frame.verdicts]
    boxes += [(box, "none", "too small to judge") for box in frame.found.too_small]
    for box, kind, words in boxes:
        style = _position(box, size)
        layers.append(f'<div class="box {kind}" style="{style}"><span>{escape(words)}</span></div>')
    legend = ""
    if frame.seconds is not None:
        which = "The most suspicious frame" if frame.verdicts else "A frame"
        legend += f"{which}, at {frame.seconds:.2f} s. "
    if has_heat(report):
        legend += 'Heat: probability that a pixel is MANIPULATED, 0 <i class="ramp"></i> 1'
    shape = f"--ratio: {size[0] / size[1]:.4f}"
    return f"""\
<figure class="look">
  <div class="layers" style="{shape}">{"".join(layers)}</div>
  <figcaption>{legend}</figcaption>
</figure>"""


def has_heat(report: Report) -> bool:
    """Whether `picture` shows a heat map."""
    return report.frame is not None and any(
        face.mask_probability is not None for face in report.frame.verdicts
    )


def faces(report: Report) -> str:
    """A card for each face; empty without faces."""
    if not report.faces:
        return ""
    cards = "".join(_card(face) for face in report.faces)
    count, found = len(report.faces), report.faces_found
    shown = f"{count} of {found:,}, the most suspicious first" if count < found else f"{found}"
    return f'<h3>Faces <small>{shown}</small></h3><div class="faces">{cards}</div>'


def timeline(report: Report) -> str:
    """The plot of a video's probability over time; empty if there is none."""
    if "timeline" not in report.files:
        return ""
    data = base64.b64encode(report.files["timeline"].read_bytes()).decode()
    return (
        '<h3>Timeline</h3><img class="timeline" alt="probability of FAKE over time" '
        f'src="data:image/png;base64,{data}">'
    )


def _bar(name: str, probability: float) -> str:
    return f"""\
<div class="bar {name}"><span>{name}</span>
  <div><div style="width: {probability:.2%}"></div></div>
  <output class="{name}">{escape(in_digits(probability))}</output>
</div>"""


def _paragraphs(report: Report) -> Iterator[str]:
    """How much of a single face is marked, what the verdict stands for, and notes."""
    result, verdicts = report.result, report.frame.verdicts if report.frame else []
    is_video = isinstance(result, VideoResult)
    if verdicts and verdicts[0].manipulated_share is None:
        yield "This checkpoint marks no pixels."
    elif len(verdicts) == 1 and not is_video:
        share = verdicts[0].manipulated_share
        yield f"<b>{share:.1%}</b> of the face's pixels are marked MANIPULATED."
    if (raw := result.decision.raw_fake_probability) is not None:
        threshold = in_digits(result.decision.threshold)
        yield (
            f"The probabilities are calibrated; from {threshold} on, a face is called FAKE. The "
            f"network's own, raw probability of FAKE is {escape(in_digits(raw))}."
        )
    if result.decision.verdict is not None and is_video:
        judged = result.frames_judged
        yield f"The fake probability is the {AGGREGATION}; frames judged: {judged:,}."
        if len(result.people) > 1:
            yield f"<b>It is that of person {result.person}</b>.{_people(result)}"
    elif result.decision.verdict is not None and len(result.faces) > 1:
        yield "The verdict is that of the face with the highest fake probability."
    for note in (*result.notes, *filter(None, [result.problem])):
        yield f"<b>Note:</b> {escape(note)}."


def _people(result: VideoResult) -> str:
    """A table of the people in a video."""
    rows = "".join(
        f'<tr class="{(one.decision.verdict or "none").lower()}"><td>{one.person}</td>'
        f"<td>{one.decision.verdict} {_per_cent(one.decision.fake_probability)}</td>"
        f"<td>{one.frames:,}{'' if one.seen_in_enough_frames else ' (too few)'}</td>"
        f"<td>{one.first_seconds:.1f} to {one.last_seconds:.1f} s</td>"
        f"<td>{_per_cent(one.detection_confidence)}</td></tr>"
        for one in result.people
    )
    heads = ("person", "probability of FAKE", "frames", "seen", "found with confidence")
    head = "".join(f"<th>{of}</th>" for of in heads)
    return f'<table class="people"><tr>{head}</tr>{rows}</table>'


def _per_cent(probability: float | None) -> str:
    return "" if probability is None else escape(per_cent(probability, 1))


def _card(face: Face) -> str:
    lines = [f"<b>{escape(label(face.verdict, digits=1))}</b>"]
    if face.person is not None:
        lines.append(f"person {face.person}")
    if face.verdict.manipulated_share is not None and face.verdict.is_real is not None:
        lines.append(f"{face.verdict.manipulated_share:.1%} marked")
    if face.seconds is not None:
        lines.append(f"at {face.seconds:.2f} s")
    if face.found.confidence is not None:
        lines.append(f"found with {_per_cent(face.found.confidence)} confidence")
    lines += face.found.doubts
    box = face.verdict.box
    lines.append(f"box ({box.left}, {box.top}) {box.width}&times;{box.height}")
    return f"""\
<figure class="face {_kind(face.verdict)}">
  <img alt="a face" src="{_uri(face.crop, "JPEG")}">
  <figcaption>{"<br>".join(lines)}</figcaption>
</figure>"""


def _kind(face: Verdict) -> str:
    return {True: "real", False: "fake", None: "none"}[face.is_real]


def _heat(probability: np.ndarray) -> Image.Image:
    """A probability map in colours that become opaque towards 1."""
    steps = np.linspace(0, 1, 256)[:, None]
    colours = (1 - steps) * np.array(_FAINT) + steps * np.array(TINT)
    table = np.concatenate([colours, 255 * steps], axis=1).round().astype(np.uint8)
    return Image.fromarray(table[(255 * probability).round().astype(np.uint8)])


def _position(box: Box, size: tuple[int, int]) -> str:
    """CSS that puts a box on a picture of `size`, shown at any scale."""
    width, height = size
    return (
        f"left: {box.left / width:.4%}; top: {box.top / height:.4%}; "
        f"width: {box.width / width:.4%}; height: {box.height / height:.4%}"
    )


def _uri(image: Image.Image, form: str) -> str:
    written = io.BytesIO()
    image.save(written, form, quality=90)
    data = base64.b64encode(written.getvalue()).decode()
    return f"data:image/{form.lower()};base64,{data}"
