"""Converts a PyTorch checkpoint to Orbax and verifies that it computes the same."""

import argparse
import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flax_unet.checkpoint import metadata
from flax_unet.checkpoint.provenance import file_sha256, made_by
from flax_unet.media.images import read_image, to_input
from flax_unet.nn.config import Size, UNetConfig, shown_size
from flax_unet.utils.arguments import image_size, program_name
from flax_unet.utils.cache import keep_compiled
from flax_unet.utils.errors import InputError, command
from flax_unet.utils.files import staged_directory

if TYPE_CHECKING:
    from convert.parity import Parity


@dataclasses.dataclass(frozen=True)
class Conversion:
    """What a conversion found and did."""

    layout: str
    config: UNetConfig
    source: dict[str, Any]  # as in source.json
    parity: "Parity | None"  # None when not verified
    out: Path | None  # None when nothing was written


def convert(
    path: str | Path,
    out: str | Path | None,
    *,
    overwrite: bool = False,
    verify: bool = True,
    images: Sequence[str | Path] = (),
    size: Size | None = None,
) -> Conversion:
    """Converts the PyTorch checkpoint `path` into the directory `out`.

    Args:
        path: a .pth, .pt or .safetensors file.
        out: where the checkpoint belongs; None goes through all the steps and writes nothing.
        overwrite: whether a checkpoint that stands there is replaced.
        verify: whether the result is compared with the PyTorch twin before it is put in place.
        images: pictures to compare on, besides seeded noise.
        size: (height, width) of the pictures that the network was trained on, which the file does
            not say; None: the layout's.

    Raises:
        InputError: the file cannot be read or fits no layout, the destination cannot be written,
            or the two models differ by more than the tolerance. The destination is untouched.
    """
    import jax

    path = Path(path)
    out = None if out is None else Path(out)
    try:
        cpu = jax.devices("cpu")[0]  # tolerances are of float32 arithmetic
    except RuntimeError as error:
        raise InputError(
            "JAX finds no CPU to verify on; take JAX_PLATFORMS out of the environment, or add cpu "
            f"to it: {str(error).splitlines()[0]}"
        ) from error
    # A link stays, and its target is replaced.
    stage = contextlib.nullcontext() if out is None else _stage(path, out.resolve(), overwrite)
    with stage as directory, jax.default_device(cpu):
        # PyTorch and Flax take seconds to import, so only what needs them does.
        from convert import layout, mapping, parity, state_dict
        from flax_unet.checkpoint import store

        pictures = [read_image(Path(image)) for image in images]
        content = state_dict.read(path)
        shapes = {key: array.shape for key, array in content.tensors.items()}
        try:
            name, config, matched = layout.identify({**shapes, **dict.fromkeys(content.values, ())})
            if size is not None:
                config = dataclasses.replace(config, image_size=size)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        except ValueError as error:
            raise InputError(f"--size {shown_size(size or (0, 0))}: {error}") from error
        weights = mapping.to_flax(matched.rules, content.tensors)
        if directory is not None:
            unused = {key: content.tensors[key] for key in matched.unused if key in content.tensors}
            trees = {metadata.WEIGHTS: weights, metadata.UNUSED: unused}
            store.write(directory, config, trees)
        proof = None
        if verify:
            # What was written is what is checked.
            model = store.load(directory) if directory else store.build(config, weights)
            crops = [to_input(picture, config.input_size)[None] for picture in pictures]
            inputs = np.concatenate([parity.noise(config.input_size), *crops])
            proof = parity.verify(model, content.tensors, inputs)
            if not proof.holds:
                raise InputError(f"{path}: the converted model computes something else:\n{proof}")
        source = {
            "file": path.name,
            "size_bytes": path.stat().st_size,
            "sha256": file_sha256(path),
            "layout": name,
            "container": content.container,
            "prefix": content.prefix,
            "entries": {
                key: {"value": content.values[key]}
                if key in content.values
                else {"shape": list(shapes[key]), "dtype": content.tensors[key].dtype.name}
                for key in content.order
            },
            "unused": matched.unused,
            "parity": proof.to_json() if proof else None,
            "made_by": made_by(),
        }
        if directory is not None:
            metadata.write_json(directory / metadata.SOURCE, source)
    return Conversion(name, config, source, proof, out)


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
    used = {key: entry for key, entry in entries.items() if key not in source["unused"]}
    parameters = sum(
        int(np.prod(entry["shape"]))
        for key, entry in used.items()
        if not key.endswith(("running_mean", "running_var"))
    )
    types = ", ".join(sorted({entry["dtype"] for entry in used.values()}))
    heads = {
        "classifier (1 = REAL)": config.has_classifier,
        "mask (1 = MANIPULATED)": config.has_mask_head,
    }
    rows = {
        "source": f"{source['file']}, {source['size_bytes']:,} bytes",
        "layout": conversion.layout,
        "heads": ", ".join(head for head, present in heads.items() if present),
        "pictures": f"{shown_size(config.input_size)} pixels (height x width)",
        "parameters": f"{parameters:,} in {len(used)} tensors of {types}, kept as float32",
        "unused": f"{len(source['unused'])} tensors, kept beside the weights",
        "wrapping": " ".join(filter(None, (source["container"], source["prefix"]))) or "none",
        "parity": "not verified" if conversion.parity is None else "holds",
    }
    if note := config.pooling_note:
        rows["note"] = note
    lines = [f"{label:12}{text}" for label, text in rows.items()]
    if conversion.parity is not None:
        lines.append(str(conversion.parity))
    lines.append(f"{'written':12}{conversion.out or 'nothing (--dry-run)'}")
    return "\n".join(lines)


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
    add("ckpt", type=Path, help=".pth, .pt or .safetensors file")
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
        "the older notebooks' (default: the layout's, 224 or 320); the file does not say",
    )
    args = parser.parse_args(argv)
    keep_compiled()
    out = None if args.dry_run else args.out or Path("checkpoints") / args.ckpt.stem
    conversion = convert(
        args.ckpt,
        out,
        overwrite=args.overwrite,
        verify=not args.no_verify,
        images=args.image,
        size=args.size,
    )
    print(_report(conversion))


if __name__ == "__main__":
    main()
