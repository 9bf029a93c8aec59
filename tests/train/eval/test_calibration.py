"""Temperatures and thresholds, against closed forms and counting; and what uses them."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from convert.from_torch import convert
from flax_unet import Detector, InputError, load, predict_file
from flax_unet.app.html import verdict as page_verdict
from flax_unet.app.judge import Report
from flax_unet.checkpoint import metadata
from flax_unet.checkpoint.worth import WORTH, Worth
from flax_unet.media.images import to_input
from flax_unet.nn.decision import Calibration
from flax_unet.nn.inference import compiled
from flax_unet.predict import __main__ as predict
from tests.conftest import listing, small_tensors
from tests.flax_unet.samples import SIDE, encode, noise, small_checkpoint
from tests.tolerances import PROBABILITY
from tests.train.eval.verdicts import by_definition, predictions
from tests.train.folders import write_folder
from train.eval import __main__ as evaluation
from train.eval import calibration

Printed = pytest.CaptureFixture[str]


def sigmoid(logit: Any) -> Any:
    return 1 / (1 + np.exp(-np.asarray(logit, float)))


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1, 2.5, 15])
def test_temperature_in_closed_form(temperature: float) -> None:
    """Of logits of one size that are right as often as their probability, after it, states."""
    is_real = np.arange(100) % 2 == 0
    is_right = np.arange(100) < 80
    logit = temperature * np.log(0.8 / 0.2) * np.where(is_real == is_right, 1, -1)
    assert calibration.fitted_temperature(is_real, logit) == pytest.approx(temperature)
    assert Calibration(temperature, 0.5).real_probability(logit) == pytest.approx(
        np.where(is_real == is_right, 0.8, 0.2)
    )


def test_temperature_of_drawn_labels() -> None:
    """Labels drawn with the probabilities that a logit states, which is then made too certain."""
    random = np.random.default_rng(0)
    logit = random.normal(0.5, 2, 20_000)
    is_real = random.random(20_000) < sigmoid(logit)
    once = calibration.fitted_temperature(is_real, logit)
    assert once == pytest.approx(1, abs=0.05)
    assert calibration.fitted_temperature(is_real, 3 * logit) == pytest.approx(3 * once)

    def log_loss(temperature: float) -> float:
        return -np.log(sigmoid(np.where(is_real, logit, -logit) / temperature)).mean()

    assert log_loss(once) < min(log_loss(once * 1.02), log_loss(once / 1.02))


def scored(is_real: np.ndarray, logit: np.ndarray, video: Any = None) -> Any:
    return predictions(is_real, sigmoid(logit), video, real_logit=logit)


def test_temperature_is_bounded() -> None:
    is_real = np.arange(40) % 2 == 0
    lowest, highest = calibration.TEMPERATURES
    for sign, bound, note in ((1, lowest, "too easy"), (-1, highest, "hardly separates")):
        logit = sign * np.where(is_real, 1.0, -1.0) * np.linspace(1, 2, 40)
        found, record = calibration.fit(scored(is_real, logit), 0.05)
        expected = 1 if bound == lowest else bound
        assert found.temperature == record["temperature"] == expected
        assert [note for each in record["notes"] if note in each]
        assert record["false_alarm_rate"] == {"wished": 0.05, "reached": 0.0}
        if sign == 1:
            assert found.threshold == pytest.approx(0.5, abs=0.01)  # in the gap between the classes


def test_rate_is_a_ceiling() -> None:
    """The highest recall within the rate, then the highest threshold, halfway between values."""
    of_real, of_fake = np.repeat([0.01, 0.3, 0.9], [18, 1, 1]), np.array([0.2, 0.6, 0.8])
    for rate, expected in ((0.04, 1.9 / 2), (0.05, 0.45), (0.1, 0.105)):
        threshold = calibration.fitted_threshold(of_real, of_fake, rate)
        assert threshold == pytest.approx(expected)
        assert np.mean(of_real >= threshold) <= rate
    very_easy = calibration.fitted_threshold(np.full(20, 1e-16), np.full(20, 1 - 1e-9), 0.05)
    assert very_easy == pytest.approx(0.5)


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.07, 0.29, 0.5, 0.999])
@pytest.mark.parametrize("levels", [3, 20, 10**6])
def test_threshold_reaches_the_rate(rate: float, levels: int) -> None:
    """The highest rate that is allowed, among all the thresholds that differ; most have ties."""
    of_real = np.random.default_rng(levels).integers(0, levels, 100) / levels
    threshold = calibration.fitted_threshold(of_real, of_real, rate)
    thresholds = [*sorted(set(of_real.tolist())), 2.0]
    rates = [float(np.mean(of_real >= each)) for each in thresholds]
    assert np.mean(of_real >= threshold) == max(each for each in rates if each <= rate + 1e-12)
    assert 0 < threshold < 1
    assert np.abs(of_real - threshold).min() >= 0.5 / levels * (1 - 1e-9)  # or rounding decides
    if levels == 10**6:
        assert np.mean(of_real >= threshold) == pytest.approx(min(rate, 0.99), abs=1e-12)


def test_threshold_that_cannot_be_had() -> None:
    of_any = np.repeat([0.5, 1.0], [90, 10])
    with pytest.raises(InputError, match=r"more than 5\.00% of the REAL frames are FAKE with a"):
        calibration.fitted_threshold(of_any, of_any, 0.05)


def test_few_videos_are_a_note() -> None:
    is_real = np.arange(80) < 40
    logit = np.where(is_real, 1, -1) + np.random.default_rng(0).normal(size=80)
    _, record = calibration.fit(scored(is_real, logit, (np.arange(80) // 10).astype(str)), 0.05)
    assert (record["real_frames"], record["real_videos"]) == (40, 4)
    assert any("of 4 videos, fewer than 20" in note for note in record["notes"])
    _, record = calibration.fit(scored(is_real, logit), 0.05)
    assert not record["notes"]


def test_figures_are_those_of_the_calibrated_probability() -> None:
    random = np.random.default_rng(1)
    is_real = np.repeat(np.arange(30) % 2 == 0, 4)
    logit = np.where(is_real, 2.0, -2.0) + random.normal(0, 4, 120)
    video = np.repeat(np.arange(30), 4)
    of = scored(is_real, logit, video.astype(str))
    found = calibration.evaluate(of, Calibration(2.5, 0.3), "mean_probability", seed=0)
    raw = of.real_probability
    assert raw is not None
    fake = {"published": 1 - raw, "calibrated": 1 - sigmoid(logit / 2.5)}
    for decided, threshold in (("published", 0.5), ("calibrated", 0.3)):
        of_videos = np.array([fake[decided][video == number].mean() for number in range(30)])
        labels = {"frames": is_real, "videos": np.arange(30) % 2 == 0}
        for unit, score in (("frames", fake[decided]), ("videos", of_videos)):
            section, real = found[decided][unit], labels[unit]
            expected = by_definition(~real, score)
            for name in ("log_loss", "brier", "ece"):
                assert section[name] == pytest.approx(expected[name]), (decided, unit, name)
            assert section["false_alarm_rate"] == np.mean(score[real] >= threshold)
            assert section["recall"] == np.mean(score[~real] >= threshold)
            low, high = section["intervals"]["false_alarm_rate"]
            assert low <= section["false_alarm_rate"] <= high
            assert low < high


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 REAL and 24 FAKE frames of 8 videos; half of them for validation, if it is split so."""
    return write_folder(tmp_path_factory.mktemp("data") / "data", videos=8, frames=6, side=SIDE)


@pytest.fixture(scope="module")
def uncalibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture
def model(uncalibrated: Path, tmp_path: Path) -> Path:
    """A copy that a test may calibrate."""
    return Path(shutil.copytree(uncalibrated, tmp_path / "model"))


def evaluate(model: Path, folder: Path, *more: object) -> None:
    options = ["--checkpoint", model, "--data", folder, "--devices", 1, *more]
    evaluation.main([str(option) for option in options])


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "predictions.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_from_frames_to_verdicts(
    model: Path, folder: Path, tmp_path: Path, capsys: Printed
) -> None:
    """Calibrated, used by all commands, overridden, and taken away again."""
    weights = {name: of for name, of in listing(model).items() if name != metadata.SOURCE}
    source = metadata.load_source(model)
    evaluate(model, folder, "--out", tmp_path / "raw")
    published = capsys.readouterr().out.splitlines()[1:3]
    crop = folder / "crops" / "v001_0.png"
    before = predict_file(crop, model, faces="none")
    assert "raw" not in str(before)

    evaluate(model, folder, "--calibrate", "0.1", "--out", tmp_path / "fitted")
    printed = capsys.readouterr().out
    assert "24 FAKE frames and 24 REAL frames of 4 videos, of which 8.33% are called" in printed
    record = metadata.load_source(model)["calibration"]
    assert metadata.load_source(model) == {**source, "calibration": record}
    assert {name: of for name, of in listing(model).items() if name != metadata.SOURCE} == weights
    assert record["false_alarm_rate"] == {"wished": 0.1, "reached": 2 / 24}
    assert (record["frames"], record["split"], record["data"]) == (48, "whole", str(folder))
    assert record["made_by"]["versions"]["jax"]
    report = json.loads((tmp_path / "fitted" / "report.json").read_text())
    section = report["calibration"]
    assert section["calibrated"]["frames"]["false_alarm_rate"] == 2 / 24
    losses = [section[of]["frames"]["log_loss"] for of in ("calibrated", "published")]
    assert losses[0] < losses[1]

    # The figures at the stored threshold are reported beside those of the published decision.
    evaluate(model, folder, "--out", tmp_path / "again")
    again = json.loads((tmp_path / "again" / "report.json").read_text())
    raw = json.loads((tmp_path / "raw" / "report.json").read_text())
    assert again["calibration"]["calibrated"] == section["calibrated"]
    assert "calibration" not in raw
    for unit in ("frames", "videos", "pixels"):
        assert again[unit] == raw[unit]
    assert rows(tmp_path / "again") == rows(tmp_path / "raw")
    printed = capsys.readouterr().out
    assert printed.splitlines()[1:3] == published
    assert "false alarms: REAL called FAKE" in printed

    temperature, threshold = record["temperature"], record["threshold"]
    (verdict,) = Detector.from_checkpoint(model)([crop])
    assert before.decision.real_probability is not None
    real = before.decision.real_probability
    calibrated = sigmoid(np.log(real / (1 - real)) / temperature)
    assert verdict.raw_real_probability == pytest.approx(real, abs=PROBABILITY)
    assert verdict.real_probability == pytest.approx(calibrated, abs=10 * PROBABILITY)
    assert verdict.threshold == threshold
    assert verdict.label == ("FAKE" if 1 - calibrated >= threshold else "REAL")
    assert "raw fake" in str(verdict)

    # As many false alarms as the evaluation reports, by the command.
    found = tmp_path / "found"
    predict.main([str(model), str(folder / "crops"), "--faces", "none", "--out", str(found)])
    of_files = [row for row in rows(found) if row["level"] == "file"]
    evaluated = {Path(row["file"]).name: row for row in rows(tmp_path / "raw")}
    called = [Path(row["file"]).name for row in of_files if row["verdict"] == "FAKE"]
    assert sum(evaluated[name]["label"] == "REAL" for name in called) == 2
    written = json.loads((found / "predictions.json").read_text())
    assert written["options"]["threshold"] == threshold
    assert written["options"]["calibration"] == {"temperature": temperature, "threshold": threshold}
    assert f"{threshold:g}" in written["meaning"]["verdict"]
    assert "before calibration" in written["meaning"]["raw_fake_probability"]
    (first,) = (one for one in written["files"] if one["file"] == str(crop))
    assert first["raw_fake_probability"] == pytest.approx(1 - real, abs=PROBABILITY)
    assert first["faces"][0]["raw_fake_probability"] == first["raw_fake_probability"]
    for row in of_files:
        expected = float(evaluated[Path(row["file"]).name]["fake_probability"])
        assert float(row["raw_fake_probability"]) == pytest.approx(expected, abs=PROBABILITY)
    result = predict_file(crop, model, faces="none")
    assert f"threshold {threshold:.4f}" in str(result)
    html = page_verdict(Report(result, None, [], 1, {}, None, {}))
    assert "adjusted to how often the model was right on known pictures; its own figure" in html

    fake = float(1 - calibrated)
    for given, label in ((fake + 1e-3, "REAL"), (fake - 1e-3, "FAKE")):
        capsys.readouterr()
        predict.main([str(model), str(crop), "--faces", "none", "--threshold", str(given)])
        assert f"{crop}:  {label}" in capsys.readouterr().out

    metadata.write_json(model / metadata.SOURCE, source)
    assert predict_file(crop, model, faces="none").to_json() == before.to_json()


def test_a_video_has_the_mean_of_calibrated_probabilities(model: Path, tmp_path: Path) -> None:
    metadata.store_record(model, metadata.CALIBRATION, {"temperature": 0.1, "threshold": 0.25})
    frames = [noise(SIDE, SIDE, seed) for seed in range(3)]
    encode(tmp_path / "clip.mp4", frames)
    result = predict_file(tmp_path / "clip.mp4", model, faces="none")
    faces = [face.decision for face in result.faces]
    assert len(faces) == 3
    decision = result.decision
    for name in ("real_probability", "raw_real_probability"):
        assert getattr(decision, name) == pytest.approx(np.mean([getattr(f, name) for f in faces]))
    assert decision.raw_fake_probability != decision.fake_probability
    assert decision.threshold == 0.25


def test_logits_that_float32_probabilities_cannot_show(model: Path) -> None:
    """Calibration is of the logit: float32 probabilities near 1 would be 1."""
    output = compiled(load(model))(to_input(noise(), (SIDE, SIDE))[None])
    assert output.real_logit is not None
    logit = float(output.real_logit[0])
    detector = Detector(load(model), calibration=Calibration(abs(logit) / 30, 0.5))
    (verdict,) = detector([noise()])
    assert verdict.real_probability is not None
    rarer = min(verdict.real_probability, 1 - verdict.real_probability)
    assert rarer == pytest.approx(np.exp(-30), rel=1e-2)
    (raw,) = Detector.from_checkpoint(model, calibration=None)([noise()])
    assert raw.raw_real_probability is None


def test_a_measurement_ends_with_the_calibration_that_it_is_of(
    model: Path, folder: Path, capsys: Printed
) -> None:
    trained = Worth.trained("dfdc", frames=4000)
    measured = trained.measured("400 frames of dfdc, split test: 7.7 % of real and 88.5 % of fake")
    for worth, is_noted in ((trained, False), (measured, True)):
        metadata.store_record(model, WORTH, worth.to_json())
        evaluate(model, folder, "--calibrate", 0.1)
        assert Worth.of_checkpoint(model) == trained
        note = f"note: the recorded measurement ({measured.measured_on}) is of the decision before"
        assert (note in capsys.readouterr().out) == is_noted
    assert metadata.load_calibration(model) is not None


DAMAGED: dict[str, Any] = {
    "nothing": {},
    "a list": [1.5, 0.3],
    "a number": 3,
    "NaN": {"temperature": float("nan"), "threshold": 0.3},
    "negative": {"temperature": -1.0, "threshold": 0.3},
    "zero": {"temperature": 0, "threshold": 0.3},
    "tiny": {"temperature": 1e-320, "threshold": 0.3},
    "infinite": {"temperature": float("inf"), "threshold": 0.3},
    "huge": {"temperature": 10**400, "threshold": 0.3},
    "words": {"temperature": "warm " * 1000, "threshold": 0.3},
    "a truth value": {"temperature": True, "threshold": 0.3},
    "threshold above 1": {"temperature": 1.5, "threshold": 1.2},
    "threshold of 0": {"temperature": 1.5, "threshold": 0.0},
    "threshold in a list": {"temperature": 1.5, "threshold": [0.3]},
    "no threshold": {"temperature": 1.5},
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_calibrations(case: str, model: Path, tmp_path: Path) -> None:
    source = {**metadata.load_source(model), "calibration": DAMAGED[case]}
    (model / metadata.SOURCE).write_text(json.dumps(source))
    with pytest.raises(InputError) as raised:
        metadata.load_calibration(model)
    message = str(raised.value)
    assert message.startswith(f"{model / 'source.json'}: t")
    assert "Calibrate again" in message
    assert len(message.replace(str(model), "")) < 300


def test_commands_name_a_damaged_calibration(
    model: Path, folder: Path, fails: Callable[..., str]
) -> None:
    metadata.store_record(model, metadata.CALIBRATION, {"temperature": -1, "threshold": 0.5})
    for main, arguments in (
        (predict.main, (model, folder / "crops")),
        (evaluation.main, ("--checkpoint", model, "--data", folder)),
    ):
        message = fails(main, *arguments)
        assert "source.json: temperature of calibration is -1; expected a number" in message
    evaluate(model, folder, "--calibrate")  # which replaces it
    assert metadata.load_calibration(model) is not None


def test_interrupted_writing_keeps_the_calibration(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata.store_record(model, metadata.CALIBRATION, {"temperature": 2, "threshold": 0.25})
    before = listing(model)

    def interrupted(path: Path, value: object) -> None:
        path.write_text('{"half": ')
        raise KeyboardInterrupt

    monkeypatch.setattr(metadata, "write_json", interrupted)
    with pytest.raises(KeyboardInterrupt):
        metadata.store_record(model, metadata.CALIBRATION, {"temperature": 3, "threshold": 0.75})
    assert listing(model) == before
    assert metadata.load_calibration(model) == Calibration(2, 0.25)


def test_which_frames_it_stands_on(
    model: Path, folder: Path, tmp_path: Path, fails: Callable[..., str], capsys: Printed
) -> None:
    """The validation part, never that of test unless it is named."""
    evaluate(model, folder, "--calibrate", 0.2, "--split", "0/50/50")
    record = metadata.load_source(model)["calibration"]
    assert (record["split"], record["split_as_given"]) == ("validation", "0/50/50")
    assert record["real_frames"] == 12
    evaluate(model, folder, "--calibrate", 0.2, "--split", "test:0/50/50")
    assert metadata.load_source(model)["calibration"]["split"] == "test"

    # What training saw is refused, or else noted.
    fingerprint = record["data_fingerprint"]
    of_training = {"data_fingerprint": fingerprint, "split": "60/20/20", "seed": 3}
    for split, named in (("60/20/20", "give --split 60/20/20 --seed 3"), (None, "on this split")):
        metadata.store_record(model, "trained", of_training | {"split": split})
        message = fails(evaluation.main, "--checkpoint", model, "--calibrate", "--data", folder)
        assert named in message
    metadata.store_record(model, "trained", of_training | {"split": "70/30/0"})  # without test
    message = fails(evaluation.main, "--checkpoint", model, "--calibrate", "--data", folder)
    assert "give --split validation:70/30/0 --seed 3" in message
    evaluate(model, folder, "--split", "validation:70/30/0", "--seed", 3, "--calibrate", 0.2)
    capsys.readouterr()
    metadata.store_record(model, "trained", of_training)
    for more, is_noted in (((), True), (("--seed", 3, "--split", "60/20/20"), False)):
        evaluate(model, folder, *more)
        assert ("were trained on some of these frames" in capsys.readouterr().out) == is_noted
    for more in (("--split", "60/20/20"), ("--seed", 3, "--split", "train:60/20/20")):
        evaluate(model, folder, *more)
        assert "were trained on some of these frames" in capsys.readouterr().out
    of_training |= {"data_fingerprint": "of others"}
    metadata.store_record(model, "trained", of_training)

    unchanged = listing(model)
    for part in ("training", "testing"):
        shutil.copytree(folder, tmp_path / "split" / part)
    asked = ("--checkpoint", model, "--calibrate", "--data")
    message = fails(evaluation.main, *asked, tmp_path / "split")
    assert "has no split validation; name the frames to calibrate on" in message
    message = fails(evaluation.main, *asked, folder, "--split", "50/50/0")
    assert "has 12 REAL frames" in message
    assert "at least 20 are needed" in message
    for videos, label in ((1, "FAKE"), (2, "REAL")):
        one = write_folder(tmp_path / label, videos=videos, frames=2, side=SIDE)
        if label == "REAL":
            for path in one.glob("*/v000*"):
                path.unlink()
        message = fails(evaluation.main, *asked, one)
        assert f"no frame of {one}, split whole is labelled {label}; both" in message
    for rate in ("0", "1", "nan", "5%"):
        with pytest.raises(SystemExit):
            evaluation.main(["--calibrate", rate])
    assert listing(model) == unchanged


def test_networks_without_a_classifier(
    tmp_path: Path, folder: Path, fails: Callable[..., str]
) -> None:
    torch.save(small_tensors("segmenter-224"), tmp_path / "ckpt.pth")
    convert(tmp_path / "ckpt.pth", tmp_path / "segmenter", verify=False)
    asked = ("--checkpoint", tmp_path / "segmenter", "--data", folder, "--calibrate")
    assert "segmenter has no classifier" in fails(evaluation.main, *asked)
    assert metadata.load_calibration(tmp_path / "segmenter") is None
