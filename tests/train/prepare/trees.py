"""Small data sets as they are downloaded, with a real face and forgeries of known pixels."""

import json
from collections.abc import Iterator
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import numpy as np
from PIL import Image

from flax_unet.media.videos import Sampling, VideoReader
from tests.flax_unet.samples import encode, photo
from train.data.synthetic.forge import forge

SIZE = (320, 376)  # width, height of the videos
FACE = (96, 48, 240, 236)  # of the first frame: what is forged
FRAMES = 8
STEP = (3, 2)  # pixels by which the picture moves with each frame


def still(seed: int = 0) -> Image.Image:
    """The face, in colours of the seed."""
    picture = np.asarray(photo().resize(SIZE), np.float32)
    tint = np.random.default_rng(seed).uniform(0.85, 1.1, 3)
    return Image.fromarray(np.clip(picture * tint, 0, 255).astype(np.uint8))


def forged(seed: int, of: int = 0) -> tuple[Image.Image, np.ndarray]:
    """A forgery of `still(of)`, and the pixels that were changed, (H, W) bool."""
    picture = still(of)
    fake, label = forge(np.asarray(picture.crop(FACE)), np.random.default_rng(seed))
    picture.paste(Image.fromarray(fake), FACE[:2])
    changed = np.zeros(SIZE[::-1], bool)
    changed[FACE[1] : FACE[3], FACE[0] : FACE[2]] = label
    return picture, changed


def moved(array: np.ndarray, frame: int) -> np.ndarray:
    """An image (H, W, ...) as it lies in a frame."""
    across, down = STEP
    return np.roll(array, (down * frame, across * frame), (0, 1))


def moving(picture: Image.Image, frames: int = FRAMES) -> Iterator[Image.Image]:
    return (Image.fromarray(moved(np.asarray(picture), frame)) for frame in range(frames))


def write(path: Path, picture: Image.Image, frames: int = FRAMES, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return encode(path, moving(picture, frames), **{"crf": "18", "preset": "ultrafast", **options})


def dfdc(top: Path, pairs: int = 2, first: int = 0) -> Path:
    """Parts, each with a real video and a fake of it; `first` is the first one's face."""
    names = [10 * letter for letter in ascii_lowercase]
    for part in range(pairs):
        folder = top / f"dfdc_train_part_{part}"
        real, fake = f"{names[2 * part]}.mp4", f"{names[2 * part + 1]}.mp4"
        write(folder / real, still(first + part))
        write(folder / fake, forged(first + part + 2, first + part)[0])
        entries = {
            real: {"label": "REAL", "split": "train"},
            fake: {"label": "FAKE", "split": "train", "original": real},
        }
        (folder / "metadata.json").write_text(json.dumps(entries))
    return top


def faceforensics(top: Path) -> Path:
    """Two pairs of videos, two methods, one of them with mask videos."""
    for number, name in enumerate(("000", "003", "010", "012")):
        write(top / f"original_sequences/youtube/c23/videos/{name}.mp4", still(number))
    for target, source, of in ("000", "003", 0), ("003", "000", 1), ("010", "012", 2):
        name = f"{target}_{source}.mp4"
        for method, seed in ("Deepfakes", 5 + of), ("FaceShifter", 9 + of):
            fake, changed = forged(seed, of)
            write(top / f"manipulated_sequences/{method}/c23/videos/{name}", fake)
            if method == "Deepfakes":
                mask = Image.fromarray(np.uint8(255) * changed).convert("RGB")
                write(top / f"manipulated_sequences/{method}/masks/videos/{name}", mask)
    splits = {"train": [["000", "003"]], "val": [], "test": [["012", "010"]]}
    (top / "splits").mkdir()
    for split, listed in splits.items():
        (top / "splits" / f"{split}.json").write_text(json.dumps(listed))
    return top


def as_frames(top: Path) -> Path:
    """Puts the frames of all videos in `videos/` into `frames/<video>/<n>.png` instead."""
    for path in sorted(top.rglob("videos/*.mp4")):
        folder = path.parents[1] / "frames" / path.stem
        folder.mkdir(parents=True)
        for number, _, image in filter(None, VideoReader(path, Sampling()).frames()):
            image.save(folder / f"{number:04d}.png")
        path.unlink()
    return top


def deepfakebench(top: Path) -> Path:
    """Crops of a pair of videos in two methods, one of them with masks; every third frame."""
    root, side = top / "rgb/FaceForensics++", (256, 256)
    classes: dict[str, Any] = {
        name: {split: {"c23": {}} for split in ("train", "val", "test")}
        for name in ("FF-real", "FF-DF", "FF-NT")
    }

    def write_frames(folder: Path, picture: Image.Image) -> list[str]:
        folder.mkdir(parents=True)
        for number in range(0, 3 * FRAMES, 3):
            shifted = Image.fromarray(moved(np.asarray(picture.resize(side)), number))
            shifted.save(folder / f"{number:03d}.png")
        names = sorted(path.name for path in folder.iterdir())
        return [f"E:\\sets\\{folder.relative_to(top / 'rgb')}\\{name}" for name in names]

    def add(name: str, video: str, picture: Image.Image, changed: np.ndarray | None = None) -> None:
        folder = root / name / "c23/frames" / video
        entry = {"label": name, "frames": write_frames(folder, picture)}
        if changed is not None:
            mask = Image.fromarray(np.uint8(255) * changed)
            entry["masks"] = write_frames(root / name / "c23/masks" / video, mask)
        split = "train" if video.startswith("0") else "test"
        classes[name][split]["c23"][video] = entry

    for number, video in enumerate(("000", "003", "810", "812")):
        add("FF-real", video, still(number).crop(FACE))
    for of, video in enumerate(("000_003", "003_000", "810_812")):
        for name, seed in ("FF-DF", 5 + of), ("FF-NT", 9 + of):
            picture, changed = forged(seed, of)
            box = Image.fromarray(changed).crop(FACE)
            add(name, video, picture.crop(FACE), np.asarray(box) if name == "FF-DF" else None)
    (top / "FaceForensics++.json").write_text(json.dumps({"FaceForensics++": classes}))
    return top


def celeb_df(top: Path) -> Path:
    """Three people, three fakes, one video of nobody; two of them are for the test."""
    for number, name in enumerate(("id0_0000", "id1_0000", "id2_0001", "id2_0002")):
        write(top / f"Celeb-real/{name}.mp4", still(number))
    write(top / "Celeb-synthesis/id0_id1_0000.mp4", forged(3, 0)[0])
    write(top / "Celeb-synthesis/id1_id2_0000.mp4", forged(4, 1)[0])
    write(top / "Celeb-synthesis/id2_id1_0002.mp4", forged(6, 3)[0])
    write(top / "YouTube-real/00000.mp4", still(7))
    (top / "List_of_testing_videos.txt").write_text(
        "1 Celeb-real/id0_0000.mp4\n0 Celeb-synthesis/id0_id1_0000.mp4\n"
    )
    return top
