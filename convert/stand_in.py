"""Writes a stand-in for a published checkpoint: its keys, shapes and types, seeded weights.

The weights are plausible and far from their initial values (He-scaled kernels, BatchNorm
statistics off 0 and 1), so that a swapped or forgotten tensor changes what is computed.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from convert.carried import attach
from convert.state_dict import write
from convert.torch_unet import shapes
from flax_unet.checkpoint.worth import RANDOM, WORTH
from flax_unet.nn.config import PUBLISHED, WITH_UNUSED_LEVEL, UNetConfig
from flax_unet.utils.arguments import program_name
from flax_unet.utils.errors import command


def state_dict(
    config: UNetConfig, seed: int, *, unused_level: bool = False
) -> dict[str, np.ndarray]:
    """Seeded tensors by key, drawn in file order from one generator."""
    rng = np.random.default_rng(seed)
    return {
        key: _value(key, shape, rng)
        for key, shape in shapes(config, with_unused_level=unused_level).items()
    }


def published(layout: str, seed: int) -> dict[str, np.ndarray]:
    """`state_dict` of a published layout."""
    return state_dict(PUBLISHED[layout], seed, unused_level=layout in WITH_UNUSED_LEVEL)


def _value(key: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    leaf = key.rpartition(".")[-1]
    if leaf == "num_batches_tracked":
        return np.asarray(1234, np.int64)
    if leaf == "running_mean":
        array = rng.normal(0.0, 0.2, shape)
    elif leaf == "running_var" or (leaf == "weight" and len(shape) == 1):  # or a BatchNorm's scale
        array = rng.uniform(0.5, 1.5, shape)
    elif leaf == "weight":
        array = rng.normal(0.0, np.sqrt(2.0 / np.prod(shape[1:])), shape)
    else:
        array = rng.normal(0.0, 0.05, shape)
    return array.astype(np.float32)


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog=program_name("convert.stand_in"), description=__doc__)
    parser.add_argument("layout", choices=PUBLISHED)
    parser.add_argument("out", type=Path, help=".pth file to write")
    parser.add_argument("--seed", type=int, default=0, help="of the weights (default: 0)")
    args = parser.parse_args(argv)
    tensors = published(args.layout, args.seed)
    content = {key: torch.from_numpy(array) for key, array in tensors.items()}
    write(attach(content, {WORTH: RANDOM.to_json()}, PUBLISHED[args.layout]), args.out)
    print(f"{args.out}: {args.layout}, seed {args.seed}, {args.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
