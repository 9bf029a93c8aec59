"""What reaches TensorBoard and Weights & Biases besides the figures."""

import io
import struct
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter
from tensorboardX.proto import event_pb2

from flax_unet.checkpoint import store
from flax_unet.checkpoint.store import flat
from tests.tolerances import DEVICES_32, ELEMENT
from tests.train.children import finish, together
from train.data.dataset import open_dataset
from train.fit import __main__ as fit
from train.fit import tracking
from train.fit.tracking import Clock, Tracker

EVENT: Any = vars(event_pb2)["Event"]  # which type checkers do not see
SIDE = 16  # of the network's input


class FakeRun:
    """What `wandb.init` gives, which keeps what is logged."""

    def __init__(self, **start: Any) -> None:
        self.start = start
        self.logged: list[tuple[int, dict[str, Any]]] = []

    def log(self, values: dict[str, Any], step: int) -> None:
        self.logged.append((step, values))

    def finish(self) -> None:
        pass

    def values(self, name: str) -> dict[int, Any]:
        """By step."""
        return {step: values[name] for step, values in self.logged if name in values}


class FakeImage:
    def __init__(self, pixels: np.ndarray, caption: str) -> None:
        self.pixels, self.caption = pixels, caption


class FakeHistogram:
    def __init__(self, values: np.ndarray) -> None:
        np.histogram(values, bins=64)  # as W&B does, which refuses what NumPy refuses
        self.values = values


@pytest.fixture
def wandb_runs(monkeypatch: pytest.MonkeyPatch) -> list[FakeRun]:
    """The runs that W&B is asked for; the package is not installed."""
    runs: list[FakeRun] = []

    def init(**start: Any) -> FakeRun:
        runs.append(FakeRun(**start))
        return runs[-1]

    fake: Any = types.ModuleType("wandb")
    fake.Error, fake.init = RuntimeError, init
    fake.Image, fake.Histogram = FakeImage, FakeHistogram
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return runs


def events(workdir: Path, kind: str) -> dict[tuple[str, int], Any]:
    """What of a kind TensorBoard's files hold, by name and step."""
    found = {}
    for path in sorted((workdir / "tensorboard").glob("events*")):
        content, at = path.read_bytes(), 0
        while at < len(content):  # a length, its checksum, the event, its checksum
            (length,) = struct.unpack_from("<Q", content, at)
            event = EVENT.FromString(content[at + 12 : at + 12 + length])
            at += 16 + length
            for value in event.summary.value:
                if value.HasField(kind):
                    found[value.tag, event.step] = getattr(value, kind)
    return found


def options(data: Path, workdir: Path, *more: object) -> list[str]:
    fixed = ["--data", data, "--workdir", workdir, "--init-from", data.parent / "start"]
    return [*map(str, fixed), "--batch-size", "4", *map(str, more)]


def run(data: Path, workdir: Path, *more: object) -> None:
    fit.main(options(data, workdir, *more))


@pytest.mark.parametrize("kind", ["validation", "training"])
def test_masks_reach_both_trackers(
    kind: str, data: Path, tmp_path: Path, wandb_runs: list[FakeRun]
) -> None:
    workdir = tmp_path / "run"
    split = ["--split", "60/20/20"] if kind == "validation" else []
    run(data, workdir, *split, "--steps", 15, "--eval-every", 2, "--wandb", "offline")
    (wandb_run,) = wandb_runs
    sheets = wandb_run.values("masks")
    # 18 and 30 frames are 4 and 7 steps an epoch.
    assert list(sheets) == ([8, 15] if kind == "validation" else [14, 15])
    on_board = events(workdir, "image")
    assert sorted(on_board) == [("masks", step) for step in sheets]
    for step, sheet in sheets.items():
        with Image.open(io.BytesIO(on_board["masks", step].encoded_image_string)) as image:
            np.testing.assert_array_equal(np.asarray(image), sheet.pixels)
        columns = "picture, labelled mask, predicted mask; red, within the white line = MANIPULATED"
        assert sheet.caption == f"{kind} frames: {columns}"
    assert not events(workdir, "histo")

    part = "validation:60/20/20" if kind == "validation" else None
    frames = open_dataset(str(data), part)
    lines = sheets[15].pixels.reshape(6, SIDE, 3, SIDE, 3)
    tinted = False
    for line, row in zip(lines, np.linspace(0, len(frames) - 1, 6).astype(int), strict=True):
        name = Path(str(frames.table.file[row])).stem
        shape, nearest = (SIDE, SIDE), Image.Resampling.NEAREST
        with Image.open(data / "crops" / f"{name}.png") as crop:
            np.testing.assert_array_equal(line[:, 0], np.asarray(crop.resize(shape, nearest)))
        with Image.open(data / "masks" / f"{name}.gif") as mask:
            marked = np.asarray(mask.resize(shape, nearest)) == 1
        changed = (line[:, 1] != line[:, 0]).any(-1)
        assert not changed.any() or marked.any()
        inside = np.asarray(Image.fromarray(marked).filter(ImageFilter.MinFilter(3)))
        gain = (line[:, 1].astype(int) - line[:, 0])[inside].sum(0)
        assert gain[0] >= gain[1]  # redder, within a white line
        assert changed[inside].all()
        tinted = tinted or bool(inside.any())
    assert tinted


def test_histograms_reach_both_trackers(
    data: Path, tmp_path: Path, wandb_runs: list[FakeRun]
) -> None:
    workdir = tmp_path / "run"
    run(data, workdir, "--steps", 2, "--ema", 0.5)
    run(data, workdir, "--steps", 4, "--histograms", "--wandb", "online", "--ema", 0.5)
    weights = flat(store.load_weights(workdir / "last"))
    names = {path for path in weights if path.rpartition("/")[2] not in ("mean", "var")}
    wanted = {f"{kind}/{name}" for kind in ("weights", "gradients") for name in names}
    on_board = events(workdir, "histo")
    assert on_board.keys() == {(name, 4) for name in wanted}
    logged = dict(wandb_runs[-1].logged)[4]
    assert {name for name, value in logged.items() if isinstance(value, FakeHistogram)} == wanted
    for name in wanted:
        histogram, values = on_board[name, 4], logged[name].values
        assert values.size == weights[name.partition("/")[2]].size
        assert histogram.num == sum(histogram.bucket) == values.size
        np.testing.assert_allclose(histogram.sum, values.sum(dtype=np.float64), rtol=ELEMENT)
        assert (histogram.min, histogram.max) == (values.min(), values.max())
    assert any(np.any(logged[name].values) for name in wanted if name.startswith("gradients/"))
    # With its gradients belong the weights that were moved by them, not their average.
    kernel = "outc/kernel"
    assert np.any(logged[f"weights/{kernel}"].values != weights[kernel].ravel())


def test_histograms_of_several_devices_and_processes(data: Path, tmp_path: Path) -> None:
    more = ["--sync-batch-norm", "--histograms", "--steps", "1", "--learning-rate", "1e-5"]
    run(data, tmp_path / "one", *more)
    for child in together("train.fit", [options(data, tmp_path / "two", *more)]):
        finish(child)
    expected, found = (events(tmp_path / name, "histo") for name in ("one", "two"))
    assert found.keys() == expected.keys()
    for key, histogram in expected.items():
        for figure in ("num", "sum", "sum_squares", "min", "max"):
            pair = [getattr(each, figure) for each in (found[key], histogram)]
            np.testing.assert_allclose(*pair, atol=DEVICES_32, rtol=DEVICES_32, err_msg=str(key))


def test_histograms_of_values_that_have_none(tmp_path: Path, wandb_runs: list[FakeRun]) -> None:
    tracker = Tracker(tmp_path, 0, {}, "offline")
    arrays = {
        "partly_finite": [1, np.nan, 3, np.inf],
        "not_finite": [np.nan] * 3,
        "equal": [1, 1, 1],
        "side_by_side": [1, np.nextafter(np.float32(1), np.float32(2))],
    }
    tracker.log_histograms(5, {k: np.array(v, np.float32) for k, v in arrays.items()})
    tracker.close()
    shown = [name for name in arrays if name != "not_finite"]
    assert sorted(events(tmp_path, "histo")) == [(name, 5) for name in sorted(shown)]
    ((step, logged),) = wandb_runs[0].logged
    assert (step, list(logged)) == (5, shown)
    assert logged["partly_finite"].values.tolist() == [1, 3]


def test_offline_starts_keep_apart_and_online_ones_go_on(
    data: Path, tmp_path: Path, wandb_runs: list[FakeRun]
) -> None:
    workdir = tmp_path / "run"
    for steps, mode in ((1, "offline"), (2, "offline"), (2, "offline"), (3, "online")):
        run(data, workdir, "--steps", steps, "--wandb", mode)
    run(data, workdir, "--steps", 4)  # goes on as before: online
    starts = [each.start for each in wandb_runs]
    *offline, online, again = starts
    assert [start["mode"] for start in starts] == ["offline"] * 3 + ["online"] * 2
    assert len({start["id"] for start in starts}) == 4
    assert online["id"] == again["id"]
    assert [start.get("resume") for start in starts] == [None] * 3 + ["allow"] * 2
    assert {start["group"] for start in offline} == {online["id"]}
    assert [start["name"] for start in offline] == [
        *("run", "run after step 1", "run after step 2")
    ]
    assert online["name"] == "run"
    assert all(Path(start["dir"]) == workdir for start in starts)


def test_waiting_counts_while_devices_are_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight seconds, of which two were spent waiting while the devices still worked."""
    now = 0.0
    monkeypatch.setattr(tracking.time, "perf_counter", lambda: now)
    clock = Clock()
    for seconds, is_idle in ((2, False), (1, True), (3, True)):
        with clock.waiting(lambda is_idle=is_idle: is_idle):
            now += seconds
    now += 2
    clock.images = 16
    assert clock.read() == (2.0, 0.5)
