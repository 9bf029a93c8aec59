"""Masks as they are found in practice: which crop they belong to, and what their values mean."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flax_unet import InputError
from tests.train.folders import SIDE, write_folder, write_mask
from train.data.dataset import Dataset, open_dataset
from train.data.layouts import image_files, masks
from train.data.layouts.options import FolderOptions

NAMES = {  # of the mask of crops/v001_0.png
    *("v001_0.gif", "v001_0.png", "v001_0.JPG", "v001_0.jpeg", "v001_0.bmp", "v001_0.tif"),
    *("v001_0_mask.gif", "v001_0_mask.png", "v001_0_diff.png", "v001_0_diff.jpg"),
}


def opened(folder: Path, threshold: int | None = None) -> Dataset:
    return open_dataset(str(folder), None, options=FolderOptions(mask_threshold=threshold))


def mask_of(data: Dataset, file: str = "crops/v001_0.png") -> np.ndarray:
    return masks.decode(data.record(data.table.file.tolist().index(file))["mask"])


@pytest.mark.parametrize("name", sorted(NAMES))
def test_usual_names(name: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", videos=2)
    path = folder / "masks" / name
    with Image.open(folder / "masks" / "v001_0.gif") as published:
        classes = np.asarray(published)
    (folder / "masks" / "v001_0.gif").unlink()
    if path.suffix == ".gif":
        write_mask(path, classes)
    else:  # JPEG keeps areas of one value if they are whole blocks
        classes = np.kron(np.eye(5), np.ones((8, 8))).astype(np.uint8)
        Image.fromarray(classes * 255).save(path, quality=100)
    data = opened(folder)
    assert data.notes == []
    np.testing.assert_array_equal(mask_of(data), classes)


def test_files_that_match_no_crop_are_a_note(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", videos=2)
    for name in ("v001_0.gif", "v001_1.gif"):
        (folder / "masks" / name).rename(folder / "masks" / f"manipulated_{name}")
    (folder / "masks" / "v001_2.gif").rename(folder / "masks" / "v001_2.npy")
    data = opened(folder)
    (note,) = data.notes
    assert note.startswith("3 files in masks match no crop, such as manipulated_v001_0.gif;")
    assert data.table.has_mask.tolist() == [True] * 3 + [False] * 3


def test_crops_named_like_masks_keep_their_own(tmp_path: Path) -> None:
    crops, files = ["a_0.png", "a_0_mask.png"], ["a_0.gif", "a_0_mask.gif", "a_0_mask_mask.gif"]
    found, unmatched = masks.by_crop(crops, dict.fromkeys(files, image_files.File(1, 1, None)))
    assert {crop: list(of) for crop, of in found.items()} == {
        "a_0.png": ["a_0.gif"],
        "a_0_mask.png": ["a_0_mask.gif", "a_0_mask_mask.gif"],
    }
    assert unmatched == []


def test_folders_of_masks_are_those_of_crops() -> None:
    crops = ["v1/0.png", "v2/0.png", "crops_testing/v3_0.png", "crops_b/v4/0.png", "crops_b.png"]
    files = ["v1/0.gif", "v9/0.gif", "masks_testing/v3_0.gif", "masks_b/v4/0_mask.gif", "0.gif"]
    found, unmatched = masks.by_crop(crops, dict.fromkeys(files, image_files.File(1, 1, None)))
    assert {crop: list(of) for crop, of in found.items()} == {
        "v1/0.png": ["v1/0.gif"],
        "crops_testing/v3_0.png": ["masks_testing/v3_0.gif"],
        "crops_b/v4/0.png": ["masks_b/v4/0_mask.gif"],
    }
    assert unmatched == ["v9/0.gif", "0.gif"]


def saved(image: Image.Image, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


CLASSES = np.random.default_rng(0).integers(0, 2, (12, 9)).astype(np.uint8)
WHITE = Image.fromarray(CLASSES * 255)
SOFT = np.random.default_rng(1).integers(0, 256, (12, 9)).astype(np.uint8)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "L", "P", "1"])
def test_equal_channels_are_one(mode: str) -> None:
    content, size, _ = masks.stored(saved(WHITE.convert(mode)), None)
    assert size == (9, 12)
    np.testing.assert_array_equal(masks.decode(content), CLASSES)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "L", "P"])
@pytest.mark.parametrize("threshold", [1, 100, 255])
def test_grey_levels_need_a_threshold(mode: str, threshold: int) -> None:
    picture = Image.fromarray(SOFT)
    if mode == "P":  # as GIF, with a palette of greys in an order of their own
        levels = np.random.default_rng(2).permutation(256).astype(np.uint8)
        picture = Image.fromarray(np.argsort(levels).astype(np.uint8)[SOFT], "P")
        picture.putpalette(np.repeat(levels, 3).tolist())
    elif mode != "L":
        picture = picture.convert(mode)
    with pytest.raises(InputError, match=r"expected the classes.*such as --mask-threshold 128"):
        masks.stored(saved(picture), None)
    content, *_ = masks.stored(saved(picture), threshold)
    np.testing.assert_array_equal(masks.decode(content), threshold <= SOFT)


def test_classes_stay_classes_whatever_the_threshold() -> None:
    palette = Image.fromarray(CLASSES, "P")
    palette.putpalette([0, 0, 0, 255, 255, 255])
    for content in (saved(palette, "GIF"), saved(WHITE), saved(WHITE.convert("1"))):
        for threshold in (None, 1, 128, 255):
            np.testing.assert_array_equal(
                masks.decode(masks.stored(content, threshold)[0]), CLASSES
            )
    # But grey levels of 0 and 1 are levels where a threshold says that levels are meant.
    faint = saved(Image.fromarray(CLASSES))
    np.testing.assert_array_equal(masks.decode(masks.stored(faint, None)[0]), CLASSES)
    assert not masks.decode(masks.stored(faint, 2)[0]).any()


@pytest.mark.parametrize("threshold", [None, 1, 255])
def test_white_is_manipulated_in_a_palette_of_black_and_white(threshold: int | None) -> None:
    white = Image.new("L", (9, 12), 255)
    reordered = Image.fromarray(1 - CLASSES, "P")
    reordered.putpalette([255, 255, 255, 0, 0, 0])
    black = Image.new("P", (9, 12), 1)  # nothing manipulated, in a palette that begins with white
    black.putpalette([255, 255, 255, 0, 0, 0])
    for content, expected in (
        (saved(white, "GIF"), np.ones((12, 9))),  # Pillow stores white alone, as index 0,
        (saved(Image.new("L", (9, 12), 1), "GIF"), np.ones((12, 9))),  # and this grey
        (saved(WHITE.convert("RGB").convert("P", palette=Image.Palette.ADAPTIVE)), CLASSES),
        (saved(reordered, "GIF"), CLASSES),
        (saved(reordered), CLASSES),
        (saved(black), np.zeros((12, 9))),
    ):
        np.testing.assert_array_equal(masks.decode(content), expected)
        np.testing.assert_array_equal(masks.decode(masks.stored(content, threshold)[0]), expected)


@pytest.mark.parametrize("colours", [[0, 0, 0, 1, 1, 1], [0] * 6, [255] * 6, [9, 0, 0, 0, 0, 0]])
def test_classes_are_indices_where_colours_do_not_say(colours: list[int]) -> None:
    palette = Image.fromarray(CLASSES, "P")
    palette.putpalette(colours)
    np.testing.assert_array_equal(masks.decode(saved(palette)), CLASSES)


def test_masks_that_the_threshold_empties_are_a_note(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", videos=2)
    faint = np.kron(np.eye(5), np.ones((8, 8))).astype(np.uint8)
    for frame, picture in enumerate((faint, np.stack([faint] * 3, -1), faint * 200)):
        (folder / "masks" / f"v001_{frame}.gif").unlink()
        Image.fromarray(picture).save(folder / "masks" / f"v001_{frame}.png")
    Image.fromarray(0 * faint).save(folder / "masks" / "v000_0.png")  # empty as it is
    (folder / "masks" / "v000_0.gif").unlink()
    data = opened(folder, 128)
    (note,) = data.notes
    assert note.startswith(
        "2 masks hold only the levels 0 and 1 and are empty at --mask-threshold 128, such as that "
        "of crops/v001_0.png;"
    )
    assert not mask_of(data).any()
    assert opened(folder, 1).notes == []
    np.testing.assert_array_equal(mask_of(opened(folder, 1)), faint)


def test_threshold_is_part_of_the_packed_set(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", videos=2)
    (folder / "masks" / "v001_0.gif").unlink()
    soft = Image.linear_gradient("L").resize((SIDE, SIDE))
    soft.save(folder / "masks" / "v001_0_mask.png")
    low, high, again = (opened(folder, threshold) for threshold in (50, 200, 50))
    assert low.fingerprint == again.fingerprint != high.fingerprint
    np.testing.assert_array_equal(mask_of(low), np.asarray(soft) >= 50)
    np.testing.assert_array_equal(mask_of(high), np.asarray(soft) >= 200)
    # Masks of classes are stored byte for byte.
    stored = low.record(low.table.file.tolist().index("crops/v001_1.png"))["mask"]
    assert stored == (folder / "masks" / "v001_1.gif").read_bytes()
