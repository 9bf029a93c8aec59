"""Evaluation against the published procedure in PyTorch, on any number of devices."""

import csv
import dataclasses
import json
import os
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch
from PIL import Image

from convert import stand_in, to_torch
from convert.from_torch import convert
from flax_unet import PUBLISHED
from flax_unet.checkpoint.provenance import file_sha256
from flax_unet.nn.config import WITH_UNUSED_LEVEL
from tests.conftest import small_tensors
from tests.tolerances import DICE, PROBABILITY, TIED_DICE
from tests.train.children import finish, start
from tests.train.fit.procedure import published_procedure
from tests.train.folders import write_crop, write_folder, write_original
from train.data import audit
from train.data.dataset import open_dataset
from train.eval import __main__ as evaluation
from train.fit import __main__ as fit
from train.fit.tracking import read

# The stand-ins call every picture of noise the same; their last bias is moved to where they do not.
EVAL = "train.eval"
BIAS = {8: 0.268, 64: -1.5}  # by base width


def write_model(directory: Path, layout: str, width: int, seed: int = 0) -> Path:
    config = dataclasses.replace(PUBLISHED[layout], base_width=width)
    tensors = stand_in.state_dict(config, seed, unused_level=layout in WITH_UNUSED_LEVEL)
    if "linear_2.bias" in tensors:
        tensors["linear_2.bias"] += np.float32(BIAS[width])
    torch.save({k: torch.from_numpy(v) for k, v in tensors.items()}, directory / "ckpt.pth")
    convert(directory / "ckpt.pth", directory / "model", verify=False)
    return directory / "model"


def assert_same_decisions(out: Path, expected: dict[str, Any]) -> None:
    report = json.loads((out / "report.json").read_text())
    with (out / "predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = {Path(row["file"]).name: row for row in csv.DictReader(file)}
    assert rows.keys() == expected["predicted"].keys()
    for name, row in rows.items():
        assert row["predicted"] == ("FAKE", "REAL")[expected["predicted"][name]], name
        assert abs(float(row["real_probability"]) - expected["probability"][name]) <= PROBABILITY
        assert abs(float(row["dice"]) - expected["dice"][name]) <= DICE, name
    frames = report["frames"]
    assert (frames["correct"], frames["wrong"]) == (expected["correct"], expected["wrong"])
    dice = np.mean(list(expected["dice"].values()))
    assert abs(report["pixels"]["dice"] - dice) <= DICE


def test_every_decision_is_pytorchs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_model(tmp_path, "ynet-224", 8)
    folder = write_folder(tmp_path / "data", videos=8)
    expected = published_procedure(model.parent / "ckpt.pth", folder)
    assert len(set(expected["predicted"].values())) == 2  # or the test would show little
    out = tmp_path / "out"
    evaluation.main(
        ["--checkpoint", str(model), "--data", str(folder), "--out", str(out), "--batch-size", "7"]
    )
    printed = capsys.readouterr().out
    assert f"Correct {expected['correct']}, Wrong {expected['wrong']}\n" in printed
    assert_same_decisions(out, expected)
    pictures = {"roc", "precision_recall", "scores", "calibration", "worst"}
    assert {path.name for path in out.iterdir()} == {
        *("report.json", "predictions.csv"),
        *(f"{name}.png" for name in pictures),
    }
    for name in pictures:
        with Image.open(out / f"{name}.png") as opened:
            opened.load()
            assert opened.width > 300


def expected_of(checkpoint: Path, original: Path) -> dict[str, Any]:
    """What PyTorch finds in the test frames of the original's folder."""
    return published_procedure(
        checkpoint,
        original / "testing",
        crops="crops/crops_testing",
        masks="masks/masks_testing",
        metadata="../../metadata.json",
    )


def test_the_original_folder_is_scored_as_pytorch_does(tmp_path: Path) -> None:
    model = write_model(tmp_path, "ynet-224", 8)
    data = write_original(tmp_path / "dfdc_deepfake_challenge")
    audit.main([str(data), "--json", str(tmp_path / "audit.json")])
    found = json.loads((tmp_path / "audit.json").read_text())
    assert (found["faults"], found["notes"], found["shared_sources"]) == ({}, [], {})
    assert {name: split["frames"] for name, split in found["splits"].items()} == {
        **{"train": 12, "test": 6}
    }

    expected = expected_of(tmp_path / "ckpt.pth", data)
    assert len(set(expected["predicted"].values())) == 2  # or the test would show little
    out = tmp_path / "out"
    chosen = ["--checkpoint", str(model), "--data", str(data.parent), "--out", str(out)]
    evaluation.main(chosen)
    assert_same_decisions(out, expected)


@pytest.mark.slow
def test_the_original_folder_is_trained_on_as_pytorch_scores_it(tmp_path: Path) -> None:
    model = write_model(tmp_path, "ynet-224", 8)
    data = write_original(tmp_path / "dfdc_deepfake_challenge")
    run = tmp_path / "run"
    options = {"--data": data, "--validation": "testing", "--init-from": model, "--workdir": run}
    options |= {"--batch-size": 4, "--steps": 2, "--learning-rate": 1e-6}
    # Or a few steps make all decisions alike: the stand-in hardly differs between frames.
    fit.main([*(str(part) for option in options.items() for part in option), "--freeze-encoder"])
    to_torch.main([str(run / "last"), str(tmp_path / "trained.pth")])
    expected = expected_of(tmp_path / "trained.pth", data)
    assert len(set(expected["predicted"].values())) == 2
    (validated,) = read(run / "validation.jsonl")
    assert (validated["step"], validated["frames.n"]) == (2, 6)
    assert validated["frames.correct"] == expected["correct"]
    dice = np.mean(list(expected["dice"].values()))
    assert abs(validated["pixels.dice"] - dice) <= TIED_DICE


@pytest.mark.slow
def test_full_size_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_model(tmp_path, "ynet-224", 64)
    folder = write_folder(tmp_path / "data", videos=4, frames=2, side=256)
    out = tmp_path / "out"
    evaluation.main(
        ["--checkpoint", str(model), "--data", str(folder), "--out", str(out), "--batch-size", "4"]
    )
    printed = capsys.readouterr().out
    expected = published_procedure(model.parent / "ckpt.pth", folder)
    assert f"Correct {expected['correct']}, Wrong {8 - expected['correct']}\n" in printed
    assert f"Accuracy {100 * expected['correct'] / 8:.2f} %" in printed
    assert_same_decisions(out, expected)


def results(out: Path) -> tuple[dict[str, Any], list[list[str]]]:
    report = json.loads((out / "report.json").read_text())
    with (out / "predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    return {key: report[key] for key in ("frames", "videos", "pixels")}, rows


def assert_same_results(found: Path, expected: Path) -> None:
    """Counts and decisions are equal, every other figure to 1e-6."""
    (figures, rows), (wanted, wanted_rows) = results(found), results(expected)
    assert [row[:3] for row in rows] == [row[:3] for row in wanted_rows]
    assert len({row[0] for row in rows}) == len(rows)
    for row, other in zip(rows[1:], wanted_rows[1:], strict=True):
        assert row[5:7] == other[5:7]  # the decision and the count of pixels
        np.testing.assert_allclose(
            [float(row[i]) for i in (3, 4, 7)], [float(other[i]) for i in (3, 4, 7)], atol=1e-6
        )

    def compare(a: Any, b: Any, where: str) -> None:
        if isinstance(a, dict):
            assert a.keys() == b.keys(), where
            for key in a:
                compare(a[key], b[key], f"{where}.{key}")
        elif isinstance(a, list):
            assert len(a) == len(b), where
            for i, pair in enumerate(zip(a, b, strict=True)):
                compare(*pair, f"{where}[{i}]")
        elif isinstance(a, float):
            assert abs(a - b) <= 1e-6, where
        else:
            assert a == b, where

    compare(figures, wanted, "report")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A model, a folder of frames, and the results on one device with batches of 4."""
    directory = tmp_path_factory.mktemp("shared")
    model = write_model(directory, "ynet-224", 8)
    folder = write_folder(directory / "data", videos=4)
    (folder / "crops" / "v001_1.png").unlink()  # 11 frames: no number of devices divides them
    return model, folder, directory / "one"


def call(shared: tuple[Path, Path, Path], out: Path, *options: object) -> list[str]:
    model, folder, _ = shared
    fixed = ["--checkpoint", str(model), "--data", str(folder), "--out", str(out)]
    return [*fixed, *map(str, options)]


NO_PLOTS = "from train.eval import plots; plots._save = lambda *_: None"  # half of a call's time


def test_devices_batches_and_workers_change_nothing(
    shared: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    setups = [(1, 4), (1, 1), (2, 7), (3, 7), (4, 64), (4, 1), (2, 10**12)]
    calls = [
        call(shared, tmp_path / f"{devices}-{batch}", "--devices", devices, "--batch-size", batch)
        for devices, batch in setups
    ]
    calls.append(call(shared, tmp_path / "workers", "--workers", 2))
    finish(start(EVAL, calls, devices=4, prelude=NO_PLOTS))
    for devices, batch in setups[1:]:
        assert_same_results(tmp_path / f"{devices}-{batch}", tmp_path / "1-4")
    assert_same_results(tmp_path / "workers", tmp_path / "1-4")


def test_two_processes_of_two_devices(shared: tuple[Path, Path, Path], tmp_path: Path) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        address = "{}:{}".format(*listening.getsockname())
    # 11 frames, so that the processes' shares differ; and one, so that a process has none.
    sizes = {"all": (), "few": ("--limit", 1)}

    def calls(processes: str, *options: object) -> list[list[str]]:
        return [
            call(shared, tmp_path / processes / name, *options, *limit)
            for name, limit in sizes.items()
        ]

    for line in calls("one", "--devices", 1):
        evaluation.main(line)
    children = []
    for number in range(2):
        first, second = calls("two", "--batch-size", 7)
        joined = ["--coordinator", address, "--num-processes", "2", "--process-id", str(number)]
        lines = [[*first, *joined], second]
        children.append(start(EVAL, lines, devices=2, prelude=NO_PLOTS))
    printed = [finish(child) for child in children]
    assert "Correct" in printed[0]
    # Gloo's threads write at once, so that its lines can be cut into each other.
    lines = [line for line in printed[1].splitlines() if line.strip()]
    assert not [line for line in lines if not re.search("Gloo|peer ranks", line)]  # one prints
    for name in sizes:
        assert_same_results(tmp_path / "two" / name, tmp_path / "one" / name)
    report = json.loads((tmp_path / "two" / "few" / "report.json").read_text())
    assert report["frames"]["n"] == 1
    assert len(set(report["configuration"]["devices"])) == 4  # of both processes


@pytest.mark.parametrize("layout", ["classifier-224", "segmenter-224"])
def test_heads_that_a_checkpoint_lacks_are_left_out(
    layout: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_model(tmp_path, layout, 8)
    folder = write_folder(tmp_path / "data", videos=2)
    out = tmp_path / "out"
    evaluation.main(["--checkpoint", str(model), "--data", str(folder), "--out", str(out)])
    report = json.loads((out / "report.json").read_text())
    header = (out / "predictions.csv").read_text().splitlines()[0]
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"{out}: {', '.join(sorted(path.name for path in out.iterdir()))}"
    assert ("roc.png" in last) == (layout == "classifier-224")
    assert ("frames" in report) == ("videos" in report) == (layout == "classifier-224")
    assert ("pixels" in report) == (layout == "segmenter-224")
    assert ("real_probability" in header) == (layout == "classifier-224")
    assert ("dice" in header) == (layout == "segmenter-224")


def test_newest_checkpoint_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(small_tensors("ynet-224"), "ckpt.pth")
    ages = {
        **{".half-written.x": 1, "newer": 300, "older": 400},
        **{"run/checkpoints/step_1": 100, "run/checkpoints/step_2": 50, "short/checkpoints/s": 200},
    }
    for name, age in ages.items():
        convert("ckpt.pth", f"checkpoints/{name}", verify=False)
        os.utime(f"checkpoints/{name}/config.json", (1e9 - age, 1e9 - age))
    arguments = ["--data", str(write_folder(tmp_path / "data", videos=2)), "--limit", "3"]

    def chosen() -> str:
        evaluation.main(arguments)
        printed = capsys.readouterr().out
        assert "3 frames" in printed
        return printed.partition(" on ")[0]

    assert chosen() == "checkpoints/newer"
    Path("checkpoints/short/last").symlink_to("checkpoints/s")
    assert chosen() == "checkpoints/short/last"  # training that never found a best
    Path("checkpoints/run/last").symlink_to("checkpoints/step_2")
    Path("checkpoints/run/best").symlink_to("checkpoints/step_1")
    assert chosen() == "checkpoints/run/best"


def test_report_holds_what_repeats_it(tmp_path: Path) -> None:
    torch.save(small_tensors("ynet-224"), tmp_path / "ckpt.pth")
    convert(tmp_path / "ckpt.pth", tmp_path / "model", verify=False)
    folder = write_folder(tmp_path / "data", videos=8)
    options = {"--split": "train:60/20/20", "--limit": "5", "--seed": "3", "--batch-size": "2"}
    paths = {"--checkpoint": tmp_path / "model", "--data": folder, "--out": tmp_path / "out"}
    flat = [str(part) for option in (options | paths).items() for part in option]
    evaluation.main([*flat, "--skip-bad"])
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["configuration"] == {
        **{"checkpoint": str(tmp_path / "model"), "data": str(folder), "frames": 5},
        **{"split": "train", "split_as_given": "train:60/20/20", "limit": 5, "seed": 3},
        **{"skip_bad": True, "batch_size": 2, "dtype": "float32", "image_size": 224},
        **{"mask_threshold": None, "real_label": None},
        **{"aggregate": "mean_probability", "processes": 1},
        "devices": [str(device) for device in jax.devices()],
    }
    assert report["checkpoint"]["sha256"] == file_sha256(tmp_path / "ckpt.pth")
    assert report["data"]["fingerprint"] == open_dataset(str(folder), None).fingerprint
    computing = {"jax", "flax", "scipy", "grain", "tensorflow-datasets", "optax"}
    assert computing | {"array_record", "matplotlib"} <= report["made_by"]["versions"].keys()


def test_fakes_of_faceforensics_are_scored_as_fakes(tmp_path: Path) -> None:
    torch.save(small_tensors("ynet-224"), tmp_path / "ckpt.pth")
    convert(tmp_path / "ckpt.pth", tmp_path / "model", verify=False)
    labels = {"000_0": "REAL", "000_1": "REAL", "000_003_0": "FAKE", "000_003_1": "FAKE"}
    for seed, name in enumerate(labels):
        write_crop(tmp_path / "data" / "crops" / f"{name}.png", np.random.default_rng(seed))
    entries = {"000.mp4": {"label": "REAL"}, "000_003.mp4": {"label": "FAKE"}}
    (tmp_path / "data" / "metadata.json").write_text(json.dumps(entries))
    paths = {"--checkpoint": tmp_path / "model", "--data": tmp_path / "data"}
    paths |= {"--out": tmp_path / "out"}
    evaluation.main([str(part) for option in paths.items() for part in option])
    with (tmp_path / "out" / "predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {Path(row["file"]).stem: row["label"] for row in rows} == labels
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["frames"]["n"], report["videos"]["n"]) == (4, 2)


BAD: dict[str, tuple[list[str], str]] = {
    "no checkpoint": ([], "no checkpoint under checkpoints/"),
    "a missing one": (["--checkpoint", "none"], "none does not exist"),
    "a damaged one": (["--checkpoint", "damaged"], "damaged/config.json is not JSON"),
    "too many devices": (["--checkpoint", "model", "--devices", "99"], "--devices 99: there are"),
    "no devices": (["--checkpoint", "model", "--devices", "none"], "--devices none: expected all"),
    "no batch": (["--checkpoint", "model", "--batch-size", "0"], "--batch-size 0"),
    "no frames": (["--checkpoint", "model", "--limit", "-1"], "--limit -1"),
    "workers below zero": (["--checkpoint", "model", "--workers", "-1"], "--workers -1: expected"),
    "a seed below zero": (["--checkpoint", "model", "--seed", "-1"], "--seed -1: expected"),
    "no provenance": (["--checkpoint", "anonymous"], "anonymous/source.json is missing"),
    "damaged weights": (["--checkpoint", "cut"], "cut/weights"),
    "no place": (["--checkpoint", "model", "--out", "ckpt.pth/out"], "ckpt.pth/out cannot be"),
    "existing results": (["--checkpoint", "model", "--out", "data"], "data exists already"),
    "an unknown set": (["--checkpoint", "model", "--data", "dfdc"], "neither a folder nor"),
    "an unknown split": (["--checkpoint", "model", "--split", "val"], "no split val"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(
    case: str,
    tmp_path: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    fails: Callable[..., str],
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, message = BAD[case]
    torch.save(small_tensors("ynet-224"), "ckpt.pth")
    for name in ("model", "damaged", "anonymous", "cut"):
        convert("ckpt.pth", name, verify=False)
    Path("damaged/config.json").write_text("{")
    Path("anonymous/source.json").unlink()
    largest = max(Path("cut/weights").rglob("*"), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-1])
    write_folder(Path("data"), videos=2)
    if "--data" not in arguments:
        arguments = [*arguments, "--data", "data"]
    assert message in fails(evaluation.main, *arguments)
    if case != "an unknown split":  # which needs the data set
        assert not cache.exists()  # all of that is found before a data set is packed


def test_corrupt_cache_is_reported(
    tmp_path: Path, cache: Path, fails: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(small_tensors("ynet-224"), tmp_path / "ckpt.pth")
    convert(tmp_path / "ckpt.pth", tmp_path / "model", verify=False)
    folder = write_folder(tmp_path / "data", videos=2)
    arguments = ["--checkpoint", str(tmp_path / "model"), "--data", str(folder)]
    evaluation.main(arguments)
    for path in cache.rglob("*.array_record-*"):
        path.write_bytes(path.read_bytes()[:-300])
    capsys.readouterr()
    message = fails(evaluation.main, *arguments)
    assert str(cache) in message
    assert "Delete it" in message
