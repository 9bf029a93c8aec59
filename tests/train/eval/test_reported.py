"""When published results belong beside the measured ones."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from flax_unet import PUBLISHED
from tests.train.folders import write_crop
from train.data.dataset import EMBEDDED, Table, open_dataset
from train.data.export import export
from train.eval import reported


def table(*videos: str) -> Table:
    names = np.array(videos, object)
    marks = np.zeros(len(names), bool)
    return Table(file=names, video=names, original=names, is_real=marks, has_mask=marks)


DFDC = table("aagfhgtpmv.mp4", "xyz-real.mp4")


@pytest.mark.parametrize("layout", PUBLISHED)
def test_only_the_layouts_of_the_weights_are_comparable(layout: str) -> None:
    found = reported.is_comparable(layout, PUBLISHED[layout], DFDC)
    assert found == (layout in ("ynet-224", "ynet-slim"))


def test_other_networks_and_data_sets_are_not_comparable() -> None:
    config = PUBLISHED["ynet-224"]
    narrow = dataclasses.replace(config, base_width=8)
    assert not reported.is_comparable(None, config, DFDC)  # trained here
    assert not reported.is_comparable("ynet-224", narrow, DFDC)
    assert not reported.is_comparable("ynet-224", config, table("p00001_real", "p00001_fake"))


def test_the_embedded_set_is_not_comparable_exported_or_not(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(12):
        write_crop(tmp_path / "faces" / f"face_{number}.png", rng, side=256)
    embedded = open_dataset(f"{EMBEDDED}:{tmp_path / 'faces'}", "test")
    export(embedded, tmp_path / "exported")
    for data in (embedded, open_dataset(str(tmp_path / "exported"), None)):
        assert not reported.is_comparable("ynet-224", PUBLISHED["ynet-224"], data.table)


def test_measured_and_reported_side_by_side() -> None:
    lines = reported.text(4651, 5001).splitlines()
    assert "epoch 35 for 224x224" in lines[0]
    squeezed = [" ".join(line.split()) for line in lines]
    assert squeezed[1] == "measured here 93.00 % 4651 of 5001"
    assert squeezed[-1].endswith("batches of 8 93.00 % 4651 of 5001 316.80 frames a second")
