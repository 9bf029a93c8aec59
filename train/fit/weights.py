"""Where training starts: the first weights, and what is kept of the checkpoint they are from."""

from pathlib import Path

import jax
import numpy as np
from flax import nnx
from flax.traverse_util import unflatten_dict

from flax_unet import UNet, UNetConfig
from flax_unet.checkpoint import metadata, store
from flax_unet.checkpoint.store import Tree, flat
from flax_unet.checkpoint.worth import Worth
from flax_unet.utils.errors import InputError
from train.data.dataset import Dataset
from train.fit.config import DEFAULT_LAYOUT

_SLIM = "ynet-slim"  # its class lacks the level below the encoder that the others own but never use


def origin(config: UNetConfig, layout: str | None, start: Path | None) -> tuple[str, Tree]:
    """What a checkpoint keeps of the one that training started from, to convert back to PyTorch.

    Returns:
        A published layout, and the tensors, by their names there, of the level that the original
        class owns and never uses.

    Raises:
        InputError: the checkpoint `start` is damaged.
    """
    if start is None:
        return layout or DEFAULT_LAYOUT, {}
    source, before = metadata.load_source(start), metadata.load_config(start)
    known = source.get("layout") or metadata.trained(source).get("layout") or DEFAULT_LAYOUT
    layout = layout or str(known).partition(",")[0]  # after a comma: how it differs
    parts = ("widths", "has_classifier", "decoder_levels")  # of the class that owns the level
    if layout == _SLIM or any(getattr(config, part) != getattr(before, part) for part in parts):
        return layout, {}
    unused, level = store.load_unused(start), f"down{config.levels + 1}."
    return layout, {key: unused[key] for key in unused if key.startswith(level)}


def worth_after(data: Dataset, start: Path | None) -> Worth:
    """What weights are worth that start from a checkpoint, or at random, and learn from a data set.

    The real frames of a generated data set are of as many people as there are videos of them.
    """
    people = len(set(data.table.video[data.table.is_real]))
    before = None if start is None else Worth.of_checkpoint(start)
    is_blended = data.together > 1
    return Worth.trained(
        data.name, frames=len(data), people=people, is_blended=is_blended, before=before
    )


def initial_weights(config: UNetConfig, seed: int, start: Path | None) -> tuple[Tree, list[str]]:
    """The first parameters and statistics, on the host, and notes on their origin.

    They are those of the checkpoint `start`, if there is one; heads that it lacks, or all of them
    without it, get PyTorch's initial values, drawn by `seed`.

    Raises:
        InputError: the checkpoint is damaged, or one of another network.
    """

    def drawn() -> dict[str, np.ndarray]:
        fresh = nnx.state(UNet(config, rngs=nnx.Rngs(seed)))
        return flat(jax.tree.map(np.asarray, nnx.to_pure_dict(fresh)))

    if start is None:
        return unflatten_dict(drawn(), sep="/"), []
    notes = []
    weights = flat(store.abstract_weights(config))
    found, before = flat(store.load_weights(start)), metadata.load_config(start)
    # Encoder levels below the one from which the decoder starts belong to the classifier.
    shared = config.decoder_levels or before.decoder_levels or config.levels
    deep = range(shared + 1, max(config.levels, before.levels) + 1)
    classifier = ("classifier/", *(f"down{level}/" for level in deep))
    for head, layers in {"classifier": classifier, "mask head": ("up", "outc/")}.items():
        has, needs = (
            {path for path in leaves if path.startswith(layers)} for leaves in (found, weights)
        )
        if has and not needs:
            notes.append(f"the {head} of {start} is not trained and is left out")
            found = {path: leaf for path, leaf in found.items() if path not in has}
        elif needs and not has:
            notes.append(f"{start} has no {head}; it starts fresh")
            fresh = drawn()
            found |= {path: fresh[path] for path in needs}
    there, here = ({(path, x.shape) for path, x in of.items()} for of in (found, weights))
    if differing := sorted({path for path, _ in there ^ here}):
        theirs, ours = before.to_json(), config.to_json()
        fields = [f"{k}: {v} there, {ours[k]} here" for k, v in theirs.items() if v != ours[k]]
        raise InputError(
            f"{start} is of another network ({'; '.join(fields)}), so {len(differing)} of its "
            f"arrays do not fit, {differing[0]} first. Leave out the options that differ from "
            "it, or start without --init-from"
        )
    return unflatten_dict(found, sep="/"), notes
