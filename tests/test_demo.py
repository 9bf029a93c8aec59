"""The checkpoints that are shipped, on the embedded data set of drawn faces."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert.from_torch import convert
from flax_unet.checkpoint.metadata import load_config
from tests.tolerances import DICE
from tests.train.fit.procedure import published_procedure
from train.data.dataset import EMBEDDED, open_dataset
from train.data.export import export
from train.eval import __main__ as evaluation

ROOT = Path(__file__).parent.parent
CHECKPOINTS = ROOT / "checkpoints"


def evaluated(
    file: str, layout: str, size: int, folder: Path, capsys: pytest.CaptureFixture[str]
) -> dict[str, Any]:
    """The report on a checkpoint, converted to folder/demo; it counts exactly what PyTorch does."""
    conversion = convert(CHECKPOINTS / file, folder / "demo")
    assert conversion.layout == layout
    evaluation.main(["--checkpoint", str(folder / "demo"), "--out", str(folder / "out")])
    printed = capsys.readouterr().out
    assert "its figures do not hold for DFDC" in printed
    report = json.loads((folder / "out" / "report.json").read_text())

    export(open_dataset(EMBEDDED, "test"), folder / "faces")
    expected = published_procedure(CHECKPOINTS / file, folder / "faces", size=size)
    assert report["frames"]["correct"] == expected["correct"]
    assert report["frames"]["wrong"] == expected["wrong"]
    assert f"Correct {expected['correct']}, Wrong {expected['wrong']}\n" in printed
    dice = np.mean(list(expected["dice"].values()))
    assert abs(report["pixels"]["dice"] - dice) <= DICE
    return report


@pytest.mark.skipif(shutil.which("make") is None, reason="make is missing")
@pytest.mark.parametrize("has_people", [True, False])
def test_make_demo_writes_the_card(has_people: bool, tmp_path: Path) -> None:
    """What is recorded was measured on people, and is not replaced by figures of drawn faces."""
    python, demo = tmp_path / "python", tmp_path / "demo"
    status = 0 if has_people else 2  # of the audit, which fetches them
    python.write_text(
        f"#!/bin/sh\necho $* >> {tmp_path}/ran\n[ $2 != train.data.audit ] || exit {status}\n"
    )
    python.chmod(0o755)
    given = [f"BIN={tmp_path}", f"DEMO={demo}", "--old-file=.venv/.installed"]
    subprocess.run(["make", "demo", *given], cwd=ROOT, check=True, capture_output=True)
    ran = [line.split()[1:] for line in (tmp_path / "ran").read_text().splitlines()]
    modules = [module for module, *_ in ran]
    assert modules.index("train.eval") < modules.index("train.card")
    (card,) = (given for module, *given in ran if module == "train.card")
    measured = ["--evaluation", f"{demo}/evaluation"] if has_people else []
    assert card == ["checkpoints/demo", *measured]


@pytest.mark.slow
@pytest.mark.usefixtures("shared_cache")
def test_checkpoint_of_drawn_faces(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is good at what it was trained for."""
    report = evaluated("drawn.pth", "ynet-slim, base width 8", 224, tmp_path, capsys)
    assert report["frames"]["accuracy"] >= 0.9
    assert report["pixels"]["fake_frames"]["dice"] >= 0.8


@pytest.mark.slow
@pytest.mark.usefixtures("shared_cache")
def test_demonstration_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It finds forgeries of faces unlike those that it was trained on, and says what it is worth.

    The drawn faces stand in for the people of docs/demo.md, which need a network.
    """
    report = evaluated("demo.pth", "ynet-slim, base width 15", 128, tmp_path, capsys)
    assert report["frames"]["auc"] >= 0.86
    assert report["pixels"]["fake_frames"]["dice"] >= 0.7
    source = json.loads((tmp_path / "demo" / "source.json").read_text())
    assert "Trained on 210 synthetic people" in source["worth"]["sentence"]
    assert source["calibration"]["false_alarm_rate"]["reached"] <= 0.05
    assert load_config(tmp_path / "demo").image_size == 128
