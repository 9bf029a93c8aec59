"""The time from a command to its first verdict, with and without what a start before has kept.

This module is PyTorch's side: `python -m benchmarks.start ckpt.pth face.png [--compile]`.
"""

import argparse
import dataclasses
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.subject import LAYOUT, write_model
from convert.torch_unet import ReferenceUNet
from flax_unet import PUBLISHED
from train.data.synthetic.scene import ProceduralPortraits

_CHOSEN = "JAX_COMPILATION_CACHE_DIR"  # would be used in the place of these:
_KEPT = ("XDG_CACHE_HOME", "TORCHINDUCTOR_CACHE_DIR")  # where either keeps what it compiled


def starts(base_width: int, *, with_compile: bool) -> dict[str, dict[str, float | None]]:
    """Seconds of a first and a second start, by contender."""
    with tempfile.TemporaryDirectory() as folder:
        model = write_model(Path(folder), base_width)
        face = Path(folder) / "face.png"
        ProceduralPortraits(1, 0)[0][1].save(face)
        theirs = ["benchmarks.start", str(model.parent / "ckpt.pth"), str(face)]
        commands = {
            "this project": ["flax_unet.predict", str(model), str(face), "--faces", "none"],
            "PyTorch, as published": theirs,
        }
        if with_compile:
            commands["PyTorch, compiled"] = [*theirs, "--compile"]
        found = {}
        for number, (name, command) in enumerate(commands.items()):
            kept = dict.fromkeys(_KEPT, f"{folder}/{number}")
            users = {key: of for key, of in os.environ.items() if key != _CHOSEN}
            first, second = (_seconds(command, users | kept) for _ in range(2))
            found[name] = {"first": first, "second": second}
        return found


def _seconds(command: list[str], environment: dict[str, str]) -> float | None:
    """Seconds of a command; None if it failed, which it has told on standard error."""
    start = time.perf_counter()
    line = [sys.executable, "-m", *command]
    ended = subprocess.run(line, stdout=subprocess.DEVNULL, env=environment)
    return None if ended.returncode else time.perf_counter() - start


def main(argv: Sequence[str] | None = None) -> None:
    """Says of a picture what PyTorch says of it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.start", description=__doc__)
    parser.add_argument("ckpt", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args(argv)
    tensors = torch.load(args.ckpt, weights_only=True)
    width = tensors["inc.double_conv.0.weight"].shape[0]
    config = PUBLISHED[LAYOUT]
    model = ReferenceUNet(dataclasses.replace(config, base_width=width))
    model.load_state_dict(tensors, strict=False)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = model.eval().to(device)
    if args.compile:
        model = torch.compile(model)
    height, width = config.input_size
    with Image.open(args.picture) as picture:
        pixels = np.array(picture.convert("RGB").resize((width, height), Image.Resampling.NEAREST))
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].to(device).float() / 255
    with torch.inference_mode():
        print(f"real {torch.sigmoid(model(image)[1]).item():.4f}")


if __name__ == "__main__":
    main()
