"""Draws results: heat maps with contours, faces framed and labelled, a video's timeline."""

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from flax_unet.media.faces import Box
from flax_unet.media.images import mask_image
from flax_unet.nn.decision import digits_beside, in_digits
from flax_unet.predict.results import VideoResult
from flax_unet.verdict import Verdict

_FAINT, _TINT = (255, 215, 0), (255, 0, 60)  # heat of a probability of MANIPULATED of 0 and of 1
_LINE, _EDGE = (255, 255, 255), (50, 0, 20)  # colours of a contour and of what sets it off
_SMOOTH = 1.2  # cells of the network's grid: masks have combs, whose teeth are two cells apart
_WIDTH = 300  # the smaller side of a box over this is the deviation that blurs a border, in pixels
_FINE = 512  # pixels of the smaller side of a box, at which a contour is drawn at most
_COLOURS = {True: (0, 120, 55), False: (200, 15, 45), None: (80, 80, 80)}  # by `is_real`
_LEAST_FONT = 10  # pixels
_TINY_FONT = 8  # for labels that are too large for their picture otherwise; smaller is unreadable
_SURROUNDINGS, _CLOSE_UP = 0.25, 320  # of a close-up: share of a box around it, pixels a side
_PLOTTED = ("#d71432", "#1f77b4", "#2ca02c", "#9467bd", "#8c564b", "#e377c2", "#17becf", "#bcbd22")
_MOST_LINES = len(_PLOTTED)  # people in a timeline


def _table(values: np.ndarray) -> list[int]:
    """A table for `Image.point` of 256 values in [0, 1]."""
    return np.clip(255 * values, 0, 255).round().astype(int).tolist()


def _ramp(start: Sequence[int], end: Sequence[int], share: np.ndarray) -> list[list[int]]:
    """Tables of the channels of colours from `start` to `end`, by 256 shares of the way."""
    return [_table((a + (b - a) * share) / 255) for a, b in zip(start, end, strict=True)]


_STEPS = np.linspace(0, 1, 256)
_HEAT, _OPACITY = _ramp(_FAINT, _TINT, _STEPS), _table(0.4 * _STEPS)  # the face stays visible
_MARKED = _table(_STEPS > 0.5)
# The blurred border of what is marked is 0.5 on the border, and 0.16 and 0.84 a deviation away.
_AWAY = np.abs(_STEPS - 0.5)
_CONTOUR = _ramp(_EDGE, _LINE, np.clip(1.6 - 4 * _AWAY, 0, 1))
_CONTOUR_OPACITY = _table(np.maximum(0.7 * (1.9 - 4 * _AWAY), 1.6 - 4 * _AWAY))


def overlay(
    image: Image.Image,
    verdicts: Sequence[Verdict],
    too_small: Sequence[Box] = (),
    people: Sequence[int] = (),
) -> Image.Image:
    """A copy of the picture with a heat map, a frame and a label on each face."""
    picture = image.copy()
    for verdict in verdicts:
        if verdict.mask is not None:
            _heat(picture, verdict.box, verdict.mask, verdict.mask_probability)
    _frame(picture, verdicts, too_small, people)
    return picture


def close_up(image: Image.Image, verdict: Verdict) -> Image.Image:
    """A face and a little of what is around it, drawn as in an overlay, at 320 pixels at most."""
    around = verdict.box.grown(_SURROUNDINGS).within(image.size)
    corners = zip(verdict.box, (around.left, around.top) * 2, strict=True)
    box = Box(*(edge - start for edge, start in corners))
    size = (around.width, around.height)
    moved = dataclasses.replace(verdict, size=size, box=box)
    picture = overlay(image.crop(around), [moved])
    picture.thumbnail((_CLOSE_UP, _CLOSE_UP))
    return picture


def heated(
    image: np.ndarray, mask: np.ndarray, probability: np.ndarray | None = None, scale: int = 1
) -> np.ndarray:
    """An image (H, W, 3) uint8, enlarged `scale` times, with a heat map.

    `mask`, (h, w), is 1 where MANIPULATED, and has a contour. The heat is `probability`, (h, w) in
    [0, 1]; None: the mask.
    """
    size = (scale * image.shape[1], scale * image.shape[0])
    picture = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)
    _heat(picture, Box(0, 0, *size), mask == 1, probability)
    return np.asarray(picture)


def layers(verdict: Verdict) -> tuple[Image.Image, Image.Image | None]:
    """The heat and the contour of a face's box, transparent where there is none (RGBA).

    They are to be stretched over the box. Heat is opaque where the probability of MANIPULATED is 1.
    The contour is None where nothing is marked, or everything; the verdict has a mask.
    """
    mask, probability = verdict.mask, verdict.mask_probability
    if mask is None or probability is None:
        raise ValueError("the verdict has no mask")
    width, height = verdict.box.width, verdict.box.height
    scale = min(1.0, _FINE / min(width, height))
    size = (max(1, round(scale * width)), max(1, round(scale * height)))
    border = _border(mask, size)
    contour = None if border is None else _layer(border, _CONTOUR, _CONTOUR_OPACITY)
    return _layer(_smooth(probability, size), _HEAT, _table(_STEPS)), contour


def _layer(values: Image.Image, colours: Sequence[list[int]], opacity: list[int]) -> Image.Image:
    return Image.merge("RGBA", [values.point(table) for table in (*colours, opacity)])


def _heat(picture: Image.Image, box: Box, mask: np.ndarray, probability: np.ndarray | None) -> None:
    """Draws a heat map of the probability, and the contour of the mask, into a picture's box."""
    size = (box.width, box.height)
    _paint(
        picture, box, _smooth(mask if probability is None else probability, size), _HEAT, _OPACITY
    )
    if (border := _border(mask, size)) is not None:
        _paint(picture, box, border, _CONTOUR, _CONTOUR_OPACITY)


def _border(mask: np.ndarray, size: tuple[int, int]) -> Image.Image | None:
    """What is marked, its border blurred, at a size in pixels; None without a border."""
    if not mask.any() or mask.all():
        return None
    scale = min(1.0, _FINE / min(size))  # a large contour is smooth without all its pixels
    drawn = (max(1, round(scale * size[0])), max(1, round(scale * size[1])))
    inside = _smooth(mask, drawn).point(_MARKED)
    blurred = inside.filter(ImageFilter.GaussianBlur(max(1.0, min(drawn) / _WIDTH)))
    return blurred.resize(size, Image.Resampling.BILINEAR)


def _smooth(grid: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """Values in [0, 1] on the network's grid, at a size in pixels, as 0 to 255."""
    cells = Image.fromarray((255 * grid).round().astype(np.uint8))
    return cells.filter(ImageFilter.GaussianBlur(_SMOOTH)).resize(size, Image.Resampling.BICUBIC)


def _paint(
    picture: Image.Image,
    box: Box,
    values: Image.Image,
    colours: Sequence[list[int]],
    opacity: list[int],
) -> None:
    """Lays the colours of values over a picture's box."""
    layer = Image.merge("RGB", [values.point(channel) for channel in colours])
    picture.paste(layer, box, values.point(opacity))


def union(verdicts: Sequence[Verdict], size: tuple[int, int]) -> Image.Image | None:
    """All pixels that a face's mask marks, as a `mask_image`; None without masks."""
    if all(verdict.mask is None for verdict in verdicts):
        return None
    marked = np.zeros((size[1], size[0]), bool)
    for verdict in verdicts:
        marked |= verdict.is_manipulated
    return mask_image(marked, size)


def _frame(
    picture: Image.Image,
    verdicts: Sequence[Verdict],
    too_small: Sequence[Box],
    people: Sequence[int],
) -> None:
    """Draws a frame around each face into a picture, with its person and its label."""
    pen = ImageDraw.Draw(picture)
    labels = [(v.box, label(v), _COLOURS[v.is_real]) for v in verdicts]
    if max(people, default=1) > 1:
        numbered = zip(people, labels, strict=True)
        labels = [(box, f"{number}: {text}", of) for number, (box, text, of) in numbered]
    labels += [(box, "too small", _COLOURS[None]) for box in too_small]
    longer = max(picture.size)
    line = max(1, longer // 300)
    for box, text, colour in labels:
        pen.rectangle((box.left, box.top, box.right - 1, box.bottom - 1), None, colour, line)
        size = max(_LEAST_FONT, longer // 80, min(box.width // 8, longer // 20))
        _write(pen, picture.size, box, text, colour, size)


def _write(
    pen: ImageDraw.ImageDraw,
    picture: tuple[int, int],
    box: Box,
    text: str,
    colour: tuple[int, int, int],
    most: int,
) -> None:
    """Writes the label of a box into a picture of a size, in a font of at most so many pixels.

    It is smaller, or in two lines, where the picture is too small for it. Where that does not help,
    there is none: a number that is cut off would be another one.
    """
    sizes = range(most, _TINY_FONT - 1, -1)
    for words, size in itertools.product((text, text.replace(", ", ",\n")), sizes):
        left, top, right, bottom = pen.textbbox((0, 0), words, _font(size))
        pad = size // 4
        width, height = right - left + 2 * pad, bottom - top + 2 * pad
        if width <= picture[0] and height <= picture[1]:
            break
    else:
        return
    if box.top >= height:  # there is room above the face
        y = box.top - height
    elif 4 * height > box.height and box.bottom + height <= picture[1]:
        y = box.bottom  # or it would hide much of a small face
    else:
        y = max(0, min(box.top, picture[1] - height))
    x = max(0, min(box.left, picture[0] - width))
    pen.rectangle((x, y, x + width - 1, y + height - 1), colour)
    pen.text((x + pad - left, y + pad - top), words, "white", _font(size))


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def label(verdict: Verdict) -> str:
    """What is said of a face on pictures, here and on the page: the probability that it is forged.

    It is that of FAKE whatever the verdict is, or the same face would have two numbers. With the
    share of marked pixels if the heads disagree, and without a verdict.
    """
    marked = f"{verdict.manipulated_share or 0.0:.0%} marked"
    if verdict.real_probability is None:
        return marked
    text = f"forgery {verdict.decision.chance}"
    return f"{text}, but {marked}" if verdict.heads_disagree else text


def write_timeline(path: Path, result: VideoResult) -> None:
    """Plots the fake probability of each person in a video, with gaps where it was not judged.

    A field behind it is the longest stretch in which a person looks forged. The result has a
    verdict; the file becomes a PNG.
    """
    from matplotlib.figure import Figure  # takes a second to import

    seconds = np.array([frame.seconds for frame in result.frames], float)
    threshold, fake = result.decision.threshold, result.decision.fake_probability or 0.0
    digits = digits_beside(threshold, [fake])
    # The one whose verdict it is comes last, so that its line lies on top.
    people = sorted(
        result.people, key=lambda one: (one.person == result.person, one.suspicious is not None)
    )[-_MOST_LINES:]
    # Small, so that its text is readable in the report; the legend of many people needs more.
    figure = Figure(figsize=(6, 2.4 + 0.15 * max(len(people) - 4, 0)), layout="constrained")
    axes = figure.subplots()
    with_stretch = [one for one in people if one.suspicious is not None]
    for number, one in enumerate(people, start=1):
        of_frames = (
            [face.decision.fake_probability for face in frame.faces if face.person == one.person]
            for frame in result.frames
        )
        fakes = np.array([of[0] if of else None for of in of_frames], float)  # or NaN
        colour = _PLOTTED[len(people) - number]
        name = f"person {one.person}: {one.decision.verdict}"
        axes.plot(seconds, fakes, color=colour, lw=1, marker=".", ms=3, label=name)
        if one.suspicious is not None:
            stretch = "longest\nstretch" if one is with_stretch[-1] else None
            axes.axvspan(*one.suspicious, color=colour, alpha=0.15, lw=0, label=stretch)
    limit = f"FAKE from {in_digits(threshold, digits)}"
    axes.axhline(threshold, color="grey", lw=1, ls="--", label=limit)
    whose = f"person {result.person}, mean" if len(people) > 1 else "mean"
    axes.set(xlabel="seconds", ylabel="prob. of FAKE", ylim=(-0.02, 1.02))
    figure.suptitle(
        f"{result.decision.verdict}: {whose} probability of FAKE {in_digits(fake, digits)}"
    )
    figure.legend(loc="outside right center", handlelength=1.2)
    axes.grid(alpha=0.3)
    figure.savefig(path, format="png", dpi=160)
