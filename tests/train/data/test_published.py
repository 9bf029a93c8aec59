"""Folders in the published layout: packed once, faults listed, splits without leaks."""

import json
import os
import sys
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from PIL import Image

from flax_unet import InputError
from tests.train.folders import SIDE, write_crop, write_folder, write_mask
from train.data import audit, published, splits
from train.data.dataset import open_dataset
from train.data.folder import decode_mask, video_of
from train.data.pipeline import batches


def edit(folder: Path, **entries: object) -> None:
    path = folder / "metadata.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


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
        patched.setattr(published, "prepare", None)  # packing again would fail
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

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(published, "prepare", interrupted)
        with pytest.raises(KeyboardInterrupt):
            open_dataset(str(folder), None)
    assert [path for path in cache.rglob("*") if path.is_file()] == []
    assert len(open_dataset(str(folder), None)) == 6


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


def test_absent_original_is_a_note(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", videos=2)
    edit(folder, **{"v001.mp4": {"label": "FAKE", "original": "elsewhere.mp4"}})
    (note,) = open_dataset(str(folder), None).notes
    assert "elsewhere.mp4" in note


@pytest.mark.parametrize("values", [(0, 1), (0, 255), (0,), (1,), (255,)])
def test_masks_of_0_and_255_are_classes(values: tuple[int, ...], tmp_path: Path) -> None:
    grey = np.resize(np.array(values, np.uint8), (4, 4))
    Image.fromarray(grey).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(decode_mask((tmp_path / "mask.png").read_bytes()), grey > 0)


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
        ("DATA", "valid:80/10/10", "valid is none of"),
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


@pytest.mark.parametrize("content", ["{", "[]"])
def test_metadata_that_cannot_be_read(content: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", videos=2)
    (folder / "metadata.json").write_text(content)
    with pytest.raises(InputError, match=r"metadata\.json (is no JSON|holds a list)"):
        open_dataset(str(folder), None)


def test_video_of_a_crop_is_its_name_up_to_the_first_underscore() -> None:
    assert video_of("aabb_12_3.png") == "aabb.mp4"


@hypothesis.given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=60),
    st.integers(0, 3),
)
def test_splits_share_no_source(pairs: list[tuple[int, int]], seed: int) -> None:
    """A fake of video b, or a real video, is never apart from others of the same source."""
    videos = [f"v{a}" for a, _ in pairs]
    originals = [f"v{b}" if b % 2 else "" for _, b in pairs]
    parts = splits.by_source(videos, originals, (60, 20, 20), seed)
    rows = np.concatenate(list(parts.values()))
    assert sorted(rows) == list(range(len(pairs)))
    sources = [o or v for v, o in zip(videos, originals, strict=True)]
    found = [{sources[row] for row in part} for part in parts.values()]
    assert sum(map(len, found)) == len(set(sources))
    assert len(found[2]) <= round(0.2 * len(set(sources))) + 1


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [1, 4, 7, 100])
def test_every_frame_is_read_once(batch_size: int, processes: int, tmp_path: Path) -> None:
    data = open_dataset(str(write_folder(tmp_path / "data", videos=4)), None)
    seen = []
    counts = set()
    for process in range(processes):
        found = list(batches(data, 32, batch_size, process=process, processes=processes))
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


def test_audit_finds_a_leak_and_a_duplicate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = write_folder(tmp_path / "data" / "training", videos=4, prefix="a", seed=1)
    testing = write_folder(tmp_path / "data" / "testing", videos=4, prefix="b", seed=2)
    edit(testing, **{"b001.mp4": {"label": "FAKE", "original": "a002.mp4"}})  # a leak
    with Image.open(training / "crops" / "a000_0.png") as opened:  # the pixels, in other bytes
        opened.save(testing / "crops" / "b000_0.png", compress_level=0)
    (testing / "masks" / "b003_1.gif").unlink()
    audit.main([str(tmp_path / "data"), "--json", str(tmp_path / "audit.json")])
    printed = capsys.readouterr().out
    report = json.loads((tmp_path / "audit.json").read_text())
    assert report["shared_sources"] == {"a002.mp4": ["test", "train"]}
    (group,) = report["duplicates"]
    assert sorted(group["files"]) == ["testing/crops/b000_0.png", "training/crops/a000_0.png"]
    assert group["across_splits"] is True
    assert report["splits"]["test"]["fakes_without_mask"] == 1
    assert report["splits"]["train"]["REAL"] == report["splits"]["train"]["FAKE"] == 6
    assert report["splits"]["train"]["sizes"] == {f"{SIDE}x{SIDE}": 12}
    assert "1 sources in more than one split (a leak)\n  a002.mp4: test, train" in printed
    assert "across splits" in printed
