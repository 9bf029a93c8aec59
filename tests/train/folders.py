"""Small folders in the published layout, with noise for faces."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 40


def write_crop(path: Path, rng: np.random.Generator, side: int = SIDE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), np.uint8))
    coarse.resize((side, side), Image.Resampling.BICUBIC).save(path)


def write_mask(path: Path, classes: np.ndarray) -> None:
    """A palette GIF whose indices are the classes, as published."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = Image.fromarray(classes.astype(np.uint8), "P")
    mask.putpalette([0, 0, 0, 255, 255, 255])
    mask.save(path)


def edit(folder: Path, **entries: object) -> None:
    """Sets entries of the metadata."""
    path = folder / "metadata.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def write_folder(
    root: Path, videos: int, frames: int = 3, *, seed: int = 0, prefix: str = "v", side: int = SIDE
) -> Path:
    """Real and fake videos in turn; each fake is made from the real one before it."""
    rng = np.random.default_rng(seed)
    metadata = {}
    for number in range(videos):
        fake = number % 2 == 1
        name = f"{prefix}{number:03d}"
        original = f"{prefix}{number - 1:03d}.mp4" if fake else None
        metadata[f"{name}.mp4"] = {"label": "FAKE" if fake else "REAL", "original": original}
        for frame in range(frames):
            write_crop(root / "crops" / f"{name}_{frame}.png", rng, side)
            classes = np.zeros((side, side), np.uint8)
            if fake:
                top, left = rng.integers(0, side // 2, 2)
                classes[top : top + side // 3, left : left + side // 2] = 1
            write_mask(root / "masks" / f"{name}_{frame}.gif", classes)
    (root / "metadata.json").write_text(json.dumps(metadata))
    return root


def write_original(root: Path, side: int = SIDE) -> Path:
    """The original's own folder, with metadata one level above; gives the data set's folder.

    `a000` to `a003` are for training, `b000` and `b001` for testing; every second one is FAKE.
    """
    merged: dict[str, object] = {}
    data = root / "dataset_new_1"
    for split, prefix, videos in (("training", "a", 4), ("testing", "b", 2)):
        folder = write_folder(data / split, videos, prefix=prefix, seed=videos, side=side)
        merged |= json.loads((folder / "metadata.json").read_text())
        (folder / "metadata.json").unlink()
    for part in ("crops", "masks"):
        (data / "testing" / part).rename(data / "testing" / "all")
        (data / "testing" / part).mkdir()
        (data / "testing" / "all").rename(data / "testing" / part / f"{part}_testing")
    (root / "metadata.json").write_text(json.dumps(merged))
    return data
