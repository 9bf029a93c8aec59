"""A report as HTML that needs no other file but the overlay video."""

import base64
import io
from collections.abc import Iterator
from html import escape

from PIL import Image, ImageOps

from flax_unet.app import words
from flax_unet.app.judge import Face, Report
from flax_unet.app.timeline import lanes
from flax_unet.media.faces import Box
from flax_unet.nn.decision import THRESHOLD, Decision, fake_probability, in_digits, per_cent
from flax_unet.predict import draw
from flax_unet.predict.results import VideoResult
from flax_unet.verdict import Verdict

_LARGEST = 1600  # pixels a side of the picture that is shown
_MEAN = "the mean over the frames of the person who looks forged most, if seen in enough of them"


def report(report: Report) -> str:
    """All that the page shows of a file."""
    parts = (verdict(report), stage(report), timeline(report), faces(report))
    names = ("verdict", "stage", "timeline", "faces")
    return "".join(
        f'<div id="{name}">{part}</div>' for name, part in zip(names, parts, strict=True) if part
    )


def failure(name: str, message: str) -> tuple[words.Summary, str]:
    """The summary and the HTML of a file that cannot be judged."""
    summary = words.Summary("failed", "This file could not be judged.")
    return summary, f'<div id="verdict">{_problem(name, summary.headline, message)}</div>'


def _problem(name: str, headline: str, message: str) -> str:
    return f"""\
<section class="verdict failed" role="alert">
  <p class="file">{escape(name)}</p>
  <h2>{headline}</h2>
  <p>{escape(message)}.</p>
  <p class="fine">Choose another file, or remove this one from the list.</p>
</section>"""


def verdict(report: Report) -> str:
    """The verdict on a file in a sentence, how sure the program is, and details folded away."""
    result, decision = report.result, report.result.decision
    summary = words.summary(report)
    if summary.kind == "failed":
        return _problem(result.file, summary.headline, str(result.problem))
    parts = [f'<p class="file">{escape(result.file)}</p>', f"<h2>{summary.headline}</h2>"]
    if decision.real_probability is not None:
        of_video = isinstance(result, VideoResult)
        parts.append(_scale(summary, decision, of_video=of_video))
    parts += [f"<p>{paragraph}</p>" for paragraph in _paragraphs(report)]
    parts.append(f'<p class="fine">{words.HINT}</p>')
    figures = "".join(_figures(report))
    if figures:
        parts.append(f"<details><summary>Details and figures</summary>{figures}</details>")
    return f'<section class="verdict {summary.kind}" role="status">{"".join(parts)}</section>'


def stage(report: Report) -> str:
    """The picture, or the video and its most suspicious frame; empty without either."""
    if report.frame is None:
        return ""
    still = f'<div id="picture">{picture(report)}</div>'
    if not _has_film(report):
        return still
    return f"""\
<div class="tabs" role="group" aria-label="What is shown">
  <button type="button" data-shows="video" aria-pressed="true">Video</button>
  <button type="button" data-shows="picture" aria-pressed="false">Most suspicious moment</button>
</div>
<div id="video"><video controls playsinline preload="auto" data-file="overlay"
  aria-label="The video, with the faces framed and what looks altered marked"></video></div>
{still.replace(">", " hidden>", 1)}"""


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
            style, (heat, contour) = _position(face.box, size), draw.layers(face)
            drawn = [("heat", heat), *([("contour", contour)] if contour else [])]
            layers += [
                f'<img class="{name}" alt="" style="{style}" src="{_uri(layer, "PNG")}">'
                for name, layer in drawn
            ]
    boxes = [(face.box, *_label(face)) for face in frame.verdicts]
    boxes += [(box, "none", "too small to judge") for box in frame.found.too_small]
    for box, kind, text in boxes:
        style = _position(box, size)
        layers.append(f'<div class="box {kind}" style="{style}"><span>{escape(text)}</span></div>')
    caption = ""
    if frame.seconds is not None:
        which = "The most suspicious frame" if frame.verdicts else "A frame"
        caption += f"<p>{which}, at {frame.seconds:.2f} s.</p>"
    if has_heat(report):
        caption += (
            '<p>Likely altered: no <i class="ramp"></i> yes</p>'
            '<label>Strength <input type="range" min="0" max="100" value="50"></label>'
        )
    return f"""\
<figure class="look" style="--ratio: {size[0] / size[1]:.4f}">
  <div class="layers">{"".join(layers)}</div>
  <figcaption>{caption}</figcaption>
</figure>"""


def has_heat(report: Report) -> bool:
    """Whether `picture` shows a heat map."""
    return report.frame is not None and any(
        face.mask_probability is not None for face in report.frame.verdicts
    )


def timeline(report: Report) -> str:
    """The people of a video, and when each looks forged; empty for pictures."""
    if not report.people or not isinstance(report.result, VideoResult):
        return ""
    crops = {number: _uri(face.crop, "JPEG") for number, face in report.people.items()}
    return lanes(report.result, crops, report.frames_a_second, can_seek=_has_film(report))


def faces(report: Report) -> str:
    """A card for each face, or for the most suspicious ones; folded away but for several."""
    is_video = isinstance(report.result, VideoResult)
    if not report.faces:
        return ""
    cards = "".join(_card(face) for face in report.faces)
    count, found = len(report.faces), report.faces_found
    shown = f"{count} of {found:,}, the most suspicious first" if count < found else f"{found}"
    title = "The most suspicious moments" if is_video else "The faces, close up"
    return (
        f"<details{'' if is_video or found == 1 else ' open'}>"
        f"<summary>{title} <small>{shown}</small></summary>"
        f'<div class="faces">{cards}</div></details>'
    )


def _has_film(report: Report) -> bool:
    return report.result.kind == "video" and "overlay" in report.files


def _scale(summary: words.Summary, decision: Decision, *, of_video: bool) -> str:
    """How sure the program is: in words, and as a place between real and forged."""
    chance, threshold = escape(summary.chance), escape(per_cent(decision.threshold))
    mean = " on average" if of_video else ""
    if decision.threshold == THRESHOLD:
        estimate = f"The program puts the chance of a forgery at <b>{chance}</b>{mean}."
    else:  # the per cent alone would seem to contradict the verdict
        side = "above" if decision.verdict == "FAKE" else "below"
        at = f"<b>{chance}</b>{mean}"
        estimate = f"The estimate, {at}, lies {side} the threshold, {threshold}."
    said = f"Chance of a forgery: {chance}. Called forged from {threshold} on."
    return f"""\
<p class="sure"><b>{summary.sure}.</b> {estimate}</p>
<div class="scale" role="img" aria-label="{said}"
  style="--at: {decision.fake_probability or 0.0:.2%}; --from: {decision.threshold:.2%}">
  <div><i></i></div><span>real</span><span>forged</span>
  <span class="threshold">called forged from {threshold} on</span>
</div>"""


def _paragraphs(report: Report) -> Iterator[str]:
    """How much of a single face is marked, whose verdict it is, and notes."""
    result, verdicts = report.result, report.frame.verdicts if report.frame else []
    is_video = isinstance(result, VideoResult)
    if report.faces_found and result.decision.verdict is None:
        yield "This model gives no verdict: it only marks what looks altered."
    if verdicts and verdicts[0].manipulated_share is None:
        yield "This model does not mark what was altered."
    elif len(verdicts) == 1 and not is_video:
        share = verdicts[0].manipulated_share
        yield f"<b>{share:.1%}</b> of the face's area is marked as altered."
    if is_video and len(result.people) > 1 and result.person is not None:
        yield f"<b>It is that of person {result.person}</b>, who looks forged most on average."
    elif result.decision.verdict is not None and len(result.faces) > 1 and not is_video:
        yield "The estimate is that of the face that looks forged most."
    faces = [result] if is_video else result.faces
    if any(face.heads_disagree for face in faces):
        yield (
            "<b>The two estimates disagree</b>: how much is marked as altered does not fit the "
            "verdict. Trust neither without a closer look."
        )
    for note in (*result.notes, *filter(None, [result.problem])):
        yield f"<b>Note:</b> {escape(note)}."


def _figures(report: Report) -> Iterator[str]:
    """The figures behind the verdict."""
    result = report.result
    if (real := result.decision.real_probability) is not None:
        yield _bar("fake", "forged", fake_probability(real))
        yield _bar("real", "real", real)
        threshold = escape(per_cent(result.decision.threshold))
        yield f"<p>A face is called forged from {threshold} on.</p>"
    if (raw := result.decision.raw_fake_probability) is not None:
        raw = escape(in_digits(raw))
        yield (
            "<p>These are adjusted to how often the model was right on known pictures; its own "
            f"figure for forged is {raw}.</p>"
        )
    if isinstance(result, VideoResult) and result.people:
        judged = result.frames_judged
        yield f"<p>The estimate is {_MEAN}; frames judged: {judged:,}.</p>"
        if len(result.people) > 1:
            yield _people(result)


def _bar(key: str, name: str, probability: float) -> str:
    return f"""\
<div class="bar {key}"><span>{name}</span>
  <div><div style="width: {probability:.2%}"></div></div>
  <output class="{key}">{escape(in_digits(probability))}</output>
</div>"""


def _people(result: VideoResult) -> str:
    """A table of the people in a video."""
    rows = "".join(
        f'<tr class="{words.kind_of_person(one)}"><td>{one.person}</td>'
        f"<td>{_per_cent(one.decision.fake_probability)}</td>"
        f"<td>{one.frames:,}{'' if one.seen_in_enough_frames else ' (too few)'}</td>"
        f"<td>{one.first_seconds:.1f} to {one.last_seconds:.1f} s</td>"
        f"<td>{_per_cent(one.detection_confidence)}</td></tr>"
        for one in result.people
    )
    heads = ("person", "forged", "frames", "seen", "a face, by the face finder")
    head = "".join(f'<th scope="col">{of}</th>' for of in heads)
    return f'<table class="figures"><tr>{head}</tr>{rows}</table>'


def _per_cent(probability: float | None) -> str:
    return "" if probability is None else escape(per_cent(probability, 1))


def _card(face: Face) -> str:
    kind, text = _label(face.verdict)
    lines = [f"<b>{escape(text)}</b>"]
    if face.person is not None:
        lines.append(f"person {face.person}")
    if face.verdict.manipulated_share is not None and face.verdict.is_real is not None:
        lines.append(f"{face.verdict.manipulated_share:.1%} marked as altered")
    if face.seconds is not None:
        lines.append(f"at {face.seconds:.2f} s")
    if face.found.confidence is not None:
        lines.append(f"found with {_per_cent(face.found.confidence)} confidence to be a face")
    lines += face.found.doubts
    return f"""\
<figure class="face {kind}">
  <img alt="" src="{_uri(face.crop, "JPEG")}">
  <figcaption>{"<br>".join(lines)}</figcaption>
</figure>"""


def _label(face: Verdict) -> tuple[str, str]:
    """A face's kind, and its label."""
    return words.kind_of(face.decision), draw.label(face)


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
