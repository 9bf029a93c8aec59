"""Small data sets as they are downloaded, with a real face and forgeries of known pixels."""

import json
from collections.abc import Iterator
from pathlib import Path
from string import ascii_lowercase

import numpy as np
from PIL import Image

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


def dfdc(top: Path, pairs: int = 2) -> Path:
    """Parts, each with a real video and a fake of it."""
    names = [10 * letter for letter in ascii_lowercase]
    for part in range(pairs):
        folder = top / f"dfdc_train_part_{part}"
        real, fake = f"{names[2 * part]}.mp4", f"{names[2 * part + 1]}.mp4"
        write(folder / real, still(part))
        write(folder / fake, forged(part + 2, part)[0])
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
