"""What is wrong with a folder is found and said before anything is scored."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flax_unet import InputError
from tests.train.folders import SIDE, edit, write_crop, write_folder, write_mask
from train.data import pictures
from train.data.dataset import open_dataset
from train.data.folder import decode_mask, video_of


def spoil(folder: Path) -> dict[str, str]:
    """Plants one of each fault; gives what must be said of each file."""
    rng = np.random.default_rng(1)
    crops, masks = folder / "crops", folder / "masks"
    (crops / "v000_empty.png").write_bytes(b"")
    (crops / "v000_cut.png").write_bytes((crops / "v000_0.png").read_bytes()[:-200])
    (crops / "v000_text.png").write_text("no picture")
    (crops / "v000_dir.png").mkdir()
    Image.new("RGBA", (SIDE, SIDE)).save(crops / "v000_rgba.png")
    Image.new("L", (SIDE, SIDE)).save(crops / "v000_grey.png")
    for name in ("small", "values", "broken"):
        write_crop(crops / f"v001_{name}.png", rng)
    write_mask(masks / "v001_small.gif", np.zeros((8, 9)))
    Image.fromarray(np.full((SIDE, SIDE), 7, np.uint8)).save(masks / "v001_values.png")
    (masks / "v001_broken.gif").write_bytes(b"GIF89a")
    write_crop(crops / "stranger_0.png", rng)
    write_crop(crops / "odd_0.png", rng)
    edit(folder, **{"odd.mp4": {"label": "MAYBE"}})
    return {
        "v000_empty.png": "it is empty",
        "v000_cut.png": "cannot be decoded",
        "v000_text.png": "no picture of a known format",
        "v000_dir.png": "directory",
        "v000_rgba.png": "mode is RGBA",
        "v000_grey.png": "mode is L",
        "v001_small.png": f"its mask is 9x8, the picture {SIDE}x{SIDE}",
        "v001_values.png": "its values are 7",
        "v001_broken.png": "its mask",
        "stranger_0.png": "stranger.mp4 is not in metadata.json",
        "odd_0.png": "'MAYBE'; expected REAL or FAKE",
    }


def test_every_fault_is_listed_and_can_be_skipped(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", videos=4)
    faults = spoil(folder)
    for _ in range(2):  # packing, then from the cache
        with pytest.raises(InputError) as raised:
            open_dataset(str(folder), None)
        message = str(raised.value)
        assert f"{len(faults)} files that cannot be used" in message
        for file, reason in faults.items():
            line = next(line for line in message.splitlines() if f"crops/{file}:" in line)
            assert reason in line
    data = open_dataset(str(folder), None, skip_bad=True)
    assert len(data) == 12
    assert {Path(file).name for file in data.faults} == set(faults)


def test_a_pipe_a_link_and_a_device_are_not_opened(tmp_path: Path) -> None:
    """Reading them might never end, or fail without saying which."""
    folder = write_folder(tmp_path / "data", videos=2)
    os.mkfifo(folder / "crops" / "v000_pipe.png")
    (folder / "crops" / "v000_device.png").symlink_to("/dev/zero")
    (folder / "crops" / "v000_link.png").symlink_to("nowhere")
    (folder / "masks" / "v000_0.gif").unlink()
    (folder / "masks" / "v000_0.gif").symlink_to("nowhere")
    (folder / "masks" / "v000_1.gif").unlink()
    os.mkfifo(folder / "masks" / "v000_1.gif")
    assert open_dataset(str(folder), None, skip_bad=True).faults == {
        "crops/v000_pipe.png": "it is no regular file",
        "crops/v000_device.png": "it is no regular file",
        "crops/v000_link.png": "it is a broken link",
        "crops/v000_0.png": "its mask: it is a broken link",
        "crops/v000_1.png": "its mask: it is no regular file",
    }


def test_enormous_pictures_are_not_decoded(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", videos=2)
    Image.new("RGB", (10_000, 9_000)).save(folder / "crops" / "v000_bomb.png")
    with (folder / "crops" / "v000_vast.png").open("wb") as file:
        file.truncate(pictures.MAX_BYTES + 1)
    faults = open_dataset(str(folder), None, skip_bad=True).faults
    assert "it is 10000x9000, over 25,000,000 pixels" in faults["crops/v000_bomb.png"]
    assert "bytes, over 100,000,000" in faults["crops/v000_vast.png"]


def test_names_that_are_no_text(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", videos=2)
    write_crop(tmp_path / "crop.png", np.random.default_rng(0))
    (tmp_path / "crop.png").rename(os.fsdecode(bytes(folder / "crops") + b"/v000_\xff.png"))
    with pytest.raises(InputError, match=r"crops/v000_\\udcff\.png: its name is not UTF-8"):
        open_dataset(str(folder), None)


def test_hidden_files_are_no_part_of_it(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", videos=2)
    (folder / "crops" / "._v000_0.png").write_bytes(b"left by a Mac")
    (folder / "masks" / "._v000_0.gif").write_bytes(b"left by a Mac")
    data = open_dataset(str(folder), None)
    assert (len(data), data.notes) == (6, [])


def test_left_out_suffixes_are_a_note(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", videos=2)
    for name in ("v000_0.tif", "v000_1.TIF", "list.txt"):
        (folder / "crops" / name).write_bytes(b"")
    (note,) = open_dataset(str(folder), None).notes
    assert note.startswith("3 files in crops are left out for their suffix (2 .tif, 1 .txt)")


def test_masks_are_found_by_the_whole_name(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", videos=2, prefix="clip.v")
    (folder / "masks" / "clip.v000_0.gif").rename(folder / "masks" / "clip.v000_0.GIF")
    (folder / "masks" / "clip.v001_0.gif").unlink()
    write_mask(folder / "masks" / "clip.gif", np.ones((SIDE, SIDE)))  # of another crop
    data = open_dataset(str(folder), None)
    assert data.table.has_mask.tolist() == [True, True, True, False, True, True]
    assert data.record(0)["mask"] == (folder / "masks" / "clip.v000_0.GIF").read_bytes()


def test_two_masks_of_a_crop_are_a_fault(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", videos=2)
    write_mask(folder / "masks" / "v001_2.PNG", np.ones((SIDE, SIDE)))
    with pytest.raises(InputError, match=r"v001_2\.png: it has 2 masks: v001_2.PNG, v001_2.gif"):
        open_dataset(str(folder), None)


def test_absent_original_is_a_note(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", videos=2)
    edit(folder, **{"v001.mp4": {"label": "FAKE", "original": "elsewhere.mp4"}})
    (note,) = open_dataset(str(folder), None).notes
    assert "elsewhere.mp4" in note


def test_originals_of_another_split_are_not_absent(tmp_path: Path) -> None:
    write_folder(tmp_path / "training", videos=2, prefix="a")
    testing = write_folder(tmp_path / "testing", videos=2, prefix="b")
    edit(testing, **{"b001.mp4": {"label": "FAKE", "original": "a000.mp4"}})
    assert open_dataset(str(tmp_path), None).notes == []


@pytest.mark.parametrize("values", [(0, 1), (0, 255), (0,), (1,), (255,)])
def test_masks_of_0_and_255_are_classes(values: tuple[int, ...], tmp_path: Path) -> None:
    grey = np.resize(np.array(values, np.uint8), (4, 4))
    Image.fromarray(grey).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(decode_mask((tmp_path / "mask.png").read_bytes()), grey > 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"metadata\.json is no JSON"),
        ("[]", r"metadata\.json holds a list"),
        ("[" * 100_000, r"metadata\.json is no JSON"),
        ('{"v000.mp4": {"label": ["FAKE"]}}', r"label of v000\.mp4 is \['FAKE'\]; expected REAL"),
        ('{"v000.mp4": {"label": {}}}', r"label of v000\.mp4 is \{\}; expected REAL"),
        ('{"v000.mp4": "FAKE"}', r"label of v000\.mp4 is None; expected REAL"),
        ('{"v000.mp4": {"label": "FAKE", "original": "\\ud800"}}', "expected a video's name"),
        ('{"v000.mp4": {"label": "FAKE", "original": ["a"]}}', "expected a video's name"),
    ],
)
def test_metadata_that_cannot_be_used(content: str, message: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", videos=2)
    (folder / "metadata.json").write_text(content)
    with pytest.raises(InputError, match=message):
        open_dataset(str(folder), None)


def test_metadata_that_is_no_file(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", videos=2)
    (folder / "metadata.json").unlink()
    os.mkfifo(folder / "metadata.json")
    with pytest.raises(InputError, match=r"metadata\.json is no regular file"):
        open_dataset(str(folder), None)


def test_metadata_with_a_byte_order_mark(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", videos=2)
    path = folder / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text())), encoding="utf-8-sig")
    assert len(open_dataset(str(folder), None)) == 6


def test_video_of_a_crop_is_its_name_up_to_the_first_underscore() -> None:
    assert video_of("aabb_12_3.png") == "aabb.mp4"
