"""Overlays: heat where the network sees a forgery, and a smooth line around what it marks."""

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from flax_unet.app import html
from flax_unet.app.judge import Report
from flax_unet.media.discover import Item
from flax_unet.media.faces import Box, Found
from flax_unet.predict import draw
from flax_unet.predict.pipeline import InspectedFrame
from flax_unet.predict.results import Decision, FaceResult, FileResult, FrameResult, VideoResult
from flax_unet.verdict import Verdict
from tests.flax_unet.samples import noise

GRID, SIDE = 32, 640
CELL = SIDE // GRID
GREY = 100
RED, GREEN = (200, 15, 45), (0, 120, 55)


def grey(width: int = SIDE, height: int = SIDE) -> np.ndarray:
    return np.full((height, width, 3), GREY, np.uint8)


def line(drawn: np.ndarray) -> np.ndarray:
    """Where the contour's white is, (N, 2) rows and columns in pixels."""
    return np.argwhere((drawn > 230).all(-1))


def disc(radius: float) -> np.ndarray:
    """A disc of so many cells in the middle of the grid."""
    away = np.hypot(*(np.indices((GRID, GRID)) - (GRID - 1) / 2))
    return away < radius


def test_contour_of_a_disc_is_a_circle() -> None:
    """Within half a cell everywhere, although the mask's own edge is a staircase of cells."""
    drawn = draw.heated(grey(), disc(10))
    away = np.hypot(*(line(drawn) - (SIDE - 1) / 2).T) / CELL
    assert len(away) > 2 * np.pi * 10 * CELL  # it goes all around
    assert abs(away.mean() - 10) < 0.25
    assert np.ptp(away) < 1
    angles = np.arctan2(*(line(drawn) - (SIDE - 1) / 2).T)
    assert np.histogram(angles, 60)[0].all()


def test_combs_are_smoothed() -> None:
    """Teeth of a cell, as transposed convolutions leave them, do not show in the contour."""
    mask = np.zeros((GRID, GRID), bool)
    mask[:16] = True
    mask[16:18, ::2] = True
    rows, columns = line(draw.heated(grey(), mask)).T / CELL
    rows = rows[(columns > 6) & (columns < GRID - 6)]  # beyond, the picture's edge repeats a tooth
    assert rows.min() > 16
    assert rows.max() < 18
    assert np.ptp(rows) < 0.3  # the line is a tenth wide


def test_heat_rises_with_the_probability_and_the_face_stays_visible() -> None:
    face = np.asarray(noise(SIDE, SIDE))
    none = np.zeros((GRID, GRID), bool)
    shown = [
        draw.heated(face, none, np.full((GRID, GRID), p, np.float32)).astype(float)
        for p in (0, 0.25, 0.5, 0.75, 1)
    ]
    np.testing.assert_array_equal(shown[0], face)
    redness = [np.mean(each[..., 0] - each[..., 1]) for each in shown]
    assert (np.diff(redness) > 5).all()
    for each in shown:
        for channel in range(3):
            seen, original = each[..., channel].ravel(), face[..., channel].ravel()
            assert np.corrcoef(seen, original)[0, 1] > 0.9
        assert each.std(axis=(0, 1)).min() > 0.5 * face.std()
        assert not (each == 255).all(-1).any()  # no line, since nothing is marked


def test_line_follows_the_mask_and_the_heat_the_probability() -> None:
    """With --mask-threshold they differ."""
    probability = np.broadcast_to(np.linspace(0, 1, GRID, dtype=np.float32), (GRID, GRID))
    for threshold in (0.2, 0.5, 0.9):
        drawn = draw.heated(grey(), probability > threshold, probability)
        columns = line(drawn)[:, 1] / SIDE
        assert columns.mean() == pytest.approx(threshold, abs=1 / GRID)
        redness = (drawn[..., 0].astype(int) - drawn[..., 1]).mean(0)
        assert redness[-1] > redness[SIDE * 3 // 4] > redness[SIDE // 3] > redness[0]


def test_layers_of_the_page_are_those_of_the_overlay() -> None:
    """Over the picture, the heat half as strong, they are what is drawn into it."""
    image = noise(700, 640)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    probability = np.exp(-8 * ((x - 0.5) ** 2 + (y - 0.4) ** 2)).astype(np.float32)
    box = Box(20, 30, 620, 680)  # larger than a layer becomes
    verdict = Verdict(image.size, box, None, probability > 0.5, probability)
    heat, contour = draw.layers(verdict)
    assert contour is not None
    assert heat.mode == contour.mode == "RGBA"
    assert heat.size == contour.size == (512, 555)
    expected = image.copy()
    faint = np.asarray(heat).copy()
    faint[..., 3] = (0.4 * faint[..., 3]).round()
    for layer in (Image.fromarray(faint), contour):
        expected.paste(layer.resize((600, 650)), box[:2], layer.resize((600, 650)))
    found = np.asarray(draw.heated(np.asarray(image.crop(box)), probability > 0.5, probability))
    change = np.abs(found.astype(int) - np.asarray(expected.crop(box)))
    assert change.mean() < 3
    nothing = dataclasses.replace(verdict, mask=np.zeros((SIDE, SIDE), bool))
    assert draw.layers(nothing)[1] is None


def test_only_the_boxes_are_drawn_into() -> None:
    image = Image.fromarray(grey(400, 300))
    before = np.asarray(image).copy()
    boxes = [Box(10, 60, 110, 160), Box(250, 100, 331, 297)]
    mask, probability = disc(8), disc(12).astype(np.float32)
    verdicts = [Verdict(image.size, box, 0.2, mask, probability) for box in boxes]
    drawn = np.asarray(draw.overlay(image, verdicts))
    inside = np.zeros(drawn.shape[:2], bool)
    for box in boxes:
        words = box.top - 40  # above the frame
        inside[words : box.bottom, box.left : box.right + 40] = True
        centre = drawn[(box.top + box.bottom) // 2, (box.left + box.right) // 2].astype(int)
        assert centre[0] > centre[1] + 40
    np.testing.assert_array_equal(drawn[~inside], before[~inside])
    np.testing.assert_array_equal(np.asarray(image), before)


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (2000, 5)])
@pytest.mark.parametrize("mask", [disc(0), disc(5), disc(100)])
def test_boxes_of_any_shape(size: tuple[int, int], mask: np.ndarray) -> None:
    image = Image.new("RGB", size)
    verdict = Verdict(size, Box(0, 0, *size), None, mask, mask.astype(np.float32))
    assert draw.overlay(image, [verdict]).size == size


def test_disagreement_is_in_the_label() -> None:
    mask = disc(8)
    marked = Verdict((SIDE, SIDE), Box(0, 0, SIDE, SIDE), 0.77, mask, mask.astype(np.float32))
    assert draw.label(marked) == f"forgery 23%, but {mask.mean():.0%} marked"
    assert draw.label(dataclasses.replace(marked, real_probability=0.2)) == "forgery 80%"
    clean = dataclasses.replace(marked, mask=disc(0))
    assert draw.label(clean) == "forgery 23%"
    fake = dataclasses.replace(clean, threshold=0.1)  # FAKE from 10 % on
    assert draw.label(fake) == "forgery 23%, but 0% marked"
    assert draw.label(dataclasses.replace(fake, mask=None)) == "forgery 23%"
    assert draw.label(dataclasses.replace(fake, real_probability=None)) == "0% marked"


def test_the_label_is_that_of_the_page() -> None:
    """The same face has the same number and word wherever people see it."""
    for real, label in ((0.29, "forgery 71%"), (0.71, "forgery 29%"), (1.0, "forgery under 1%")):
        verdict = Verdict((SIDE, SIDE), Box(0, 0, SIDE, SIDE), real)
        assert draw.label(verdict) == label
        frame = InspectedFrame(Item(Path("a.png"), "picture"), 0, noise(SIDE, SIDE), Found([], []))
        frame.verdicts = [verdict]
        result = FileResult("a.png", "picture", frames=[FrameResult([], [], None, None)])
        assert f"<span>{label}</span>" in html.picture(Report(result, frame, [], 1, {}, None, {}))


@pytest.mark.parametrize("size", [(60, 60), (100, 40), (640, 480), (4000, 300)])
@pytest.mark.parametrize(("real", "colour"), [(0.9, (0, 120, 55)), (0.1, (200, 15, 45))])
def test_faces_are_framed_and_named(
    real: float, colour: tuple[int, int, int], size: tuple[int, int]
) -> None:
    """In every corner, large and small, with room for white letters on the verdict's colour."""
    width, height = size
    side = max(20, max(size) // 20)
    image = Image.new("RGB", size)
    for box in (
        Box(0, 0, width, height),
        Box(0, 0, side, side),
        Box(width - side, 0, width, side),
        Box(width - side, height - side, width, height),
    ):
        verdict = Verdict(size, box, real, None, None)
        drawn = np.asarray(draw.overlay(image, [verdict]))
        has_colour = (drawn == colour).all(-1)
        assert has_colour[box.bottom - 1, box.left : box.right].all()
        assert has_colour[box.top : box.bottom, box.right - 1].mean() > 0.1
        rows, columns = np.nonzero((drawn > 200).all(-1))
        assert np.ptp(rows) >= 6  # a letter's height
        assert np.ptp(columns) >= 25
        assert columns.max() < width - 1  # not cut off
    assert not np.asarray(image).any()


def letters(drawn: np.ndarray) -> np.ndarray:
    """Where white is, (h, w) bool, without the rows and columns that have none."""
    white = np.asarray((drawn > 200).all(-1))
    return white[np.any(white, axis=1)][:, np.any(white, axis=0)]


def written(text: str, colour: tuple[int, int, int], font: int) -> np.ndarray:
    """The letters of a text as Pillow writes them where there is room."""
    page = Image.new("RGB", (40 * font, 4 * font), colour)
    ImageDraw.Draw(page).text((font, font), text, "white", ImageFont.load_default(font))
    return letters(np.asarray(page))


def font_of(drawn: np.ndarray, texts: tuple[str, ...], colour: tuple[int, int, int]) -> int:
    """The size in pixels in which one of some texts is in a picture, whole; 0 without one."""
    found = letters(drawn)
    fonts = itertools.product(range(8, 60), texts)
    return next(
        (font for font, text in fonts if np.array_equal(found, written(text, colour, font))), 0
    )


@pytest.mark.parametrize("face", [40, 150])
@pytest.mark.parametrize("size", [(400, 300), (1000, 200), (160, 900)])
@pytest.mark.parametrize(("x", "y"), [(0, 0), (1, 0), (0, 1), (1, 1), (0.5, 0.02), (0.98, 0.5)])
def test_labels_are_whole(size: tuple[int, int], face: int, x: float, y: float) -> None:
    """In each corner and beside it; a small face is not hidden."""
    left, top = round(x * (size[0] - face)), round(y * (size[1] - face))
    box = Box(left, top, left + face, top + face)
    drawn = np.asarray(draw.overlay(Image.new("RGB", size), [Verdict(size, box, 0.29)]))
    assert font_of(drawn, ("forgery 71%",), RED) >= 10
    if face == 40:
        assert not drawn[box.top + 4 : box.bottom - 4, box.left + 4 : box.right - 4].any()


@pytest.mark.parametrize(
    ("size", "least"), [((300, 4000), 16), ((160, 160), 10), ((110, 110), 8), ((80, 50), 8)]
)
def test_labels_fit_into_small_and_narrow_pictures(size: tuple[int, int], least: int) -> None:
    """In smaller type, or in two lines."""
    verdict = Verdict(size, Box(0, 0, *size), 0.77, np.ones((GRID, GRID), bool))
    drawn = np.asarray(draw.overlay(Image.new("RGB", size), [verdict]))
    texts = ("forgery 23%, but 100% marked", "forgery 23%,\nbut 100% marked")
    assert font_of(drawn, texts, GREEN) >= least


def test_no_part_of_a_number_is_shown() -> None:
    """In a picture too small for the label only the frame has the verdict's colour."""
    verdict = Verdict((40, 40), Box(0, 0, 40, 40), 0.29)
    drawn = np.asarray(draw.overlay(Image.new("RGB", (40, 40)), [verdict]))
    assert (drawn[0] == RED).all()
    assert not drawn[1:-1, 1:-1].any()


@pytest.mark.parametrize(("people", "others"), [(1, 0.1), (2, 0.1), (20, 0.1), (20, 0.45)])
def test_the_longest_stretch_is_shaded_in_the_timeline(
    people: int, others: float, tmp_path: Path
) -> None:
    """From 10 s to 20 s of 40 s, person 1 alone; the legend of any number of people fits.

    With others at 0.45, the verdict is that of another person.
    """
    frames = []
    for second in range(41):
        fakes = [0.9 if 10 <= second <= 20 else 0.2, *[others] * (people - 1)]
        faces = [
            FaceResult(Box(0, 0, 9, 9), Decision(1 - fake), None, person=number)
            for number, fake in enumerate(fakes, start=1)
        ]
        frames.append(FrameResult(faces, [], second, float(second)))
    result = VideoResult("a.mp4", "video", frames=frames)
    result.conclude()
    draw.write_timeline(tmp_path / "a.png", result)
    with Image.open(tmp_path / "a.png") as timeline:
        drawn = np.asarray(timeline.convert("RGB")).astype(int)
    tinted = (drawn.max(-1) > 200) & (np.ptp(drawn, axis=-1) > 12)
    columns = np.flatnonzero(tinted.mean(axis=0) > 0.4)
    assert np.ptp(columns) + 1 == len(columns)  # one field
    black = (drawn < 40).all(-1).mean(axis=0)
    left, right = np.flatnonzero(black > 0.4)[[0, -1]]  # the sides of the axes
    inside = (right - left) / 1.1 / 40  # pixels a second, since Matplotlib adds 5 % on each side
    assert len(columns) == pytest.approx(10 * inside, abs=4)
    assert columns[0] == pytest.approx(left + (right - left) * 0.05 / 1.1 + 10 * inside, abs=4)
    edge = np.concatenate([drawn[0], drawn[-1], drawn[:, 0], drawn[:, -1]])
    assert (edge == 255).all()  # nothing is cut off
