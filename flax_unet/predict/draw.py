"""Draws results: manipulated pixels tinted, faces framed with their verdict, a video's timeline."""

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from flax_unet.media.faces import Box
from flax_unet.media.images import mask_image
from flax_unet.nn.decision import in_digits, per_cent
from flax_unet.predict.results import VideoResult
from flax_unet.verdict import Verdict

TINT = (255, 0, 60)
_OPACITY = 115  # of 255
_COLOURS = {True: (0, 120, 55), False: (200, 15, 45), None: (80, 80, 80)}  # by `is_real`
_LEAST_FONT = 10  # pixels
_PLOTTED = ("#d71432", "#1f77b4", "#2ca02c", "#9467bd", "#8c564b", "#e377c2", "#17becf", "#bcbd22")
_MOST_LINES = len(_PLOTTED)  # people in a timeline


def overlay(image: Image.Image, mask: Image.Image) -> Image.Image:
    """The picture with the pixels of class 1 of `mask_image` tinted red."""
    picture = image.copy()
    picture.paste(TINT, None, mask.point([0, _OPACITY] + [0] * 254, "L"))
    return picture


def tinted(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """An image (H, W, 3) uint8 with the pixels tinted where the mask (H, W) is 1."""
    picture = Image.fromarray(image)
    return np.asarray(overlay(picture, mask_image(mask == 1, picture.size)))


def union(verdicts: Sequence[Verdict], size: tuple[int, int]) -> Image.Image | None:
    """All pixels that a face's mask marks, as a `mask_image`; None without masks."""
    if all(verdict.mask is None for verdict in verdicts):
        return None
    marked = np.zeros((size[1], size[0]), bool)
    for verdict in verdicts:
        marked |= verdict.is_manipulated
    return mask_image(marked, size)


def framed(
    image: Image.Image,
    verdicts: Sequence[Verdict],
    too_small: Sequence[Box],
    people: Sequence[int] = (),
) -> Image.Image:
    """A copy of the picture with a frame around each face, its person and its verdict in words."""
    picture = image.copy()
    pen = ImageDraw.Draw(picture)
    labels = [(v.box, label(v), _COLOURS[v.is_real]) for v in verdicts]
    if max(people, default=1) > 1:
        numbered = zip(people, labels, strict=True)
        labels = [(box, f"{number}: {text}", of) for number, (box, text, of) in numbered]
    labels += [(box, "too small", _COLOURS[None]) for box in too_small]
    longer = max(image.size)
    line = max(1, longer // 300)
    for box, text, colour in labels:
        pen.rectangle((box.left, box.top, box.right - 1, box.bottom - 1), None, colour, line)
        size = max(_LEAST_FONT, longer // 80, min(box.width // 6, longer // 20))
        left, top, right, bottom = pen.textbbox((0, 0), text, _font(size))
        pad = size // 4
        width, height = right - left + 2 * pad, bottom - top + 2 * pad
        x = max(0, min(box.left, image.width - width))
        y = box.top - height if box.top >= height else box.top  # above the face if there is room
        pen.rectangle((x, y, x + width - 1, y + height - 1), colour)
        pen.text((x + pad - left, y + pad - top), text, "white", _font(size))
    return picture


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def label(verdict: Verdict, digits: int = 0) -> str:
    """The verdict in words, with its probability in per cent to so many digits."""
    real, share = verdict.real_probability, verdict.manipulated_share
    if real is None:
        return f"{share:.{digits}%} marked"
    return f"{verdict.label} {per_cent(real if verdict.is_real else 1 - real, digits)}"


def write_timeline(path: Path, result: VideoResult) -> None:
    """Plots the fake probability of each person in a video, with gaps where it was not judged.

    The result has a verdict; the file becomes a PNG.
    """
    from matplotlib.figure import Figure  # takes a second to import

    seconds = np.array([frame.seconds for frame in result.frames], float)
    figure = Figure(figsize=(9, 3), layout="constrained")
    axes = figure.subplots()
    decision, threshold = result.decision, result.decision.threshold
    axes.axhspan(threshold, 1, color=_PLOTTED[0], alpha=0.08, lw=0)
    # The one whose verdict it is comes last, so that its line lies on top.
    people = sorted(result.people, key=lambda one: one.person == result.person)[-_MOST_LINES:]
    for number, one in enumerate(people, start=1):
        of_frames = (
            [face.decision.fake_probability for face in frame.faces if face.person == one.person]
            for frame in result.frames
        )
        fake = np.array([of[0] if of else None for of in of_frames], float)  # or NaN
        colour = _PLOTTED[len(people) - number]
        name = f"person {one.person}: {one.decision.verdict}"
        axes.plot(seconds, fake, color=colour, lw=1, marker=".", ms=3, label=name)
    axes.axhline(threshold, color="grey", lw=0.8, ls="--")
    whose = f"person {result.person}, mean" if len(people) > 1 else "mean"
    mean = f"{whose} probability of FAKE {in_digits(decision.fake_probability or 0.0)}"
    axes.set(
        xlabel="seconds",
        ylabel="probability of FAKE",
        ylim=(-0.02, 1.02),
        title=f"{decision.verdict}: {mean}",
    )
    if len(people) > 1:
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small")
    axes.grid(alpha=0.3)
    figure.savefig(path, format="png", dpi=110)
