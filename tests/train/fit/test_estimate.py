"""What training says of memory and time before its first step, and how often of its progress."""

import dataclasses
import time

import pytest

from train.fit.config import Recipe
from train.fit.estimate import Needs, free_memory, notes, remedy, span
from train.fit.tracking import Lines

GB = 10**9


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.1, "1 s"), (90, "90 s"), (600, "10 min"), (9000, "2.5 h"), (10**6, "12 days")],
)
def test_span(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_batch_that_fits() -> None:
    """The state takes 2 GB, the batch 32: of 20 GB, of which a tenth is spared, a half."""
    recipe = Recipe(batch_size=64)
    needed = Needs(2 * GB, 34 * GB, 20 * GB, None)
    advice = remedy(needed, recipe, 1)
    assert advice.startswith("--batch-size 32 would fit; the same batch in parts, --accumulate 2")
    tight = needed._replace(free=10 * GB)
    assert remedy(tight, recipe, 1).startswith("--batch-size 8 would fit")
    split = dataclasses.replace(recipe, accumulate=2)
    assert "--batch-size 8 would fit; the same batch in parts, --accumulate 16" in remedy(
        tight, split, 4
    )
    assert "--batch" not in remedy(needed._replace(free=GB), recipe, 1)
    dice = dataclasses.replace(recipe, mask_loss="cross-entropy+dice", remat=True)
    assert remedy(needed, dice, 1) == "--batch-size 32 would fit"


def test_advice_where_a_cpu_needs_days() -> None:
    needed = Needs(GB, 2 * GB, None, 100)
    (memory, duration) = notes(needed, Recipe(), 1, steps_per_epoch=900, steps=1000)
    assert memory == "a step needs about 2.0 GB of memory"
    assert duration.startswith("an epoch takes very roughly 25 h on this CPU, the run 28 h; a GPU")
    (_, duration) = notes(needed, Recipe(), 1, steps_per_epoch=9, steps=10)
    assert duration == "an epoch takes very roughly 15 min on this CPU, the run 17 min"


def test_lines_of_a_long_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a week with a step each second: soon, and not thousands."""
    steps, now = 7 * 24 * 3600, 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    lines = Lines(steps)
    lines.start(1)
    for step in range(2, steps + 1, 2):
        now = step - 1.0
        lines.print({"step": step, "loss": 0.5, "images_per_second": 64.0})
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "step 2 of 604800: loss 0.5000, 64.0 images a second, 7.0 days left"
    assert printed[-1] == "step 604800 of 604800: loss 0.5000, 64.0 images a second"
    assert 100 < len(printed) < 500


def test_free_memory() -> None:
    assert 0 < (free_memory() or 1) < 2**50
