"""Says of each picture of a face whether it is REAL or FAKE, and which pixels are manipulated."""

import argparse
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from flax_unet import checkpoint
from flax_unet.errors import InputError, command
from flax_unet.files import staged_directory
from flax_unet.images import mask_image, overlay, read_image, to_input
from flax_unet.model import UNet, UNetOutput, compiled
from flax_unet.provenance import made_by

PREDICTIONS = "predictions.json"
MEANING = {
    "real_probability": "probability that the face is REAL (the classifier's class 1)",
    "fake_probability": "1 - real_probability",
    "verdict": "REAL where real_probability rounds to 1, else FAKE; exactly 0.5 is FAKE",
    "manipulated_share": "share of the network's pixels marked MANIPULATED (the mask's class 1)",
    "mask": "palette PNG at the picture's size; index 1 = MANIPULATED, 0 = untouched",
}


def describe(output: UNetOutput) -> dict[str, Any]:
    """The network's output for one picture as JSON values; null for heads that it lacks."""
    real = None if output.real_probability is None else float(output.real_probability[0])
    return {
        "verdict": None if output.is_real is None else ("REAL" if output.is_real[0] else "FAKE"),
        "real_probability": real,
        "fake_probability": None if real is None else 1 - real,
        "manipulated_share": None
        if output.is_manipulated is None
        else float(np.mean(output.is_manipulated[0])),
    }


def _line(path: Path, result: dict[str, Any]) -> str:
    """One result for people."""
    parts = [f"{path}:"]
    if result["verdict"] is not None:
        parts.append(
            f"{result['verdict']}  (real {result['real_probability']:.4f}, "
            f"fake {result['fake_probability']:.4f})"
        )
    if result["manipulated_share"] is not None:
        parts.append(f"{result['manipulated_share']:.2%} of the pixels marked manipulated")
    return "  ".join(parts)


def _names(paths: Sequence[Path]) -> Iterator[str]:
    """A name for the results of each picture; pictures of one name are numbered."""
    taken: set[str] = set()
    for path in paths:
        numbered = (f"{path.stem}-{number}" for number in itertools.count(2))
        name = next(n for n in itertools.chain([path.stem], numbered) if n not in taken)
        taken.add(name)
        yield name


def predict(model: UNet, paths: Sequence[Path], directory: Path | None) -> list[dict[str, Any]]:
    """Runs the network on each picture, prints a line for it, and writes masks and overlays.

    Args:
        model: in eval mode.
        paths: pictures.
        directory: where masks and overlays go; None writes none.

    Raises:
        InputError: pictures cannot be read; the message names all of them.
    """
    forward = compiled(model)
    results, problems = [], []
    # The bar is for people who watch; it is left out when nobody does.
    for path, name in zip(tqdm(paths, unit="picture", disable=None), _names(paths), strict=True):
        try:
            image = read_image(path)
        except InputError as error:
            problems.append(str(error))
            continue
        output = forward(to_input(image, model.config.image_size)[None])
        result = {"file": str(path), **describe(output)}
        if directory is not None and output.is_manipulated is not None:
            mask = mask_image(np.asarray(output.is_manipulated[0]), image.size)
            pictures = {"mask": mask, "overlay": overlay(image, mask)}
            for kind, picture in pictures.items():
                result[kind] = f"{name}.{kind}.png"
                picture.save(directory / result[kind])
        results.append(result)
        tqdm.write(_line(path, result))
    if problems:
        raise InputError("\n  ".join(problems))
    return results


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m flax_unet.predict",
        description=__doc__,
        epilog="Pictures are crops of one face. They are resized as the published evaluation does "
        "(PIL, NEAREST) and divided by 255. Probabilities: the classifier's 1 is REAL. Masks: 1 "
        "is MANIPULATED.",
    )
    parser.add_argument("checkpoint", type=Path, help="directory that convert.from_torch wrote")
    parser.add_argument("image", type=Path, nargs="+", help="picture of a face")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help=f"new directory for {PREDICTIONS}, masks and overlays as PNG",
    )
    args = parser.parse_args(argv)
    model = checkpoint.load(args.checkpoint)
    if args.out is None:
        predict(model, args.image, None)
        return
    with staged_directory(args.out) as stage:
        source = checkpoint.load_source(args.checkpoint)
        results = {
            "checkpoint": str(args.checkpoint),
            "checkpoint_source": {key: source.get(key) for key in ("file", "sha256", "layout")},
            "image_size": model.config.image_size,
            "meaning": MEANING,
            "images": predict(model, args.image, stage),
            "made_by": made_by(),
        }
        checkpoint.write_json(stage / PREDICTIONS, results)
    print(f"{args.out}: {PREDICTIONS}, masks and overlays")


if __name__ == "__main__":
    main()
