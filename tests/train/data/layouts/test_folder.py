"""What is wrong with a folder is found and said before anything is scored."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from flax_unet import InputError
from flax_unet.media.faces import opencv
from flax_unet.media.images import read_image, to_input
from tests.train.folders import SIDE, edit, write_crop, write_folder, write_mask
from train.data import audit
from train.data.dataset import open_dataset, split_by_source
from train.data.layouts import image_files, masks
from train.data.layouts.options import FolderOptions
from train.data.loader import batches


def spoil(folder: Path) -> dict[str, str]:
    """Plants one of each fault, and a second file of some; gives what must be said of each."""
    rng = np.random.default_rng(1)
    crops, masks = folder / "crops", folder / "masks"
    (crops / "v000_empty.png").write_bytes(b"")
    (crops / "v002_empty.png").write_bytes(b"")
    (crops / "v000_cut.png").write_bytes((crops / "v000_0.png").read_bytes()[:-200])
    (crops / "v000_text.png").write_text("no picture")
    (crops / "v000_dir.png").mkdir()
    Image.fromarray(np.zeros((SIDE, SIDE), np.uint16)).save(crops / "v000_deep.png")
    deep = np.zeros((SIDE, SIDE, 3), np.uint16)
    assert opencv().imwrite(str(crops / "v000_deeper.png"), deep)
    for name in ("small", "smaller", "values", "soft", "broken", "colours", "glass", "two"):
        write_crop(crops / f"v001_{name}.png", rng)
    write_mask(masks / "v001_small.gif", np.zeros((8, 9)))
    write_mask(masks / "v001_smaller.gif", np.zeros((3, 4)))
    Image.fromarray(np.full((SIDE, SIDE), 7, np.uint8)).save(masks / "v001_values.png")
    Image.linear_gradient("L").resize((SIDE, SIDE)).save(masks / "v001_soft_mask.png")
    (masks / "v001_broken.gif").write_bytes(b"GIF89a")
    Image.new("RGB", (SIDE, SIDE), (9, 9, 8)).save(masks / "v001_colours.png")
    Image.new("RGBA", (SIDE, SIDE)).save(masks / "v001_glass.png")
    for name in ("v001_two.gif", "v001_two_mask.png"):
        write_mask(masks / name, np.zeros((SIDE, SIDE)))
    for name in ("stranger_0", "stranger_1", "other_0", "odd_0", "one_0", "list_0", "000_003_0"):
        write_crop(crops / f"{name}.png", rng)
    edit(
        folder,
        **{
            "odd.mp4": {"label": "MAYBE"},
            "one.mp4": {"label": 1},
            "list.mp4": {"label": "FAKE", "original": [1]},
            "000.mp4": {"label": "REAL"},
        },
    )
    return {
        "v000_empty.png": "it is empty",
        "v002_empty.png": "it is empty",
        "v000_cut.png": "cannot be decoded",
        "v000_text.png": "not a picture of a known format",
        "v000_dir.png": "directory",
        "v000_deep.png": "mode is I;16",
        "v000_deeper.png": "it has 16 bits a channel; expected 8",
        "v001_small.png": f"its mask is 9x8, the picture {SIDE}x{SIDE}",
        "v001_smaller.png": f"its mask is 4x3, the picture {SIDE}x{SIDE}",
        "v001_values.png": "its values are 7",
        "v001_soft.png": "such as --mask-threshold 128",
        "v001_broken.png": "its mask",
        "v001_colours.png": "its mask: it has colours",
        "v001_glass.png": "its mask: it has transparent pixels",
        "v001_two.png": "it has 2 masks: v001_two.gif, v001_two_mask.png",
        "stranger_0.png": "stranger.mp4 is not in metadata.json",
        "stranger_1.png": "stranger.mp4 is not in metadata.json",
        "other_0.png": "other.mp4 is not in metadata.json",
        "odd_0.png": "'MAYBE'; expected REAL or FAKE",
        "one_0.png": "1; expected REAL or FAKE, or the label that --real-label",
        "list_0.png": "expected a video's name",
        "000_003_0.png": "may be 000.mp4 or 000_003",
    }


# Of the files above, those that have a fault of the same kind.
TOGETHER = (
    {"v000_empty.png", "v002_empty.png"},
    {"v001_small.png", "v001_smaller.png"},
    {"v001_values.png", "v001_soft.png"},
    {"stranger_0.png", "stranger_1.png", "other_0.png"},
    {"odd_0.png", "one_0.png"},
)


def test_every_kind_of_fault_is_named_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_folder(tmp_path / "data", videos=4)
    faults = spoil(folder)
    kinds = [{file} for file in faults if not any(file in files for files in TOGETHER)]
    kinds += TOGETHER
    lines: list[str] = []
    for _ in range(2):  # packing, then from the cache
        with pytest.raises(InputError) as raised:
            open_dataset(str(folder), None)
        header, *lines = str(raised.value).splitlines()
        assert f"{len(faults)} files that cannot be used" in header
        assert "train.data.audit with --json lists every file" in lines.pop()
        said = []
        for line in lines:
            found = re.fullmatch(r"  (\d+) files?,( such as)? crops/([^:]*): (.*)", line)
            assert found, line
            assert faults[found[3]] in found[4]
            said.append((int(found[1]), found[3]))
        assert [count for count, _ in said] == sorted((len(files) for files in kinds), reverse=True)
        assert sorted(said) == sorted((len(files), min(files)) for files in kinds)
    data = open_dataset(str(folder), None, skip_bad=True)
    assert len(data) == 12
    audit.main([str(folder), "--json", str(tmp_path / "audit.json")])
    listed = json.loads((tmp_path / "audit.json").read_text())["faults"]
    assert listed == data.faults
    assert {Path(file).name for file in listed} == set(faults)
    for file, reason in faults.items():
        assert reason in listed[f"crops/{file}"]
    printed = capsys.readouterr().out
    assert f"Files that cannot be used: {len(faults)}\n" + "\n".join(lines) in printed


def test_a_pipe_a_link_and_a_device_are_not_opened(tmp_path: Path) -> None:
    """FolderOptions them might never end, or fail without saying which."""
    folder = write_folder(tmp_path / "data", videos=2)
    os.mkfifo(folder / "crops" / "v000_pipe.png")
    (folder / "crops" / "v000_device.png").symlink_to("/dev/zero")
    (folder / "crops" / "v000_link.png").symlink_to("nowhere")
    (folder / "masks" / "v000_0.gif").unlink()
    (folder / "masks" / "v000_0.gif").symlink_to("nowhere")
    (folder / "masks" / "v000_1.gif").unlink()
    os.mkfifo(folder / "masks" / "v000_1.gif")
    assert open_dataset(str(folder), None, skip_bad=True).faults == {
        "crops/v000_pipe.png": "it is not a regular file",
        "crops/v000_device.png": "it is not a regular file",
        "crops/v000_link.png": "it is a broken link",
        "crops/v000_0.png": "its mask: it is a broken link",
        "crops/v000_1.png": "its mask: it is not a regular file",
    }


def test_enormous_pictures_are_not_decoded(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", videos=2)
    Image.new("RGB", (10_000, 9_000)).save(folder / "crops" / "v000_bomb.png")
    with (folder / "crops" / "v000_vast.png").open("wb") as file:
        file.truncate(image_files.MAX_BYTES + 1)
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
    Image.new("RGB", (SIDE, SIDE)).save(folder / "crops" / "v000_2.tga")
    (note,) = open_dataset(str(folder), None).notes
    assert note.startswith(
        "4 files in crops are left out for their suffix (2 .tif, 1 .txt, 1 .tga)"
    )
    assert ".tga" not in note.partition("; crops are ")[2]


def test_audit_notes_crops_that_exif_data_turn(tmp_path: Path) -> None:
    """Training reads them as PyTorch's code does, by PIL alone: as they are stored."""
    folder = write_folder(tmp_path / "data", videos=2)
    stored = Image.open(folder / "crops" / "v000_1.png").copy()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    stored.save(folder / "crops" / "v000_1.png", exif=exif)
    data = open_dataset(str(folder), None)
    (batch,) = batches(data, (SIDE, SIDE), len(data))
    np.testing.assert_array_equal(
        batch.image[list(data.table.file).index("crops/v000_1.png")], stored
    )
    (note,) = audit.audit(str(folder))["notes"]
    assert note.startswith("1 picture, such as crops/v000_1.png, would be turned by EXIF data")


@pytest.mark.parametrize("suffix", ["png", "webp", "jpg"])
def test_audit_takes_pictures_with_damaged_exif_data_as_they_are(
    suffix: str, tmp_path: Path
) -> None:
    folder = write_folder(tmp_path / "data", videos=2)
    crop = folder / "crops" / "v000_1.png"
    stored = Image.open(crop).copy()
    crop.unlink()
    stored.save(crop.with_suffix(f".{suffix}"), exif=b"Exif\0\0no TIFF")
    report = audit.audit(str(folder))
    assert report["splits"]["whole"]["frames"] == 6
    assert report["notes"] == []


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


def test_training_frames_are_not_scored_by_default(tmp_path: Path) -> None:
    write_folder(tmp_path / "training", videos=2, prefix="a")
    assert open_dataset(str(tmp_path), None).split == "train"  # the only one
    write_folder(tmp_path / "validation", videos=2, prefix="b")
    assert open_dataset(str(tmp_path), None).split == "validation"
    write_folder(tmp_path / "testing", videos=2, prefix="c")
    assert open_dataset(str(tmp_path), None).split == "test"


def test_originals_of_another_split_are_not_absent(tmp_path: Path) -> None:
    write_folder(tmp_path / "training", videos=2, prefix="a")
    testing = write_folder(tmp_path / "testing", videos=2, prefix="b")
    edit(testing, **{"b001.mp4": {"label": "FAKE", "original": "a000.mp4"}})
    assert open_dataset(str(tmp_path), None).notes == []


@pytest.mark.parametrize("values", [(0, 1), (0, 255), (0,), (1,), (255,)])
def test_masks_of_0_and_255_are_classes(values: tuple[int, ...], tmp_path: Path) -> None:
    grey = np.resize(np.array(values, np.uint8), (4, 4))
    Image.fromarray(grey).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(masks.decode((tmp_path / "mask.png").read_bytes()), grey > 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"metadata\.json is not valid JSON"),
        ("[]", r"metadata\.json holds a list"),
        ("[" * 100_000, r"metadata\.json is not valid JSON"),
        ('{"v000.mp4": {"label": ["FAKE"]}}', r"label of v000\.mp4 is \['FAKE'\]; expected REAL"),
        ('{"v000.mp4": {"label": {}}}', r"label of v000\.mp4 is \{\}; expected REAL"),
        ('{"v000.mp4": "FAKE"}', r"label of v000\.mp4 is None; expected REAL"),
        ('{"v000.mp4": {"label": "FAKE", "original": "\\ud800"}}', "expected a video's name"),
        ('{"v000.mp4": {"label": "FAKE", "original": [["a"]]}}', "expected a video's name"),
        ('{"v000.mp4": {"label": "FAKE", "original": ["a", ""]}}', "expected a video's name"),
        ('{"v000.mp4": {"label": "FAKE", "original": "a\\nb"}}', "expected a video's name"),
        *(
            (
                f'{{"v000.mp4": {{"label": "REAL", "source_group": {group}}}}}',
                r"the source_group of v000\.mp4 is .+; expected a text such as",
            )
            for group in ('["Ann"]', "4.25", "true", "{}")
        ),
    ],
)
def test_metadata_that_cannot_be_used(content: str, message: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", videos=2)
    for path in (folder / "crops").glob("v001_*"):
        path.unlink()
    (folder / "metadata.json").write_text(content)
    with pytest.raises(InputError, match=message):
        open_dataset(str(folder), None)


def test_metadata_that_is_no_file(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", videos=2)
    (folder / "metadata.json").unlink()
    os.mkfifo(folder / "metadata.json")
    with pytest.raises(InputError, match=r"metadata\.json is not a regular file"):
        open_dataset(str(folder), None)


def test_metadata_with_a_byte_order_mark(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", videos=2)
    path = folder / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text())), encoding="utf-8-sig")
    assert len(open_dataset(str(folder), None)) == 6


def labels_of(folder: Path, real_label: str | None = None) -> dict[str, bool]:
    table = open_dataset(str(folder), None, options=FolderOptions(real_label=real_label)).table
    return dict(zip(table.video, map(bool, table.is_real), strict=True))


def relabel(folder: Path, real: object, fake: object) -> None:
    entries = json.loads((folder / "metadata.json").read_text())
    for entry in entries.values():
        entry["label"] = real if entry["label"] == "REAL" else fake
    (folder / "metadata.json").write_text(json.dumps(entries))


EXPECTED = {"v000.mp4": True, "v001.mp4": False, "v002.mp4": True, "v003.mp4": False}


@pytest.mark.parametrize(("real", "fake"), [("real", "fake"), ("Real", "FAKE"), ("REAL", "fAkE")])
def test_case_of_labels_does_not_matter(real: str, fake: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", videos=4)
    relabel(folder, real, fake)
    assert labels_of(folder) == EXPECTED


@pytest.mark.parametrize(
    ("real", "fake", "option"),
    [
        *((0, 1, "0"), (1, 0, "1"), ("0", "1", "0"), (0.0, 1.0, "0")),
        *((True, False, "true"), (False, True, "False"), ("genuine", "Forged", "Genuine")),
    ],
)
def test_polarity_of_other_labels_is_asked_for(
    real: object, fake: object, option: str, tmp_path: Path
) -> None:
    folder = write_folder(tmp_path / "data", videos=4)
    relabel(folder, real, fake)
    with pytest.raises(InputError) as raised:
        open_dataset(str(folder), None)
    _, line, _ = str(raised.value).splitlines()
    assert line.startswith(
        f"  12 files, such as crops/v000_0.png: the label of v000.mp4 is {real!r};"
    )
    assert "--real-label LABEL" in line
    assert labels_of(folder, real_label=option) == EXPECTED
    other = open_dataset(str(folder), None, options=FolderOptions(real_label=str(fake)))
    assert other.table.is_real.tolist() == [not EXPECTED[video] for video in other.table.video]


@pytest.mark.parametrize(
    ("real", "fake", "option", "message"),
    [
        (0, 1, "2", "has only the labels 0, 1"),
        ("REAL", "FAKE", "0", "has only the labels fake, real"),
        ("REAL", "FAKE", "FAKE", "REAL and FAKE have their meaning; leave the option out"),
        ("REAL", 0, "0", "REAL and FAKE have their meaning"),
        ("original", "FAKE", "Fake", "FAKE cannot mean REAL; name another"),
    ],
)
def test_polarity_that_contradicts_the_labels(
    real: object, fake: object, option: str, message: str, tmp_path: Path
) -> None:
    folder = write_folder(tmp_path / "data", videos=4)
    relabel(folder, real, fake)
    with pytest.raises(InputError, match=message):
        open_dataset(str(folder), None, options=FolderOptions(real_label=option))


def test_polarity_of_three_labels(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", videos=4)
    relabel(folder, 0, 1)
    edit(folder, **{"v003.mp4": {"label": 2}})
    with pytest.raises(InputError, match=r"has 3 labels \(0, 1, 2\); expected two"):
        open_dataset(str(folder), None, options=FolderOptions(real_label="0"))


def test_one_label_may_be_fake(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", videos=4)
    relabel(folder, "original", "FAKE")
    with pytest.raises(InputError, match="the label that --real-label"):
        open_dataset(str(folder), None)
    assert labels_of(folder, real_label="original") == EXPECTED


def test_polarity_is_that_of_all_metadata_files(tmp_path: Path) -> None:
    training = write_folder(tmp_path / "training", videos=4)
    testing = write_folder(tmp_path / "testing", videos=4, prefix="b")
    relabel(training, "genuine", "forged")
    relabel(testing, "forged", "forged")
    options = FolderOptions(real_label="genuine")
    splits = {
        split: open_dataset(str(tmp_path), split, options=options).table.is_real
        for split in ("train", "test")
    }
    assert splits["train"].any()
    assert not splits["test"].any()
    relabel(testing, "forged", "spoof")
    edit(testing, **{"b001.mp4": {"label": "spoof"}})
    with pytest.raises(InputError, match=r"has 3 labels \(forged, genuine, spoof\).*; see .* and "):
        open_dataset(str(tmp_path), "train", options=options)


def test_the_embedded_set_has_nothing_to_say(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--real-label is for folders; forged_portraits labels"):
        open_dataset("forged_portraits", None, options=FolderOptions(real_label="0"))
    with pytest.raises(InputError, match="--mask-threshold 256: expected 1 to 255"):
        FolderOptions(mask_threshold=256)


def pictures_of_all_modes() -> dict[str, Image.Image]:
    rng = np.random.default_rng(2)
    grey = Image.fromarray(rng.integers(0, 256, (SIDE, SIDE), np.uint8))
    colours = Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8))
    glass = colours.copy()
    glass.putalpha(grey)
    few = colours.quantize(20)
    return {
        **{"RGBA": glass, "L": grey, "LA": Image.merge("LA", [grey, grey]), "P": few},
        **{"1": grey.convert("1"), "CMYK": colours.convert("CMYK")},
    }


def test_other_modes_are_converted_as_predict_converts_them(tmp_path: Path) -> None:
    """The network gets the same pixels, in training and in evaluation."""
    folder = write_folder(tmp_path / "data", videos=2)
    for mode, picture in pictures_of_all_modes().items():
        suffix = "jpg" if mode == "CMYK" else "png"
        picture.save(folder / "crops" / f"v000_{mode}.{suffix}")
    data = open_dataset(str(folder), None)
    (note,) = data.notes
    assert note.startswith("6 crops are not RGB (")
    for mode in pictures_of_all_modes():
        assert f"1 {mode}" in note
    for batch in batches(data, (28, 28), 5):
        for pixels, position in zip(batch.image, batch.position, strict=True):
            if position >= 0:
                crop = folder / data.table.file[position]
                expected = to_input(read_image(crop), (28, 28))
                np.testing.assert_array_equal(pixels.astype(np.float32) / 255, expected)


def test_several_originals_are_kept_and_grouped(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", videos=6)
    both = {"label": "FAKE", "original": ["v000.mp4", "v002.mp4"]}
    edit(folder, **{"v001.mp4": both, "v003.mp4": {"label": "FAKE", "original": ["v002.mp4"]}})
    data = open_dataset(str(folder), None)
    assert data.notes == []
    of_video = dict(zip(data.table.video, data.table.original, strict=True))
    assert of_video["v001.mp4"] == "v000.mp4\nv002.mp4"
    assert (of_video["v003.mp4"], of_video["v005.mp4"]) == ("v002.mp4", "v004.mp4")
    for seed in range(10):
        parts = split_by_source(data, (50, 0, 50), seed)
        groups = [set(part.table.video) for part in parts.values() if len(part)]
        assert {f"v00{i}.mp4" for i in range(4)} in groups
    edit(folder, **{"v001.mp4": {"label": "FAKE", "original": ["v000.mp4", "gone.mp4"]}})
    (note,) = open_dataset(str(folder), None).notes
    assert note == "1 original of fakes is not in the folder: gone.mp4"


def test_originals_are_found_without_their_suffix(tmp_path: Path) -> None:
    data = tmp_path / "data"
    training = write_folder(data / "training", videos=4, prefix="a", seed=1)
    testing = write_folder(data / "testing", videos=4, prefix="b", seed=2)
    edit(training, **{"a003.mp4": {"label": "FAKE", "original": ["a000", "gone"]}})
    edit(testing, **{"b001.mp4": {"label": "FAKE", "original": "a002"}})
    dataset = open_dataset(str(data), "train")
    of_video = dict(zip(dataset.table.video, dataset.table.original, strict=True))
    assert of_video["a003.mp4"] == "a000.mp4\ngone"
    assert dataset.notes == ["1 original of fakes is not in the folder: gone"]
    assert audit.audit(str(data))["shared_sources"] == {"a002.mp4": ["test", "train"]}


def test_names_of_faceforensics_have_the_right_labels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("000_0", "003_0", "000_003_0", "003_000_0"):
        write_crop(tmp_path / "data" / "crops" / f"{name}.png", rng)
    entries = {
        **{f"{a}.mp4": {"label": "REAL"} for a in ("000", "003")},
        "000_003.mp4": {"label": "FAKE", "original": ["000.mp4", "003.mp4"]},
        "003_000.mp4": {"label": "FAKE", "original": ["003.mp4", "000.mp4"]},
    }
    (tmp_path / "data" / "metadata.json").write_text(json.dumps(entries))
    assert labels_of(tmp_path / "data") == {
        **{"000.mp4": True, "003.mp4": True, "000_003.mp4": False, "003_000.mp4": False}
    }
    report = audit.audit(str(tmp_path / "data"))["splits"]["whole"]
    assert (report["frames"], report["videos"], report["sources"]) == (4, 4, 1)
    assert (report["REAL"], report["FAKE"]) == (2, 2)
