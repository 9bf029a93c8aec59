"""`--robustness` and several `--data`, on a small network."""

import csv
import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from flax_unet.checkpoint import metadata
from tests.flax_unet.samples import small_checkpoint
from tests.train.folders import write_folder
from train.data.dataset import Dataset
from train.eval import __main__ as evaluation
from train.eval import scoring


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_checkpoint(tmp_path_factory.mktemp("model"))


def run(model: Path, *arguments: object) -> int:
    try:
        evaluation.main(["--checkpoint", str(model), "--workers", "0", *map(str, arguments)])
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0


def test_robustness(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The figures of frames as they are stand beside each, whatever the batches."""
    data = write_folder(tmp_path / "data", videos=4, frames=2)
    found = []
    for size in (32, 7):
        out = tmp_path / f"out{size}"
        assert run(model, "--data", data, "--robustness", "--batch-size", size, "--out", out) == 0
        report = json.loads((out / "report.json").read_text())
        found.append(report["robustness"]["rows"])
        assert report["robustness"]["as_they_are"]["auc"] == report["frames"]["auc"]
        with (out / "robustness.csv").open(newline="") as file:
            assert len(list(csv.DictReader(file))) == 41
        with Image.open(out / "robustness.png") as plot:
            assert plot.width > 800
    assert found[0] == found[1]
    printed = capsys.readouterr().out
    assert "40 more passes over 8 frames" in printed
    assert "downscaling" in printed


def test_robustness_by_a_stored_calibration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A threshold that calls all frames FAKE, then none, beside the published decision."""
    figures: list[Figure] = []
    savefig = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *a, **k: figures.append(self) or savefig(self, *a, **k)
    )
    model = small_checkpoint(tmp_path)
    data = write_folder(tmp_path / "data", videos=4, frames=2)
    published = None
    for threshold, expected in ((1e-6, 1.0), (1 - 1e-6, 0.0)):
        record = {"temperature": 1.0, "threshold": threshold}
        metadata.store_record(model, metadata.CALIBRATION, record)
        out = tmp_path / f"out{expected}"
        assert run(model, "--data", data, "--robustness", "--out", out) == 0
        section = json.loads((out / "report.json").read_text())["robustness"]
        rows = [section["as_they_are"], *section["rows"]]
        for name in ("false_alarms_calibrated", "detection_calibrated"):
            assert {row[name] for row in rows} == {expected}
        plots = [figure.axes for figure in figures if len(figure.axes) == 2]
        alarms = plots[-1][1]
        assert alarms.get_title() == "REAL called FAKE, calibrated"
        assert [np.unique(line.get_ydata()).tolist() for line in alarms.lines] == [[expected]] * 8
        assert len({str(line.get_marker()) for line in alarms.lines}) == 8
        of_published = [(row["auc"], row["false_alarms"], row["detection"]) for row in rows]
        assert published in (None, of_published)
        published = of_published


def test_several_data_sets(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A failure names its data set and keeps the results of the others."""
    first, second = (write_folder(tmp_path / n, videos=4, seed=s) for s, n in enumerate("ab"))
    out = tmp_path / "out"
    given = ("--data", first, "--data", tmp_path / "missing", "--data", second)
    assert run(model, *given, "--out", out) == 2
    printed = capsys.readouterr()
    assert str(tmp_path / "missing") in printed.err
    report = json.loads((out / "report.json").read_text())
    assert [row["folder"] for row in report["data_sets"]] == ["a", "b"]
    aucs = [json.loads((out / name / "report.json").read_text())["frames"]["auc"] for name in "ab"]
    assert [row["frames.auc"] for row in report["data_sets"]] == aucs
    assert report["average"]["frames.auc"] == pytest.approx(sum(aucs) / 2)
    assert list(report["failed"]) == [str(tmp_path / "missing")]
    assert "average" in printed.out
    assert not (out / "missing").exists()


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (ModuleNotFoundError("No module named 'cv2'", name="cv2"), "needs the package cv2"),
        (OSError(5, "Input/output error"), "Input/output error"),
        (ZeroDivisionError("a defect"), "the program failed: ZeroDivisionError('a defect')"),
        (MemoryError(), "the memory is exhausted (out of memory): give a smaller --batch-size"),
    ],
)
def test_any_failure_keeps_the_others(
    error: Exception,
    named: str,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, second = (write_folder(tmp_path / name, videos=4) for name in "ab")
    open_dataset = evaluation.open_dataset

    def opened(name: str, *given: Any, **more: Any) -> Dataset:
        if name == str(second):
            raise error
        return open_dataset(name, *given, **more)

    monkeypatch.setattr(evaluation, "open_dataset", opened)
    out = tmp_path / "out"
    assert run(model, "--data", first, "--data", second, "--out", out) == 2
    assert f"error: {second}: " in (printed := capsys.readouterr().err)
    assert named in printed
    assert (out / "a" / "report.json").exists()
    assert named in json.loads((out / "report.json").read_text())["failed"][str(second)]


def test_a_batch_that_memory_cannot_hold(
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A step asks for 2^47 bytes, as one that is too large does on any device."""
    monkeypatch.setattr(scoring, "compiled", lambda *_: lambda _: jnp.zeros(1 << 45))
    data = write_folder(tmp_path / "data", videos=2)
    for size, remedy in ((32, "a smaller --batch-size, such as 16"), (1, "more memory")):
        assert run(model, "--data", data, "--batch-size", size) == 2
        printed = capsys.readouterr().err
        assert "the memory is exhausted (Out of memory allocating" in printed
        assert remedy in printed


def test_one_data_set_twice_is_refused(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_folder(tmp_path / "a", videos=2)
    assert run(model, "--data", data, "--data", f"{data}/") == 2
    assert "is named twice" in capsys.readouterr().err
    assert run(model, "--data", "forged_portraits", "--data", "forged_portraits:procedural") == 2
    assert "is named twice" in capsys.readouterr().err
