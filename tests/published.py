"""Full-size stand-ins of the published layouts against what the original PyTorch code gave.

As a program it prints the README's parity table: `python -m tests.published`.
"""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from convert import stand_in
from convert.from_torch import convert
from convert.to_torch import to_torch
from flax_unet import UNetOutput, load
from flax_unet.nn.config import Size, shown_size
from flax_unet.nn.inference import compiled
from tests.tolerances import assert_same_tensors

_FOLDER = Path(__file__).parent / "golden"
GOLDEN = {entry["layout"]: entry for entry in json.loads((_FOLDER / "published.json").read_text())}
LAYOUTS = json.loads((_FOLDER / "layouts.json").read_text())
SIZES = json.loads((_FOLDER / "published_sizes.json").read_text())
"""What the original code gave for pictures of other sizes, one layout and seed."""


class Distance(NamedTuple):
    """How far an output is from the original code's; None for heads that there are not."""

    real_probability: float | None  # largest absolute difference
    mask_logits: float | None  # largest difference as a share of the mean absolute logit
    mask_pixels: int | None  # largest difference in the count of manipulated pixels


def measure(layout: str, directory: Path) -> tuple[str, Distance]:
    """Converts the stand-in of a layout, runs it on the recorded input, and converts it back.

    Returns:
        The layout as the converter found it, and how far the output is from the recorded one.
    """
    golden, size = GOLDEN[layout], LAYOUTS[layout]["size"]
    tensors = {
        key: torch.from_numpy(array)
        for key, array in stand_in.published(layout, golden["seed"]).items()
    }
    torch.save(tensors, directory / "ckpt.pth")
    found = convert(directory / "ckpt.pth", directory / "out", verify=False).layout
    to_torch(directory / "out", directory / "back.pth")
    assert_same_tensors(torch.load(directory / "back.pth", weights_only=True, mmap=True), tensors)

    return found, distance(compiled(load(directory / "out")), golden, (size, size))


def distance(forward: Callable[..., UNetOutput], golden: dict[str, Any], size: Size) -> Distance:
    """Runs a network on the recorded input of `size`, and compares."""
    output = forward(np.random.default_rng(1000).random((2, *size, 3), dtype=np.float32))
    real = logits = pixels = None
    if "real_probability" in golden:
        difference = np.asarray(output.real_probability) - golden["real_probability"]
        real = float(np.abs(difference).max())
    if "mask_logits" in golden:
        rows, columns = np.transpose(golden["mask_logits_at"])
        difference = np.asarray(output.mask_logits)[:, rows, columns] - golden["mask_logits"]
        logits = float(np.abs(difference).max() / golden["mask_logits_mean_abs"])
        counts = np.asarray(output.is_manipulated).sum((1, 2))
        pixels = int(np.abs(counts - golden["manipulated_pixels"]).max())
    return Distance(real, logits, pixels)


def main() -> None:
    """Prints the table."""
    print("| layout | real probability | mask logits, relative | mask pixels | there and back |")
    print("| --- | --- | --- | --- | --- |")
    for layout in GOLDEN:
        with tempfile.TemporaryDirectory() as directory:
            _, found = measure(layout, Path(directory))
            _print(layout, found, "bit-identical")
            if layout == "ynet-224":
                forward = compiled(load(Path(directory) / "out"))
                others = (golden for golden in SIZES if golden["size"] != [224, 224])
                for golden in others:
                    size: Size = tuple(golden["size"])
                    _print(f"{layout} at {shown_size(size)}", distance(forward, golden, size), "")


def _print(name: str, found: Distance, there_and_back: str) -> None:
    real, logits, pixels = found
    cells = [
        name,
        "" if real is None else f"{real:.1e}",
        "" if logits is None else f"{logits:.1e}",
        "" if pixels is None else str(pixels),
        there_and_back,
    ]
    print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
