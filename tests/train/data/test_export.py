"""A data set written as a folder is the same data set."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.train.folders import SIDE, write_folder
from train.data import export
from train.data.dataset import EMBEDDED, open_dataset
from train.data.layouts import masks
from train.data.synthetic.scene import ProceduralPortraits


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
        np.testing.assert_array_equal(masks.decode(a["mask"]), masks.decode(b["mask"]))
    with Image.open(next((out / "masks").iterdir())) as mask:
        assert mask.mode == "P"
    assert "exists already" in fails(export.main, out, "--data", tmp_path / "data")


@pytest.mark.parametrize("classes", [np.zeros, np.ones])
def test_masks_of_one_class_keep_it(classes: Callable[..., np.ndarray], tmp_path: Path) -> None:
    data = write_folder(tmp_path / "data", videos=2)
    Image.fromarray(classes((SIDE, SIDE), bool)).save(data / "masks" / "v001_0.png")
    (data / "masks" / "v001_0.gif").unlink()
    export.main([str(tmp_path / "out"), "--data", str(data)])
    with Image.open(tmp_path / "out" / "masks" / "v001_0.gif") as mask:  # as others read it
        np.testing.assert_array_equal(np.asarray(mask), classes((SIDE, SIDE)))


def test_bad_files_and_seeds(tmp_path: Path, fails: Callable[..., str]) -> None:
    data = write_folder(tmp_path / "data", videos=2)
    (data / "crops" / "v000_0.png").write_bytes(b"")
    arguments = (tmp_path / "out", "--data", data)
    assert "go on without them by --skip-bad" in fails(export.main, *arguments)
    assert "--seed -1: expected" in fails(export.main, *arguments, "--seed", "-1", "--skip-bad")
    export.main([*map(str, arguments), "--skip-bad"])
    assert len(open_dataset(str(tmp_path / "out"), None)) == 5


def test_portraits_of_like_names_stay_apart(tmp_path: Path) -> None:
    (tmp_path / "faces" / "a").mkdir(parents=True)
    names = ["a_b", "a-b", "a/b", "a%2Db", *map(str, range(8))]
    portraits = ProceduralPortraits(len(names), seed=1)
    for i, name in enumerate(names):
        portraits[i][1].save(tmp_path / "faces" / f"{name}.png")
    for split in ("train", "validation", "test"):
        data = open_dataset(f"{EMBEDDED}:{tmp_path / 'faces'}", split)
        export.export(data, tmp_path / split)
        found = open_dataset(str(tmp_path / split), None)
        assert len(set(found.table.video)) == len(set(data.table.video)) == len(data)
        assert found.notes == []  # each fake has its original
