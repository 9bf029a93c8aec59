"""How well the masks of train.prepare match the true masks of forgeries.

Two faces are forged by `train.data.synthetic.forge`, whose masks are known. The pictures and their
forgeries are compressed as H.264 of several qualities (CRF; FaceForensics++ has 23 and 40), the
forgeries also at half the size. The figure is the mean intersection over union of the masks.
"""

import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import skimage.data
from matplotlib import cbook
from PIL import Image

from benchmarks.decoding import encoded
from benchmarks.machine import FILE, benchmark, report
from flax_unet.media.videos import Sampling, VideoReader
from train.data.synthetic.forge import forge
from train.prepare import masks

_QUALITIES, _SIZES = (18, 23, 30, 40), (1.0, 0.5)
_THRESHOLDS = (0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2)
_MARGIN = 1 / 5  # of a picture: what lies around the part that is forged
_SAMPLING = Image.Resampling.BICUBIC


def faces(side: int) -> Iterator[Image.Image]:
    """Pictures with one face and a third of its size around it, `side` pixels wide and high."""
    hopper = Image.open(str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))
    for picture, box in (
        (hopper, (118, 70, 418, 370)),
        (Image.fromarray(skimage.data.astronaut()), (140, 20, 320, 200)),
    ):
        yield picture.convert("RGB").crop(box).resize((side, side), Image.Resampling.LANCZOS)


def forged(picture: Image.Image, seed: int) -> tuple[Image.Image, np.ndarray]:
    """A forgery of the face, and its mask (H, W) bool."""
    margin, side = round(_MARGIN * picture.width / 2), picture.width
    inner = (margin, margin, side - margin, side - margin)
    part, label = forge(np.asarray(picture.crop(inner)), np.random.default_rng(seed))
    fake, mask = picture.copy(), np.zeros((side, side), bool)
    fake.paste(Image.fromarray(part), inner[:2])
    mask[margin : side - margin, margin : side - margin] = label
    return fake, mask


def compressed(folder: Path, picture: Image.Image, quality: int) -> Image.Image:
    """A picture as a frame of a video."""
    path = encoded(folder / "frame.mp4", [np.asarray(picture)], 25, crf=str(quality))
    (frame,) = VideoReader(path, Sampling()).frames()
    if frame is None:
        raise RuntimeError("the frame was not read back")
    return frame.image


@benchmark(
    forgeries=(16, "of each face"),
    side=(300, "of the crops, in pixels"),
    out=(None, "JSON file to write", FILE),
)
def main(*, forgeries: int, side: int, out: Path | None) -> None:
    """Runs the command line."""
    side -= side % 4  # so that half of it is even
    found: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    with tempfile.TemporaryDirectory() as name:
        for picture in faces(side):
            for seed in range(forgeries):
                fake, true = forged(picture, seed)
                for quality in _QUALITIES:
                    original = compressed(Path(name), picture, quality)
                    for size in _SIZES:
                        small = fake.resize((round(size * side), round(size * side)), _SAMPLING)
                        crop = compressed(Path(name), small, quality)
                        like = original if size == 1 else masks.resampled(original, small.size)
                        crop = crop.resize(like.size, _SAMPLING)
                        for threshold in _THRESHOLDS:
                            mask = masks.differing(np.asarray(crop), np.asarray(like), threshold)
                            overlap = (mask & true).sum() / (mask | true).sum()
                            kind = f"CRF {quality}" + ", half the size" * (size < 1)
                            found[kind][threshold].append(float(overlap))
    report(
        {
            kind: {threshold: round(float(np.mean(of)), 3) for threshold, of in row.items()}
            for kind, row in found.items()
        },
        out,
    )


if __name__ == "__main__":
    main()
