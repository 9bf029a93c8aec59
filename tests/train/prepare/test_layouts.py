"""What is listed of each data set: labels, originals, splits, faults. No file is opened."""

import csv
import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from flax_unet.utils.errors import InputError
from train.prepare.layouts.find import LAYOUTS, list_videos
from train.prepare.layouts.record import Fault, ListOptions, Video
from train.prepare.plan import plan

SHARES = (80, 10, 10)


def empty(top: Path, *names: str) -> Path:
    for name in names:
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).touch()
    return top


def table(path: Path, rows: Iterable[Iterable[str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def listed(
    *sources: Path, layout: str | None = None, **options: object
) -> tuple[dict[str, Video], list[Fault]]:
    videos, faults = list_videos(sources, layout, ListOptions(**options))  # pyright: ignore
    return {video.name: video for video in videos}, faults


def splits(*sources: Path, **options: object) -> dict[str, str]:
    videos = list_videos(sources, None, ListOptions(**options))[0]  # pyright: ignore
    return {one.video.name: one.split for group in plan(videos, SHARES, 0) for one in group}


def reasons(faults: list[Fault]) -> dict[str, str]:
    return {Path(fault.file).name: fault.reason for fault in faults}


def dfdc(top: Path, number: int, **entries: object) -> Path:
    folder = empty(top, f"dfdc_train_part_{number}/metadata.json") / f"dfdc_train_part_{number}"
    (folder / "metadata.json").write_text(json.dumps({f"{k}.mp4": v for k, v in entries.items()}))
    return folder


def test_dfdc(tmp_path: Path) -> None:
    real, fake = {"label": "REAL", "split": "train"}, {"label": "FAKE", "original": "areal.mp4"}
    part = dfdc(tmp_path, 3, areal=real, bfake=fake, cgone=real, dnull=fake | {"original": None})
    empty(part, "areal.mp4", "bfake.mp4", "dnull.mp4", "extra.mp4")
    other = dfdc(tmp_path, 7, efake=fake, odd={"label": "maybe"}, areal=real)
    empty(other, "efake.mp4", "odd.mp4", "areal.mp4")
    for sources in ([tmp_path], [part, other]):
        videos, faults = listed(*sources)
        assert {name: video.is_real for name, video in videos.items()} == {
            **{"areal": True, "bfake": False, "dnull": False, "efake": False}
        }
        assert videos["efake"].originals == ("areal",)  # of another part
        assert videos["dnull"].originals == ()
        assert videos["areal"].path == part / "areal.mp4"
        found = reasons(faults)
        assert found.keys() == {"cgone.mp4", "extra.mp4", "odd.mp4", "areal.mp4"}
        assert "missing" in found["cgone.mp4"]
        assert "does not name it" in found["extra.mp4"]
        assert "same name" in found["areal.mp4"]
    groups = plan(list(videos.values()), SHARES, 0)
    assert sorted(len(group) for group in groups) == [1, 3]


def test_dfdc_test_set(tmp_path: Path) -> None:
    """There 1 means FAKE."""
    table(tmp_path / "labels.csv", [("filename", "label"), ("a.mp4", "1"), ("b.mp4", "0")])
    videos, faults = listed(empty(tmp_path, "a.mp4", "b.mp4"))
    assert not faults
    assert [video.is_real for video in videos.values()] == [False, True]
    assert {video.split for video in videos.values()} == {"test"}


def faceforensics(top: Path) -> Path:
    originals, fakes = top / "original_sequences", top / "manipulated_sequences"
    empty(originals, *(f"youtube/{c}/videos/{n}.mp4" for c in ("c23", "c40") for n in NAMES))
    empty(originals, "actors/c23/videos/01__walk.mp4")
    for method in ("Deepfakes", "FaceShifter"):
        for compression in ("c23", "c40"):
            empty(fakes, *(f"{method}/{compression}/videos/{name}.mp4" for name in PAIRS))
    empty(fakes, *(f"Deepfakes/masks/videos/{name}.mp4" for name in PAIRS))
    empty(fakes, "DeepFakeDetection/c23/videos/01_02__walk__ABC123.mp4")
    return top


NAMES, PAIRS = ("000", "003", "010", "012"), ("000_003", "003_000", "010_012", "012_010")


def test_faceforensics(tmp_path: Path) -> None:
    top = faceforensics(tmp_path / "ff")
    empty(top, "manipulated_sequences/Deepfakes/c23/videos/copy of 7.mp4")
    videos, faults = listed(top)
    assert list(reasons(faults)) == ["copy of 7.mp4"]
    assert len(videos) == 8 + 1 + 16 + 1
    fake = videos["Deepfakes/c40/000_003"]
    assert (fake.method, fake.compression, fake.is_real) == ("Deepfakes", "c40", False)
    assert fake.originals == ("youtube/c40/000", "youtube/c40/003")  # target, then source
    assert fake.mask_video == top / "manipulated_sequences/Deepfakes/masks/videos/000_003.mp4"
    assert videos["FaceShifter/c23/000_003"].mask_video is None
    of_actors = videos["DeepFakeDetection/c23/01_02__walk__ABC123"]
    assert of_actors.originals == ("actors/c23/01__walk",)
    chosen, _ = listed(top, compressions=("c40",), methods=("FaceShifter",))
    assert {video.compression for video in chosen.values()} == {"c40"}
    assert {video.method for video in chosen.values()} == {None, "FaceShifter"}
    with pytest.raises(InputError, match="no compression c0; there are: c23, c40"):
        listed(top, compressions=("c0",))


def test_faceforensics_splits(tmp_path: Path) -> None:
    top = faceforensics(tmp_path / "ff")
    alone = splits(top)
    for target, source in ("000", "003"), ("010", "012"):  # linked by their fakes
        names = [name for name in alone if target in name or source in name]
        assert len(names) == 12
        assert len({alone[name] for name in names}) == 1
    official = tmp_path / "official"
    official.mkdir()
    with pytest.raises(InputError, match=r"has no train\.json"):
        splits(top, splits=official)
    pairs = {"train": [], "val": [["003", "000"]], "test": [["010", "012"]]}
    for name, listing in pairs.items():
        (official / f"{name}.json").write_text(json.dumps(listing))
    found = splits(top, splits=official)
    assert {found[name] for name in found if "00" in name} == {"validation"}
    assert {found[name] for name in found if "010" in name} == {"test"}


def test_celeb_df(tmp_path: Path) -> None:
    """In its list, 1 means REAL."""
    empty(tmp_path, "Celeb-real/id0_0000.mp4", "Celeb-real/id1_0003.mp4", "YouTube-real/00001.mp4")
    empty(tmp_path, "Celeb-synthesis/id0_id1_0000.mp4", "Celeb-synthesis/id1_id0_0003.mp4")
    (tmp_path / "List_of_testing_videos.txt").write_text(
        "1 YouTube-real/00001.mp4\r\n0 Celeb-synthesis/id0_id1_0000.mp4\n1 Celeb-real/id9_0.mp4\n"
        "0 Celeb-real/id1_0003.mp4\n"
    )
    videos, faults = listed(tmp_path)
    assert videos["YouTube-real/00001"].is_real
    assert not videos["Celeb-synthesis/id0_id1_0000"].is_real
    assert videos["Celeb-synthesis/id1_id0_0003"].originals == ("Celeb-real/id1_0003",)
    assert {name for name, v in videos.items() if v.split == "test"} == {
        *("YouTube-real/00001", "Celeb-synthesis/id0_id1_0000")
    }
    assert {*reasons(faults)} == {"id9_0.mp4", "id1_0003.mp4"}
    assert "1 means REAL" in reasons(faults)["id1_0003.mp4"]


def test_people_stay_together(tmp_path: Path) -> None:
    for person in range(30):
        empty(tmp_path, *(f"Celeb-real/id{person}_{n}.mp4" for n in range(3)))
        empty(tmp_path, *(f"Celeb-synthesis/id{person}_id{n}_{n}.mp4" for n in range(3)))
    found = splits(tmp_path)
    people = {name: name.partition("/")[2].partition("_")[0] for name in found}
    parts = {person: {found[n] for n in found if people[n] == person} for person in people.values()}
    assert all(len(of_person) == 1 for of_person in parts.values())
    assert [list(found.values()).count(s) for s in ("train", "validation", "test")] == [144, 18, 18]


def test_folders(tmp_path: Path) -> None:
    empty(tmp_path / "a", "real/x/1.mp4", "Fake/1_fake.mp4", "Fake/2.PNG", "Fake/notes.txt")
    videos, faults = listed(tmp_path / "a")
    assert {name: video.is_real for name, video in videos.items()} == {
        **{"real/x/1.mp4": True, "Fake/1_fake.mp4": False, "Fake/2.PNG": False}
    }
    assert videos["Fake/1_fake.mp4"].originals == ("real/x/1.mp4",)
    assert not faults
    empty(tmp_path / "b", "train/0_real/1.mp4", "test/1_fake/1.mp4")
    assert splits(tmp_path / "b") == {"train/0_real/1.mp4": "train", "test/1_fake/1.mp4": "test"}


def test_table(tmp_path: Path) -> None:
    empty(tmp_path, "with space/ä.mp4", "b.mp4", "c.mp4")
    rows = [
        ("file", "label", "original", "split"),
        ("with space\\ä.mp4", "real", "", "val"),
        ("b.mp4", "FAKE", "with space/ä.mp4", ""),
        ("c.mp4", "Fake", "", "fold 3"),
        ("d.mp4", "FAKE", "", ""),
    ]
    videos, faults = listed(table(tmp_path / "list.csv", rows))
    assert {name: video.is_real for name, video in videos.items()} == {
        **{"with space\\ä.mp4": True, "b.mp4": False}
    }
    assert videos["b.mp4"].originals == ("with space\\ä.mp4",)
    assert videos["with space\\ä.mp4"].split == "validation"
    assert {*reasons(faults)} == {"c.mp4", "d.mp4"}


def test_polarity_of_a_table_is_not_guessed(tmp_path: Path) -> None:
    rows = [("file", "label"), ("b.mp4", "1"), ("c.mp4", "0")]
    path = table(empty(tmp_path, "b.mp4", "c.mp4") / "list.csv", rows)
    with pytest.raises(InputError, match="--real-label"):
        listed(path)
    videos, _ = listed(path, real_label="0")
    assert (videos["b.mp4"].is_real, videos["c.mp4"].is_real) == (False, True)
    with pytest.raises(InputError, match="has the labels 0, 1"):
        listed(path, real_label="2")
    with pytest.raises(InputError, match="no column label"):
        listed(table(tmp_path / "other.csv", [("file", "target")]))


def test_other_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        listed(tmp_path / "nowhere")
    with pytest.raises(InputError) as raised:
        listed(empty(tmp_path, "clips/1.mp4"))
    assert all(name in str(raised.value) for name in LAYOUTS)
    with pytest.raises(InputError, match="List_of_testing_videos") as raised:
        listed(tmp_path, layout="celeb-df")
    assert "dfdc" not in str(raised.value)


def test_keys(tmp_path: Path) -> None:
    """Videos of one name in two data sets, and of names that differ by signs alone."""
    empty(tmp_path / "a", "real/1_2.mp4", "real/1-2.mp4", "fake/0.mp4")
    empty(tmp_path / "b", "real/1_2.mp4", "fake/0.mp4")
    videos, _ = list_videos([tmp_path / "a", tmp_path / "b"], None, ListOptions())
    keys = [one.key for group in plan(videos, SHARES, 0) for one in group]
    assert len({key.lower() for key in keys}) == 5
    assert not any(set("_./") & set(key) for key in keys)
    empty(tmp_path / "c" / "a", "real/1_2.mp4")
    faults = list_videos([tmp_path / "a", tmp_path / "c" / "a"], None, ListOptions())[1]
    assert len(faults) == 1
    assert str(tmp_path / "a") in faults[0].reason


def test_fakes_without_their_original(tmp_path: Path) -> None:
    """The missing original is not mistaken for another video of its name."""
    part = dfdc(tmp_path / "d", 0, f={"label": "FAKE", "original": "real-1-mp4.mp4"})
    empty(part, "f.mp4")
    empty(tmp_path / "a", "real/1.mp4")
    videos, _ = list_videos([tmp_path / "d", tmp_path / "a"], None, ListOptions())
    groups = plan(videos, SHARES, 0)
    assert [len(group) for group in groups] == [1, 1]
    keys = {one.key for group in groups for one in group}
    (fake,) = (one for group in groups for one in group if not one.video.is_real)
    assert not keys & {*fake.originals}
