"""The demonstration checkpoint, on the embedded data set, whose drawn faces it has never seen."""

import json
from pathlib import Path

import numpy as np
import pytest

from convert.from_torch import convert
from flax_unet.checkpoint.metadata import load_config
from tests.tolerances import DICE
from tests.train.fit.procedure import published_procedure
from train.data.dataset import EMBEDDED, open_dataset
from train.data.export import export
from train.eval import __main__ as evaluation

SIZE = 96  # pixels a side
DEMO = Path(__file__).parent.parent / "checkpoints" / "demo.pth"


@pytest.mark.slow
def test_demonstration_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It finds the forgeries, says what it is worth, and counts exactly what PyTorch counts.

    The bounds are what it must reach on these faces; docs/demo.md has its figures on photographs.
    """
    conversion = convert(DEMO, tmp_path / "demo")
    assert conversion.layout == "ynet-slim, base width 12"
    evaluation.main(["--checkpoint", str(tmp_path / "demo"), "--out", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert "its figures do not hold for DFDC" in printed
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["frames"]["auc"] >= 0.8
    assert report["pixels"]["fake_frames"]["dice"] >= 0.6
    source = json.loads((tmp_path / "demo" / "source.json").read_text())
    assert "Trained on 210 synthetic people" in source["worth"]["sentence"]
    assert source["calibration"]["false_alarm_rate"]["reached"] <= 0.05
    assert load_config(tmp_path / "demo").image_size == SIZE

    export(open_dataset(EMBEDDED, "test"), tmp_path / "faces")
    expected = published_procedure(DEMO, tmp_path / "faces", size=SIZE)
    assert report["frames"]["correct"] == expected["correct"]
    assert report["frames"]["wrong"] == expected["wrong"]
    assert f"Correct {expected['correct']}, Wrong {expected['wrong']}\n" in printed
    dice = np.mean(list(expected["dice"].values()))
    assert abs(report["pixels"]["dice"] - dice) <= DICE
