"""The demonstration: a checkpoint trained in PyTorch, on the embedded data set."""

import json
from pathlib import Path

import numpy as np
import pytest

from convert.from_torch import convert
from tests.tolerances import DICE
from tests.train.fit.procedure import published_procedure
from train.data.dataset import EMBEDDED, open_dataset
from train.data.export import export
from train.eval import __main__ as evaluation

DEMO = Path(__file__).parent.parent / "checkpoints" / "demo.pth"


@pytest.mark.slow
def test_demonstration_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is good at what it was trained for, and counts exactly what PyTorch counts."""
    conversion = convert(DEMO, tmp_path / "demo")
    assert conversion.layout == "ynet-slim, base width 8"
    evaluation.main(["--checkpoint", str(tmp_path / "demo"), "--out", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert "its figures do not hold for DFDC" in printed
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["frames"]["accuracy"] >= 0.9
    assert report["pixels"]["fake_frames"]["dice"] >= 0.8

    export(open_dataset(EMBEDDED, "test"), tmp_path / "faces")
    expected = published_procedure(DEMO, tmp_path / "faces")
    assert report["frames"]["correct"] == expected["correct"]
    assert report["frames"]["wrong"] == expected["wrong"]
    assert f"Correct {expected['correct']}, Wrong {expected['wrong']}\n" in printed
    dice = np.mean(list(expected["dice"].values()))
    assert abs(report["pixels"]["dice"] - dice) <= DICE
