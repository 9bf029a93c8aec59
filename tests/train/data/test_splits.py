"""Splits without leaks, and the audit that finds leaks in splits that were made elsewhere."""

import json
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import pytest
from PIL import Image

from flax_unet import InputError
from tests.train.folders import SIDE, edit, write_folder
from train.data import audit, export, splits
from train.data.dataset import open_dataset, split_by_source


@hypothesis.given(st.lists(st.integers(-1, 20), min_size=1, max_size=60), st.integers(0, 3))
def test_no_two_parts_are_linked(originals: list[int], seed: int) -> None:
    """Frame i is of video i % 20, made from video originals[i]; none leads to another part."""
    videos = [f"v{i % 20}" for i in range(len(originals))]
    named = ["" if number < 0 else f"v{number}" for number in originals]
    parts = splits.by_source(videos, named, (60, 20, 20), seed)
    dealt = {int(row): part for part, rows in parts.items() for row in rows}
    assert sorted(dealt) == list(range(len(videos)))
    assert sum(map(len, parts.values())) == len(videos)
    touched = [{video, original} - {""} for video, original in zip(videos, named, strict=True)]
    for a in range(len(videos)):
        for b in range(a):
            if touched[a] & touched[b]:
                assert dealt[a] == dealt[b]


def test_a_fake_of_a_fake_stays_with_the_first_video() -> None:
    videos, originals = ["a", "f1", "f2", "b", "c"], ["", "a", "f1", "", ""]
    assert splits.source_of(videos, originals) == ["a", "a", "a", "b", "c"]
    for seed in range(20):
        parts = splits.by_source(videos, originals, (60, 20, 20), seed)
        assert any({0, 1, 2} <= set(rows.tolist()) for rows in parts.values())


@hypothesis.given(
    st.lists(st.lists(st.integers(0, 20), max_size=3), min_size=1, max_size=40), st.integers(0, 3)
)
def test_no_two_parts_are_linked_by_any_original(originals: list[list[int]], seed: int) -> None:
    """Frame i is of video i % 20, made from the videos originals[i]."""
    videos = [f"v{i % 20}" for i in range(len(originals))]
    named = ["\n".join(f"v{number}" for number in numbers) for numbers in originals]
    parts = splits.by_source(videos, named, (60, 20, 20), seed)
    part_of: dict[str, str] = {}
    for part, rows in parts.items():
        for row in rows:
            for name in {videos[row], *named[row].split("\n")} - {""}:
                assert part_of.setdefault(name, part) == part
    assert sum(map(len, parts.values())) == len(videos)


def test_videos_of_one_fake_are_one_source() -> None:
    videos, originals = ["a", "b", "ab", "c", "d"], ["", "", "a\nb", "b", ""]
    assert splits.source_of(videos, originals) == ["a", "a", "a", "a", "d"]


def test_videos_of_one_source_group_stay_together(tmp_path: Path) -> None:
    """Such as the copies of a video in two compressions, which no fake links."""
    groups = {f"v{number:03}.mp4": f"person {number // 4}" for number in range(0, 40, 2)}
    folder = write_folder(tmp_path / "whole", videos=40, frames=1)
    edit(folder, **{name: {"label": "REAL", "source_group": of} for name, of in groups.items()})
    data = open_dataset(str(folder), None)
    parts = split_by_source(data, (50, 25, 25), 0)
    for part in parts.values():
        videos = {*part.table.video}
        assert videos
        for name, of in groups.items():
            assert {other in videos for other in groups if groups[other] == of} == {name in videos}
    export.export(data, tmp_path / "exported")
    assert open_dataset(str(tmp_path / "exported"), None).links() == data.links()
    split = tmp_path / "split"
    for name, prefix, person in ("training", "a", "Ann"), ("testing", "b", "Ann"):
        write_folder(split / name, videos=2, prefix=prefix)
        edit(split / name, **{f"{prefix}000.mp4": {"label": "REAL", "source_group": person}})
    assert audit.audit(str(split))["shared_sources"] == {"Ann": ["test", "train"]}


@hypothesis.given(st.integers(1, 200), st.integers(0, 3))
def test_parts_have_their_share_of_the_sources(count: int, seed: int) -> None:
    videos = [f"v{i}" for i in range(count)]
    parts = splits.by_source(videos, [""] * count, (60, 20, 20), seed)
    for part, share in zip(splits.PARTS, (0.6, 0.2, 0.2), strict=True):
        assert abs(len(parts[part]) - share * count) <= 1


@pytest.mark.parametrize("text", ["10", "0.1"])
def test_a_share_needs_its_sign(text: str) -> None:
    assert splits.parse_share("10%") == 10
    with pytest.raises(InputError, match=rf"--validation {text}: a share is written in per cent"):
        splits.parse_share(text)


def test_audit_finds_a_leak_and_a_duplicate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = write_folder(tmp_path / "data" / "training", videos=4, prefix="a", seed=1)
    testing = write_folder(tmp_path / "data" / "testing", videos=4, prefix="b", seed=2)
    edit(testing, **{"b001.mp4": {"label": "FAKE", "original": "a003.mp4"}})  # itself of a002
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
    assert "Sources in more than one split (a leak): 1\n  a002.mp4: test, train" in printed
    assert "across splits" in printed
