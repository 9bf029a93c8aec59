"""Full-size stand-ins, converted, against figures that the original PyTorch code gave."""

from pathlib import Path

import pytest

from convert import stand_in, torch_unet
from convert.from_torch import convert
from flax_unet import PUBLISHED, load
from flax_unet.nn.config import WITH_UNUSED_LEVEL
from flax_unet.nn.inference import compiled
from tests.published import GOLDEN, LAYOUTS, SIZES, distance, measure
from tests.tolerances import NETWORK, PIXELS, PROBABILITY

QUICK = ("ynet-slim", "segmenter-bilinear")
"""Between them all kinds of layers; the others take seconds and gigabytes."""


@pytest.mark.parametrize(
    "layout",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in GOLDEN],
)
def test_converted_checkpoint_gives_the_original_codes_figures(layout: str, tmp_path: Path) -> None:
    found, measured = measure(layout, tmp_path)
    assert found == layout
    assert (measured.real_probability is not None) == PUBLISHED[layout].has_classifier
    assert (measured.mask_logits is not None) == PUBLISHED[layout].has_mask_head
    assert (measured.real_probability or 0) <= PROBABILITY
    assert (measured.mask_logits or 0) <= NETWORK
    assert (measured.mask_pixels or 0) <= PIXELS


@pytest.mark.slow
def test_other_sizes_give_the_original_codes_figures(tmp_path: Path) -> None:
    """The original reads a part of the deepest map where its pools do not cover it."""
    stand_in.main(["ynet-224", str(tmp_path / "ckpt.pth"), "--seed", "0"])
    conversion = convert(tmp_path / "ckpt.pth", tmp_path / "out", size=(320, 224), verify=False)
    assert conversion.config.input_size == (320, 224)
    forward = compiled(load(tmp_path / "out"))
    for golden in SIZES:
        assert (golden["layout"], golden["seed"]) == ("ynet-224", 0)
        real, logits, pixels = distance(forward, golden, tuple(golden["size"]))
        assert real is not None
        assert real <= PROBABILITY, golden["size"]
        assert (logits or 1) <= NETWORK, golden["size"]
        assert (pixels or 0) <= PIXELS, golden["size"]


@pytest.mark.slow
@pytest.mark.parametrize("layout", QUICK)
def test_another_seed_at_full_size_is_the_twins(layout: str, tmp_path: Path) -> None:
    stand_in.main([layout, str(tmp_path / "ckpt.pth"), "--seed", "11"])
    parity = convert(tmp_path / "ckpt.pth", None).parity
    assert parity is not None
    assert parity.holds
    assert parity.pixels_equal is not None
    assert parity.pixels is not None
    assert parity.pixels - parity.pixels_equal <= PIXELS


@pytest.mark.parametrize("layout", PUBLISHED)
def test_twin_has_the_published_keys_in_the_published_order(layout: str) -> None:
    shapes = torch_unet.shapes(PUBLISHED[layout], with_unused_level=layout in WITH_UNUSED_LEVEL)
    published = {key: tuple(shape) for key, shape in LAYOUTS[layout]["tensors"].items()}
    assert list(shapes.items()) == list(published.items())
