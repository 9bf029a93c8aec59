"""Full-size stand-ins, converted, against figures that the original PyTorch code gave."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from convert import stand_in
from convert.from_torch import convert
from convert.to_torch import to_torch
from flax_unet import load
from flax_unet.model import compiled
from tests.tolerances import NETWORK, PIXELS, PROBABILITY, assert_same_tensors

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "published.json").read_text())


@pytest.mark.parametrize("golden", GOLDEN, ids=[golden["layout"] for golden in GOLDEN])
def test_converted_checkpoint_gives_the_original_codes_figures(
    golden: dict, layouts: dict, tmp_path: Path
) -> None:
    layout, source = golden["layout"], tmp_path / "ckpt.pth"
    tensors = stand_in.published(layout, golden["seed"])
    assert {key: list(array.shape) for key, array in tensors.items()} == (
        layouts[layout]["tensors"]
    )
    assert list(tensors) == list(layouts[layout]["tensors"])
    torch.save({key: torch.from_numpy(array) for key, array in tensors.items()}, source)
    conversion = convert(source, tmp_path / "out", verify=False)
    assert conversion.layout == layout

    output = compiled(load(tmp_path / "out"))(golden_input(layouts[layout]["size"]))
    if "real_probability" in golden:
        found = np.asarray(output.real_probability)
        assert np.abs(found - golden["real_probability"]).max() <= PROBABILITY
    if "mask_logits" in golden:
        logits = np.asarray(output.mask_logits)
        rows, columns = np.transpose(golden["mask_logits_at"])
        difference = np.abs(logits[:, rows, columns] - golden["mask_logits"]).max()
        scale = np.abs(logits).mean()
        np.testing.assert_allclose(scale, golden["mask_logits_mean_abs"], rtol=NETWORK)
        assert difference <= NETWORK * scale
        manipulated = np.asarray(output.is_manipulated).sum((1, 2))
        assert np.abs(manipulated - golden["manipulated_pixels"]).max() <= PIXELS

    to_torch(tmp_path / "out", tmp_path / "back.pth")
    back = torch.load(tmp_path / "back.pth", weights_only=True, mmap=True)
    assert_same_tensors(back, {key: torch.from_numpy(array) for key, array in tensors.items()})


def golden_input(size: int) -> np.ndarray:
    """The input that the figures name."""
    return np.random.default_rng(1000).random((2, size, size, 3), dtype=np.float32)
