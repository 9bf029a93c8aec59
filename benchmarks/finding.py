"""How long YuNet takes to find faces: through OpenCV on one core, and in JAX on the first device.

The picture has 16 drawn faces of several sizes. It is searched at the sizes that a video of 16:9 is
searched at, one at a time and several at once. Nothing is timed before both find the same.
"""

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from benchmarks.machine import FILE, benchmark, in_turn, processor, report
from flax_unet.face_network import OnDevice
from flax_unet.media.faces import COARSE, FINE_OF_VIDEO, OpenCV, opencv
from train.data.synthetic.scene import ProceduralPortraits

_COLUMNS, _ROWS = 8, 2


def picture(width: int) -> np.ndarray:
    """A picture of 16:9 with faces, (height, width, 3) uint8."""
    size = (width, 9 * width // 16)
    canvas, cell = Image.new("RGB", size, (90, 120, 90)), width // _COLUMNS
    for number in range(_COLUMNS * _ROWS):
        row, column = divmod(number, _COLUMNS)
        side = cell * (4 + number % 4) // 8
        portrait = ProceduralPortraits(_COLUMNS * _ROWS, 0)[number][1].resize((side, side))
        canvas.paste(portrait, (column * cell, row * size[1] // _ROWS))
    return np.asarray(canvas)


def same(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    """How far two results are apart at most.

    Raises:
        RuntimeError: they are of other faces.
    """
    if ours.shape != theirs.shape:
        raise RuntimeError(f"OpenCV finds {len(theirs)} faces, and JAX {len(ours)}")
    apart = np.abs(ours - theirs)
    pixels, score = (float(part.max(initial=0)) for part in (apart[:, :-1], apart[:, -1]))
    if pixels > 1 or score > 0.02:
        raise RuntimeError(f"results are {pixels} pixels and {score} in the score apart")
    return {"faces": len(ours), "pixels_apart": pixels, "score_apart": score}


@benchmark(
    rounds=(5, "turns of each"),
    pictures=(16, "that the device gets at once"),
    out=(None, "JSON file to write", FILE),
)
def main(*, rounds: int, pictures: int, out: Path | None) -> None:
    """Runs the command line."""
    opencv().setNumThreads(1)
    device = jax.local_devices()[0]
    theirs, ours = OpenCV(), OnDevice(device)
    result: dict[str, Any] = {"machine": processor(), "device": device.device_kind}
    for width in (COARSE, FINE_OF_VIDEO):
        given = picture(width)
        calls: dict[str, Callable[[], Any]] = {
            "opencv": lambda given=given: theirs(given),
            "jax": lambda given=given: ours(given),
            "jax, several": lambda given=given: ours.all_of([given] * pictures),
        }
        shares = {"jax, several": pictures}
        seconds = {
            name: statistics.median(of) / shares.get(name, 1)
            for name, of in in_turn(calls, rounds).items()
        }
        result[f"{width} x {given.shape[0]}"] = {
            **same(ours(given), theirs(given)),
            "milliseconds_a_picture": {name: 1000 * of for name, of in seconds.items()},
            "opencvs_time_over_ours": {
                name: seconds["opencv"] / of for name, of in seconds.items() if name != "opencv"
            },
        }
    report(result, out)


if __name__ == "__main__":
    main()
