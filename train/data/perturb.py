"""Perturbs frames as the field does to measure robustness: kinds of damage at five severities.

The kinds and, unless said otherwise, the severities are those of DeeperForensics-1.0 (Jiang et al.,
CVPR 2020; its `perturbation` code); docs/robustness.md has the table.
"""

import dataclasses
import hashlib
import importlib.util
import io
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from flax_unet.media.images import to_rgb
from train.data.dataset import Dataset
from train.data.layouts import image_files

SEVERITIES = 5
_BLOCKS_A_SIDE = 32  # a block of 8 pixels in a picture of 256
_GREY = 128
_LUMA = np.array([0.299, 0.587, 0.114])  # BT.601, of red, green and blue


class Kind(NamedTuple):
    """A kind of damage."""

    name: str
    parameter: str
    values: tuple[float, ...]  # of the parameter, by severity from 1 on
    # From a picture (H, W, 3) uint8, a value and random numbers to the perturbed picture.
    change: Callable[[np.ndarray, Any, np.random.Generator], np.ndarray]


def _jpeg(image: np.ndarray, quality: int, _: np.random.Generator) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def _h264(image: np.ndarray, crf: int, _: np.random.Generator) -> np.ndarray:
    """As a video of one frame; odd sides are filled up for it."""
    import av  # of the extra `media`

    height, width = image.shape[:2]
    even = np.pad(image, [(0, height % 2), (0, width % 2), (0, 0)], "edge")
    encoder: Any = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = even.shape[1], even.shape[0], "yuv420p"
    encoder.time_base, encoder.thread_count = Fraction(1, 25), 1
    encoder.options = {"crf": str(crf)}
    frame = av.VideoFrame.from_ndarray(even, "rgb24").reformat(format="yuv420p")
    packets = [*encoder.encode(frame), *encoder.encode(None)]
    decoder: Any = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    (decoded,) = [each for packet in (*packets, None) for each in decoder.decode(packet)]
    return decoded.to_ndarray(format="rgb24")[:height, :width]


def _blur(image: np.ndarray, kernel: int, _: np.random.Generator) -> np.ndarray:
    from scipy.ndimage import gaussian_filter  # takes a moment to import

    radius = kernel // 2
    sigma, sides = (kernel / 6, kernel / 6, 0), (radius, radius, 0)
    return _8bit(gaussian_filter(image.astype(np.float32), sigma, mode="mirror", radius=sides))


def _noise(image: np.ndarray, variance: float, rng: np.random.Generator) -> np.ndarray:
    return _8bit(image + 255 * np.sqrt(variance) * rng.standard_normal(image.shape))


def _blocks(image: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    image, sides = image.copy(), image.shape[:2]
    side = max(1, round(min(sides) / _BLOCKS_A_SIDE))
    # Drawn in pairs, so that a higher severity adds blocks to those of a lower one.
    corners = rng.random((count, 2)) * (np.array(sides) - side + 1)
    for top, left in corners.astype(int).tolist():
        image[top : top + side, left : left + side] = _GREY
    return image


def _saturation(image: np.ndarray, factor: float, _: np.random.Generator) -> np.ndarray:
    grey = (image @ _LUMA)[..., None]
    return _8bit(grey + factor * (image - grey))


def _contrast(image: np.ndarray, factor: float, _: np.random.Generator) -> np.ndarray:
    return _8bit(factor * image.astype(np.float64))


def _downscaling(image: np.ndarray, factor: int, _: np.random.Generator) -> np.ndarray:
    picture, bilinear = Image.fromarray(image), Image.Resampling.BILINEAR
    small = picture.resize([max(1, side // factor) for side in picture.size], bilinear)
    return np.asarray(small.resize(picture.size, bilinear))


def _8bit(values: np.ndarray) -> np.ndarray:
    return values.round().clip(0, 255).astype(np.uint8)


_H264 = "h264"
KINDS = (
    Kind("jpeg", "quality", (90, 70, 50, 30, 10), _jpeg),
    Kind(_H264, "CRF", (30, 32, 35, 38, 40), _h264),
    Kind("blur", "kernel, pixels", (7, 9, 13, 17, 21), _blur),
    Kind("noise", "variance", (0.001, 0.002, 0.005, 0.01, 0.05), _noise),
    Kind("blocks", "grey blocks", (16, 32, 48, 64, 80), _blocks),
    Kind("saturation", "factor", (0.4, 0.3, 0.2, 0.1, 0.0), _saturation),
    Kind("contrast", "factor", (0.85, 0.725, 0.6, 0.475, 0.35), _contrast),
    Kind("downscaling", "divisor", (2, 3, 4, 5, 6), _downscaling),
)


def available() -> tuple[Kind, ...]:
    """The kinds that can be made here: H.264 needs PyAV."""
    return tuple(
        kind for kind in KINDS if kind.name != _H264 or importlib.util.find_spec("av") is not None
    )


def perturbed(image: np.ndarray, kind: Kind, severity: int, name: str, seed: int) -> np.ndarray:
    """A picture, (H, W, 3) uint8, with a kind of damage of a severity from 1 to SEVERITIES.

    The result depends on nothing else: `name` is the frame's. What is random is drawn alike for all
    severities.
    """
    return _changed(image, kind, severity, _key(name), seed)


def _changed(image: np.ndarray, kind: Kind, severity: int, key: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng([seed, key, _key(kind.name)])
    return kind.change(image, kind.values[severity - 1], rng)


def _key(name: str) -> int:
    digest = hashlib.sha256(name.encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big")


@dataclasses.dataclass(frozen=True, eq=False)
class _Perturbed(Sequence):
    """The records of a split, once for each kind and severity."""

    records: Sequence[dict[str, Any]]
    indices: np.ndarray  # (N,) of the frames
    keys: np.ndarray  # (N,) uint64, of their names
    kinds: tuple[Kind, ...]
    seed: int

    def __len__(self) -> int:
        return len(self.kinds) * SEVERITIES * len(self.indices)

    def __getitem__(self, index: int) -> dict[str, Any]:  # pyright: ignore[reportIncompatibleMethodOverride] (no slices)
        """A record with the keys that are read of a frame; the mask is as it was."""
        part, row = divmod(index, len(self.indices))
        kind, severity = divmod(part, SEVERITIES)
        record = self.records[int(self.indices[row])]
        image = np.asarray(to_rgb(image_files.decode(record["image"]), []))
        key = int(self.keys[row])
        image = _changed(image, self.kinds[kind], severity + 1, key, self.seed)
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PPM")  # takes no time
        return {"image": file.getvalue(), "mask": record["mask"]}


def every_kind(dataset: Dataset, kinds: tuple[Kind, ...], seed: int) -> Dataset:
    """All frames with each kind of damage, at each severity: kind by kind, then by severity."""
    keys = np.array([_key(file) for file in dataset.table.file], np.uint64)
    records = _Perturbed(dataset.records, dataset.indices, keys, kinds, seed)
    rows = np.tile(np.arange(len(dataset)), len(kinds) * SEVERITIES)
    table = dataset.table.take(rows)
    return dataclasses.replace(
        dataset, records=records, indices=np.arange(len(records)), table=table
    )
