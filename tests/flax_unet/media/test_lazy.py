"""A LazyImage is the picture that Pillow makes of its array."""

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


def test_what_is_drawn_on_it_is_seen(lazy: LazyImage) -> None:
    lazy.paste((1, 2, 3), (0, 0, 4, 4))
    assert lazy.crop((0, 0, 2, 2)).getpixel((1, 1)) == (1, 2, 3)
    assert np.asarray(lazy)[3, 3].tolist() == [1, 2, 3]
    assert lazy.crop((0, 0, 5, 5)).getpixel((4, 4)) == tuple(PIXELS[4, 4].tolist())
