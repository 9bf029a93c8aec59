"""A LazyImage is the picture that Pillow makes of its array."""

import copy
import pickle
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from flax_unet.media.lazy import LazyImage

WIDTH, HEIGHT = 31, 17
PIXELS = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


@pytest.fixture
def lazy() -> LazyImage:
    return LazyImage(PIXELS.copy())


@pytest.mark.parametrize(
    "use",
    [
        lambda image: image.crop((2, 3, 11, 16)),
        lambda image: image.crop((0, 0, WIDTH, HEIGHT)),
        lambda image: image.crop((2.6, 3.5, 11.2, 16.5)),
        lambda image: image.crop((-4, -3, 40, 20)),
        lambda image: image.crop((5, 5, 5, 9)),
        lambda image: image.crop(),
        lambda image: image.resize((7, 5), Image.Resampling.BICUBIC),
        lambda image: image.resize((7, 5), Image.Resampling.BICUBIC, reducing_gap=2),
        lambda image: image.resize((7, 5), Image.Resampling.BILINEAR),
        lambda image: image.resize((60, 5), Image.Resampling.BILINEAR, reducing_gap=1),
        lambda image: image.resize((7, 5), Image.Resampling.BILINEAR, (1, 1, 9, 9), 1),
        lambda image: image.convert("L"),
        lambda image: image.transpose(Image.Transpose.ROTATE_90),
        lambda image: image.copy(),
    ],
)
def test_as_pillow_does(use: Callable[[Image.Image], Image.Image], lazy: LazyImage) -> None:
    expected = use(Image.fromarray(PIXELS))
    for found in (use(lazy), use(lazy)):  # also once it was copied
        assert (found.mode, found.size) == (expected.mode, expected.size)
        assert found.tobytes() == expected.tobytes()
    assert (lazy.mode, lazy.size) == ("RGB", (WIDTH, HEIGHT))
    assert lazy.tobytes() == PIXELS.tobytes()


def test_its_array_is_not_copied(lazy: LazyImage) -> None:
    pixels = np.asarray(lazy)
    assert np.shares_memory(pixels, np.asarray(lazy))
    lazy.load()
    np.testing.assert_array_equal(pixels, PIXELS)  # it is still there
    np.testing.assert_array_equal(np.asarray(lazy), PIXELS)


def test_its_array_cannot_be_changed(lazy: LazyImage) -> None:
    with pytest.raises(ValueError, match="read-only"):
        np.asarray(lazy)[0, 0] = 7


def test_any_array() -> None:
    mirrored = LazyImage(PIXELS[:, ::-1])
    np.testing.assert_array_equal(np.asarray(mirrored), PIXELS[:, ::-1])


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda image: pickle.loads(pickle.dumps(image))])
def test_copied(copied: Callable[[Image.Image], Image.Image], lazy: LazyImage) -> None:
    np.testing.assert_array_equal(np.asarray(copied(lazy)), PIXELS)


@pytest.mark.parametrize(
    ("size", "wanted"),
    [((64, 36), (16, 9)), ((96, 54), (16, 9)), ((40, 30), (20, 15)), ((5, 1), (1, 1))],
)
def test_rough_small_pictures_are_means(size: tuple[int, int], wanted: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8)
    (width, height), (wide, high) = size, wanted
    cells = pixels.reshape(high, height // high, wide, width // wide, 3)
    found = LazyImage(pixels).resize(wanted, Image.Resampling.BILINEAR, reducing_gap=1)
    assert np.abs(np.asarray(found) - cells.mean((1, 3))).max() <= 1


@pytest.mark.parametrize("size", [(61, 33), (1366, 768), (1918, 1078), (3000, 2)])
@pytest.mark.parametrize("share", [0.13, 0.5, 0.7])
def test_rough_small_pictures_resemble_those_of_pillow(size: tuple[int, int], share: float) -> None:
    y, x = np.mgrid[: size[1], : size[0]]
    waves = 127 + 120 * np.sin(3 * x / size[0]) * np.cos(2 * y / size[1])
    pixels = np.stack([waves, 255 - waves, waves / 2], -1).astype(np.uint8)
    wanted = max(1, round(share * size[0])), max(1, round(share * size[1]))
    found, expected = (
        np.asarray(image.resize(wanted, Image.Resampling.BILINEAR, reducing_gap=1), int)
        for image in (LazyImage(pixels), Image.fromarray(pixels))
    )
    assert found.shape == expected.shape
    assert np.abs(found - expected).mean() < 2


def test_what_is_drawn_on_it_is_seen(lazy: LazyImage) -> None:
    lazy.paste((1, 2, 3), (0, 0, 4, 4))
    assert lazy.crop((0, 0, 2, 2)).getpixel((1, 1)) == (1, 2, 3)
    assert np.asarray(lazy)[3, 3].tolist() == [1, 2, 3]
    assert lazy.crop((0, 0, 5, 5)).getpixel((4, 4)) == tuple(PIXELS[4, 4].tolist())
