"""The manifest of a packed data set: copies have one fingerprint, and damage is found."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from flax_unet import InputError
from tests.train.folders import SIDE, edit, write_folder, write_mask
from train.data.dataset import open_dataset


def test_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", videos=2)
    shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copyfile)
    first, copy = (open_dataset(str(path), None) for path in (folder, tmp_path / "copy"))
    assert first.directory != copy.directory
    assert first.fingerprint == copy.fingerprint == first.sample(2, 0).fingerprint
    edit(folder, **{"v000.mp4": {"label": "FAKE"}})
    relabelled = open_dataset(str(folder), None)
    write_mask(tmp_path / "copy" / "masks" / "v000_0.gif", np.ones((SIDE, SIDE)))
    remasked = open_dataset(str(tmp_path / "copy"), None)
    assert len({first.fingerprint, relabelled.fingerprint, remasked.fingerprint}) == 3


def test_fingerprint_is_of_source_groups(tmp_path: Path) -> None:
    """They decide which videos are trained on; what decides on figures alone does not count."""
    folder = write_folder(tmp_path / "data", videos=4)
    found = [open_dataset(str(folder), None).fingerprint]
    entries = json.loads((folder / "metadata.json").read_text())
    for traits in ({"method": "swap"}, {"source_group": "Ann"}, {"source_group": "Ben"}):
        edit(folder, **{"v000.mp4": entries["v000.mp4"] | traits})
        found.append(open_dataset(str(folder), None).fingerprint)
    assert found[0] == found[1]
    assert len(set(found)) == 3


@pytest.mark.parametrize("content", [None, b"", b"{}", b"[]", b"\xff"])
@pytest.mark.parametrize("name", ["manifest.json", "dataset_info.json", "features.json"])
def test_a_damaged_cache_says_what_to_do(name: str, content: bytes | None, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", videos=2)
    data = open_dataset(str(folder), None)
    (path,) = data.directory.rglob(name)
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=f"{data.directory} is damaged.*Delete it; it is made"):
        open_dataset(str(folder), None)


def test_a_cache_of_another_length_is_damaged(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", videos=2)
    data = open_dataset(str(folder), None)
    manifest = json.loads((data.directory / "manifest.json").read_text())
    for columns in manifest["tables"].values():
        for column in columns.values():
            if isinstance(column, list):
                column.pop()
    (data.directory / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"split whole has 6 records of 5\. Delete it"):
        open_dataset(str(folder), None)


def test_damaged_records(tmp_path: Path) -> None:
    data = open_dataset(str(write_folder(tmp_path / "data", videos=2)), None)
    (records,) = data.directory.rglob("*.array_record*")
    records.write_bytes(bytes(records.stat().st_size))
    with pytest.raises(InputError, match=r"is damaged.*Delete it"):
        data.record(0)
