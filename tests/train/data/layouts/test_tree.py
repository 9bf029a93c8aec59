"""Where the files of a data set may lie, and that all of them are found."""

import os
import shutil
from pathlib import Path

import pytest

from flax_unet import InputError
from tests.train.folders import edit, write_folder, write_original
from train.data.dataset import open_dataset, open_splits


def nested(folder: Path) -> Path:
    """Moves the frames of each video to a folder of its own, as <n>.png."""
    for part in ("crops", "masks"):
        for path in sorted((folder / part).iterdir()):
            video, _, frame = path.name.partition("_")
            (folder / part / video).mkdir(exist_ok=True)
            path.rename(folder / part / video / frame)
    return folder


def test_the_original_folder(tmp_path: Path) -> None:
    data = write_original(tmp_path / "dfdc_deepfake_challenge")
    for name in (data, data.parent):
        splits, faults, notes = open_splits(str(name))
        assert (list(splits), faults, notes) == (["train", "test"], {}, [])
        assert splits["test"].table.file[0] == "testing/crops/crops_testing/b000_0.png"
        assert {split: len(found) for split, found in splits.items()} == {"train": 12, "test": 6}
        for found in splits.values():
            assert found.table.has_mask.all()
            videos = found.table.video.tolist()
            assert [int(name[1:4]) % 2 == 0 for name in videos] == found.table.is_real.tolist()
        assert open_dataset(str(name), "testing").table.file.tolist() == (
            splits["test"].table.file.tolist()
        )


def test_crops_in_folders_of_videos(tmp_path: Path) -> None:
    flat = open_dataset(str(write_folder(tmp_path / "flat", videos=4)), None)
    deep = open_dataset(str(nested(write_folder(tmp_path / "deep", videos=4))), None)
    assert deep.table.file[4] == "crops/v001/1.png"
    for name in ("video", "original", "is_real", "has_mask"):
        assert getattr(deep.table, name).tolist() == getattr(flat.table, name).tolist()
    for row in range(12):
        for part in ("image", "mask"):
            assert deep.record(row)[part] == flat.record(row)[part]
    assert deep.notes == []


@pytest.mark.parametrize("place", ["beside", "above", "inside"])
def test_places_of_the_metadata(place: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "unseen_data", videos=2)
    shutil.rmtree(folder / "masks")
    to = {"beside": folder, "above": tmp_path, "inside": folder / "crops"}[place]
    (folder / "metadata.json").rename(to / "metadata.json")
    data = open_dataset(str(folder), None)
    assert (len(data), data.split, data.notes) == (6, "whole", [])
    edit(to, **{"v000.mp4": {"label": "FAKE"}})
    assert not open_dataset(str(folder), None).table.is_real.any()  # packed again


def test_metadata_above_a_link_to_the_folder(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "disk" / "new", videos=2)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "data").symlink_to(folder)
    (folder / "metadata.json").rename(tmp_path / "home" / "metadata.json")
    assert len(open_dataset(str(tmp_path / "home" / "data"), None)) == 6


def test_the_nearest_metadata_is_read(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", videos=2)
    (tmp_path / "metadata.json").write_text("{}")
    assert len(open_dataset(str(folder), None)) == 6


@pytest.mark.parametrize("root", [".", "training"])
def test_places_of_the_metadata_from_near_to_far(root: str, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    write_folder(folder / root, videos=2)
    content = (folder / root / "metadata.json").read_text()
    (folder / root / "metadata.json").unlink()
    places = [folder / root / "crops", folder / root, folder, tmp_path]
    for place in places:
        (place / "metadata.json").write_text("{}")
    for place in dict.fromkeys(places):
        (place / "metadata.json").write_text(content)
        assert len(open_dataset(str(folder), None)) == 6
        (place / "metadata.json").write_text("{}")
        with pytest.raises(InputError, match="6 files that cannot be used"):
            open_dataset(str(folder), None)
        (place / "metadata.json").unlink()


def test_splits_by_any_of_their_names(tmp_path: Path) -> None:
    for name, prefix in {"train": "a", "val": "b", "test": "c"}.items():
        write_folder(tmp_path / "short" / name, videos=2, prefix=prefix)
    for name, prefix in {"training": "a", "validation": "b", "testing": "c"}.items():
        write_folder(tmp_path / "long" / name, videos=2, prefix=prefix)
    for folder in ("short", "long"):
        splits, _, _ = open_splits(str(tmp_path / folder))
        videos = {split: found.table.video[0] for split, found in splits.items()}
        assert videos == {"train": "a000.mp4", "validation": "b000.mp4", "test": "c000.mp4"}
        assert open_dataset(str(tmp_path / folder), "val").split == "validation"
    write_folder(tmp_path / "short" / "training", videos=2)
    with pytest.raises(InputError, match="both training/ and train/, which are one split"):
        open_splits(str(tmp_path / "short"))


def test_splits_in_upper_or_lower_case(tmp_path: Path) -> None:
    for name, prefix in {"Train": "a", "valid": "b", "TESTING": "c", "holdout": "d"}.items():
        write_folder(tmp_path / name, videos=2, prefix=prefix)
    splits, _, notes = open_splits(str(tmp_path))
    videos = {split: found.table.video[0] for split, found in splits.items()}
    assert videos == {"train": "a000.mp4", "validation": "b000.mp4", "test": "c000.mp4"}
    assert open_dataset(str(tmp_path), "Valid").split == "validation"
    (note,) = notes
    assert note.startswith("1 folder with crops/ left out, such as holdout; folders of splits are")
    write_folder(tmp_path / "holdout2", videos=2)  # the note is of what is there now
    assert open_splits(str(tmp_path))[2][0].startswith("2 folders with crops/ left out")


def test_several_data_sets_in_a_folder(tmp_path: Path) -> None:
    write_folder(tmp_path / "a", videos=2)
    write_folder(tmp_path / ".hidden", videos=2)
    assert len(open_dataset(str(tmp_path), None)) == 6
    write_folder(tmp_path / "b", videos=2)
    with pytest.raises(InputError, match=r"holds 2 data sets; name one of \S*a, \S*b$"):
        open_dataset(str(tmp_path), None)


def test_links_and_hidden_folders_are_not_followed(tmp_path: Path) -> None:
    folder = nested(write_folder(tmp_path / "data", videos=4))
    (folder / "crops" / "loop").symlink_to(folder / "crops")
    (folder / "masks" / "v000" / "loop").symlink_to(folder)
    (folder / "crops" / "v001").rename(tmp_path / "v001")
    (folder / "crops" / "v001").symlink_to(tmp_path / "v001")
    shutil.copytree(folder / "crops" / "v000", folder / "crops" / ".thumbnails")
    data = open_dataset(str(folder), None)
    assert set(data.table.video) == {"v000.mp4", "v002.mp4", "v003.mp4"}
    links, unmatched = data.notes
    assert links.startswith("2 links to folders in crops are not followed, such as loop;")
    assert unmatched.startswith("4 files in masks match no crop, such as v000/loop;")


def test_a_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = nested(write_folder(tmp_path / "data", videos=2))
    scan = os.scandir

    def refuse(path: Path) -> object:
        if path == folder / "crops" / "v001":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=r"crops/v001 cannot be listed: Permission denied"):
        open_dataset(str(folder), None)


def test_a_data_set_whose_own_folder_cannot_be_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_folder(tmp_path / "data", videos=2)

    def refuse(path: Path) -> object:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(InputError, match=r"data cannot be listed: Permission denied; it may hold"):
        open_dataset(str(folder), None)
