"""From raw videos to a data set that training and evaluation read."""

import csv
import errno
import hashlib
import json
import multiprocessing
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageChops, ImageOps

from flax_unet.media.faces import Box
from flax_unet.media.images import read_image
from flax_unet.media.videos import Sampling, VideoReader
from tests.clusters import on_new_cluster
from tests.conftest import listing
from tests.flax_unet.samples import encode, noise, number_of, numbered, sound_avi
from tests.train.fit.conftest import SHALLOW, write_checkpoint
from tests.train.prepare import trees
from train.data.audit import audit
from train.data.layouts.masks import decode
from train.eval import __main__ as evaluation
from train.fit import __main__ as fit
from train.prepare import __main__ as prepare
from train.prepare import frames, masks, pool, work
from train.prepare.layouts.find import list_videos
from train.prepare.layouts.pictures import Pictures
from train.prepare.layouts.record import ListOptions
from train.prepare.plan import plan
from train.prepare.work import Options

KILLED = """
import os, sys
from pathlib import Path
from train.prepare.__main__ import main

left = int(sys.argv.pop(1))

def counting(change):
    def counted(*arguments, **options):
        global left
        left -= 1
        if left < 0:
            os._exit(9)
        return change(*arguments, **options)
    return counted

for name in ("rename", "replace", "write_bytes", "mkdir"):
    setattr(Path, name, counting(getattr(Path, name)))
main()
"""


def run(source: Path, out: Path, *more: object) -> int:
    """The exit status of a run in this process."""
    arguments = [*map(str, (source, "--out", out, "--workers", 1, *more))]
    try:
        prepare.main(arguments)
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def faults(out: Path) -> dict[str, list[tuple[str, str]]]:
    """By file: kind and reason."""
    found: dict[str, list[tuple[str, str]]] = {}
    with (out / "faults.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found.setdefault(Path(row["file"]).name, []).append((row["kind"], row["reason"]))
    return found


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def boxes(out: Path, key: str) -> dict[int, list[int]]:
    """The box of the first person by frame."""
    frames = read(out / "videos" / f"{key}.json")["frames"]
    return {frame["number"]: frame["faces"]["1"] for frame in frames if frame["faces"]}


def iou(out: Path, key: str, changed: np.ndarray) -> float:
    """Mean over the masks of a video; `changed` are the pixels of the first frame."""
    found = []
    for frame, (left, top, right, bottom) in boxes(out, key).items():
        (path,) = out.glob(f"*/masks/{key}/{frame}_1.gif")
        mask = decode(path.read_bytes()) != 0
        truth = trees.moved(changed, frame)[top:bottom, left:right]
        assert mask.shape == truth.shape
        found.append((mask & truth).sum() / (mask | truth).sum())
    return float(np.mean(found))


@pytest.fixture(scope="module")
def dfdc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`raw` and, made of it without interruption, `made`."""
    top = tmp_path_factory.mktemp("dfdc")
    trees.dfdc(top / "raw")
    assert run(top / "raw", top / "made") == 0
    return top


@pytest.fixture(scope="module")
def faceforensics(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("ff")
    trees.faceforensics(top / "raw")
    assert run(top / "raw", top / "made", "--frames", 4) == 0
    return top


def assert_clean(out: Path) -> None:
    found = audit(str(out))
    names = ("shared_sources", "duplicates", "faults", "notes")
    assert not any(found[name] for name in names), found
    assert not any(row["fakes_without_mask"] for row in found["splits"].values())


def test_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = trees.dfdc(tmp_path / "raw")
    (raw / "dfdc_train_part_1" / "cccccccccc.mp4").write_bytes(b"damaged")
    assert run(raw, tmp_path / "made", "--frames", 2) == 1
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split() == ["videos", "REAL", "FAKE", "without", "masks", "crops"]
    assert printed[1].split() == ["training", "3", "1", "2", "1", "6"]
    assert printed[2] == "1 file failed, 1 note: see faults.csv"


def test_metadata(dfdc: Path) -> None:
    entries = read(dfdc / "made" / "metadata.json")
    assert {key: (entry["label"], entry["original"]) for key, entry in entries.items()} == {
        "aaaaaaaaaa.mp4": ("REAL", None),
        "bbbbbbbbbb.mp4": ("FAKE", "aaaaaaaaaa.mp4"),
        "cccccccccc.mp4": ("REAL", None),
        "dddddddddd.mp4": ("FAKE", "cccccccccc.mp4"),
    }
    entry = entries["bbbbbbbbbb.mp4"]
    raw = dfdc / "raw" / "dfdc_train_part_0" / "bbbbbbbbbb.mp4"
    assert entry["sha256"] == hashlib.sha256(raw.read_bytes()).hexdigest()
    assert (entry["data_set"], entry["method"], entry["split"]) == ("DFDC", None, "train")
    assert (entry["size"], entry["frames_a_second"]) == ([*trees.SIZE], 10.0)
    assert entry["source_group"] == "aaaaaaaaaa.mp4"
    assert read(dfdc / "made" / "prepare.json")["options"]["frames"] == 32
    assert faults(dfdc / "made") == {}
    assert_clean(dfdc / "made")


def test_fakes_are_cut_as_their_originals(dfdc: Path) -> None:
    for real, fake, part in (("aaaaaaaaaa", "bbbbbbbbbb", 0), ("cccccccccc", "dddddddddd", 1)):
        cut = boxes(dfdc / "made", fake)
        assert cut == boxes(dfdc / "made", real)
        assert [*cut] == [*range(trees.FRAMES)]
        left, top, right, bottom = trees.FACE
        for frame, box in cut.items():  # around the face, which moves
            across, down = trees.STEP[0] * frame, trees.STEP[1] * frame
            middle = (left + right) / 2 + across, (top + bottom) / 2 + down
            assert abs((box[0] + box[2]) / 2 - middle[0]) < 20
            assert abs((box[1] + box[3]) / 2 - middle[1]) < 20
        raw = dfdc / "raw" / f"dfdc_train_part_{part}" / f"{fake}.mp4"
        for number, _, image in filter(None, VideoReader(raw, Sampling()).frames()):
            with Image.open(dfdc / "made/training/crops" / fake / f"{number}_1.png") as crop:
                assert crop.tobytes() == image.crop(Box(*cut[number])).tobytes()


def test_masks_by_similarity(dfdc: Path) -> None:
    made = dfdc / "made"
    assert iou(made, "bbbbbbbbbb", trees.forged(2, 0)[1]) >= 0.7
    assert iou(made, "dddddddddd", trees.forged(3, 1)[1]) >= 0.7
    for path in (made / "training/masks/aaaaaaaaaa").iterdir():
        assert not decode(path.read_bytes()).any()


def test_masks_of_compressed_forgeries(tmp_path: Path) -> None:
    found = []
    for seed in range(8):
        forged, changed = trees.forged(seed, seed % 3)
        pictures = []
        for name, picture in ("real", trees.still(seed % 3)), ("fake", forged):
            path = trees.write(tmp_path / f"{name}.mp4", picture, 1, crf="23")
            pictures += [frame.image for frame in VideoReader(path, Sampling()).frames() if frame]
        real, fake = (np.asarray(picture.crop(trees.FACE)) for picture in pictures)
        truth = np.asarray(Image.fromarray(changed).crop(trees.FACE))
        mask = masks.differing(fake, real, masks.THRESHOLD)
        found.append((mask & truth).sum() / (mask | truth).sum())
    assert np.mean(found) >= 0.8  # 0.7 is wanted


def test_specks_and_noise_make_no_mask() -> None:
    original = np.asarray(trees.still())
    noise = np.random.default_rng(0).integers(0, 3, original.shape, np.uint8)
    assert not masks.differing(np.maximum(original, original + noise), original, 0.05).any()
    speck = original.copy()
    speck[50:52, 50:52] = 255 - speck[50:52, 50:52]
    assert masks.differing(speck, original, 0.05).sum() < 30**2
    assert not masks.differing(speck, original, 0.9).any()


def test_faceforensics(faceforensics: Path) -> None:
    made = faceforensics / "made"
    entries = read(made / "metadata.json")
    assert entries["Deepfakes-c23-010-012.mp4"] == entries["Deepfakes-c23-010-012.mp4"] | {
        "label": "FAKE",
        "original": ["youtube-c23-010.mp4", "youtube-c23-012.mp4"],
        "split": "test",
        "method": "Deepfakes",
        "compression": "c23",
        "masks": "video",
    }
    assert entries["FaceShifter-c23-010-012.mp4"]["masks"] == "similarity"
    for target, source, of in ("000", "003", 0), ("010", "012", 2):
        for method, seed, least in ("Deepfakes", 5, 0.93), ("FaceShifter", 9, 0.7):
            key = f"{method}-c23-{target}-{source}"
            assert boxes(made, key) == boxes(made, f"youtube-c23-{target}")
            assert [*boxes(made, key)] == [1, 3, 5, 7]
            assert iou(made, key, trees.forged(seed + of, of)[1]) >= least
    assert {path.name for path in made.iterdir()} == {
        *("training", "testing", "videos", "metadata.json", "prepare.json", "faults.csv"),
        "examples.png",
    }
    assert_clean(made)


def test_sheet_of_examples(faceforensics: Path) -> None:
    """Each row shows two fakes: the original, the fake, and the fake with its mask in red."""
    with Image.open(faceforensics / "made" / "examples.png") as image:
        sheet = np.asarray(image.convert("RGB"), np.int16)
    tile, across, down = 144, 148, 164
    assert sheet.shape[0] == 3 * down  # six fakes
    for row in range(3):
        line = sheet[row * down : row * down + tile]
        original, fake, marked = (line[:, n * across : n * across + tile] for n in range(3))
        assert abs(original - fake).max(axis=-1)[40:110, 40:110].mean() > 10
        assert abs(original - fake)[:20].mean() < 5
        is_red = (fake - marked)[..., 1] > 20
        assert 0.05 < is_red.mean() < 0.4
        assert is_red[tile // 2, tile // 2]


def test_mask_videos_of_other_frames(faceforensics: Path, tmp_path: Path) -> None:
    """A fake may be shorter than its original; a mask video may end early, or be damaged."""
    raw = shutil.copytree(faceforensics / "raw", tmp_path / "raw")
    deepfakes = raw / "manipulated_sequences" / "Deepfakes"
    fake, changed = trees.forged(5, 0)
    mask = Image.fromarray(np.uint8(255) * changed).convert("RGB")
    trees.write(deepfakes / "c23/videos/000_003.mp4", fake, 6)
    trees.write(deepfakes / "masks/videos/000_003.mp4", mask, 4, rate=25)
    (deepfakes / "masks/videos/010_012.mp4").write_bytes(b"damaged")
    trees.write(deepfakes / "masks/videos/003_000.mp4", mask, 1)  # that frame is not taken
    out = tmp_path / "made"
    assert run(raw, out, "--frames", 4, "--methods", "Deepfakes") == 0
    assert [*boxes(out, "Deepfakes-c23-000-003")] == [1, 3, 5]
    found = [*(out / "training/masks/Deepfakes-c23-000-003").iterdir()]
    assert {path.name for path in found} == {"1_1.gif", "3_1.gif"}
    notes = [reason for _, reason in faults(out)["000_003.mp4"]]
    assert any("its mask video lacks 1 of its frames" in note for note in notes)
    assert "its masks: " in faults(out)["010_012.mp4"][0][1]
    assert "its mask video lacks 4 of its frames" in faults(out)["003_000.mp4"][0][1]
    entries = read(out / "metadata.json")
    assert entries["Deepfakes-c23-003-000.mp4"]["masks"] == "similarity"
    assert entries["Deepfakes-c23-010-012.mp4"]["masks"] == "similarity"
    left, top, right, bottom = boxes(out, "Deepfakes-c23-000-003")[3]
    truth = trees.moved(changed, 3)[top:bottom, left:right]
    mask_of_3 = decode((out / "training/masks/Deepfakes-c23-000-003/3_1.gif").read_bytes()) != 0
    assert (mask_of_3 & truth).sum() / (mask_of_3 | truth).sum() > 0.93


def test_extracted_frames_are_as_good_as_videos(faceforensics: Path, tmp_path: Path) -> None:
    """Frames from pictures give the crops, boxes and masks of the videos, to the byte."""
    raw = trees.as_frames(shutil.copytree(faceforensics / "raw", tmp_path / "raw"))
    assert run(raw, tmp_path / "made", "--frames", 4) == 0
    found, expected = listing(tmp_path / "made"), listing(faceforensics / "made")
    assert {name for name in found if found[name] != expected.pop(name)} == {
        *(f"videos/{path.name}" for path in (faceforensics / "made/videos").iterdir()),
        "metadata.json",
    }
    assert not expected
    key = "Deepfakes-c23-010-012"
    entries = [read(of / "made/metadata.json")[f"{key}.mp4"] for of in (tmp_path, faceforensics)]
    assert {name for name in entries[0] if entries[0][name] != entries[1][name]} == {
        *("sha256", "frames_a_second")
    }
    assert boxes(tmp_path / "made", key) == boxes(faceforensics / "made", key)


def test_extracted_frames_numbered_from_1(faceforensics: Path, tmp_path: Path) -> None:
    """Beside mask videos and originals that are videos, masks and pairs fit all the same."""
    raw = shutil.copytree(faceforensics / "raw", tmp_path / "raw")
    fakes = raw / "manipulated_sequences"
    for method in ("Deepfakes", "FaceShifter"):
        trees.as_frames(fakes / method / "c23")
        for folder in (fakes / method / "c23/frames").iterdir():
            for path in sorted(folder.iterdir(), reverse=True):
                path.rename(folder / f"{int(path.stem) + 1:04d}.png")
    assert run(raw, tmp_path / "made", "--frames", 4) == 0
    found, expected = (
        {name: data for name, data in listing(made).items() if name.endswith((".png", ".gif"))}
        for made in (tmp_path / "made", faceforensics / "made")
    )
    assert found == expected
    notes = [reason for _, reason in faults(tmp_path / "made")["010_012"]]
    text = "the numbers of the pictures in c23/frames/010_012 begin at 1; 1 was subtracted"
    assert notes == [text] * 2  # of both methods


def test_extracted_frames_with_gaps(faceforensics: Path, tmp_path: Path) -> None:
    """Frames that a fake lacks, that cannot be read, or that are of another size."""
    raw = trees.as_frames(shutil.copytree(faceforensics / "raw", tmp_path / "raw"))
    shutil.rmtree(raw / "manipulated_sequences/FaceShifter")
    fakes = raw / "manipulated_sequences/Deepfakes/c23/frames"
    (fakes / "000_003/0003.png").unlink()
    (fakes / "000_003/0005.png").write_bytes(b"damaged")
    (fakes / "003_000/0001.png").write_bytes(b"")
    for path in (fakes / "010_012").iterdir():
        path.write_bytes(b"damaged")
    real = raw / "original_sequences/youtube/c23/frames/010/0007.png"
    trees.still().resize((64, 64)).save(real)
    assert run(raw, tmp_path / "made", "--frames", 4) == 1
    assert [*boxes(tmp_path / "made", "Deepfakes-c23-000-003")] == [1, 7]
    assert [*boxes(tmp_path / "made", "Deepfakes-c23-003-000")] == [3, 5, 7]
    assert [*boxes(tmp_path / "made", "youtube-c23-010")] == [1, 3, 5]
    found = faults(tmp_path / "made")
    assert found["010"] == [
        (
            "note",
            "1 frame cannot be used, such as 0007.png, which is not 320x376 as the others are",
        )
    ]
    ((kind, reason),) = found["010_012"]
    assert kind == "failed"
    assert reason.startswith("3 frames cannot be used, such as 0001.png")
    notes = [reason for kind, reason in found["000_003"] if kind == "note"]
    assert "it lacks 2 of its original's frames" in notes
    assert any(note.startswith("1 frame cannot be used, such as 0005.png") for note in notes)


@pytest.fixture(scope="module")
def deepfakebench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("bench")
    trees.deepfakebench(top / "raw")
    assert run(top / "raw", top / "made", "--frames", 4) == 0
    return top


def test_deepfakebench(deepfakebench: Path) -> None:
    """Its frames are the crops; masks are those that it lists, or those by similarity."""
    made = deepfakebench / "made"
    entries = read(made / "metadata.json")
    assert len(entries) == 4 + 3 + 3
    for method, masks_by, least in ("DF", "video", 0.9), ("NT", "similarity", 0.7):
        key = f"FF-{method}-c23-810-812"
        assert entries[f"{key}.mp4"] == entries[f"{key}.mp4"] | {
            **{"label": "FAKE", "split": "test", "method": method, "compression": "c23"},
            **{"data_set": "FaceForensics++", "masks": masks_by, "size": [256, 256]},
            "original": ["FF-real-c23-810.mp4", "FF-real-c23-812.mp4"],
        }
        names = {path.name for path in (made / "testing/crops" / key).iterdir()}
        assert names == {"3_0.png", "9_0.png", "15_0.png", "21_0.png"}
        changed = Image.fromarray(trees.forged({"DF": 7, "NT": 11}[method], 2)[1]).crop(trees.FACE)
        truth = trees.moved(np.asarray(changed.convert("L").resize((256, 256))) >= 128, 9)
        mask = decode((made / "testing/masks" / key / "9_0.gif").read_bytes()) != 0
        assert (mask & truth).sum() / (mask | truth).sum() > least
        source = deepfakebench / f"raw/rgb/FaceForensics++/FF-{method}/c23/frames/810_812/009.png"
        frame, crop = (read_image(at) for at in (source, made / f"testing/crops/{key}/9_0.png"))
        assert crop.tobytes() == frame.tobytes()
    assert faults(made) == {}
    assert_clean(made)


def test_deepfakebench_of_other_frames(deepfakebench: Path, tmp_path: Path) -> None:
    """A fake keeps frames that its original lacks; a copy of a video is left out."""
    raw = shutil.copytree(deepfakebench / "raw", tmp_path / "raw")
    root = raw / "rgb/FaceForensics++"
    (root / "FF-real/c23/frames/000/009.png").unlink()
    shutil.rmtree(root / "FF-DF/c23/masks/000_003")
    shutil.rmtree(root / "FF-real/c23/frames/812")
    shutil.copytree(root / "FF-real/c23/frames/810", root / "FF-real/c23/frames/812")
    for path in (root / "FF-NT/c23/frames/003_000").iterdir():
        read_image(path).transpose(Image.Transpose.ROTATE_180).save(path)
    assert run(raw, tmp_path / "made", "--every", 1) == 1
    found = faults(tmp_path / "made")
    assert read(tmp_path / "made/videos/FF-NT-c23-003-000.json")["masks"] is None
    assert len([*tmp_path.glob("made/training/crops/FF-NT-c23-003-000/*")]) == 8
    assert any("does not look like its original" in reason for _, reason in found["003_000"])
    assert found["812"][0][1].startswith("its content is that of")
    assert found["000"] == [("note", "1 frame of 8 missing, such as 009.png")]
    without = "1 of its crops have no masks: its original lacks their frames"
    notes = [row for row in found["000_003"] if row[0] == "note"]
    assert notes == [("note", without), ("note", "its masks are missing"), ("note", without)]
    names = {path.name for path in tmp_path.glob("made/training/masks/FF-DF-c23-000-003/*")}
    assert names == {f"{n}_0.gif" for n in range(0, 24, 3)} - {"9_0.gif"}
    assert len([*tmp_path.glob("made/training/crops/FF-DF-c23-000-003/*")]) == 8


def test_deepfakebench_fakes_have_the_frames_of_their_originals(
    deepfakebench: Path, tmp_path: Path
) -> None:
    raw = shutil.copytree(deepfakebench / "raw", tmp_path / "raw")
    root = raw / "rgb/FaceForensics++"
    for number in (0, 3, 21):  # the others would be spaced in another way
        (root / f"FF-DF/c23/frames/810_812/{number:03d}.png").unlink()
    for path in (root / "FF-NT/c23/frames/810_812").iterdir():
        if int(path.stem) % 2:
            path.unlink()
    assert run(raw, tmp_path / "made", "--frames", 4) == 0
    names = {
        video: {path.name for path in tmp_path.glob(f"made/testing/crops/FF-{video}/*")}
        for video in ("real-c23-810", "DF-c23-810-812", "NT-c23-810-812")
    }
    assert names == {
        "real-c23-810": {f"{number}_0.png" for number in (3, 9, 15, 21)},
        "DF-c23-810-812": {f"{number}_0.png" for number in (9, 15)},
        "NT-c23-810-812": {f"{number}_0.png" for number in (0, 6, 12, 18)},
    }
    notes = faults(tmp_path / "made")["810_812"]
    assert ("note", "it lacks 2 of its original's frames") in notes
    assert ("note", "it has none of its original's frames; its own were taken") in notes


def test_training_and_evaluation_read_it(
    faceforensics: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = faceforensics / "made"
    write_checkpoint(tmp_path / "start", SHALLOW)
    options = ("--batch-size", "4", "--steps", "2", "--validation", "test")
    begin = ("--init-from", str(tmp_path / "start"), "--workdir", str(tmp_path / "run"))
    fit.main(["--data", str(made), *begin, *options])
    checkpoint = str(tmp_path / "run" / "last")
    out = tmp_path / "evaluation"
    evaluation.main(["--checkpoint", checkpoint, "--data", str(made), "--out", str(out)])
    assert "Correct " in capsys.readouterr().out
    with (out / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 * 4  # of the test split
    assert {row["video"]: row["label"] for row in rows} == {
        "youtube-c23-010.mp4": "REAL",
        "youtube-c23-012.mp4": "REAL",
        "Deepfakes-c23-010-012.mp4": "FAKE",
        "FaceShifter-c23-010-012.mp4": "FAKE",
    }
    groups = read(out / "report.json")["groups"]["rows"]
    assert [
        (row["data_set"], row["compression"], row["method"], row["videos"]["n_fake"])
        for row in groups
    ] == [
        *[("FaceForensics++", None, None, 2), ("FaceForensics++", "c23", None, 2)],
        *[("FaceForensics++", "c23", method, 1) for method in ("Deepfakes", "FaceShifter")],
    ]
    assert {row["frames"]["n_real"] for row in groups} == {8}


def test_celeb_df(tmp_path: Path) -> None:
    out = tmp_path / "made"
    assert run(trees.celeb_df(tmp_path / "raw"), out, "--every", 4, "--format", "jpeg") == 0
    entries = read(out / "metadata.json")
    assert entries["Celeb-synthesis-id0-id1-0000.mp4"]["original"] == "Celeb-real-id0-0000.mp4"
    assert {key for key, entry in entries.items() if entry["split"] == "test"} == {
        *("Celeb-real-id0-0000.mp4", "Celeb-synthesis-id0-id1-0000.mp4")
    }
    assert [*boxes(out, "Celeb-synthesis-id1-id2-0000")] == [0, 4]
    assert iou(out, "Celeb-synthesis-id0-id1-0000", trees.forged(3, 0)[1]) > 0.6
    with Image.open(out / "testing/crops/Celeb-real-id0-0000/4_1.jpeg") as crop:
        assert crop.format == "JPEG"
    assert_clean(out)


@pytest.mark.parametrize("moment", [3, 18, 42])
def test_killed_and_resumed(dfdc: Path, tmp_path: Path, moment: int) -> None:
    """Whenever a process ends, the same command finishes the same result."""
    arguments = [dfdc / "raw", "--out", tmp_path / "made", "--workers", 1]
    killed = [sys.executable, "-c", KILLED, moment, *arguments]
    ended = subprocess.run([*map(str, killed)], capture_output=True, check=False)
    assert ended.returncode == 9, ended.stderr
    assert not (tmp_path / "made" / "metadata.json").exists()
    assert run(dfdc / "raw", tmp_path / "made") == 0
    assert listing(tmp_path / "made") == listing(dfdc / "made")


def test_what_was_made_is_not_made_again(dfdc: Path, tmp_path: Path) -> None:
    out = shutil.copytree(dfdc / "made", tmp_path / "made")
    crop = out / "training/crops/bbbbbbbbbb/3_1.png"
    crop.write_bytes(b"kept")
    shutil.rmtree(out / "training/crops/aaaaaaaaaa")
    (out / "videos/aaaaaaaaaa.json").unlink()
    (out / "videos/cccccccccc.json").write_text("{")
    (out / "videos/dddddddddd.json").write_text('{"frames": []}')
    assert run(dfdc / "raw", out) == 0
    assert crop.read_bytes() == b"kept"
    crop.write_bytes((dfdc / "made/training/crops/bbbbbbbbbb/3_1.png").read_bytes())
    assert listing(out) == listing(dfdc / "made")


def test_fakes_are_made_again_once_their_original_can_be_used(dfdc: Path, tmp_path: Path) -> None:
    raw, out = shutil.copytree(dfdc / "raw", tmp_path / "raw"), tmp_path / "made"
    entries = read(dfdc / "made/metadata.json")
    keys = {entry["original"] for entry in entries.values() if entry["original"]}
    whole = {path: path.read_bytes() for path in raw.rglob("*.mp4") if path.name in keys}
    assert whole
    for path, content in whole.items():
        path.write_bytes(content[: len(content) // 2])
    assert run(raw, out) == 1
    made = read(out / "metadata.json")
    assert {entry["masks"] for entry in made.values() if entry["label"] == "FAKE"} == {None}
    for path, content in whole.items():
        path.write_bytes(content)
    assert run(raw, out) == 0
    assert listing(out) == listing(dfdc / "made")


def test_videos_that_arrive_later(dfdc: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    """They are made; what was made stays, or is made again if it is listed in another way."""
    raw, out = shutil.copytree(dfdc / "raw", tmp_path / "raw"), tmp_path / "made"
    all_for_training = ("--split", "100/0/0")
    late = raw / "dfdc_train_part_0" / "bbbbbbbbbb.mp4"
    late.rename(tmp_path / late.name)
    labels = raw / "dfdc_train_part_1" / "metadata.json"
    right = labels.read_text()
    labels.write_text(right.replace('cccccccccc.mp4"}', 'eeeeeeeeee.mp4"}'))
    assert run(raw, out, *all_for_training) == 1
    assert read(out / "metadata.json")["dddddddddd.mp4"]["original"] == "eeeeeeeeee.mp4"
    (tmp_path / late.name).rename(late)
    labels.write_text(right)
    kept = (out / "training/crops/aaaaaaaaaa/3_1.png").stat().st_mtime_ns
    assert run(raw, out, *all_for_training) == 0
    assert (out / "training/crops/aaaaaaaaaa/3_1.png").stat().st_mtime_ns == kept
    found, expected = listing(out), listing(dfdc / "made")
    assert {name for name in found.keys() | expected if found.get(name) != expected.get(name)} == {
        "prepare.json"  # the option
    }
    late.unlink()  # what was made of it would be trained on, without an entry
    message = fails(prepare.main, raw, "--out", out, *all_for_training)
    assert "with other videos, or by an older version of this program: bbbbbbbbbb was" in message
    assert "bbbbbbbbbb was for train, and is now not listed; use" in message


def test_second_source_with_the_same_names(tmp_path: Path) -> None:
    """Its video takes the name in the result that the first one's had; each keeps its pixels."""
    for number, name in enumerate(("b", "a")):
        picture = tmp_path / name / "train" / "real" / "001.png"
        picture.parent.mkdir(parents=True)
        trees.still(number).save(picture)
    out = tmp_path / "made"
    assert run(tmp_path / "b", out) == 0
    both = ["--workers", "1", str(tmp_path / "a"), str(tmp_path / "b"), "--out"]
    prepare.main([*both, str(out)])
    entries = read(out / "metadata.json")
    assert {entry["data_set"]: entry["sha256"] for entry in entries.values()} == {
        name: hashlib.sha256((tmp_path / name / "train/real/001.png").read_bytes()).hexdigest()
        for name in "ab"
    }
    prepare.main([*both, str(tmp_path / "at once")])
    assert listing(out) == listing(tmp_path / "at once")


def test_masks_that_arrive_later(faceforensics: Path, tmp_path: Path) -> None:
    """Fakes that had none are made again, by records of the first versions too; others stay."""
    raw, out = shutil.copytree(faceforensics / "raw", tmp_path / "raw"), tmp_path / "made"
    masks_of_fakes = raw / "manipulated_sequences" / "Deepfakes" / "masks"
    masks_of_fakes.rename(tmp_path / "masks")
    assert run(raw, out, "--frames", 4) == 0
    keys = ["Deepfakes-c23-000-003", "Deepfakes-c23-010-012"]
    assert {read(out / "metadata.json")[f"{key}.mp4"]["masks"] for key in keys} == {"similarity"}
    record = read(first := out / "videos" / f"{keys[0]}.json")
    del record["listed_with_masks"]
    first.write_text(json.dumps(record))
    kept = (out / "videos/FaceShifter-c23-000-003.json").stat().st_mtime_ns
    (tmp_path / "masks").rename(masks_of_fakes)
    assert run(raw, out, "--frames", 4) == 0
    assert (out / "videos/FaceShifter-c23-000-003.json").stat().st_mtime_ns == kept
    assert listing(out) == listing(faceforensics / "made")


def test_processes_make_the_same(dfdc: Path, tmp_path: Path) -> None:
    assert run(dfdc / "raw", tmp_path / "made", "--workers", 2) == 0
    assert listing(tmp_path / "made") == listing(dfdc / "made")


def test_ray_makes_the_same(dfdc: Path, tmp_path: Path) -> None:
    """On a cluster of its own, with paths relative to the folder in which the command runs."""
    shutil.copytree(dfdc / "raw", tmp_path / "raw")
    ended = on_new_cluster("train.prepare", "raw", "--out", "made", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert listing(tmp_path / "made") == listing(dfdc / "made")


def test_cluster_that_cannot_be_reached(
    dfdc: Path, tmp_path: Path, fails: Callable[..., str]
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        message = fails(prepare.main, dfdc / "raw", "--out", tmp_path / "made", "--ray", address)
    assert f"--ray {address}: the cluster cannot be reached" in message
    assert not (tmp_path / "made").exists()


def test_processes_end_with_the_run(dfdc: Path, tmp_path: Path) -> None:
    videos, _ = list_videos([dfdc / "raw"], None, ListOptions())
    groups = plan(videos, (80, 10, 10), 0)
    for folder in (work.RECORDS, work.STAGE):
        (tmp_path / folder).mkdir()
    made = pool.outcomes(groups, tmp_path, Options(Sampling(1, 8), "png", 0.05), workers=2)
    next(made)
    assert multiprocessing.active_children()
    made.close()
    assert not multiprocessing.active_children()


def test_another_result_stands_there(dfdc: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    out = shutil.copytree(dfdc / "made", tmp_path / "made")
    message = fails(prepare.main, dfdc / "raw", "--out", out, "--frames", 5)
    assert "frames was 32, and is 5" in message
    message = fails(prepare.main, dfdc / "raw", "--out", dfdc / "raw" / "made")
    assert "lies in" in message
    assert "name a folder outside of it" in message
    (out / "prepare.json").unlink()
    assert "exists already" in fails(prepare.main, dfdc / "raw", "--out", out)
    assert listing(out).items() <= listing(dfdc / "made").items()


def test_disk_becomes_full(
    dfdc: Path, tmp_path: Path, fails: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was made stays, the message says how much is missing, and the next run goes on."""
    out, write = tmp_path / "made", Path.write_bytes
    left = 20

    def full(path: Path, content: bytes) -> int:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    message = fails(prepare.main, dfdc / "raw", "--out", out, "--workers", "1")
    assert re.search(r"made: the disk is full\. 2 of 4 videos are made; the others need", message)
    made = sum(path.stat().st_size for path in out.glob("*/crops/*/*"))
    assert f"about {made / 1e6:.0f} MB. Make room, and give the same command again" in message
    assert {path.name for path in out.iterdir()} == {"prepare.json", "training", "videos"}
    assert len(listing(out / "videos")) == 2
    monkeypatch.undo()
    assert run(dfdc / "raw", out) == 0
    assert listing(out) == listing(dfdc / "made")


def test_disk_that_cannot_hold_the_result(
    dfdc: Path,
    tmp_path: Path,
    fails: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10**4))
    message = fails(prepare.main, dfdc / "raw", "--out", tmp_path / "made", "--workers", "1")
    assert "made has room for 0.01 MB, and at least 0.032 MB are needed. Make room" in message
    assert not (tmp_path / "made").exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10**6))
    capsys.readouterr()
    assert run(dfdc / "raw", tmp_path / "made", "--frames", 2) == 0  # those fit
    assert "made has room for 1 MB; with one face in each frame" not in capsys.readouterr().err
    assert run(dfdc / "raw", tmp_path / "more") == 0  # so do these, but that is not known
    assert (
        "more has room for 1 MB; with one face in each frame about 13 MB" in capsys.readouterr().err
    )


FAKES = (
    *("longer", "shorter", "slower", "smaller", "turned", "odd name ä", "lost", "frozen"),
    *("halved", "odd", "rotated", "elsewhere"),
)
BY_TIME = "matched by time"


def archive(top: Path) -> Path:
    """A folder with a file of each fault; fakes are named after their originals."""
    count, real, fake = trees.FRAMES, top / "real", top / "fake"
    changed: dict[str, Callable[[Path, Image.Image], Path]] = {
        "longer": lambda path, face: trees.write(path, face, count + 5),
        "shorter": lambda path, face: trees.write(path, face, count - 3),
        "slower": lambda path, face: trees.write(path, face, times=[2 * n for n in range(count)]),
        "halved": lambda path, face: encode(
            path, [*trees.moving(face)][::2], times=[*range(0, count, 2)]
        ),
        "smaller": lambda path, face: encode(
            path, (picture.resize((240, 282)) for picture in trees.moving(face)), crf="18"
        ),
        "odd": lambda path, face: encode(
            path, (p.resize((321, 377)) for p in trees.moving(face)), pix_fmt="yuv444p", crf="18"
        ),
        "rotated": lambda path, face: encode(
            path,
            [picture.transpose(Image.Transpose.ROTATE_270) for picture in trees.moving(face)],
            prepare=lambda stream: stream.set_display_rotation(90),
            crf="18",
        ),
        "elsewhere": lambda path, face: trees.write(
            path, ImageChops.offset(ImageOps.mirror(face), 80, -60)
        ),
        "turned": lambda path, face: trees.write(path, face.transpose(Image.Transpose.ROTATE_90)),
    }
    for seed, name in enumerate(FAKES):
        trees.write(real / f"{name}.mp4", trees.still(seed))
        write = changed.get(name, trees.write)
        write(fake / f"{name}_fake.mp4", trees.forged(seed + 3, seed)[0])
    content = (real / "lost.mp4").read_bytes()
    (real / "lost.mp4").write_bytes(content[: len(content) // 3])
    encode(real / "frozen.mp4", [trees.still(7)] * count)
    whole = trees.write(top / "cut.mkv", trees.still(20), 40).read_bytes()
    (top / "cut.mkv").unlink()
    (real / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    trees.write(real / "one frame.mp4", trees.still(21), 1)
    trees.still(22).save(real / "picture.png")
    trees.write(real / "ten hours.mp4", trees.still(24), 101, times=[3600 * n for n in range(101)])
    (real / "empty.mp4").touch()
    encode(real / "nobody.mp4", [noise(64, 48)] * 3)
    sound_avi(real / "sound.avi")
    (real / "text.mp4").write_text("not a video")
    shutil.copy(real / "slower.mp4", real / "again.mp4")
    (real / "link.mp4").symlink_to("nowhere.mp4")
    trees.still(23).save(real / "other.png")
    (real / "other.png").rename(real / os.fsdecode(b"n\xffme.png"))
    return top


def parts(top: Path) -> Path:
    """Two parts of DFDC whose metadata is wrong about some files."""
    trees.dfdc(top, first=40)
    first, second = (top / f"dfdc_train_part_{number}" for number in range(2))
    for folder, more in (
        (first, {"absent.mp4": {"label": "REAL"}, "neither.mp4": {"label": None}}),
        (second, {"aaaaaaaaaa.mp4": {"label": "REAL"}}),
    ):
        entries = json.loads((folder / "metadata.json").read_text())
        (folder / "metadata.json").write_text(json.dumps(entries | more))
    shutil.copy(first / "aaaaaaaaaa.mp4", second)
    trees.write(first / "neither.mp4", trees.still(30), 1)
    trees.write(second / "unlisted.mp4", trees.still(31), 1)
    return top


@pytest.fixture(scope="module")
def of_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("archive")
    sources = archive(top / "raw"), parts(top / "parts")
    with pytest.raises(SystemExit) as ended:
        prepare.main([*map(str, (*sources, "--out", top / "made", "--frames", 4))])
    assert ended.value.code == 1
    return top / "made"


def test_faults(of_archive: Path) -> None:
    found = faults(of_archive)
    failed = {
        "lost.mp4": "holds no video",
        "empty.mp4": "is empty",
        "nobody.mp4": "shows no face to use",
        "sound.avi": "holds no video",
        "text.mp4": "is not a video",
        "slower.mp4": "its content is that of",
        "link.mp4": "is a link to nothing",
        "turned_fake.mp4": "shows no face to use",
        "absent.mp4": "it is missing, and the list of labels names it",
        "neither.mp4": "its label is neither REAL nor FAKE",
        "unlisted.mp4": "the list of labels does not name it",
        "aaaaaaaaaa.mp4": "",
    }
    notes = {
        "cut.mkv": ["it is cut short"],
        "longer_fake.mp4": [BY_TIME],
        "shorter_fake.mp4": ["ends before 2 of its original's frames", BY_TIME],
        "halved_fake.mp4": ["ends before 1 of its original's frames", BY_TIME],
        "odd_fake.mp4": ["resized to its original's 320x376"],
        "elsewhere_fake.mp4": ["does not look like its original"],
        "smaller_fake.mp4": ["resized to its original's 320x376"],
        "lost_fake.mp4": ["faces were found in the fake itself"],
    }
    assert found.keys() == failed.keys() | notes.keys()
    for name, reason in failed.items():
        ((kind, text),) = found[name]
        assert kind == "failed"
        assert text.startswith(reason)
    assert "has the same name in this data set; that one is taken" in found["aaaaaaaaaa.mp4"][0][1]
    entries = read(of_archive / "metadata.json")  # nothing else is lost
    assert {key for key, entry in entries.items() if entry["data_set"] == "DFDC"} == {
        f"{10 * letter}.mp4" for letter in "abcd"
    }
    assert len(entries) == 4 + 27
    for name, texts in notes.items():
        assert {kind for kind, _ in found[name]} == {"note"}
        assert len(found[name]) == len(texts)
        assert all(t in row[1] for t, row in zip(texts, found[name], strict=True))


def test_what_fakes_of_other_length_are_compared_with(of_archive: Path) -> None:
    out = of_archive
    entries = read(out / "metadata.json")
    for name in FAKES:
        key = f"fake-{name}-fake-mp4"
        if name == "turned":
            continue
        entry = entries[f"{key}.mp4"]
        is_alone = name in ("lost", "elsewhere")
        assert entry["masks"] == (None if is_alone else "similarity")
        if is_alone:
            continue
        seed, cut = FAKES.index(name), boxes(out, key)
        assert cut.items() <= boxes(out, entry["original"].removesuffix(".mp4")).items()
        if name not in ("halved", "frozen"):
            assert iou(out, key, trees.forged(seed + 3, seed)[1]) > 0.7, name
    assert [*boxes(out, "fake-longer-fake-mp4")] == [1, 3, 5, 7]
    assert [*boxes(out, "fake-shorter-fake-mp4")] == [1, 3]
    assert [*boxes(out, "fake-halved-fake-mp4")] == [1, 3, 5]  # its last frame is shown at 6


@pytest.mark.parametrize("sampling", [Sampling(2), Sampling(1, 4)])
def test_frames_are_matched_by_time(tmp_path: Path, sampling: Sampling) -> None:
    """A video of other frames shows, at each moment, the one that lies nearest."""
    encode(tmp_path / "of_12.mp4", numbered(12), rate=10)
    thirds = [picture for number, picture in enumerate(numbered(12)) if number % 3 == 0]
    encode(tmp_path / "of_4.mp4", thirds, rate=10, times=[0, 3, 6, 9])
    notes: list[str] = []
    chosen = frames.chosen(tmp_path / "of_12.mp4", sampling, [])
    moments = [frames.Moment(frame.number, frame.seconds) for frame in chosen]
    of_4, of_12 = tmp_path / "of_4.mp4", tmp_path / "of_12.mp4"
    found = frames.at_moments(of_4, of_12, moments, sampling, notes)
    shown = {moment.number: number_of(frame.image) for moment, frame in found}
    assert shown == {
        moment.number: 3 * round(moment.number / 3) for moment in moments if moment.number <= 9
    }
    assert [BY_TIME in note for note in notes] == [True]


@pytest.mark.parametrize(
    ("names", "numbers"),
    [
        ("{}.png", [0, 5, 10, 15]),
        ("take2_{:04}.png", [0, 5, 10, 15]),
        ("{0:02}_of_{0:02}.png", [0, 1, 2, 3]),  # two numbers: counted in their order
    ],
)
def test_numbers_of_frames_from_pictures(tmp_path: Path, names: str, numbers: list[int]) -> None:
    for number, picture in enumerate(numbered(4)):
        picture.save(tmp_path / names.format(5 * number))
    (tmp_path / ".hidden.png").touch()
    (tmp_path / "landmarks.npy").touch()
    pictures = Pictures.of(tmp_path)
    for sampling, taken in (
        (Sampling(), [0, 1, 2, 3]),
        (Sampling(2), [0, 2]),
        (Sampling(1, 2), [1, 3]),
    ):
        found = {
            frame.number: number_of(frame.image) for frame in frames.chosen(pictures, sampling, [])
        }
        assert found == {numbers[place]: place for place in taken}


@pytest.mark.parametrize("first", [0, 1])
def test_frames_of_pictures_and_videos_match_by_number(tmp_path: Path, first: int) -> None:
    """One of two has no times: only frames of the same number show the same.

    Pictures that ffmpeg extracted are numbered from 1.
    """
    encode(tmp_path / "of_12.mp4", numbered(12), rate=10)
    (tmp_path / "each_third").mkdir()
    for number, picture in enumerate(numbered(12)):
        if number % 3 == 0:
            picture.save(tmp_path / "each_third" / f"{first + number}.png")
    video, pictures = tmp_path / "of_12.mp4", Pictures.of(tmp_path / "each_third")
    for original, fake in ((video, pictures), (pictures, video)):
        chosen = frames.chosen(original, Sampling(), [])
        moments = [frames.Moment(frame.number, frame.seconds) for frame in chosen]
        notes: list[str] = []
        found = frames.at_moments(fake, original, moments, Sampling(), notes)
        shown = {moment.number: number_of(frame.image) for moment, frame in found}
        added = first if original is pictures else 0
        assert shown == {added + number: number for number in (0, 3, 6, 9)}
        assert ["begin at 1" in note for note in notes] == [True] * first


def test_the_same_picture_is_kept_once(tmp_path: Path) -> None:
    """In a frozen video, and where a fake shows its original."""
    real, fake, lossless = trees.still(), trees.forged(2)[0], ("ffv1", "bgr0")
    raw = tmp_path / "raw"
    for folder in ("real", "fake"):
        (raw / folder).mkdir(parents=True)
    originals = [*trees.moving(real)]
    encode(raw / "real" / "a.mkv", [*originals, originals[-1]], *lossless)
    mixed = [*originals[:5], *[*trees.moving(fake)][5:], originals[-1]]
    encode(raw / "fake" / "a_fake.mkv", mixed, *lossless)
    assert run(raw, tmp_path / "made") == 0
    left_out = {
        name: read(tmp_path / "made" / "videos" / f"{name}.json")["faces_left_out"]
        for name in ("real-a-mkv", "fake-a-fake-mkv")
    }
    assert left_out == {"real-a-mkv": {"repeated": 1}, "fake-a-fake-mkv": {"unchanged": 5}}
    assert_clean(tmp_path / "made")


def test_seed_below_zero(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "raw").mkdir()
    assert run(tmp_path / "raw", tmp_path / "made", "--seed", -1) == 2
    assert "--seed: expected a whole number from 0, got -1" in capsys.readouterr().err


def test_nothing_can_be_used(tmp_path: Path, fails: Callable[..., str]) -> None:
    (tmp_path / "raw" / "fake").mkdir(parents=True)
    (tmp_path / "raw" / "fake" / "1.mp4").touch()
    message = fails(prepare.main, tmp_path / "raw", "--out", tmp_path / "made")
    assert "every video failed" in message
    assert {*faults(tmp_path / "made")} == {"1.mp4"}
