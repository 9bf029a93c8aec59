"""The data set `self_blended`: stored faces, each shown as it is and beside a fresh forgery."""

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from PIL import Image

from flax_unet.checkpoint.provenance import file_sha256, version
from train.data.dataset import Dataset
from train.data.layouts.faults import Fault
from train.data.storage.cache import fingerprint
from train.data.storage.manifest import Record, Table
from train.data.synthetic import blend, forge
from train.data.synthetic.pairs import originals
from train.data.synthetic.portraits import Portraits


@dataclasses.dataclass(frozen=True)
class Pairs(Sequence[dict[str, Any]]):
    """A real and a forged record of each stored face, in this order.

    They are the same whenever they are read. `redrawn` gives others.
    """

    faces: Sequence[dict[str, Any]]  # the stored records
    draw: tuple[int, int] = (0, 0)
    format: str = "PNG"  # of pictures and masks

    def __len__(self) -> int:
        return 2 * len(self.faces)

    def __getitem__(self, index: int) -> dict[str, Any]:  # pyright: ignore[reportIncompatibleMethodOverride] (no slices)
        """A record with the keys that are read of a frame: picture and mask."""
        face, is_forged = divmod(index, 2)
        content = self.faces[face]["image"]
        pixels, mask = blend.frame(content, (*self.draw, face), is_forged=bool(is_forged))
        return {"image": _encoded(pixels, self.format), "mask": _encoded(mask, self.format)}

    def redrawn(self, seed: int, epoch: int) -> Self:
        """The pairs of an epoch of training, in a format that takes no time."""
        return dataclasses.replace(self, draw=(seed, epoch + 1), format="PPM")


def make_faces(
    sources: Portraits, seed: int, batch: Sequence[int]
) -> tuple[list[Record], dict[str, Fault]]:
    """The records of some portraits, as they are stored: `original` is the photo's first face."""
    del seed  # forgeries are made when they are read
    records: list[Record] = []
    for index in batch:
        name, portrait = sources.portrait(index)
        first = sources.name(sources.first(index))
        records.append(
            {
                "file": f"{name}.png",
                "video": name,
                "original": first if first != name else "",
                "image": portrait.to_png(),
                "mask": b"",
                "label": 1,
            }
        )
    return records, {}


def paired(faces: Dataset) -> Dataset:
    """A stored split of faces as pairs of frames."""
    names = np.array([file.removesuffix(".png") for file in faces.table.file], object)
    real, fake = (names + f"_{kind}" for kind in ("real", "fake"))
    firsts = [first or name for name, first in zip(names, faces.table.original, strict=True)]
    of_fakes = np.array([*map(originals, names, firsts)], object)
    files = [
        np.array([f"{kind}/{name}.png" for name in names], object) for kind in ("real", "fake")
    ]

    def alternating(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return np.stack([first, second], axis=1).ravel()

    false = np.zeros(len(names), bool)
    table = Table(
        file=alternating(*files),
        video=alternating(real, fake),
        original=alternating(np.full_like(real, ""), of_fakes),
        is_real=alternating(~false, false),
        has_mask=alternating(~false, ~false),
    )
    return dataclasses.replace(
        faces,
        records=Pairs(faces.records),
        indices=np.arange(len(table)),
        table=table,
        fingerprint=fingerprint([faces.fingerprint, *_made_with()]),
        together=2,
    )


def _made_with() -> list[str]:
    """What forgeries depend on besides the faces: hashes of the code, and versions."""
    code = [file_sha256(Path(str(module.__file__))) for module in (blend, forge)]
    return [*code, *(f"{name} {version(name)}" for name in ("numpy", "opencv-python-headless"))]


def _encoded(array: np.ndarray, kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind, compress_level=1)
    return file.getvalue()
