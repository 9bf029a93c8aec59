"""Writes an Orbax checkpoint as a PyTorch state dict that the original code loads."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convert.file_kind import command as command_line
from convert.tensors import NUMPY
from flax_unet.checkpoint import metadata
from flax_unet.nn.config import WITH_UNUSED_LEVEL, UNetConfig
from flax_unet.utils.arguments import program_name
from flax_unet.utils.errors import InputError, command

if TYPE_CHECKING:
    from flax_unet.checkpoint.store import Tree


def to_torch(path: str | Path, out: str | Path, *, overwrite: bool = False) -> int:
    """Writes the checkpoint directory `path` as the PyTorch file `out`.

    A converted checkpoint gives its source's tensors bit for bit, in their order and type, also
    those that the network does not use. Containers are left off, and so are the usual wrappers of a
    network that is alone in its file (`module.`, `model.`), so that `load_state_dict(strict=True)`
    accepts the result; otherwise the keys are the file's. A trained checkpoint gives the published
    names, and in layout ynet-224 also the level that the original class has and never uses: from
    the file that training started with, or else a fresh one. What the weights are worth and their
    calibration, if either is recorded, travel in the state dict's `_metadata`, and so does the size
    of the network's pictures where it is not the layout's.

    Returns:
        How many tensors were written.

    Raises:
        InputError: `path` is not a valid checkpoint, or `out` cannot be written.
    """
    path, out = Path(path), Path(out)
    if metadata.is_checkpoint(out) and not metadata.is_checkpoint(path):
        raise InputError(
            f"{out} is a checkpoint and {path} is not: the arguments are in the wrong order. Type "
            f"{command_line('convert.to_torch', out, path)}"
        )
    if out.exists() and not overwrite:
        raise InputError(f"{out} exists already; give --overwrite to replace it, or another name")
    if out.suffix == ".safetensors":
        raise InputError(f"{out}: the original code reads .pth files; give that suffix")
    config = metadata.load_config(path)
    source = metadata.load_source(path)
    # Imported late: PyTorch and JAX take seconds, which what is wrong above need not wait for.
    import torch

    from convert import carried, state_dict
    from flax_unet.checkpoint import store

    entries = source.get("entries")
    weights, unused = store.load_weights(path), store.load_unused(path)
    if entries is None:
        content = _published(config, weights, unused, source)
    else:
        try:
            content = _as_in_source(config, weights, unused, entries)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{path / metadata.SOURCE} does not describe the weights beside it: {error!r}"
            ) from error
    state_dict.write(carried.attach(content, source, config), out)
    return sum(isinstance(value, torch.Tensor) for value in content.values())


def _published(
    config: UNetConfig, weights: "Tree", unused: dict[str, np.ndarray], source: dict[str, Any]
) -> dict[str, Any]:
    """The state dict of the published code, for a model that was trained here."""
    import torch

    from convert import layout, mapping
    from convert.torch_unet import shapes, unused_level

    # As float32, which the weights have been since they were converted; counters stay whole.
    unused = {
        key: tensor.astype(np.float32) if tensor.ndim else tensor
        for key, tensor in unused.items()
        if key.startswith(f"down{config.levels + 1}.")
    }
    trained = metadata.trained(source)
    names, name = layout.published_names(config), trained.get("layout")
    if unused or not WITH_UNUSED_LEVEL.isdisjoint([name] if name in names else names):
        seed = trained.get("seed")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed if isinstance(seed, int) else 0)
            fresh = unused_level(config)
        unused = {key: value.numpy() for key, value in fresh.items()} | unused
    rules = {rule.source: rule for rule in mapping.expand(config)}
    tensors = unused | mapping.to_torch(rules, weights)
    counter = np.zeros((), np.int64)  # num_batches_tracked, which nothing reads
    return {
        key: torch.from_numpy(tensors.get(key, counter.copy()))
        for key in shapes(config, with_unused_level=bool(unused))
    }


def _as_in_source(
    config: UNetConfig,
    weights: "Tree",
    unused: dict[str, np.ndarray],
    entries: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    """The entries of the source, each in its own type."""
    from convert import mapping, state_dict

    rules = {rule.source: rule for rule in mapping.expand(config)}
    names = {key: entry.get("of", key) for key, entry in entries.items()}
    if lacking := sorted(rules.keys() - names.values()):
        raise ValueError(f"it lacks {', '.join(lacking)}")
    company = {state_dict.COMPANY: np.empty(0, np.uint8)}  # where all of it is empty
    tensors = {**mapping.to_torch(rules, weights), **company, **unused}
    found = {}
    for key, entry in entries.items():
        if "value" in entry:
            found[key] = entry["value"]
            continue
        array, shape = tensors[state_dict.COMPANY if "at" in entry else names[key]], entry["shape"]
        if "at" in entry:
            array = _part(array, entry["at"], entry["dtype"], shape)
        if list(array.shape) != shape:
            raise ValueError(f"{key} has shape {list(array.shape)}, not {shape}")
        found[key] = state_dict.from_numpy(array, entry["dtype"])
    return found


def _part(data: np.ndarray, start: int, dtype: str, shape: list[int]) -> np.ndarray:
    """The tensor whose bytes begin at a position of `data`."""
    size = math.prod(shape) * NUMPY[dtype].itemsize
    if min(start, size) < 0 or start + size > data.size:
        raise ValueError(f"{size} bytes at {start} are more than there are")
    return data[start : start + size].view(NUMPY[dtype]).reshape(shape)


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        prog=program_name("convert.to_torch"),
        description=__doc__,
        epilog="A converted checkpoint gives back its source's tensors bit for bit.",
    )
    parser.add_argument("checkpoint", type=Path, help="directory that convert.from_torch wrote")
    parser.add_argument("out", type=Path, help=".pth file to write")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there")
    args = parser.parse_args(argv)
    count = to_torch(args.checkpoint, args.out, overwrite=args.overwrite)
    print(f"{args.out}: {count} tensors, {args.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
