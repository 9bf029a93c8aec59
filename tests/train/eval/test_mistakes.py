"""The sheet of mistakes shows mistakes, the surest ones."""

from pathlib import Path

import numpy as np
from flax import nnx

from flax_unet import UNet, UNetConfig
from tests.train.folders import write_folder
from train.data.dataset import open_dataset
from train.eval.classification import Verdicts
from train.eval.plots import WORST, worst


def test_only_wrong_frames_and_the_surest_first(tmp_path: Path) -> None:
    """Exactly 0.5 is FAKE: where all frames say so, all errors are equal and half are wrong."""
    data = open_dataset(str(write_folder(tmp_path / "data", videos=10)), None)
    model = UNet(UNetConfig(base_width=2, image_size=32), rngs=nnx.Rngs(0))
    model.eval()

    def shown(real_probability: np.ndarray) -> list[str]:
        rows = list(worst(Verdicts(data.table.is_real, real_probability), model, data))
        assert all(image.shape == (32, 32, 3) for _, image, _, _ in rows)
        assert all(mask is not None and found is not None for _, _, mask, found in rows)
        return [title.splitlines()[0] for title, *_ in rows]

    constant = shown(np.full(len(data), 0.5))
    assert constant == data.table.file[data.table.is_real].tolist()[:WORST]
    mostly_right = np.where(data.table.is_real, 1.0, 0.0)
    mostly_right[[1, 4, 7]] = [0.4, 0.9, 0.1]
    assert data.table.is_real[[1, 4, 7]].tolist() == [True, False, True]
    assert shown(mostly_right) == data.table.file[[4, 7, 1]].tolist()
    assert shown(np.where(data.table.is_real, 1.0, 0.0)) == []
