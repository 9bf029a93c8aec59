"""Folders in the published layout: packed once, faults listed, splits without leaks."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flax_unet import InputError
from tests.conftest import listing
from tests.train.faults import refuse_reading
from tests.train.folders import write_crop, write_folder
from train.data.dataset import open_dataset, open_splits
from train.data.loader import batches
from train.data.storage import builder, published


def test_frames_are_what_the_folder_holds(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", videos=4)
    data = open_dataset(str(folder), None)
    assert data.split == "whole"
    assert data.table.file.tolist() == sorted(data.table.file)
    assert len(data) == 12
    assert data.table.video[0] == "v000.mp4"
    assert data.table.original[3] == "v000.mp4"
    assert data.table.is_real.tolist() == ([True] * 3 + [False] * 3) * 2
    for row in range(len(data)):
        record = data.records[row]
        path = folder / data.table.file[row]
        assert record["image"] == path.read_bytes()  # stored, not encoded again
        mask = (folder / "masks" / path.name).with_suffix(".gif")
        assert record["mask"] == mask.read_bytes()
    assert "tensorflow" not in sys.modules


def test_published_subfolders_are_splits(tmp_path: Path) -> None:
    write_folder(tmp_path / "training", videos=4, prefix="a")
    write_folder(tmp_path / "testing", videos=2, prefix="b")
    assert len(open_dataset(str(tmp_path), "train")) == 12
    data = open_dataset(str(tmp_path), None)
    assert (data.split, len(data)) == ("test", 6)
    assert data.table.file[0] == "testing/crops/b000_0.png"
    with pytest.raises(InputError, match="no split validation, only test, train"):
        open_dataset(str(tmp_path), "validation")
    with pytest.raises(InputError, match="has splits of its own"):
        open_dataset(str(tmp_path), "80/10/10")


def test_one_merged_metadata_file_above_the_subfolders(tmp_path: Path) -> None:
    merged = {}
    for name in ("training", "testing"):
        folder = write_folder(tmp_path / name, videos=2, prefix=name[:2])
        merged |= json.loads((folder / "metadata.json").read_text())
        (folder / "metadata.json").unlink()
    (tmp_path / "metadata.json").write_text(json.dumps(merged))
    assert (
        len(open_dataset(str(tmp_path), "train")) == len(open_dataset(str(tmp_path), "test")) == 6
    )


def test_packed_again_only_when_the_source_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_folder(tmp_path / "data", videos=2)
    first = open_dataset(str(folder), None)
    with monkeypatch.context() as patched:
        patched.setattr(published, "write_records", None)  # packing again would fail
        assert open_dataset(str(folder), None).directory == first.directory
    write_crop(folder / "crops" / "v000_9.png", np.random.default_rng(9))
    second = open_dataset(str(folder), None)
    assert len(second) == len(first) + 1
    assert second.directory != first.directory
    os.utime(folder / "crops" / "v000_9.png", ns=(0, 0))
    assert open_dataset(str(folder), None).directory != second.directory


def test_interrupted_packing_leaves_nothing(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_folder(tmp_path / "data", videos=2)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(published, "write_records", interrupted)
        with pytest.raises(KeyboardInterrupt):
            open_dataset(str(folder), None)
    assert [path for path in cache.rglob("*") if path.is_file()] == []
    assert len(open_dataset(str(folder), None)) == 6


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        ("forged_portrait", None, "did you mean forged_portraits"),
        ("nowhere", None, "neither a folder nor a data set"),
        ("EMPTY", None, "not in the published layout"),
        ("BARE", None, r"metadata\.json is missing"),
        ("DATA", "testing", "no split testing"),
        ("DATA", "80/10", "such as 80/10/10"),
        ("DATA", "80/10/20", "such as 80/10/10"),
        ("DATA", "valid:80/10/10", "valid is not one of"),
        ("DATA", "validation:100/0/0", "is empty; give it a larger share"),
    ],
)
def test_data_sets_that_cannot_be_opened(
    name: str, split: str | None, message: str, tmp_path: Path
) -> None:
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "BARE" / "crops").mkdir(parents=True)
    write_folder(tmp_path / "DATA", videos=2)
    path = tmp_path / name
    with pytest.raises(InputError, match=message):
        open_dataset(str(path) if path.exists() else name, split)


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [1, 4, 7, 100])
def test_every_frame_is_read_once(batch_size: int, processes: int, tmp_path: Path) -> None:
    data = open_dataset(str(write_folder(tmp_path / "data", videos=4)), None)
    seen = []
    counts = set()
    for process in range(processes):
        found = list(batches(data, (32, 32), batch_size, process=process, processes=processes))
        counts.add(len(found))
        assert {batch.image.shape for batch in found} == {(batch_size, 32, 32, 3)}
        for batch in found:
            for image, mask, has_mask, position in zip(*batch, strict=True):
                if position < 0:
                    assert not has_mask
                    continue
                seen.append(int(position))
                path = tmp_path / "data" / data.table.file[position]
                with Image.open(path) as opened:
                    pixels = opened.resize((32, 32), Image.Resampling.NEAREST)
                np.testing.assert_array_equal(image, np.asarray(pixels))
                with Image.open(tmp_path / "data" / "masks" / f"{path.stem}.gif") as opened:
                    classes = opened.resize((32, 32), Image.Resampling.NEAREST)
                np.testing.assert_array_equal(mask, np.asarray(classes))
    assert sorted(seen) == list(range(12))
    assert len(counts) == 1  # processes that work together must take as many steps


def test_sample_is_seeded_and_without_repetition(tmp_path: Path) -> None:
    data = open_dataset(str(write_folder(tmp_path / "data", videos=4)), None)
    first, again, other = (data.sample(5, seed).table.file.tolist() for seed in (1, 1, 2))
    assert first == again != other
    assert len(set(first)) == 5
    assert data.sample(99, 0) is data


def test_any_amount_can_be_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In shards, so that no more than one is ever held in memory; faulty ones leave it empty."""
    monkeypatch.setattr("tensorflow_datasets.core.shuffle.MAX_MEM_BUFFER_SIZE", 1)
    folder = write_folder(tmp_path / "data", videos=8)
    for frame in range(3):
        (folder / "crops" / f"v002_{frame}.png").write_bytes(b"x" * 4000)
    monkeypatch.setattr(builder, "SHARD_BYTES", 8000)
    data = open_dataset(str(folder), None, skip_bad=True)
    assert len(list(data.directory.rglob("*.array_record*"))) > 3
    assert len(data) == 21
    for row in range(len(data)):
        assert data.record(row)["file"].decode() == data.table.file[row]
        assert data.record(row)["image"] == (folder / data.table.file[row]).read_bytes()
    assert "tensorflow" not in sys.modules


@pytest.mark.parametrize("skip_bad", [False, True])
def test_nothing_that_can_be_used(skip_bad: bool, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", videos=2)
    for crop in (folder / "crops").iterdir():
        crop.write_bytes(b"")
    message = "whole holds no frame" if skip_bad else r"6 files that cannot be used.*\n.*is empty"
    with pytest.raises(InputError, match=message):
        open_dataset(str(folder), None, skip_bad=skip_bad)


def test_training_frames_do_not_stand_in_for_testing_ones(tmp_path: Path) -> None:
    write_folder(tmp_path / "training", videos=4)
    (tmp_path / "testing" / "crops").mkdir(parents=True)
    (tmp_path / "testing" / "metadata.json").write_text("{}")
    with pytest.raises(InputError, match="split test holds no frame that can be used"):
        open_dataset(str(tmp_path), None)
    assert list(open_splits(str(tmp_path))[0]) == ["train"]
    assert len(open_dataset(str(tmp_path), "train")) == 12


def test_a_file_that_cannot_be_read_just_now_is_no_fault(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_folder(tmp_path / "data", videos=2)
    (folder / "crops" / "v000_1.png").write_bytes(b"")
    refuse_reading("v001_0.png", monkeypatch)
    with pytest.raises(InputError) as raised:
        open_dataset(str(folder), None, skip_bad=True)
    assert "1 files that could not be read" in str(raised.value)
    assert "crops/v001_0.png: [Errno 5]" in str(raised.value)
    assert "crops/v000_1.png: it is empty" in str(raised.value)
    assert set(listing(cache).values()) == {None}  # no file
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    assert len(open_dataset(str(folder), None, skip_bad=True)) == 5
