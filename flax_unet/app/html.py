"""What the page shows of a report, as HTML that needs no other file."""

import base64
import io
from collections.abc import Sequence
from html import escape

import numpy as np
from PIL import Image, ImageOps

from flax_unet.app.judge import Face, Report
from flax_unet.media.boxes import Box
from flax_unet.predict.results import AGGREGATION
from flax_unet.verdict import Verdict

_LARGEST = 1280  # pixels a side of the picture that is shown
_FAINT, _STRONG = (255, 215, 0), (255, 0, 60)  # heat; the latter is the overlays' tint
_POLARITY = (
    "The classifier gives the probability that a face is REAL; fake is 1 minus it, and FAKE is "
    "said unless real is over 0.5. The mask is the other way round: its 1 is MANIPULATED. "
    "What a network says is a hint, not a proof."
)
WELCOME = f"""\
<section class="verdict welcome">
  <p>Drop a picture or a video. It is judged on the machine that runs this page and sent nowhere
  else; what is kept of it goes when the page does.</p>
  <p class="fine">{_POLARITY}</p>
</section>"""


def waiting(name: str) -> str:
    """What stands where the verdict will be."""
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
    """The verdict of a file, with its probabilities and what they mean."""
    result = report.result
    if result["status"] == "failed" and report.frame is None:
        return problem(result["problem"])
    called = result["verdict"]
    share = _share(report)
    parts = [f'<p class="file">{escape(result["file"])}</p>']
    if called is not None:
        parts += [f"<h2>{called}</h2>", _bar("fake", result), _bar("real", result)]
    elif not report.faces_found:
        parts.append("<h2>No verdict</h2>")
    else:
        parts.append("<h2>No verdict</h2><p>This checkpoint has no classifier.</p>")
    if share is not None:
        parts.append(f"<p>{share}</p>")
    parts += [f"<p>{_aggregation(report)}</p>"] if called is not None else []
    remarks = [*result["notes"], *([result["problem"]] if result["problem"] else [])]
    parts += [f"<p><b>Note:</b> {escape(remark)}.</p>" for remark in remarks]
    parts.append(f'<p class="fine">{_POLARITY}</p>')
    kind = (called or "none").lower()
    return f'<section class="verdict {kind}" role="status">{"".join(parts)}</section>'


def picture(report: Report) -> str:
    """The picture, the heat map of its faces over it, and their boxes; empty without a picture."""
    frame = report.frame
    if frame is None or frame.image is None:
        return ""
    shown, size = frame.image, frame.image.size
    if max(size) > _LARGEST:
        shown = ImageOps.contain(shown, (_LARGEST, _LARGEST))
    layers = [f'<img class="photo" alt="the picture that was judged" src="{_uri(shown, "JPEG")}">']
    for face in frame.verdicts:
        if face.mask_probability is not None:
            heat = _uri(_heat(face.mask_probability), "PNG")
            layers.append(
                f'<img class="heat" alt="" style="{_place(face.box, size)}" src="{heat}">'
            )
    boxes = [(face.box, _kind(face), _words(face)) for face in frame.verdicts]
    boxes += [(box, "none", "too small to judge") for box in frame.found.too_small]
    for box, kind, words in boxes:
        label = f"<span>{words}</span>" if words else ""
        layers.append(f'<div class="box {kind}" style="{_place(box, size)}">{label}</div>')
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
    told = f"{count} of {found:,}, the most suspicious first" if count < found else f"{found}"
    return f'<h3>Faces <small>{told}</small></h3><div class="faces">{cards}</div>'


def timeline(report: Report) -> str:
    """The plot of a video's probability over time; empty without."""
    if "timeline" not in report.files:
        return ""
    data = base64.b64encode(report.files["timeline"].read_bytes()).decode()
    return (
        '<h3>Timeline</h3><img class="timeline" alt="probability of FAKE over time" '
        f'src="data:image/png;base64,{data}">'
    )


def _bar(name: str, result: dict[str, float]) -> str:
    value = result[f"{name}_probability"]
    return f"""\
<div class="bar {name}"><span>{name}</span>
  <div><div style="width: {value:.2%}"></div></div>
  <output class="{name}">{value:.4f}</output>
</div>"""


def _aggregation(report: Report) -> str:
    """Which faces and frames the verdict stands for."""
    result = report.result
    if result["kind"] == "video":
        judged = result["frames_judged"]
        return f"The fake probability is the {AGGREGATION}; frames judged: {judged:,}."
    if len(result["faces"]) > 1:
        return "The verdict is that of the face with the highest fake probability."
    return ""


def _share(report: Report) -> str | None:
    """How much of the faces is marked."""
    if report.frame is None or not report.frame.verdicts:
        return None
    shares = [face.manipulated_share for face in report.frame.verdicts]
    if shares[0] is None:
        return "This checkpoint marks no pixels."
    if report.result["kind"] == "video" or len(shares) > 1:
        return None
    return f"<b>{shares[0]:.1%}</b> of the face's pixels are marked MANIPULATED."


def _card(face: Face) -> str:
    lines = [f"<b>{_words(face.verdict)}</b>"]
    if face.verdict.manipulated_share is not None and face.verdict.is_real is not None:
        lines.append(f"{face.verdict.manipulated_share:.1%} marked")
    if face.seconds is not None:
        lines.append(f"at {face.seconds:.2f} s")
    box = face.verdict.box
    lines.append(f"box ({box.left}, {box.top}) {box.width}&times;{box.height}")
    return f"""\
<figure class="face {_kind(face.verdict)}">
  <img alt="a face" src="{_uri(face.crop, "JPEG")}">
  <figcaption>{"<br>".join(lines)}</figcaption>
</figure>"""


def _words(face: Verdict) -> str:
    if face.fake_probability is not None:
        real = face.is_real
        return f"REAL {face.real_probability:.1%}" if real else f"FAKE {face.fake_probability:.1%}"
    return "" if face.manipulated_share is None else f"{face.manipulated_share:.1%} marked"


def _kind(face: Verdict) -> str:
    return {True: "real", False: "fake", None: "none"}[face.is_real]


def _heat(probability: np.ndarray) -> Image.Image:
    """A probability map as a colour that is the more opaque, the more probable it is."""
    steps = np.linspace(0, 1, 256)[:, None]
    colours = (1 - steps) * np.array(_FAINT) + steps * np.array(_STRONG)
    table = np.concatenate([colours, 255 * steps], axis=1).round().astype(np.uint8)
    return Image.fromarray(table[(255 * probability).round().astype(np.uint8)])


def _place(box: Box, size: tuple[int, int]) -> str:
    """Where a box lies in a picture of `size`, whatever size that is shown at."""
    width, height = size
    sides: Sequence[tuple[str, float]] = (
        ("left", box.left / width),
        ("top", box.top / height),
        ("width", box.width / width),
        ("height", box.height / height),
    )
    return "; ".join(f"{name}: {share:.4%}" for name, share in sides)


def _uri(image: Image.Image, form: str) -> str:
    written = io.BytesIO()
    image.save(written, form, quality=90)
    data = base64.b64encode(written.getvalue()).decode()
    return f"data:image/{form.lower()};base64,{data}"
