"""A data set written as a folder is the same data set."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tests.train.folders import write_folder
from train.data import export
from train.data.dataset import open_dataset
from train.data.folder import decode_mask


def test_folder_is_the_data_set(tmp_path: Path, fails: Callable[..., str]) -> None:
    write_folder(tmp_path / "data", videos=4)
    out = tmp_path / "out"
    export.main([str(out), "--data", str(tmp_path / "data"), "--limit", "9"])
    expected = open_dataset(str(tmp_path / "data"), None).sample(9, 0)
    found = open_dataset(str(out), None)
    assert found.table.video.tolist() == expected.table.video.tolist()
    assert found.table.original.tolist() == expected.table.original.tolist()
    assert found.table.is_real.tolist() == expected.table.is_real.tolist()
    for row in range(9):
        a, b = found.record(row), expected.record(row)
        assert a["image"] == b["image"]
        np.testing.assert_array_equal(decode_mask(a["mask"]), decode_mask(b["mask"]))
    with Image.open(next((out / "masks").iterdir())) as mask:
        assert mask.mode == "P"
    assert "exists already" in fails(export.main, out, "--data", tmp_path / "data")
