"""Scores videos as the winner of Facebook's Deepfake Detection Challenge did, to compare speeds.

As its published code does: OpenCV reads a video to its end and keeps evenly spaced frames; MTCNN of
facenet-pytorch looks for faces in each of them at half the size; crops with a third of the face's
size around it go through a network in PyTorch, here the twin of this project's. It needs
facenet-pytorch and torchvision (`pip install --no-deps facenet-pytorch`: its old pins fit nothing
here). Prints how many faces it judged.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.machine import FIRST, benchmark
from benchmarks.subject import WIDTH, network
from convert.torch_unet import ReferenceUNet
from flax_unet.media.faces import MARGIN, Box, opencv
from flax_unet.media.images import resized
from flax_unet.nn.config import UNetConfig

_THRESHOLDS = [0.7, 0.8, 0.8]  # of MTCNN's three networks, the winner's


def read(path: Path, count: int) -> list[Image.Image]:
    """Evenly spaced frames of a video."""
    cv2 = opencv()
    capture, frames = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG), []
    total = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    wanted = {*np.linspace(0, total - 1, count, dtype=int).tolist()}
    for number in range(total):
        capture.grab()
        if number in wanted and (read := capture.retrieve())[0]:
            frames.append(Image.fromarray(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB)))
    return frames


class Scorer:
    """The face finder and the network."""

    def __init__(self, config: UNetConfig) -> None:
        """Loads the one, and makes the other up.

        Raises:
            ModuleNotFoundError: facenet-pytorch is not installed.
        """
        from facenet_pytorch import MTCNN  # pyright: ignore[reportMissingImports]

        device = "cuda" if torch.cuda.is_available() else "cpu"
        self._size, self._device = config.input_size, device
        self._finder = MTCNN(margin=0, thresholds=_THRESHOLDS, device=device)
        self._network = ReferenceUNet(config).eval().to(device)

    def __call__(self, path: Path, frames: int) -> int:
        """Judges the faces in some frames of a video: how many there were."""
        crops = []
        for frame in read(path, frames):
            half = frame.resize((frame.width // 2, frame.height // 2))
            found, _ = self._finder.detect(half, landmarks=False)
            for corners in () if found is None else found:
                box = Box(*(2 * int(corner) for corner in corners)).grown(MARGIN)
                crops.append(resized(frame.crop(box.within(frame.size)), self._size))
        if crops:
            pixels = torch.from_numpy(np.stack(crops)).to(self._device)
            with torch.inference_mode():
                self._network(pixels.permute(0, 3, 1, 2).float() / 255)
            if self._device == "cuda":
                torch.cuda.synchronize()
        return len(crops)


@benchmark(
    folder=(None, "of videos", FIRST),
    frames=(32, "of each that are judged"),
    base_width=WIDTH,
)
def main(*, folder: Path, frames: int, base_width: int) -> None:
    """Runs the command line."""
    score = Scorer(network(base_width))
    print(sum(score(path, frames) for path in sorted(folder.iterdir())))


if __name__ == "__main__":
    main()
