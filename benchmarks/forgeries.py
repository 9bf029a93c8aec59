"""Trains on one forgery of each face and on forgeries that are new in each epoch, and compares.

The networks see as many frames, of the same people. They are judged on people whom neither has
seen, with both kinds of forgeries, and on photographs of real people.
"""

import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import skimage
from matplotlib import cbook
from tqdm import tqdm

from benchmarks.machine import benchmark, markdown
from flax_unet import Detector
from flax_unet.checkpoint import store
from train.data.dataset import open_dataset
from train.data.layouts.image_files import decode
from train.data.synthetic.fresh import Pairs
from train.data.synthetic.photos import portrait_in
from train.fit import __main__ as fit
from train.fit.validation import evaluate
from train.options import flag

FIXED, FRESH = "forged_portraits", "self_blended"
_VIEWS = 20  # of each photograph: crops in other sizes, colours and light


def photographs() -> list[bytes]:
    """Two photographs of real people, which are in the public domain."""
    hopper = cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)  # for the US Navy
    collins = Path(skimage.data_dir) / "astronaut.png"  # by NASA
    return [Path(hopper).read_bytes(), collins.read_bytes()]


def false_alarms(detector: Detector, photos: list[bytes]) -> float:
    """The share of views of photographs of real people that are called FAKE.

    A view is the REAL half of a pair of `self_blended`: the crop of the largest face by a random
    zoom and margin, in other light and colours, and compressed.
    """
    pairs = Pairs([{"image": photo} for photo in photos], _VIEWS, reading=portrait_in)
    views = [decode(pairs[index]["image"]) for index in range(0, len(pairs), 2)]
    return statistics.mean(not verdict.is_real for verdict in detector(views))


@benchmark(
    people=("avatars", "whose faces: avatars, procedural, or a folder of pictures"),
    seeds=(3, "runs on each kind of forgeries"),
    base_width=(8, "channels of the first level"),
    size=(64, "pixels a side"),
    steps=(600, "steps of each run"),
    batch_size=(16, "frames a step"),
    learning_rate=(1e-3, "of AdamW, at first"),
)
def main(*, people: str, seeds: int, **settings: Any) -> None:
    """Runs the command line."""
    pictures = photographs()
    kinds = [f"{kind}:{people}" for kind in (FIXED, FRESH)]
    tests = {kind: open_dataset(kind, "test") for kind in kinds}
    chosen = {**settings, "optimizer": "adamw", "schedule": "cosine", "ema": 0.998}
    chosen |= {"layout": "ynet-slim", "mask_loss": "cross-entropy+dice", "clip_norm": 1}
    chosen["eval_every"] = settings["steps"]  # epochs: only at the end
    figures: dict[str, dict[str, list[float]]] = {kind: {} for kind in kinds}
    for seed, kind in tqdm([(seed, kind) for seed in range(seeds) for kind in kinds], unit="run"):
        found = figures[kind]
        with tempfile.TemporaryDirectory() as directory:
            options = {**chosen, "data": kind, "seed": seed, "workdir": f"{directory}/run"}
            start = time.perf_counter()
            fit.main([f"{flag(name)}={value}" for name, value in options.items()])
            found.setdefault("minutes", []).append((time.perf_counter() - start) / 60)
            model = store.load(f"{directory}/run/last")
        for name, test in tests.items():
            of = evaluate(model, test, jax.local_devices(), settings["batch_size"])
            found.setdefault(f"AUC of frames, {name}", []).append(of["frames.auc"])
            dice = of["pixels.fake_frames.dice"]
            found.setdefault(f"Dice of fake frames, {name}", []).append(dice)
        alarms = false_alarms(Detector(model), pictures)
        found.setdefault("views of real photographs called FAKE", []).append(alarms)
    rows = [[name, *(_cell(figures[kind][name]) for kind in kinds)] for name in figures[kinds[0]]]
    print("\n".join(markdown(["", *(f"trained on {kind}" for kind in kinds)], rows)))
    print(json.dumps(figures))


def _cell(values: list[float]) -> str:
    """The mean, and each run's."""
    return f"{statistics.mean(values):.3f} ({', '.join(f'{value:.3f}' for value in values)})"


if __name__ == "__main__":
    main()
