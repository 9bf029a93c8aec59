"""The benchmarks do what they say; how fast is not asked here."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import memory, pipeline, subject, train_torch
from tests.train.folders import write_folder
from train.data.dataset import open_dataset


@pytest.fixture
def few_faces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small data set in the place of the embedded one."""
    monkeypatch.setattr(subject, "EMBEDDED", str(write_folder(tmp_path / "small", videos=4)))
    monkeypatch.setattr(subject, "open_dataset", lambda name, _: open_dataset(name, None))


@pytest.mark.usefixtures("few_faces")
def test_speed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--frames", "128", "--batch-size", "16", "--rounds", "1", "--base-width", "2"]
    pipeline.main([*arguments, "--out", str(tmp_path / "speed.json")])
    result = json.loads((tmp_path / "speed.json").read_text())
    assert json.loads(capsys.readouterr().out) == result
    assert result["same_decision"] == result["frames"] == 128
    rates = result["frames_a_second"]
    ratio = rates["ours"] / rates["pytorch"]
    assert result["ratio_ours_to_pytorch"]["all"] == [pytest.approx(ratio)]
    assert 0 <= result["share_waiting_for_data"]["median"] < 1
    assert 0 < result["share_of_the_networks_own_rate"]["median"] < 2
    assert min(result["input_frames_a_second"].values()) > 0


def test_speed_of_too_few_frames_says_nothing(fails: Callable[..., str]) -> None:
    message = fails(pipeline.main, "--frames", 159, "--batch-size", 20)
    assert "expected at least 160; 80 are read ahead" in message


@pytest.mark.usefixtures("few_faces")
def test_memory(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--frames", "20", "100", "--batch-size", "16", "--base-width", "2"]
    memory.main(arguments)
    result = json.loads(capsys.readouterr().out)
    peaks = result["peak_memory_gib_after_frames"]
    assert list(peaks) == ["20", "100"]
    assert 0 < peaks["20"] <= peaks["100"] <= result["peak_memory_gib_at_the_end"]


def test_training_in_pytorch_needs_enough_frames_and_masks(
    tmp_path: Path, fails: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    write_folder(tmp_path / "data" / "training", videos=4)
    arguments = ["--data", tmp_path / "data", "--base-width", 2, "--size", 32, "--epochs", 1]

    def message(batch_size: int) -> str:
        return fails(train_torch.main, tmp_path / "out.pth", *arguments, "--batch-size", batch_size)

    assert "has 12 frames, fewer than a batch of 13" in message(13)
    masks = tmp_path / "data" / "training" / "masks"
    (masks / "v000_1.gif").unlink()  # of a real frame: untouched
    train_torch.main([str(a) for a in (tmp_path / "out.pth", *arguments, "--batch-size", 6)])
    (tmp_path / "out.pth").unlink()
    capsys.readouterr()
    (masks / "v001_1.gif").unlink()
    assert "1 fakes have no mask, the first of them training/crops/v001_1.png" in message(6)
    assert not (tmp_path / "out.pth").exists()
