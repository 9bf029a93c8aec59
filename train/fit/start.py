"""What training starts from: its first weights, and what is kept of the file they are from."""

from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from flax import nnx
from flax.traverse_util import unflatten_dict

from flax_unet import UNet, UNetConfig
from flax_unet.checkpoint import metadata, store
from flax_unet.checkpoint.store import Tree, flat
from flax_unet.utils.errors import InputError
from train.fit.config import DEFAULT_LAYOUT

_SLIM = "ynet-slim"  # the layout whose class does not own the level


class Origin(NamedTuple):
    """What checkpoints keep of the file that training started from, for the way back to PyTorch."""

    layout: str  # a published one
    unused: Tree  # tensors, by their name there, of the level that the original class never uses


def origin(config: UNetConfig, layout: str | None, start: Path | None) -> Origin:
    """The origin of a training.

    Args:
        config: the network.
        layout: the published one that is named for it.
        start: the checkpoint that training starts from.

    Raises:
        InputError: the checkpoint is damaged.
    """
    if start is None:
        return Origin(layout or DEFAULT_LAYOUT, {})
    source, before = metadata.load_source(start), metadata.load_config(start)
    known = source.get("layout") or metadata.trained(source).get("layout") or DEFAULT_LAYOUT
    layout = layout or str(known).partition(",")[0]  # behind it stands how it differs
    parts = ("widths", "has_classifier", "decoder_levels")  # of the class that owns the level
    if layout == _SLIM or any(getattr(config, part) != getattr(before, part) for part in parts):
        return Origin(layout, {})
    unused, level = store.load_unused(start), f"down{config.levels + 1}."
    return Origin(layout, {key: unused[key] for key in unused if key.startswith(level)})


def initial_weights(config: UNetConfig, seed: int, start: Path | None) -> tuple[Tree, list[str]]:
    """The first parameters and statistics, on the host, and notes on where they are from.

    Args:
        config: the network.
        seed: of PyTorch's initial values.
        start: a checkpoint to take weights from; heads that it lacks start fresh.

    Raises:
        InputError: the checkpoint is damaged, or one of another network.
    """
    fresh = nnx.state(UNet(config, rngs=nnx.Rngs(seed)))
    weights = flat(jax.tree.map(np.asarray, nnx.to_pure_dict(fresh)))
    if start is None:
        return _nested(weights), []
    found = flat(store.load_weights(start))
    notes = []
    for head, layers in _heads(config, metadata.load_config(start)).items():
        has, needs = (
            {path for path in leaves if path.startswith(layers)} for leaves in (found, weights)
        )
        if has and not needs:
            notes.append(f"the {head} of {start} is not trained and is left out")
            found = {path: leaf for path, leaf in found.items() if path not in has}
        elif needs and not has:
            notes.append(f"{start} has no {head}; it starts fresh")
            found |= {path: weights[path] for path in needs}
    shapes, wanted = ({p: leaf.shape for p, leaf in leaves.items()} for leaves in (found, weights))
    if differing := [p for p in sorted(shapes.keys() | wanted) if shapes.get(p) != wanted.get(p)]:
        theirs, ours = metadata.load_config(start).to_json(), config.to_json()
        fields = [f"{k}: {v} there, {ours[k]} here" for k, v in theirs.items() if v != ours[k]]
        raise InputError(
            f"{start} is of another network ({'; '.join(fields)}), so {len(differing)} of its "
            f"arrays do not fit, {differing[0]} first. Leave out what it should decide, or start "
            "without --init-from"
        )
    return _nested(found), notes


def _heads(config: UNetConfig, start: UNetConfig) -> dict[str, tuple[str, ...]]:
    """What the names of each head's layers begin with, in two networks.

    Levels of the encoder below the one that the decoder starts from are the classifier's.
    """
    shared = config.decoder_levels or start.decoder_levels or config.levels
    deep = range(shared + 1, max(config.levels, start.levels) + 1)
    return {
        "classifier": ("classifier/", *(f"down{level}/" for level in deep)),
        "mask head": ("up", "outc/"),
    }


def _nested(leaves: dict[str, np.ndarray]) -> Tree:
    return unflatten_dict({tuple(path.split("/")): leaf for path, leaf in leaves.items()})
