"""Runs a network over every frame of a data set, on all devices, into `Predictions`."""

import contextlib
import time
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from flax_unet.nn.inference import compiled
from flax_unet.nn.unet import UNet, UNetOutput
from train import distributed
from train.data.dataset import Dataset
from train.data.loader import Batch, batches
from train.eval.predictions import BINS, Predictions
from train.eval.segmentation import PixelCounts

_IN_FLIGHT = 2  # batches on the devices before the first one's results are fetched


class Timing(NamedTuple):
    """The time of an evaluation on this process, in seconds."""

    frames: int  # after the first batch, whose time is mostly compilation
    seconds: float  # for these frames
    waiting_for_data: float  # of `seconds`: the devices had nothing to do
    first_batch: float


def score(
    model: UNet,
    dataset: Dataset,
    devices: list[distributed.Device],
    batch_size: int,
    workers: int | None = None,
) -> tuple[Predictions, Timing]:
    """Runs a network in eval mode over every frame of a data set exactly once.

    `devices` are this process's. `batch_size` is frames per step on all devices of all processes,
    rounded up to a multiple of their number, at most the whole data set. Padding is not counted.
    `workers` are the processes that read pictures, 0 for threads, None for as many as pay.
    """
    process, processes = distributed.process()
    total = len(devices) * processes
    share = -(-min(batch_size, len(dataset)) // total) * len(devices)
    step = compiled(model, devices, _figures)
    is_forging = bool(dataset.made_with)
    workers = distributed.readers(workers, devices, len(dataset), is_forging=is_forging)
    part = {"process": process, "processes": processes, "workers": workers}
    with contextlib.closing(batches(dataset, model.config.input_size, share, **part)) as source:
        parts, timing = _run(step, source, dataset)
    parts = distributed.gather(parts)  # with padding, so that all processes send equal shapes
    return _predictions(dataset, parts), timing


def _figures(output: UNetOutput, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """The results for a device's share of the frames.

    They are verdicts, counts of pixels by predicted and true class, and the histogram of the
    labelled ones.
    """
    named = {"real_logit": output.real_logit, "real_probability": output.real_probability}
    verdicts = {name: array for name, array in named.items() if array is not None}
    if output.mask_logits is None or output.is_manipulated is None:
        return verdicts
    found, wanted = output.is_manipulated, batch["mask"] == 1
    pixels = {
        "tp": found & wanted,
        "fp": found & ~wanted,
        "fn": ~found & wanted,
        "tn": ~found & ~wanted,
        "manipulated_pixels": found,
    }
    counts = {name: marked.sum((1, 2), dtype=jnp.int32) for name, marked in pixels.items()}
    bins = _bins(output.mask_logits[..., 1] - output.mask_logits[..., 0])
    group = batch["is_fake"][:, None, None] * 2 + wanted
    counted = jnp.broadcast_to(batch["has_mask"][:, None, None], bins.shape).astype(jnp.int32)
    histogram = jnp.zeros((4 * BINS,), jnp.int32).at[group * BINS + bins].add(counted)
    return {
        **verdicts,
        **counts,
        "mask_is_finite": jnp.isfinite(output.mask_logits).all((1, 2, 3)),
        "histogram": histogram.reshape(1, 2, 2, BINS),
    }


def _bins(logit: jax.Array) -> jax.Array:
    """Bins in [0, BINS), rising with the logit: the first 16 bits of its float32, in order.

    A bin is at most as wide as 1/128 of its logit, however large or small the logits are.
    """
    logit = jnp.where(logit == 0, 0, logit)  # -0 too
    first = (jax.lax.bitcast_convert_type(logit, jnp.uint32) >> 16).astype(jnp.int32)
    # Negative numbers have the first bit set, and their bits rise as the value falls.
    return jnp.where(first < BINS // 2, first + BINS // 2, BINS - 1 - first)


def _run(
    step: Callable[[Any], Any], source: Generator[Batch], dataset: Dataset
) -> tuple[dict[str, np.ndarray], Timing]:
    """Feeds the devices, _IN_FLIGHT batches ahead of the results."""
    waiting: list[tuple[Batch, Any]] = []
    results: dict[str, list[np.ndarray]] = {}

    def collect(batch: Batch, output: dict[str, jax.Array]) -> None:
        found = {name: np.asarray(array) for name, array in output.items()}
        found["position"], found["has_mask"] = batch.position, batch.has_mask
        for name, array in found.items():
            if name == "histogram":
                summed = results.setdefault(name, [np.zeros((1, *array.shape[1:]), np.int64)])
                summed[0] += array.sum(0, keepdims=True)
            else:
                results.setdefault(name, []).append(array)

    start = asked = time.perf_counter()
    first_batch = data_wait = 0.0
    with tqdm(total=len(dataset), unit="frame", desc="Scoring", disable=None) as progress:
        for number, batch in enumerate(source):
            outputs = [array for _, output in waiting for array in output.values()]
            if all(array.is_ready() for array in outputs):
                data_wait += time.perf_counter() - asked
            waiting.append((batch, step(_to_devices(batch, dataset))))
            if number == 0 or len(waiting) >= _IN_FLIGHT:
                collect(*waiting.pop(0))
            progress.update(int((batch.position >= 0).sum()))
            if number == 0:
                first_batch = time.perf_counter() - start
                start, data_wait = time.perf_counter(), 0.0
            asked = time.perf_counter()
        for batch, output in waiting:
            collect(batch, output)
    seconds = time.perf_counter() - start
    parts = {name: np.concatenate(arrays) for name, arrays in results.items()}
    frames = sum(int((position >= 0).sum()) for position in results["position"][1:])
    return parts, Timing(frames, seconds, data_wait, first_batch)


def _to_devices(batch: Batch, dataset: Dataset) -> dict[str, np.ndarray]:
    is_fake = ~dataset.table.is_real[batch.position] & (batch.position >= 0)
    return {
        "image": batch.image,
        "mask": batch.mask,
        "has_mask": batch.has_mask,
        "is_fake": is_fake.astype(np.int32),
    }


def _predictions(dataset: Dataset, parts: dict[str, np.ndarray]) -> Predictions:
    """The gathered output of every frame, in the data set's order and without padding."""
    histogram = parts.pop("histogram", None)
    position = parts.pop("position")
    order = np.argsort(position, kind="stable")[(position < 0).sum() :]  # padding comes first
    if not np.array_equal(position[order], np.arange(len(dataset))):
        raise AssertionError("frames were lost or scored twice")
    wide = {"f": np.float64, "i": np.int64, "b": np.bool_}
    columns = {name: array[order].astype(wide[array.dtype.kind]) for name, array in parts.items()}
    masks: dict[str, Any] = {}
    if histogram is not None:
        masks["histogram"] = histogram.sum(0)
        masks["pixels"] = PixelCounts(*map(columns.pop, PixelCounts._fields))
    labels = (dataset.table.file, dataset.table.video, dataset.table.is_real)
    return Predictions(*labels, **columns, **masks)
