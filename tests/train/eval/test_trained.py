"""Frames that training saw, or may have seen, in data sets that stay and in those that change."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.flax_unet.samples import photo
from tests.train.folders import write_folder
from train.data.dataset import SELF_BLENDED, Dataset, open_dataset
from train.eval.trained import overlap

SHARES = "60/20/20"


def trained_on(data: Dataset, shares: str | None = SHARES, seed: int = 3) -> dict[str, Any]:
    """What `source.json` records of training on a data set."""
    record = {"data": data.name, "split": shares, "seed": seed}
    return {"trained": record | {"data_fingerprint": data.fingerprint}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """60 videos of 30 sources."""
    return write_folder(tmp_path / "data", videos=60, frames=1)


@pytest.mark.parametrize("change", ["more videos", "more masks"])
def test_a_data_set_that_has_changed(change: str, folder: Path, tmp_path: Path) -> None:
    """More sources are dealt anew, so that frames of training come into other parts."""
    if change == "more masks":
        (folder / "masks" / "v001_0.gif").unlink()
    before = open_dataset(str(folder), f"train:{SHARES}", seed=3)
    source = trained_on(before)
    shutil.rmtree(folder)
    write_folder(folder, videos=72 if change == "more videos" else 60, frames=1)
    test = open_dataset(str(folder), SHARES, seed=3)
    if change == "more videos":
        assert np.isin(test.table.video, before.table.video).any()
    for split in (None, SHARES, f"validation:{SHARES}", "whole"):
        said = overlap(source, open_dataset(str(folder), split, seed=3), split, 3)
        assert "trained on data when its files or options were others" in str(said), split
    renamed = open_dataset(str(folder.rename(tmp_path / "others")), None)
    assert overlap(source, renamed, None, 3) is None


def test_a_data_set_with_splits_of_its_own(folder: Path, tmp_path: Path) -> None:
    """Those that training did not see stay unseen when others change."""
    for part in ("training", "testing"):
        write_folder(tmp_path / "split" / part, videos=4, frames=1, prefix=part)
    train, test = (open_dataset(str(tmp_path / "split"), part) for part in ("train", "test"))
    source = trained_on(train, None)
    assert overlap(source, test, None, 0) is None
    assert "trained on this split" in str(overlap(source, train, "train", 0))
    source["trained"] |= {"data_fingerprint": "of others"}
    assert overlap(source, test, None, 0) is None
    assert "options were others" in str(overlap(source, train, "training", 0))


def test_photos_that_are_added(tmp_path: Path) -> None:
    """All photos are dealt out anew, so that some that were trained on come into other splits."""
    photos, name = tmp_path / "faces", f"{SELF_BLENDED}:{tmp_path / 'faces'}"
    photos.mkdir()
    face = np.asarray(photo().resize((160, 188)))

    def add(numbers: range) -> None:
        for number in numbers:
            Image.fromarray(face // 16 * 16 + number % 16).save(photos / f"{number}.png")

    add(range(12))
    before, test = (open_dataset(name, split) for split in ("train", "test"))
    source = trained_on(before, None)
    assert overlap(source, test, "test", 0) is None
    add(range(12, 30))
    splits = {split: open_dataset(name, split) for split in ("train", "validation", "test")}
    others = [splits[split].table.video for split in ("validation", "test")]
    assert np.isin(np.concatenate(others), before.table.video).any()
    for split, data in splits.items():
        assert "files or options were others" in str(overlap(source, data, split, 0)), split


def test_weights_without_a_record(folder: Path) -> None:
    data = open_dataset(str(folder), None)
    for source in ({}, {"trained": None}, {"trained": {}}, {"file": "ckpt.pth"}):
        assert overlap(source, data, None, 0) is None
