"""What the tests of training start from, made once."""

from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from flax_unet import UNet, UNetConfig
from flax_unet.checkpoint import metadata, store
from tests.train.folders import write_folder

# One level instead of four, which compiles in a third of the time.
SHALLOW = UNetConfig(
    base_width=2, levels=1, decoder_levels=1, classifier_widths=(8,), image_size=16
)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 frames of 10 videos; beside them `start`, a checkpoint of SHALLOW."""
    folder = tmp_path_factory.mktemp("training")
    write_checkpoint(folder / "start", SHALLOW)
    return write_folder(folder / "data", videos=10)


def write_checkpoint(path: Path, config: UNetConfig) -> None:
    """A checkpoint with PyTorch's initial values."""
    path.mkdir()
    weights = nnx.to_pure_dict(nnx.state(UNet(config, rngs=nnx.Rngs(5))))
    store.write(path, config, {metadata.WEIGHTS: jax.tree.map(np.asarray, weights)})
    metadata.write_json(path / metadata.SOURCE, {})
