"""The speed of evaluation: `train.eval`'s scoring beside the PyTorch twin fed by a DataLoader.

Besides, the parts: how fast either reads and decodes frames without a network, and how fast our
network is on a batch that lies on the device. Both score the same frames with the same weights, in
turn, in one process. A pass before the clock starts checks that they take the same decision for
every frame; compilation, the start of workers and the first batch of each pass are outside the
clock. With --memory, the peak memory of scoring is measured instead.
"""

import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from benchmarks.machine import FILE, GIB, benchmark, in_turn, peak_memory, report
from benchmarks.subject import LAYOUT, SEED, WIDTH, write_model
from convert import stand_in
from convert.parity import load_twin
from convert.torch_unet import ReferenceUNet
from flax_unet import UNet, load
from flax_unet.media.images import read_image, to_input
from flax_unet.nn.config import Size
from flax_unet.nn.decision import is_real
from flax_unet.nn.inference import compiled
from flax_unet.utils.arguments import at_least_one
from flax_unet.utils.errors import InputError
from train import distributed
from train.data import loader
from train.data.dataset import EMBEDDED, Dataset, open_dataset
from train.data.export import export
from train.eval.scoring import score

_CALLS = 5
_TIMES_READ_AHEAD = 2  # frames, at least
_SEVERAL = {"nargs": "+", "type": at_least_one, "metavar": "FRAMES"}
CLOSE = 1e-5  # probabilities of both, absolute


class Crops(torch.utils.data.Dataset):
    """Pictures by path, (3, H, W) float32 in [0, 1], by the published preprocessing."""

    def __init__(self, paths: list[Path], size: Size) -> None:
        self.paths, self.size = paths, size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(to_input(read_image(self.paths[index]), self.size)).permute(2, 0, 1)


def prepare(folder: Path, base_width: int, frames: int) -> tuple[UNet, Dataset, list[Path]]:
    """Writes and opens a stand-in, and the embedded test split's frames, again and again.

    Returns:
        The network, the frames, and the path of each.
    """
    model = load(write_model(folder, base_width))
    export(open_dataset(EMBEDDED, "test"), folder / "data")
    stored = open_dataset(str(folder / "data"), None)
    data = stored.take(np.arange(frames) % len(stored))
    return model, data, [folder / "data" / file for file in data.table.file]


def pytorch(twin: ReferenceUNet, source: DataLoader) -> Iterator[np.ndarray]:
    """Probabilities of REAL, by batch."""
    for image in source:
        with torch.inference_mode():
            _, real_logit = twin(image)
            found = torch.sigmoid(real_logit).numpy()
        yield found


def network_rate(model: UNet, data: Dataset, batch_size: int) -> float:
    """Frames a second of our network alone, on one batch that lies on the device."""
    batch = next(loader.batches(data, model.config.input_size, batch_size))
    image, forward = jax.device_put(batch.image), compiled(model)
    seconds = in_turn({"": lambda: forward(image)}, _CALLS)[""]
    return batch_size / statistics.mean(seconds)


def rate_of(source: Iterable[Any]) -> float:
    """Frames a second of a source of batches, after the first one."""
    frames, start = 0, 0.0
    for batch in source:
        frames += len(batch[0] if isinstance(batch, tuple) else batch) if start else 0
        start = start or time.perf_counter()
    return frames / (time.perf_counter() - start)


def compare(
    model: UNet, data: Dataset, paths: list[Path], batch_size: int, rounds: int
) -> dict[str, Any]:
    """Frames a second of both, in turn, and the share of ours that waited for data.

    Raises:
        AssertionError: the decisions differ.
    """
    config, devices, threads = model.config, jax.local_devices()[:1], torch.get_num_threads()
    twin = load_twin(ReferenceUNet(config), stand_in.state_dict(config, SEED))
    source = DataLoader(
        Crops(paths, config.input_size),
        batch_size,
        num_workers=threads,
        multiprocessing_context="forkserver",  # JAX's threads do not survive a fork
        persistent_workers=True,
    )
    expected = np.concatenate([*pytorch(twin, source)])
    predictions, _ = score(model, data, devices, batch_size)
    found = np.asarray(predictions.real_probability)
    np.testing.assert_array_equal(is_real(found), is_real(expected))
    np.testing.assert_allclose(found, expected, rtol=0, atol=CLOSE)
    workers = distributed.readers(None, devices, len(data))
    frames = loader.batches(data, config.input_size, batch_size, workers=workers)
    input_rates = {"pytorch": rate_of(source), "ours": rate_of(frames)}
    measured = []
    for _ in tqdm(range(rounds), unit="round"):
        theirs = rate_of(pytorch(twin, source))
        _, timing = score(model, data, devices, batch_size)
        ours = timing.frames / timing.seconds
        share = ours / network_rate(model, data, batch_size)
        waiting = timing.waiting_for_data / timing.seconds
        measured.append((theirs, ours, ours / theirs, share, waiting))
    theirs, ours, ratio, share, waiting = (
        {"median": statistics.median(values), "all": values}
        for values in zip(*measured, strict=True)
    )
    return {
        "layout": LAYOUT,
        "base_width": config.base_width,
        "frames": len(data),
        "batch_size": batch_size,
        "threads": threads,
        "workers": workers,
        "same_decision": int(np.sum(is_real(found) == is_real(expected))),
        "called_real": int(np.sum(is_real(expected))),
        "frames_a_second": {"pytorch": theirs["median"], "ours": ours["median"]},
        "ratio_ours_to_pytorch": ratio,
        "input_frames_a_second": input_rates,
        "share_of_the_networks_own_rate": share,
        "share_waiting_for_data": waiting,
    }


def peaks(model: UNet, data: Dataset, batch_size: int, marks: list[int]) -> dict[str, Any]:
    """The peak memory after so many frames were scored, and then so many more."""
    found = {}
    for frames in sorted(marks):
        score(model, data.take(np.arange(frames)), jax.local_devices(), batch_size)
        found[frames] = round(peak_memory() / GIB, 3)
    return {
        "base_width": model.config.base_width,
        "batch_size": batch_size,
        "peak_memory_gib_after_frames": found,
    }


@benchmark(
    frames=(160, "how many are scored"),
    batch_size=(8, "frames a step"),
    rounds=(3, "turns of each"),
    base_width=WIDTH,
    memory=(None, "measure the peak memory after scoring so many frames", _SEVERAL),
    out=(None, "JSON file to write", FILE),
)
def main(
    *,
    frames: int,
    batch_size: int,
    rounds: int,
    base_width: int,
    memory: list[int] | None,
    out: Path | None,
) -> None:
    """Runs the command line."""
    least = _TIMES_READ_AHEAD * (ahead := loader.frames_ahead(batch_size))
    if memory is None and frames < least:
        raise InputError(
            f"--frames {frames}: expected at least {least}; {ahead} are read ahead, so that fewer "
            "would not show the time spent waiting for data"
        )
    with tempfile.TemporaryDirectory() as directory:
        model, data, paths = prepare(Path(directory), base_width, max(memory or [frames]))
        if memory is None:
            result = compare(model, data, paths, batch_size, rounds)
        else:
            result = peaks(model, data, batch_size, memory)
    report(result, out)


if __name__ == "__main__":
    main()
