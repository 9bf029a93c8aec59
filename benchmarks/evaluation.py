"""Evaluation from end to end: `train.eval` beside the PyTorch twin fed by a DataLoader.

Both score the same frames with the same weights, in turn, in one process; the decisions must be
equal before any time counts. Compilation and the first batch are outside the clock.
"""

import argparse
import dataclasses
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from tqdm import tqdm

from convert import stand_in
from convert.from_torch import convert
from convert.parity import load_twin
from convert.reference import ReferenceUNet
from convert.state_dict import write
from flax_unet import PUBLISHED, load
from flax_unet.errors import command
from flax_unet.files import staged_file
from train.data.dataset import EMBEDDED, open_dataset
from train.data.export import export
from train.scoring import score

LAYOUT = "ynet-224"


class _Crops(TorchDataset):
    """The published preprocessing, as a PyTorch user writes it."""

    def __init__(self, paths: list[Path], size: int) -> None:
        self.paths, self.size = paths, size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        with Image.open(self.paths[index]) as image:
            pixels = np.array(image.resize((self.size, self.size), Image.Resampling.NEAREST))
        return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


def pytorch(twin: ReferenceUNet, paths: list[Path], batch_size: int) -> tuple[np.ndarray, float]:
    """Probabilities of REAL, and frames a second after the first batch."""
    loader = DataLoader(
        _Crops(paths, twin.config.image_size), batch_size, num_workers=torch.get_num_threads()
    )
    found = []
    start = counted = 0.0
    with torch.inference_mode():
        for number, image in enumerate(loader):
            _, real_logit = twin(image)
            found.append(torch.sigmoid(real_logit).numpy())
            if number == 0:
                start = time.perf_counter()
            else:
                counted += len(image)
    return np.concatenate(found), counted / (time.perf_counter() - start)


def compare(folder: Path, base_width: int, frames: int, batch_size: int, rounds: int) -> dict:
    """Frames a second of both, in turn, and what this project's time and memory went to."""
    tensors = stand_in.published(LAYOUT, 0) if base_width == 64 else _narrow(base_width)
    write({key: torch.from_numpy(array) for key, array in tensors.items()}, folder / "ckpt.pth")
    convert(folder / "ckpt.pth", folder / "model", verify=False)
    model = load(folder / "model")
    twin = load_twin(ReferenceUNet(model.config), tensors)
    export(open_dataset(EMBEDDED, "test"), folder / "data")
    stored = open_dataset(str(folder / "data"), None)
    data = stored.take(np.arange(frames) % len(stored))
    paths = [folder / "data" / file for file in data.table.file]
    memory = {}
    for share in (0.1, 1.0):
        score(model, data.take(np.arange(int(share * frames))), jax.local_devices(), batch_size)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        memory[f"{int(share * frames)} frames"] = round(peak / 2**20, 3)
    rates: dict[str, list[float]] = {"pytorch": [], "ours": []}
    waiting = []
    for _ in tqdm(range(rounds), unit="round"):
        expected, rate = pytorch(twin, paths, batch_size)
        rates["pytorch"].append(rate)
        predictions, timing = score(model, data, jax.local_devices(), batch_size)
        rates["ours"].append(timing.frames / timing.seconds)
        waiting.append(timing.waiting_for_data / timing.seconds)
        found = np.asarray(predictions.real_probability, np.float64)
        np.testing.assert_allclose(found, expected, atol=1e-5)
    ratios = [ours / theirs for ours, theirs in zip(rates["ours"], rates["pytorch"], strict=True)]
    return {
        "layout": LAYOUT,
        "base_width": base_width,
        "frames": frames,
        "batch_size": batch_size,
        "threads": torch.get_num_threads(),
        "frames_a_second": {name: statistics.median(values) for name, values in rates.items()},
        "ratio_ours_to_pytorch": {"median": statistics.median(ratios), "all": ratios},
        "share_waiting_for_data": statistics.median(waiting),
        "peak_memory_gib_after": memory,
    }


def _narrow(base_width: int) -> dict[str, np.ndarray]:
    config = dataclasses.replace(PUBLISHED[LAYOUT], base_width=base_width)
    return stand_in.state_dict(config, 0)


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.evaluation",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--frames", type=int, default=48, help="how many are scored")
    parser.add_argument("--batch-size", type=int, default=8, help="frames a step")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each")
    parser.add_argument("--base-width", type=int, default=64, help="64 is the full size")
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON file to write")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as directory:
        result: dict[str, Any] = compare(
            Path(directory), args.base_width, args.frames, args.batch_size, args.rounds
        )
    print(json.dumps(result, indent=1))
    if args.out is not None:
        with staged_file(args.out) as stage:
            stage.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
