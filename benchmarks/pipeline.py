"""The speed of evaluation: `train.eval`'s scoring beside the PyTorch twin fed by a DataLoader.

Besides, the parts: how fast either reads and decodes frames without a network, and how fast our
network is on a batch that lies on the device. Both score the same frames with the same weights, in
turn, in one process. A pass before the clock starts checks that they take the same decision for
every frame; compilation, the start of workers and the first batch of each pass are outside the
clock.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from benchmarks.crops import loader as torch_loader
from benchmarks.subject import FULL_WIDTH, LAYOUT, Subject, prepare
from convert.parity import load_twin
from convert.torch_unet import ReferenceUNet
from flax_unet import UNet
from flax_unet.nn.inference import compiled
from flax_unet.utils.errors import InputError, command
from flax_unet.utils.files import staged_file
from train.data import loader
from train.data.dataset import Dataset
from train.eval import scoring
from train.eval.scoring import score

_CALLS = 5
_TIMES_READ_AHEAD = 2  # frames, at least
CLOSE = 1e-5  # probabilities of both, absolute


def read_ahead(batch_size: int) -> int:
    """How many frames our pipeline decodes before they are asked for."""
    return loader.frames_ahead(batch_size)


def pytorch(twin: ReferenceUNet, source: DataLoader) -> tuple[np.ndarray, float]:
    """Probabilities of REAL, and frames a second after the first batch."""
    found: list[np.ndarray] = []
    start = end = 0.0
    with torch.inference_mode():
        for image in source:
            _, real_logit = twin(image)
            found.append(torch.sigmoid(real_logit).numpy())
            end = time.perf_counter()
            start = start or end
    return np.concatenate(found), sum(map(len, found[1:])) / (end - start)


def network_rate(model: UNet, data: Dataset, batch_size: int) -> float:
    """Frames a second of our network alone, on one batch that lies on the device."""
    step = compiled(model, jax.local_devices(), scoring._figures)
    batch = next(loader.batches(data, model.config.input_size, batch_size))
    arrays = jax.device_put(scoring._to_devices(batch, data))
    jax.block_until_ready(step(arrays))
    start = time.perf_counter()
    for _ in range(_CALLS):
        jax.block_until_ready(step(arrays))
    return _CALLS * batch_size / (time.perf_counter() - start)


def drained(source: Iterable[Any]) -> float:
    """Frames a second of a source of batches that nothing is done with, after the first one."""
    frames, start = 0, 0.0
    for batch in source:
        frames += len(batch[0] if isinstance(batch, tuple) else batch) if start else 0
        start = start or time.perf_counter()
    return frames / (time.perf_counter() - start)


def compare(subject: Subject, batch_size: int, rounds: int) -> dict[str, Any]:
    """Frames a second of both, in turn, and the share of ours that waited for data.

    Raises:
        AssertionError: the decisions differ.
    """
    model, tensors, data, paths = subject
    twin = load_twin(ReferenceUNet(model.config), tensors)
    source = torch_loader(paths, model.config.input_size, batch_size)
    expected, _ = pytorch(twin, source)
    predictions, _ = score(model, data, jax.local_devices(), batch_size)
    found = np.asarray(predictions.real_probability)
    np.testing.assert_array_equal(found > 0.5, expected > 0.5)
    np.testing.assert_allclose(found, expected, rtol=0, atol=CLOSE)

    size = model.config.input_size
    input_rates = {
        "pytorch": drained(source),
        "ours": drained(loader.batches(data, size, batch_size)),
    }
    rates: dict[str, list[float]] = {"pytorch": [], "ours": []}
    waiting, shares = [], []
    for _ in tqdm(range(rounds), unit="round"):
        rates["pytorch"].append(pytorch(twin, source)[1])
        _, timing = score(model, data, jax.local_devices(), batch_size)
        rates["ours"].append(timing.frames / timing.seconds)
        waiting.append(timing.waiting_for_data / timing.seconds)
        shares.append(rates["ours"][-1] / network_rate(model, data, batch_size))
    ratios = [ours / theirs for ours, theirs in zip(rates["ours"], rates["pytorch"], strict=True)]
    return {
        "layout": LAYOUT,
        "base_width": model.config.base_width,
        "frames": len(data),
        "batch_size": batch_size,
        "threads": torch.get_num_threads(),
        "same_decision": int(np.sum((found > 0.5) == (expected > 0.5))),
        "called_real": int(np.sum(expected > 0.5)),
        "frames_a_second": {name: statistics.median(values) for name, values in rates.items()},
        "ratio_ours_to_pytorch": {"median": statistics.median(ratios), "all": ratios},
        "input_frames_a_second": input_rates,
        "share_of_the_networks_own_rate": {"median": statistics.median(shares), "all": shares},
        "share_waiting_for_data": {"median": statistics.median(waiting), "all": waiting},
    }


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pipeline",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--frames", type=int, default=160, help="how many are scored")
    parser.add_argument("--batch-size", type=int, default=8, help="frames a step")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each")
    parser.add_argument("--base-width", type=int, default=FULL_WIDTH, help="the full size: 64")
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON file to write")
    args = parser.parse_args(argv)
    least = _TIMES_READ_AHEAD * read_ahead(args.batch_size)
    if args.frames < least:
        raise InputError(
            f"--frames {args.frames}: expected at least {least}; {read_ahead(args.batch_size)} are "
            "read ahead, so that fewer would say nothing of the time spent waiting for data"
        )
    with tempfile.TemporaryDirectory() as directory:
        subject = prepare(Path(directory), args.base_width, args.frames)
        result = compare(subject, args.batch_size, args.rounds)
    print(json.dumps(result, indent=1))
    if args.out is not None:
        with staged_file(args.out) as stage:
            stage.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
