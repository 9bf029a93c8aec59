"""What is listed of each data set: labels, originals, splits, faults. No file is opened."""

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

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


def sources(top: Path) -> dict[str, str]:
    videos = list_videos([top], None, ListOptions())[0]
    return {one.video.name: one.source_group for group in plan(videos, SHARES, 0) for one in group}


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


def test_dfdc_test_set_with_metadata(tmp_path: Path) -> None:
    """labels.csv sets the split; metadata.json has the originals, and labels if it has any."""
    entries = {
        **{"a.mp4": {"label": "FAKE", "original": "b.mp4"}, "b.mp4": {"label": "REAL"}},
        **{"c.mp4": {"is_fake": 1, "original": "b.mp4"}, "d.mp4": {"label": "REAL"}},
        **{"e.mp4": {"label": "REAL"}, "f.mp4": {}},
    }
    rows = [("a.mp4", "1"), ("b.mp4", "0"), ("c.mp4", "1"), ("d.mp4", "1"), ("gone.mp4", "1")]
    (tmp_path / "metadata.json").write_text(json.dumps(entries))
    table(tmp_path / "labels.csv", [("filename", "label"), *rows])
    videos, faults = listed(empty(tmp_path, *entries, "extra.mp4", "._a.mp4"))
    assert {name: (v.is_real, v.originals, v.split) for name, v in videos.items()} == {
        "a": (False, ("b",), "test"),
        "b": (True, (), "test"),
        "c": (False, ("b",), "test"),
        "e": (True, (), None),
    }
    assert reasons(faults) == {
        "d.mp4": "metadata.json and labels.csv label it REAL and FAKE",
        "f.mp4": "its label is neither REAL nor FAKE",
        "gone.mp4": "it is missing, and the list of labels names it",
        "extra.mp4": "the list of labels does not name it",
    }
    assert len(faults) == 4


def test_dfdc_parts_in_folders_of_their_archives(tmp_path: Path) -> None:
    for number, top in enumerate((tmp_path, tmp_path / "dfdc_train_part_1", tmp_path / "part_02")):
        part = dfdc(top, number, **{f"v{number}": {"label": "REAL"}})
        empty(part, f"v{number}.mp4", f"._v{number}.mp4", ".trash.mp4")
    videos, faults = listed(tmp_path)
    assert [*videos] == ["v0", "v1", "v2"]
    assert not faults


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
    assert list(reasons(faults)) == ["splits", "copy of 7.mp4"]
    assert len(videos) == 8 + 1 + 16 + 1
    fake = videos["Deepfakes/c40/000_003"]
    assert (fake.method, fake.compression, fake.is_real) == ("Deepfakes", "c40", False)
    assert fake.originals == ("youtube/c40/000", "youtube/c40/003")  # target, then source
    assert fake.mask_video == top / "manipulated_sequences/Deepfakes/masks/videos/000_003.mp4"
    assert videos["FaceShifter/c23/000_003"].mask_video is None
    of_actors = videos["DeepFakeDetection/c23/01_02__walk__ABC123"]
    assert of_actors.originals == ("actors/c23/01__walk",)
    # It is a data set of its own, with its own originals.
    of_sets = {name: video.data_set for name, video in videos.items()}
    assert {name for name, data_set in of_sets.items() if data_set == "DeepFakeDetection"} == {
        *("actors/c23/01__walk", "DeepFakeDetection/c23/01_02__walk__ABC123")
    }
    assert {*of_sets.values()} == {"FaceForensics++", "DeepFakeDetection"}
    assert sorted(map(len, plan([*videos.values()], SHARES, 0))) == [2] + [3] * 8
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
    with pytest.raises(InputError, match=r"official has no train\.json"):
        splits(top, splits=official)
    text = "so there is no official split: --split deals the videos out at random"
    (note,) = listed(top)[1]
    assert (note.file, note.kind) == (str(top / "splits"), "note")
    assert text in note.reason
    empty(top, "splits/train.json", "splits/test.json")
    with pytest.raises(InputError, match=r"ff/splits has no val\.json; the official splits are tr"):
        splits(top)
    pairs = {"train": [], "val": [["003", "000"]], "test": [["010", "012"]]}
    for name, listing in pairs.items():
        (official / f"{name}.json").write_text(json.dumps(listing))
    assert not listed(top, splits=official)[1]
    found = splits(top, splits=official)
    assert {found[name] for name in found if "00" in name} == {"validation"}
    assert {found[name] for name in found if "010" in name} == {"test"}


def test_faceforensics_of_different_compressions(tmp_path: Path) -> None:
    """A fake stays with its target and source, whatever compressions were downloaded."""
    pairs = [(f"{2 * n:03}", f"{2 * n + 1:03}") for n in range(20)]
    for target, source in pairs:
        empty(tmp_path / "original_sequences/youtube/c23/videos", f"{target}.mp4", f"{source}.mp4")
        fakes = tmp_path / "manipulated_sequences/Deepfakes/c40/videos"
        empty(fakes, f"{target}_{source}.mp4")
    found = splits(tmp_path)
    for target, source in pairs:
        of_pair = {
            *(found[f"youtube/c23/{name}"] for name in (target, source)),
            found[f"Deepfakes/c40/{target}_{source}"],
        }
        assert len(of_pair) == 1
    assert {*found.values()} == {"train", "validation", "test"}


def test_masks_of_faceforensics(tmp_path: Path) -> None:
    """They may have another suffix than the fake; a fake without is noted where others have any."""
    fakes = tmp_path / "manipulated_sequences"
    for method in ("Deepfakes", "FaceShifter"):
        empty(fakes / method / "c23/videos", *(f"{pair}.avi" for pair in PAIRS))
    masks = empty(fakes / "Deepfakes/masks/videos", "000_003.mp4", "003_000.avi", "._010_012.mp4")
    empty(masks, "010_012.txt", "Thumbs.db")
    videos, _ = listed(tmp_path)
    assert {name: video.mask_video for name, video in videos.items() if video.mask_video} == {
        "Deepfakes/c23/000_003": masks / "000_003.mp4",
        "Deepfakes/c23/003_000": masks / "003_000.avi",
    }
    assert {name for name, video in videos.items() if video.notes} == {
        *("Deepfakes/c23/010_012", "Deepfakes/c23/012_010")
    }
    assert videos["Deepfakes/c23/010_012"].notes == ("its method has masks, but none of it",)


def test_source_groups(tmp_path: Path) -> None:
    """Videos of a scene in all compressions have one, and videos of a person; no others."""
    found = sources(faceforensics(tmp_path / "ff"))
    pairs = {name: "00" in name.rpartition("/")[2] for name in found if "/0" in name}
    actors = {name for name in found if "01__walk" in name or "01_02__walk" in name}
    of_pairs = {name: found[name] for name in found.keys() - actors}
    assert len(of_pairs) == 8 + 16
    assert len({*of_pairs.values()}) == 2
    assert len({(pairs[name], of) for name, of in of_pairs.items()}) == 2
    assert {found[name] for name in actors} == {"actors-c23-01--walk.mp4"}
    celeb = empty(tmp_path / "celeb", "Celeb-real/id0_0000.mp4", "Celeb-real/id0_0001.mp4")
    empty(celeb, "Celeb-synthesis/id0_id1_0001.mp4", "YouTube-real/00001.mp4")
    assert sources(celeb) == {
        **dict.fromkeys(("Celeb-real/id0_0000", "Celeb-real/id0_0001"), "Celeb-DF: person id0"),
        "Celeb-synthesis/id0_id1_0001": "Celeb-DF: person id0",
        "YouTube-real/00001": "YouTube-real-00001.mp4",
    }


def test_faceforensics_of_frames(tmp_path: Path) -> None:
    """They stand in for videos that are missing."""
    top = tmp_path
    empty(top, *(f"original_sequences/youtube/c23/frames/000/{n}.png" for n in (9, 10, 8)))
    empty(top, "original_sequences/youtube/c23/videos/003.mp4")
    empty(top, "original_sequences/youtube/c23/frames/003/0.png")
    deepfakes = "manipulated_sequences/Deepfakes"
    empty(top, *(f"{deepfakes}/c23/frames/{pair}/7.png" for pair in ("000_003", "003_000")))
    (top / deepfakes / "c23/frames/010_012").mkdir()
    empty(top, f"{deepfakes}/masks/frames/000_003/7.png", f"{deepfakes}/masks/videos/003_000.mp4")
    empty(top, f"{deepfakes}/masks/videos/000_003.mp4")
    videos, faults = listed(top)
    assert {Path(fault.file).name: fault.kind for fault in faults} == {
        **{"splits": "note", "010_012": "failed"}
    }
    assert reasons(faults)["010_012"] == "holds no picture"
    assert {name: video.frames for name, video in videos.items()} == {
        "youtube/c23/000": ("8.png", "9.png", "10.png"),
        "youtube/c23/003": (),
        "Deepfakes/c23/000_003": ("7.png",),
        "Deepfakes/c23/003_000": ("7.png",),
    }
    fake, other = (videos[f"Deepfakes/c23/{pair}"] for pair in ("000_003", "003_000"))
    assert fake.originals == ("youtube/c23/000", "youtube/c23/003")
    assert fake.mask_video == top / deepfakes / "masks/frames/000_003"
    assert other.mask_video == top / deepfakes / "masks/videos/003_000.mp4"
    empty(top, f"{deepfakes}/c23/masks/003_000/7.png")  # as in DeepfakeBench
    videos, _ = listed(top)
    assert videos["Deepfakes/c23/003_000"].mask_video == top / deepfakes / "c23/masks/003_000"


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


def test_official_test_of_celeb_df(tmp_path: Path) -> None:
    """It holds the list, and what that is compared with; nothing of its scenes is for training."""
    for person in range(3):
        empty(tmp_path, *(f"Celeb-real/id{person}_000{n}.mp4" for n in range(3)))
    empty(tmp_path, *(f"Celeb-synthesis/id0_id{n}_0000.mp4" for n in (1, 2)))
    empty(tmp_path, *(f"Celeb-synthesis/id1_id{n}_0001.mp4" for n in (0, 2)))
    empty(tmp_path, *(f"Celeb-synthesis/id2_id{n}_0009.mp4" for n in (0, 1)))
    (tmp_path / "List_of_testing_videos.txt").write_text(
        "1 Celeb-real/id0_0000.mp4\n0 Celeb-synthesis/id1_id0_0001.mp4\n"
        "0 Celeb-synthesis/id2_id0_0009.mp4\n"  # its original is missing
    )
    assert {name for name, part in splits(tmp_path).items() if part == "test"} == {
        *("Celeb-real/id0_0000", "Celeb-real/id1_0001"),
        *("Celeb-synthesis/id1_id0_0001", "Celeb-synthesis/id2_id0_0009"),
    }
    _, faults = listed(tmp_path)
    assert {Path(fault.file).stem for fault in faults} == {
        *("id0_id1_0000", "id0_id2_0000", "id1_id2_0001", "id2_id1_0009")
    }
    assert {fault.kind for fault in faults} == {"note"}
    assert all("names its scene, and not this fake" in fault.reason for fault in faults)


def test_fakes_of_several_official_splits(tmp_path: Path) -> None:
    """Listed videos keep their parts; others take the strictest of those that they are made of."""
    top, official = tmp_path / "ff", tmp_path / "official"
    official.mkdir()
    empty(top / "original_sequences/youtube/c23/videos", *(f"{name}.mp4" for name in NAMES))
    fakes = top / "manipulated_sequences/Deepfakes/c23/videos"
    empty(fakes, *(f"{name}.mp4" for name in ("000_003", "010_003", "010_012")))
    of_parts = {"train": [["000", "012"]], "val": [["003", "003"]], "test": []}
    for name, listing in of_parts.items():
        (official / f"{name}.json").write_text(json.dumps(listing))
    found = splits(top, splits=official)
    assert found == {
        **{f"youtube/c23/{name}": "train" for name in ("000", "012")},
        **{f"youtube/c23/{name}": "validation" for name in ("003", "010")},
        "Deepfakes/c23/000_003": "train",  # by its target, as the official lists mean it
        **{f"Deepfakes/c23/{name}": "validation" for name in ("010_003", "010_012")},
    }


def test_people_stay_together(tmp_path: Path) -> None:
    for person in range(30):
        empty(tmp_path, *(f"Celeb-real/id{person}_{n}.mp4" for n in range(3)))
        empty(tmp_path, *(f"Celeb-synthesis/id{person}_id{n}_{n}.mp4" for n in range(3)))
    (note,) = listed(tmp_path)[1]
    assert (Path(note.file).name, note.kind) == ("List_of_testing_videos.txt", "note")
    assert "no official split" in note.reason
    found = splits(tmp_path)
    people = {name: name.partition("/")[2].partition("_")[0] for name in found}
    parts = {person: {found[n] for n in found if people[n] == person} for person in people.values()}
    assert all(len(of_person) == 1 for of_person in parts.values())
    assert [list(found.values()).count(s) for s in ("train", "validation", "test")] == [144, 18, 18]


def bench(top: Path, name: str, **classes: dict[str, Any]) -> Path:
    """A JSON of DeepfakeBench, written elsewhere: with backslashes and another root."""
    listing = {name: {key.replace("__", "-"): splits for key, splits in classes.items()}}
    path = top / "json" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(listing))
    return path


def crops(
    label: str, folder: str, numbers: Iterable[int] = range(3), *, masks: str | None = None
) -> dict[str, Any]:
    """A video of such a JSON."""
    frames, of_masks = (
        [f"D:\\bench\\rgb\\{at}/{n:03d}.png" for n in numbers] for at in (folder, masks)
    )
    return {"label": label, "frames": frames} | ({"masks": of_masks} if masks else {})


def on_disk(top: Path, *folders: str, numbers: Iterable[int] = range(3)) -> Path:
    return empty(top, *(f"rgb/{folder}/{n:03d}.png" for folder in folders for n in numbers))


FF = "FaceForensics++"
YOUTUBE = f"{FF}/original_sequences/youtube"
DEEPFAKES = f"{FF}/manipulated_sequences/Deepfakes"


def bench_faceforensics(top: Path) -> Path:
    """Two compressions; the test pair has masks in one; frames of one are missing, and a few."""
    real: dict[str, Any] = {"train": {}, "test": {}}
    fake: dict[str, Any] = {"train": {}, "test": {}}
    for c in ("c23", "c40"):
        for split, pairs in ("train", ("000", "003")), ("test", ("010", "012")):
            for name, other in (pairs, pairs[::-1]):
                folder = f"{YOUTUBE}/{c}/frames/{name}"
                real[split].setdefault(c, {})[name] = crops("FF-real", folder)
                on_disk(top, folder)
                of, masks = (f"{DEEPFAKES}/{c}/{kind}/{name}_{other}" for kind in PARTS)
                is_masked = split == "test" and c == "c23"
                video = crops("FF-DF", of, range(4), masks=masks if is_masked else None)
                fake[split].setdefault(c, {})[f"{name}_{other}"] = video
                if (c, name) != ("c40", "003"):
                    on_disk(top, of, *([masks] if is_masked else []))
    return bench(top, FF, FF__real=real, FF__DF=fake)


PARTS = ("frames", "masks")


@pytest.mark.parametrize("inside", ["", "json", f"json/{FF}.json"])
def test_deepfakebench(tmp_path: Path, inside: str) -> None:
    bench_faceforensics(tmp_path)
    videos, faults = listed(tmp_path / inside)
    assert [fault.reason for fault in faults] == [
        f"its frames are missing: D:/bench/rgb/{DEEPFAKES}/c40/frames/003_000"
    ]
    assert faults[0].file.endswith(f"{FF}.json: FF-DF/c40/003_000")
    assert len(videos) == 15
    fake = videos["FF-DF/c23/010_012"]
    assert (fake.data_set, fake.method, fake.compression) == (FF, "DF", "c23")
    assert (fake.is_real, fake.split, fake.is_crop) == (False, "test", True)
    assert fake.originals == ("FF-real/c23/010", "FF-real/c23/012")
    assert fake.path == tmp_path / "rgb" / DEEPFAKES / "c23/frames/010_012"
    assert fake.mask_video == tmp_path / "rgb" / DEEPFAKES / "c23/masks/010_012"
    assert fake.frames == ("000.png", "001.png", "002.png")
    assert fake.notes == ("1 frame of 4 missing, such as 003.png",)
    assert videos["FF-DF/c40/010_012"].mask_video is None
    real = videos["FF-real/c40/000"]
    assert (real.is_real, real.method, real.split, real.notes) == (True, None, "train", ())
    assert real.path == tmp_path / "rgb" / YOUTUBE / "c40/frames/000"
    chosen, _ = listed(tmp_path / inside, compressions=("c40",))
    assert {video.compression for video in chosen.values()} == {"c40"}
    with pytest.raises(InputError, match="no method Deepfakes; there are: DF"):
        listed(tmp_path / inside, methods=("Deepfakes",))


def test_deepfakebench_of_several_files(tmp_path: Path) -> None:
    """The videos of FaceForensics++ are in several files, and validation and test may be one."""
    bench_faceforensics(tmp_path)
    source = json.loads((tmp_path / "json" / f"{FF}.json").read_text())
    (tmp_path / "json" / "FF-DF.json").write_text(json.dumps({"FF-DF": source[FF]}))
    both = {"id0_0001": crops("CelebDFv2_real", "Celeb-DF-v2/Celeb-real/frames/id0_0001")}
    fakes = {"id0_id1_0001": crops("CelebDFv2_fake", "Celeb-DF-v2/Celeb-fake/id0_id1_0001")}
    on_disk(
        tmp_path, "Celeb-DF-v2/Celeb-real/frames/id0_0001", "Celeb-DF-v2/Celeb-fake/id0_id1_0001"
    )
    splits_of = {"CelebDFv2_real": {"train": {}, "val": both, "test": both}}
    splits_of["CelebDFv2_fake"] = {"train": fakes}
    bench(tmp_path, "Celeb-DF-v2", **splits_of)
    chosen, _ = listed(tmp_path, compressions=("c23",), methods=("DF",))
    assert {video.compression for video in chosen.values()} == {"c23", None}
    assert {video.data_set for video in chosen.values()} == {FF, "Celeb-DF-v2"}
    for sources in ([tmp_path], sorted((tmp_path / "json").iterdir())):
        videos, faults = listed(*sources)
        assert len(videos) == 17
        assert {fault.reason.partition(":")[0] for fault in faults} == {"its frames are missing"}
        real, fake = videos["CelebDFv2_real/id0_0001"], videos["CelebDFv2_fake/id0_id1_0001"]
        assert (real.data_set, real.split) == ("Celeb-DF-v2", "test")
        assert real.notes == ("it is listed for test and validation, and was taken for test",)
        assert (fake.method, fake.compression) == (None, None)
        assert fake.originals == ("CelebDFv2_real/id0_0001",)


def test_source_groups_of_deepfakebench(tmp_path: Path) -> None:
    bench_faceforensics(tmp_path)
    found = sources(tmp_path)
    pairs = {name: "01" in name.rpartition("/")[2] for name in found}
    assert len({*found.values()}) == len({(pairs[name], of) for name, of in found.items()}) == 2


@pytest.mark.parametrize("name", [FF, "DeepFakeDetection"])
def test_deepfakebench_of_actors(tmp_path: Path, name: str) -> None:
    """They are a data set of their own in whatever file they are."""
    on_disk(tmp_path, "a/01__walk", "m/01_02__walk__ABC")
    real = {"01__walk": crops("DFD_real", "a/01__walk")}
    fake = {"01_02__walk__ABC": crops("DFD_fake", "m/01_02__walk__ABC")}
    classes = {"DFD_real": {"test": {"c23": real}}, "DFD_fake": {"test": {"c23": fake}}}
    videos, faults = listed(bench(tmp_path, name, **classes))
    assert not faults
    assert {video.data_set for video in videos.values()} == {"DeepFakeDetection"}
    assert videos["DFD_fake/c23/01_02__walk__ABC"].originals == ("DFD_real/c23/01__walk",)


def test_deepfakebench_names_do_not_clash(tmp_path: Path) -> None:
    """Videos of one name in two splits are two videos; a folder belongs to one."""
    on_disk(tmp_path, "train/real/1", "test/real/1", "train/fake/1_fake")
    real = {split: {"1": crops("UADFV_Real", f"{split}/real/1")} for split in ("train", "test")}
    fake: dict[str, Any] = {
        "train": {"1_fake": crops("UADFV_Fake", "train/fake/1_fake")},
        "test": {"2_fake": crops("UADFV_Fake", "test/fake/1_fake")},
    }
    bench(tmp_path, "UADFV", UADFV_Real=real, UADFV_Fake=fake)
    videos, faults = listed(tmp_path)
    assert {name: (video.is_real, video.split) for name, video in videos.items()} == {
        "UADFV_Real/train/1": (True, "train"),
        "UADFV_Real/test/1": (True, "test"),
        "UADFV_Fake/1_fake": (False, "train"),
    }
    assert videos["UADFV_Fake/1_fake"].originals == ("UADFV_Real/train/1",)
    (fault,) = faults
    assert "UADFV_Fake/2_fake" in fault.file
    assert len({video.path for video in videos.values()}) == 3


@pytest.mark.parametrize(
    ("name", "is_real", "method"),
    [
        ("DFDC_Real", True, None),
        ("FF-REAL", True, None),
        ("DFDC_Fake", False, None),
        ("DFDCP_FakeB", False, "FakeB"),
        ("FF-F2F", False, "F2F"),
        ("real", True, None),
        ("CelebReal", True, None),
        ("FakeAVCeleb_real", True, None),
        ("FakeReal", False, "FakeReal"),
    ],
)
def test_deepfakebench_classes(
    tmp_path: Path, name: str, is_real: bool, method: str | None
) -> None:
    on_disk(tmp_path, "a/1")
    prefix = name.partition("_")[0]
    path = bench(tmp_path, "x", **{f"{prefix}_real": {}, name: {"test": {"v": crops(name, "a/1")}}})
    # A class without videos says what the others' names begin with.
    (video,) = listed(path, layout="deepfakebench")[0].values()
    assert (video.is_real, video.method) == (is_real, method)


def test_deepfakebench_that_cannot_be_read(tmp_path: Path) -> None:
    on_disk(tmp_path, "a/1")
    entry = crops("odd", "a/1")
    with pytest.raises(InputError, match="class DFDC_odd means neither REAL nor FAKE"):
        listed(bench(tmp_path, "DFDC", DFDC_odd={"test": {"v": entry}}))
    with pytest.raises(InputError, match="class Unreal means neither REAL nor FAKE"):
        listed(bench(tmp_path, "DFDC", Unreal={"test": {"v": entry}}))
    with pytest.raises(InputError, match=r"has the split extra; expected train, val or test"):
        listed(bench(tmp_path, "DFDC", DFDC_fake={"test": {}, "extra": {}}))
    entries = {
        **{"good": crops("DFDC_fake", "a/1"), "text": "a/1", "none": crops("DFDC_fake", "a", [])},
        **{"other": crops("DFDC_real", "a/1"), "same": crops("DFDC_fake", "a/1")},
        "two": {"frames": ["a/1/000.png", "a/2/000.png"]},
        "lost": {"frames": ["../../../etc/1/7.png"]},
        "000": {},
        "c40": {},  # a compression without videos
    }
    videos, faults = listed(bench(tmp_path, "DFDC", DFDC_fake={"test": entries}))
    assert [*videos] == ["DFDC_fake/good"]
    found = {fault.file.rpartition("/")[2]: fault.reason for fault in faults}
    assert found == {
        "text": "its entry is not an object with a list of frames",
        "000": "its entry is not an object with a list of frames",
        "none": "it has no frames",
        "other": "its label is 'DFDC_real', its class DFDC_fake",
        "same": "its frames are found where those of DFDC_fake/good are",
        "two": "its frames do not lie in one folder",
        "lost": "its frames are missing: etc/1",
    }
    far = tmp_path / "far" / "away" / "from"
    with pytest.raises(InputError, match=r"no frames were found\..*missing: D:/bench/rgb/a/1"):
        listed(bench(far, "DFDC", DFDC_fake={"test": {"v": entry | {"label": 1}}}))


def test_folders_of_frames(tmp_path: Path) -> None:
    frames = ("2.png", "10.png", "1.png")
    empty(tmp_path, *(f"real/a/{n}" for n in frames), *(f"fake/a_fake/{n}" for n in frames))
    empty(tmp_path, "real/one.png", "real/two.png", "real/people/Ann.png", "real/people/Bob.png")
    empty(tmp_path, "fake/mixed/1.png", "fake/mixed/2.mp4")
    videos, faults = listed(tmp_path)
    (fault,) = faults
    assert (fault.file, fault.kind) == (str(tmp_path / "real/people"), "note")
    assert fault.reason.startswith("its 2 pictures are not the numbered frames of one video: each")
    assert {name: video.frames for name, video in videos.items() if video.frames} == {
        **{"real/a": ("1.png", "2.png", "10.png"), "fake/a_fake": ("1.png", "2.png", "10.png")}
    }
    assert videos["fake/a_fake"].originals == ("real/a",)
    note = "3 numbered pictures are taken as the frames of one video"
    assert {name for name, video in videos.items() if video.notes == (note,)} == {
        *("real/a", "fake/a_fake")
    }
    assert {name for name, video in videos.items() if not video.frames} == {
        *("real/one.png", "real/two.png", "real/people/Ann.png", "real/people/Bob.png"),
        *("fake/mixed/1.png", "fake/mixed/2.mp4"),
    }


def test_pictures_of_a_folder_stay_together(tmp_path: Path) -> None:
    """Two faces a frame, or numbered frames and a cover, may show one video."""
    for number in range(9):
        empty(tmp_path, *(f"real/r{number}/{n}_{who}.png" for n in range(3) for who in range(2)))
        empty(tmp_path, *(f"fake/f{number}/{n}.png" for n in range(3)), f"fake/f{number}/cover.jpg")
        empty(tmp_path, f"real/{number}.png", *(f"fake/films/{number}{n}.mp4" for n in range(3)))
    found = splits(tmp_path)
    parts: dict[str, set[str]] = {}
    for name, part in found.items():
        parts.setdefault(str(Path(name).parent), set()).add(part)
    assert {folder for folder, of in parts.items() if len(of) > 1} == {"real", "fake/films"}
    assert {*found.values()} == {"train", "validation", "test"}
    _, faults = listed(tmp_path)
    assert len(faults) == 18
    assert {fault.kind for fault in faults} == {"note"}


def test_folders(tmp_path: Path) -> None:
    empty(tmp_path / "a", "real/x/1.mp4", "Fake/1_fake.mp4", "Fake/2.PNG", "Fake/notes.txt")
    (tmp_path / "a/Fake/link").symlink_to(tmp_path / "a/real/x")
    videos, faults = listed(tmp_path / "a")
    assert {name: video.is_real for name, video in videos.items()} == {
        **{"real/x/1.mp4": True, "Fake/1_fake.mp4": False, "Fake/2.PNG": False}
    }
    assert videos["Fake/1_fake.mp4"].originals == ("real/x/1.mp4",)
    (fault,) = faults
    assert (fault.file, fault.kind) == (str(tmp_path / "a/Fake"), "note")
    assert fault.reason.startswith("left out: ")
    assert "1 .txt (not a picture or video, by its suffix)" in fault.reason
    assert "1 without a suffix (a link to a folder, which is not followed)" in fault.reason
    empty(tmp_path / "b", "train/0_real/1.mp4", "test/1_fake/1.mp4")
    assert splits(tmp_path / "b") == {"train/0_real/1.mp4": "train", "test/1_fake/1.mp4": "test"}


def test_folders_of_splits_in_those_of_classes(tmp_path: Path) -> None:
    """Pictures right in them are lone ones; those in further folders may be frames."""
    for split in ("train", "Test"):
        empty(tmp_path, f"real/{split}/1.mp4", f"fake/{split}/1_fake.mp4", f"fake/{split}/v/7.mp4")
        empty(tmp_path, *(f"real/{split}/{n}.png" for n in range(2, 5)))
        empty(tmp_path, *(f"real/{split}/a/{n}.png" for n in range(3)))
    videos, faults = listed(tmp_path)
    assert not faults
    assert len(videos) == 14
    assert {name: video.split for name, video in videos.items()} == {
        name: name.split("/")[1].lower() for name in videos
    }
    assert {name for name, video in videos.items() if video.frames} == {
        *("real/train/a", "real/Test/a")
    }
    assert videos["fake/Test/1_fake.mp4"].originals == ("real/Test/1.mp4",)


def test_folders_of_splits_in_upper_or_lower_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty(tmp_path, "Train/Real/1.mp4", "valid/fake/1.mp4", "TESTING/FAKE/2.mp4")
    assert splits(tmp_path) == {
        **{"Train/Real/1.mp4": "train", "valid/fake/1.mp4": "validation"},
        "TESTING/FAKE/2.mp4": "test",
    }
    assert not listed(tmp_path)[1]
    empty(tmp_path, "holdout/real/1.mp4", "papers/1.pdf")
    (fault,) = listed(tmp_path)[1]
    assert (fault.file, fault.kind) == (str(tmp_path / "holdout"), "note")
    assert fault.reason.startswith("it is left out, with real/ in it; folders of splits are named ")
    listing = Path.iterdir

    def refuse(path: Path) -> Iterator[Path]:
        if path.name == "papers":
            raise PermissionError(13, "Permission denied", str(path))
        return listing(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert listed(tmp_path)[1] == [fault]


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


def test_originals_of_a_table(tmp_path: Path) -> None:
    """By path, or by a name that only one real file has, with or without suffix; never a guess."""
    rows = [
        *[(name, "REAL", "") for name in ("real/0.mp4", "real/1.mp4", "more\\1.mp4")],
        *[
            ("fake/0.mp4", "FAKE", "0"),
            ("fake/a.mp4", "FAKE", "1"),
            ("fake/d.mp4", "FAKE", "7.mp4"),
        ],
        *[("fake/b.mp4", "FAKE", "./real/1.mp4"), ("fake/c.mp4", "FAKE", "fake/b.mp4")],
    ]
    empty(tmp_path, *(name.replace("\\", "/") for name, *_ in rows))
    header = ("file", "label", "original")
    videos, faults = listed(table(tmp_path / "list.csv", [header, *rows]))
    assert {name: video.originals for name, video in videos.items() if not video.is_real} == {
        "fake/0.mp4": ("real/0.mp4",),
        "fake/b.mp4": ("real/1.mp4",),
        "fake/c.mp4": ("fake/b.mp4",),
        "fake/d.mp4": ("7.mp4",),
    }
    assert reasons(faults) == {
        "a.mp4": "its original 1 may be real/1.mp4 or more\\1.mp4; write which one into the column "
        "original"
    }
    note = "its original 7.mp4 is not in the column file of list.csv"
    assert {name: video.notes for name, video in videos.items() if video.notes} == {
        "fake/d.mp4": (note,)
    }


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


def test_contradicting_labels(tmp_path: Path) -> None:
    """None of them is taken, whatever the order; copies of one label are one video."""
    clips = tmp_path / "clips"
    empty(clips, *(f"{folder}/{name}.mp4" for folder in ("real", "fake") for name in "abc"))
    for path in clips.glob("*/*"):
        path.write_text("same" if path.name == "a.mp4" else str(path))
    (clips / "fake/c.mp4").write_text((clips / "fake/b.mp4").read_text())
    videos, faults = listed(clips)
    assert [*videos] == ["fake/b.mp4", "real/b.mp4", "real/c.mp4"]
    text = "it is labelled REAL and FAKE (real/a.mp4 and fake/a.mp4), and is left out; correct"
    assert [fault.file for fault in faults if fault.reason.startswith(text)] == [
        *(str(clips / f"{folder}/a.mp4") for folder in ("fake", "real"))
    ]
    assert reasons(faults)["c.mp4"] == f"its content is that of {clips / 'fake/b.mp4'}"
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.mp4").write_text(name)
    for labels in (("REAL", "FAKE", "REAL"), ("FAKE", "REAL", "REAL")):
        rows = [*zip(("a.mp4", "./a.mp4", "a.mp4"), labels, strict=True), ("b.mp4", "REAL")]
        rows += [("c.mp4", "REAL"), ("c.mp4", "FAKE")]
        videos, faults = listed(table(tmp_path / "list.csv", [("file", "label"), *rows]))
        assert [*videos] == ["b.mp4"]
        assert {*reasons(faults)} == {"a.mp4", "c.mp4"}
        assert all("labelled REAL and FAKE" in fault.reason for fault in faults)


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
