"""Converts a PyTorch checkpoint to Orbax and verifies that it computes the same."""

import argparse
import contextlib
import dataclasses
import importlib.util
import io
import math
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from convert import layout, mapping, safe_load, state_dict
from convert.safe_load import Loaded
from convert.state_dict import StateDict
from flax_unet.checkpoint import metadata
from flax_unet.checkpoint.provenance import file_sha256, made_by
from flax_unet.checkpoint.worth import WORTH, Worth
from flax_unet.media.images import read_image, to_input
from flax_unet.nn.config import IMAGE_CHANNELS, Size, UNetConfig, shown_size
from flax_unet.nn.shapes import weight_shapes
from flax_unet.utils.arguments import image_size, program_name
from flax_unet.utils.cache import keep_compiled
from flax_unet.utils.errors import InputError, command, counted
from flax_unet.utils.filenames import shown
from flax_unet.utils.files import staged_directory

if TYPE_CHECKING:
    from convert.parity import Parity

_MOST_LISTED = 10  # tensors that the report names
_LARGEST_SIDE = 1024  # pixels that a file may ask for by itself: it is also a matter of memory


@dataclasses.dataclass(frozen=True)
class Conversion:
    """What a conversion found and did."""

    layout: str
    config: UNetConfig
    size_from: str  # who says the size of its pictures
    source: dict[str, Any]  # as in source.json
    parity: "Parity | None"  # None when not verified
    out: Path | None  # None when nothing was written


@dataclasses.dataclass(frozen=True)
class Recognised:
    """A PyTorch checkpoint whose network is known."""

    path: Path
    loaded: Loaded
    found: StateDict
    layout: str
    config: UNetConfig
    size_from: str  # who says the size of its pictures
    matched: mapping.Remap


def recognise(path: str | Path, *, key: str | None = None, size: Size | None = None) -> Recognised:
    """Reads a PyTorch checkpoint and finds its network, without PyTorch and JAX.

    The arguments are as for `convert`.

    Raises:
        InputError: the file cannot be read or fits no layout.
    """
    path = Path(path)
    loaded = safe_load.load(path)
    with _naming_shards(path):
        found = state_dict.find(path, loaded, key)
        try:
            name, config, matched = layout.identify(found.shapes)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
    config, size_from = _sized(path, config, size, found.brought.image_size)
    return Recognised(path, loaded, found, name, config, size_from, matched)


def _sized(
    path: Path, config: UNetConfig, size: Size | None, brought: Any
) -> tuple[UNetConfig, str]:
    """A network at the size that is asked for, or else that the file says; and who says it."""
    if size is not None:
        try:
            return dataclasses.replace(config, image_size=size), "by --size"
        except ValueError as error:
            raise InputError(f"--size {shown_size(size)}: {error}") from error
    if brought is None:
        return config, "usual for the layout"
    try:
        config = dataclasses.replace(config, image_size=brought)
    except ValueError as error:
        raise InputError(f"{path} says that its {error}. Give --size") from error
    if max(config.input_size) > _LARGEST_SIDE:
        raise InputError(
            f"{path} says that its pictures have {shown_size(config.input_size)} pixels; more than "
            f"{_LARGEST_SIDE} along a side must be asked for: give --size"
        )
    return config, "the file says so"


@contextlib.contextmanager
def _naming_shards(path: Path) -> Iterator[None]:
    """Errors in the block mention it where the file is one shard of several."""
    try:
        yield
    except InputError as error:
        if shard := safe_load.as_shard(path):
            raise InputError(f"{error}\n{shard}") from error
        raise


def convert(
    path: str | Path,
    out: str | Path | None,
    *,
    overwrite: bool = False,
    verify: bool = True,
    images: Sequence[str | Path] = (),
    size: Size | None = None,
    key: str | None = None,
) -> Conversion:
    """Converts the PyTorch checkpoint `path` into the directory `out`.

    Args:
        path: a file of PyTorch or of safetensors, the index of its shards, or their folder.
        out: where the checkpoint belongs; None goes through all the steps and writes nothing.
        overwrite: whether a checkpoint that stands there is replaced.
        verify: whether the result is compared with the PyTorch twin before it is put in place.
        images: pictures to compare on, besides seeded noise.
        size: (height, width) of the pictures that the network was trained on; None: what the
            file says, which those of `to_torch` do, or else the layout's.
        key: which network, where the file holds several; the message on them names them.

    Raises:
        InputError: the file cannot be read or fits no layout, the destination cannot be written,
            or the two models differ by more than the tolerance. The destination is untouched.
    """
    if verify:
        _need_torch()
    recognised = recognise(path, key=key, size=size)
    return write(recognised, out, overwrite=overwrite, verify=verify, images=images)


def _need_torch() -> None:
    if importlib.util.find_spec("torch") is None:  # found in no time; an import takes seconds
        raise ModuleNotFoundError("torch is not installed", name="torch")


def write(
    recognised: Recognised,
    out: str | Path | None,
    *,
    overwrite: bool = False,
    verify: bool = True,
    images: Sequence[str | Path] = (),
) -> Conversion:
    """Converts what `recognise` found. The arguments and errors are those of `convert`."""
    import jax

    path, out = recognised.path, None if out is None else Path(out)
    try:
        cpu = jax.devices("cpu")[0]  # tolerances are of float32 arithmetic
    except RuntimeError as error:
        raise InputError(
            "JAX finds no CPU to verify on; take JAX_PLATFORMS out of the environment, or add cpu "
            f"to it: {str(error).splitlines()[0]}"
        ) from error
    found, config, matched = recognised.found, recognised.config, recognised.matched
    # A link stays, and its target is replaced.
    stage = contextlib.nullcontext() if out is None else _stage(path, out.resolve(), overwrite)
    with stage as directory, jax.default_device(cpu):
        from flax_unet.checkpoint import store

        pictures = [read_image(Path(image)) for image in images]
        inventory = _inventory(recognised)
        tensors = state_dict.read(path, found, [*matched.rules, *inventory.native])
        weights = mapping.to_flax(matched.rules, tensors)
        if directory is not None:
            unused = {name: tensors[name] for name in inventory.native}
            if inventory.company:
                unused[state_dict.COMPANY] = np.concatenate(inventory.company)
            trees = {metadata.WEIGHTS: weights, metadata.UNUSED: unused}
            store.write(directory, config, trees)
        proof = None
        if verify:
            from convert import parity  # PyTorch takes seconds to import

            # What was written is what is checked.
            model = store.load(directory) if directory else store.build(config, weights)
            inputs = [parity.noise(config), *(_crop(picture, config) for picture in pictures)]
            proof = parity.verify(model, tensors, np.concatenate(inputs))
            if not proof.holds:
                raise InputError(f"{path}: the converted model computes something else:\n{proof}")
        first, *shards = recognised.loaded.files
        source = {
            "file": path.name,
            "size_bytes": recognised.loaded.size,
            "sha256": file_sha256(first),
            **({"shards": {file.name: file_sha256(file) for file in shards}} if shards else {}),
            "layout": recognised.layout,
            "container": found.container,
            "prefix": found.prefix,
            "entries": inventory.entries,
            "computed": {name: of.how for name, of in found.computed.items()},
            "unused": inventory.unused,
            "left_out": inventory.left_out,
            "parity": proof.to_json() if proof else None,
            **found.brought.records,
            WORTH: Worth.of(found.brought.records).to_json(),
            "made_by": made_by(),
        }
        if directory is not None:
            metadata.write_json(directory / metadata.SOURCE, source)
    return Conversion(recognised.layout, config, recognised.size_from, source, proof, out)


class _Inventory(NamedTuple):
    """What becomes of each entry of a file."""

    entries: dict[str, dict[str, Any]]  # as in source.json, by the key that `to_torch` gives
    unused: dict[str, str]  # tensors that the network does not use, by that key, and the reason
    left_out: dict[str, str]  # those whose values cannot be kept, and why; a predicate
    native: list[str]  # the published names of those of them that are stored as they are
    company: list[np.ndarray]  # the bytes of the others, and of tensors in parts


def _inventory(recognised: Recognised) -> _Inventory:
    found, matched = recognised.found, recognised.matched
    part_of = {part: whole for whole, of in found.computed.items() for part in of.parts}
    outside = [key for key in found.tensors if key not in found.names]
    # The original's class loads a network without its wrappers; what is more than that comes back
    # with the file's own keys.
    is_bare = found.is_wrapped and not outside and not matched.company
    inventory = _Inventory({}, {}, {}, [], [])
    position = 0
    for key, value in found.entries.items():
        name = found.names.get(key)
        given = name if is_bare and name is not None else key
        if key not in found.tensors:
            inventory.entries[given] = {"value": value}
            continue
        is_company = not any(name in of for of in (matched.rules, matched.unused, part_of))
        if is_company and value.lack:
            inventory.left_out[given] = value.lack
            continue
        entry = inventory.entries[given] = {"shape": list(value.shape), "dtype": value.dtype}
        if name is not None and (whole := part_of.get(name, name)) != given:
            entry["of"] = whole
        if name in matched.unused:
            inventory.unused[given] = matched.unused[name]
        elif is_company:
            reason = matched.company.get(name or "", mapping.COMPANY[""])
            inventory.unused[given] = found.others.get(key, reason)
        if name in matched.unused and value.size:
            inventory.native.append(name)
        elif name in part_of or name not in matched.rules:
            values = state_dict.stored(recognised.path, key, value)
            if values.size:
                inventory.company.append(np.ascontiguousarray(values).reshape(-1).view(np.uint8))
            entry["at"] = position
            position += values.nbytes
    return inventory


def _crop(picture: Any, config: UNetConfig) -> np.ndarray:
    """A picture as the network's input (1, H, W, in_channels)."""
    if config.in_channels != IMAGE_CHANNELS:
        picture = picture.convert("L")
    return to_input(picture, config.input_size)[None, ..., : config.in_channels]


def _stage(path: Path, out: Path, overwrite: bool) -> contextlib.AbstractContextManager[Path]:
    if out.exists() and not overwrite:
        raise InputError(f"{out} exists already; give --overwrite to replace it, or another --out")
    if out.exists() and (not metadata.may_be_replaced(out) or out in path.resolve().parents):
        raise InputError(
            f"{out} holds other files than a checkpoint's and is not overwritten; "
            "give another --out"
        )
    return staged_directory(out, may_replace=metadata.may_be_replaced)


def _report(conversion: Conversion) -> str:
    """What was done, as a short table."""
    source, config = conversion.source, conversion.config
    entries = source["entries"]
    used = [
        entry for key, entry in entries.items() if "shape" in entry and key not in source["unused"]
    ]
    shapes = weight_shapes(config)
    parameters = sum(
        math.prod(shape) for path, shape in shapes.items() if not path.endswith(("/mean", "/var"))
    )
    types = ", ".join(sorted({entry["dtype"] for entry in used}))
    heads = {
        "classifier (1 = REAL)": config.has_classifier,
        "mask (1 = MANIPULATED)": config.has_mask_head,
    }
    rows = {
        "source": f"{source['file']}, {source['size_bytes']:,} bytes",
        "layout": conversion.layout,
        "heads": ", ".join(head for head, present in heads.items() if present),
        "pictures": f"{shown_size(config.input_size)} pixels (height x width), "
        + conversion.size_from,
        "parameters": f"{parameters:,} in {len(used)} tensors of {types}, kept as float32",
        "unused": f"{len(source['unused'])} tensors, kept beside the weights",
        "wrapping": " ".join(filter(None, (source["container"], source["prefix"]))) or "none",
        "parity": "not verified" if conversion.parity is None else "holds",
        "worth": Worth.of(source).sentence,
    }
    if record := source.get(metadata.CALIBRATION):
        found = metadata.calibration_of(record)
        rows["calibrated"] = (
            f"the file brings a temperature of {found.temperature:g}, and calls a face FAKE from "
            f"{found.threshold:g} on: predict, the page and Detector use both, unless "
            f"{metadata.CALIBRATION} is removed from {metadata.SOURCE}"
        )
    if note := config.pooling_note:
        rows["note"] = note
    lines = [f"{label:12}{shown(text)}" for label, text in rows.items()]
    if conversion.parity is not None:
        lines.append(str(conversion.parity))
    reasons: dict[str, str] = source["unused"]
    company = [f"{k} ({why})" for k, why in reasons.items() if why in mapping.COMPANY.values()]
    known = {*mapping.COMPANY.values(), *mapping.IGNORED.values()}
    others = Counter(why for why in reasons.values() if why not in known)
    networks = [f"{counted(count, 'tensor')} {of}" for of, count in others.items()]
    lines += _listed("not used", [*networks, *company])
    lines += _listed("left out", [f"{key} {what}" for key, what in source["left_out"].items()])
    lines += _listed("computed", [f"{name}: {how}" for name, how in source["computed"].items()])
    lines.append(f"{'written':12}{conversion.out or 'nothing (--dry-run)'}")
    return "\n".join(lines)


def _listed(label: str, texts: Sequence[str]) -> list[str]:
    """A row of the report for each text, up to a limit."""
    lines = [*map(shown, texts[:_MOST_LISTED])]
    if rest := len(texts) - len(lines):
        lines.append(f"and {rest:,} more")
    return [f"{label:12}{line}" for line in lines]


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        prog=program_name("convert.from_torch"),
        description=__doc__,
        epilog="The layout is found from the names and shapes of the tensors. Nothing in the file "
        "is executed. The result is put in place only when the PyTorch and the Flax model agree.",
    )
    add = parser.add_argument
    add("ckpt", type=Path, help=".pth, .pt, .ckpt or .safetensors file, or the index of its shards")
    add("--out", type=Path, metavar="DIR", help="where to write (default: checkpoints/<stem>)")
    add("--overwrite", action="store_true", help="replace a checkpoint that stands there")
    add("--dry-run", action="store_true", help="go through all the steps, write nothing")
    add("--no-verify", action="store_true", help="skip the comparison with PyTorch")
    add(
        "--image",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="compare on this picture too, besides seeded noise (may be given again)",
    )
    add(
        "--size",
        type=image_size,
        metavar="HxW",
        help="height x width of the pictures that the network was trained on, such as 320x224 for "
        "the older notebooks' (default: the layout's, 224 or 320, except where the file says "
        "another, as convert.to_torch writes it)",
    )
    add(
        "--key",
        metavar="NAME",
        help="which network, where the file holds several; without it they are listed",
    )
    args = parser.parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # it may lack letters of what the file holds
        sys.stdout.reconfigure(errors="backslashreplace")
    verify = not args.no_verify
    if verify:
        _need_torch()
    recognised = recognise(args.ckpt, key=args.key, size=args.size)
    keep_compiled()  # imports JAX, which what is wrong with a file need not wait for
    out = None if args.dry_run else args.out or Path("checkpoints") / _stem(args.ckpt)
    options: Any = {"overwrite": args.overwrite, "verify": verify, "images": args.image}
    print(_report(write(recognised, out, **options)))


def _stem(path: Path) -> str:
    """The name of the directory for a checkpoint, without the suffixes that checkpoints have."""
    name = path.resolve().name if path.is_dir() else path.name
    for suffix in (".index.json", ".tar"):
        name = name.removesuffix(suffix) or name
    return Path(name).stem if not path.is_dir() else name


if __name__ == "__main__":
    main()
