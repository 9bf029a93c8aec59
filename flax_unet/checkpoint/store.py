"""Reads and writes checkpoints: the weights by Orbax, beside their metadata."""

import contextlib
import functools
import hashlib
import math
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import absl.logging
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.traverse_util import flatten_dict
from jax.typing import DTypeLike

from flax_unet.checkpoint import metadata
from flax_unet.checkpoint.provenance import file_sha256
from flax_unet.nn.config import UNetConfig
from flax_unet.nn.unet import UNet
from flax_unet.utils.errors import InputError
from flax_unet.utils.files import check_space, followed

_PAUSE, _QUIET, _TRIES = 0.05, 4, 60  # seconds between looks; looks without a file; looks at most
_OVERHEAD = 2**20  # bytes of metadata, more than any checkpoint has
MAX_COMPRESSION = 64  # weights that claim more bytes than this many times their files are refused

Tree = dict[str, Any]
"""Nested dictionaries with arrays, or their shapes and dtypes, at the leaves."""


def flat(tree: Tree) -> dict[str, Any]:
    """The leaves of a tree by their path, such as `inc/conv1/kernel`."""
    return dict(flatten_dict(tree, sep="/"))


def abstract_weights(config: UNetConfig) -> Tree:
    """Shape and dtype of every parameter and statistic, without allocating any."""
    return nnx.to_pure_dict(_abstract(config, jnp.float32)[1])


@functools.lru_cache(maxsize=16)  # tracing a network takes a quarter of a second
def _abstract(config: UNetConfig, dtype: DTypeLike) -> tuple[nnx.GraphDef[UNet], nnx.State]:
    return nnx.split(nnx.eval_shape(lambda: UNet(config, dtype=dtype, rngs=nnx.Rngs(0))))


def build(config: UNetConfig, weights: Tree, *, dtype: DTypeLike = jnp.float32) -> UNet:
    """A model in eval mode with the given weights, a tree like `abstract_weights(config)`.

    Its convolutions compute in `dtype`, float32 or bfloat16.
    """
    graphdef, state = jax.tree.map(lambda leaf: leaf, _abstract(config, dtype))  # a copy
    nnx.replace_by_pure_dict(state, jax.tree.map(jnp.asarray, weights))
    model = nnx.merge(graphdef, state)
    model.eval()
    return model


def write(directory: Path, config: UNetConfig, trees: Mapping[str, Tree]) -> None:
    """Writes all but `source.json` into an existing empty directory.

    The trees are of arrays on the host, by the name of their folder; `weights` is one of them.

    Raises:
        InputError: the disk is full or cannot be written to.
    """
    fields = {"format_version": metadata.FORMAT_VERSION, "model": config.to_json()}
    metadata.write_json(directory / metadata.CONFIG, fields)
    check_space(directory.parent, sum(leaf.nbytes for leaf in jax.tree.leaves(trees)) + _OVERHEAD)
    digests: dict[str, str] = {}
    for name, tree in trees.items():
        if tree:
            try:
                with _orbax("weights cannot be written: {}") as checkpointer:
                    checkpointer.save(directory.resolve() / name, tree)
            except InputError:
                _remove_written(directory, name)
                raise
            digests |= _digests(directory / name)
    metadata.write_json(directory / metadata.MANIFEST, digests)


def _remove_written(directory: Path, name: str) -> None:
    """Removes what a save that failed has written.

    Orbax's threads go on writing for a moment, and make the directory again.
    """
    absent = 0
    for _ in range(_TRIES):
        written = list(directory.glob(f"{name}*"))
        for path in written:
            shutil.rmtree(path, ignore_errors=True)
        absent = 0 if written else absent + 1
        if absent == _QUIET:
            return
        time.sleep(_PAUSE)


def load(path: str | Path, *, dtype: DTypeLike = jnp.float32) -> UNet:
    """The model of a checkpoint, a directory that `convert.from_torch` or training wrote.

    It is in eval mode. Its convolutions compute in `dtype`, float32 or bfloat16.

    Raises:
        InputError: `path` is not a checkpoint, or it is damaged.
    """
    return build(metadata.load_config(path), load_weights(path), dtype=dtype)


def fingerprint(path: Path) -> dict[str, Any]:
    """The identity of a checkpoint: its origin, and a digest of its weights.

    The digest is of the tensors' names, dtypes, shapes and values: it is the same for every copy
    and for every conversion of the same weights, though Orbax's files differ.

    Raises:
        InputError: the checkpoint is damaged.
    """
    source = metadata.load_source(path)
    digest = hashlib.sha256()
    for name, leaf in sorted(flat(load_weights(path)).items()):
        digest.update(f"{name} {leaf.dtype} {leaf.shape}\n".encode())
        digest.update(leaf.tobytes())
    return {
        **{name: source.get(name) for name in ("file", "sha256", "layout", "trained")},
        "weights_sha256": digest.hexdigest(),
    }


def load_weights(path: str | Path) -> Tree:
    """The parameters and statistics of a checkpoint, on the host.

    Raises:
        InputError: the checkpoint is damaged.
    """
    expected = abstract_weights(metadata.load_config(path))
    return load_tree(followed(Path(path)) / metadata.WEIGHTS, expected)


def load_unused(path: str | Path) -> dict[str, np.ndarray]:
    """The tensors of the source that the network does not use, by their name there.

    Raises:
        InputError: the checkpoint is damaged.
    """
    directory = followed(Path(path)) / metadata.UNUSED
    return load_tree(directory, None) if directory.exists() else {}


def load_tree(directory: Path, expected: Tree | None) -> Tree:
    """Reads an Orbax tree, a folder of a checkpoint, to the host, after its files are checked.

    `expected` has the shapes and dtypes of its leaves, if they are known.

    Raises:
        InputError: the tree is damaged, or differs from `expected`.
    """
    from orbax.checkpoint import RestoreArgs

    directory = directory.resolve()
    _check_files(directory)
    again = "Convert or copy the checkpoint again"
    with _orbax(f"{directory} is damaged: {{}}. {again}") as checkpointer:
        found = checkpointer.metadata(directory).item_metadata.tree
        _check_tree(directory, found, expected)
        on_host = jax.tree.map(lambda _: RestoreArgs(restore_type=np.ndarray), found)
        tree = checkpointer.restore(directory, restore_args=on_host)
    if bad := [path for path, leaf in flat(tree).items() if not np.isfinite(leaf).all()]:
        raise InputError(
            f"{directory} holds NaN or infinite values in {', '.join(bad)}; use another checkpoint"
        )
    return tree


def _checkpointer() -> Any:
    import orbax.checkpoint as ocp  # takes a quarter of a second, which --help would pay

    # Each process works alone: trees are on the host, so there is nothing to wait for.
    alone = ocp.options.MultiprocessingOptions(
        primary_host=jax.process_index(),
        active_processes={jax.process_index()},
        barrier_sync_key_prefix=f"process{jax.process_index()}",
    )
    # Uncompressed: weights hardly shrink, and no small file can claim to hold large arrays.
    handler = ocp.PyTreeCheckpointHandler(use_compression=False, multiprocessing_options=alone)
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


@contextlib.contextmanager
def _orbax(message: str) -> Iterator[Any]:
    """A checkpointer whose errors become an InputError with one line instead of a logged traceback.

    Args:
        message: of that error; `{}` stands for the first line of Orbax's.
    """
    verbosity = absl.logging.get_verbosity()
    absl.logging.set_verbosity(absl.logging.FATAL)
    try:
        with _checkpointer() as checkpointer:
            yield checkpointer
    except InputError:
        raise
    except Exception as error:  # each storage driver of Orbax raises errors of its own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(message.replace("{}", reason)) from error
    finally:
        absl.logging.set_verbosity(verbosity)


def _digests(directory: Path) -> dict[str, str]:
    """The SHA-256 of each file in a folder of a checkpoint, by its path from the checkpoint."""
    files = (path for path in sorted(directory.rglob("*")) if path.is_file())
    return {path.relative_to(directory.parent).as_posix(): file_sha256(path) for path in files}


def _check_files(directory: Path) -> None:
    """Raises an InputError unless the files are those of the manifest, if there is one."""
    parent = directory.parent
    if not (parent / metadata.MANIFEST).exists():
        return
    expected, found = metadata.read_json(parent / metadata.MANIFEST), _digests(directory)
    for name, digest in found.items():
        if digest != expected.get(name):
            raise InputError(f"{parent / name} is damaged. Convert or copy the checkpoint again")
    for name in sorted(expected.keys() - found.keys()):
        if name.startswith(f"{directory.name}/"):
            raise InputError(f"{parent}: {name} is missing. Copy the checkpoint again")


def _check_tree(directory: Path, found: Tree, expected: Tree | None) -> None:
    """Raises an InputError unless `found` has the leaves of `expected` and fits its files."""
    if expected is not None:
        shapes, wanted = (
            {path: f"{leaf.shape} {leaf.dtype}" for path, leaf in flat(tree).items()}
            for tree in (found, expected)
        )
        if problems := [
            f"{path}: expected {wanted.get(path, 'nothing')}, found {shapes.get(path, 'nothing')}"
            for path in sorted(wanted.keys() | shapes.keys())
            if wanted.get(path) != shapes.get(path)
        ]:
            raise InputError(
                f"{directory} does not hold the network of {metadata.CONFIG}:\n  "
                + "\n  ".join(problems)
            )
    claimed = sum(leaf.dtype.itemsize * math.prod(leaf.shape) for leaf in jax.tree.leaves(found))
    stored = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    if claimed > MAX_COMPRESSION * stored + _OVERHEAD:
        raise InputError(f"{directory} claims {claimed:,} bytes of weights in {stored:,} on disk")
