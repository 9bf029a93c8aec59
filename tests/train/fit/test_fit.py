"""Training from its command line: what it writes, resuming, interruptions."""

import contextlib
import dataclasses
import errno
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch
from flax import nnx
from PIL import Image

import flax_unet
from benchmarks import killed
from convert import to_torch
from convert.from_torch import convert
from convert.parity import load_twin
from convert.torch_unet import ReferenceUNet
from flax_unet import UNetConfig
from flax_unet.checkpoint import metadata, store
from flax_unet.checkpoint.store import flat
from flax_unet.checkpoint.worth import Worth
from flax_unet.nn.inference import compiled
from flax_unet.predict import __main__ as predict
from flax_unet.utils import files
from flax_unet.utils.errors import InputError
from tests.conftest import Original, images, listing, small_tensors
from tests.flax_unet.utils.test_files import no_links
from tests.published import LAYOUTS
from tests.tolerances import DEVICES_32, NETWORK, assert_close, assert_same_tensors
from tests.train.children import await_steps, finish, start, together
from tests.train.fit.conftest import SHALLOW, write_checkpoint
from train import distributed
from train.card import __main__ as card
from train.eval import __main__ as evaluation
from train.fit import __main__ as fit
from train.fit import estimate
from train.fit.checkpoints import Checkpoints, held
from train.fit.tracking import Tracker, read

FIXED = ["--batch-size", "4", "--learning-rate", "1e-3"]
TINY = ["--size", "16", "--base-width", "2"]  # of the published layout, which has four levels
FIT = "train.fit"
FIELDS = {
    *("step", "epoch", "loss", "mask_loss", "class_loss"),
    *("learning_rate", "images_per_second", "data_wait"),
}


@pytest.fixture(scope="session")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps with checkpoints after the second and the fourth."""
    workdir = tmp_path_factory.mktemp("trained") / "run"
    run(data, workdir, "--steps", 4, "--save-every", 2)
    return workdir


@pytest.fixture
def workdir(trained: Path, tmp_path: Path) -> Path:
    """A copy of that run."""
    return shutil.copytree(trained, tmp_path / "run", symlinks=True)


def options(data: Path, workdir: Path, *more: object) -> list[str]:
    """Options of a run; from the shallow checkpoint unless they describe the network."""
    described = {"--base-width", "--init-from"} & set(more)
    begin = [] if described else ["--init-from", str(data.parent / "start")]
    fixed = ["--data", str(data), "--workdir", str(workdir), *FIXED, *begin]
    return [*fixed, *map(str, more)]


def run(data: Path, workdir: Path, *more: object) -> None:
    fit.main(options(data, workdir, *more))


def weights(workdir: Path) -> dict[str, np.ndarray]:
    return flat(store.load_weights(workdir / "last"))


def test_what_a_run_writes_is_read_by_every_command(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workdir = tmp_path / "run"
    tall = ("--size", "32x16")  # pictures that are not square
    split = ("--split", "60/20/20")
    run(data, workdir, *split, *tall, "--steps", 9, "--log-every", 2, "--save-every", 4)
    lines = read(workdir / "metrics.jsonl")
    assert [line["step"] for line in lines] == [2, 4, 6, 8, 9]
    printed = capsys.readouterr().out
    assert re.search(
        r"^a step needs about [\d.]+ [MG]B of memory; [\d.,]+ [MG]B are free", printed, re.M
    )
    assert re.search(
        r"^an epoch takes very roughly [\d.]+ (s|min) on this CPU, the run [\d.]+ (s|min)$",
        printed,
        re.M,
    )
    shown = [line for line in printed.splitlines() if line.startswith("step ")]
    assert re.fullmatch(r"step 2 of 9: loss \S+, \S+ images a second, \d+ s left", shown[0])
    assert re.fullmatch(r"step 9 of 9: loss \S+, \S+ images a second", shown[-2])
    assert all(line.keys() == FIELDS for line in lines)
    assert all(np.isfinite(list(line.values())).all() for line in lines)
    assert lines[-1]["epoch"] == 3  # 18 frames are 4 steps an epoch
    validation = read(workdir / "validation.jsonl")
    assert [line["step"] for line in validation] == [4, 8, 9]
    assert 0 <= validation[-1]["frames.accuracy"] <= 1
    assert list((workdir / "tensorboard").glob("events*"))
    with Image.open(workdir / "curves.png") as curves:
        assert curves.width > 300
    saved = json.loads((workdir / "training.json").read_text())
    assert saved["batch_size"] == 4
    assert saved["optimizer"] == "adam"
    assert saved["size"] == [32, 16]
    progress = json.loads((workdir / "last" / "training.json").read_text())
    assert (progress["step"], progress["samples_seen"]) == (9, 36)

    model = flax_unet.load(workdir / "last")
    assert model.config.input_size == (32, 16)
    picture = images(2, 32)[:, :, :16]
    expected = compiled(model)(picture)
    to_torch.main([str(workdir / "last"), str(tmp_path / "back.pth")])
    tensors = torch.load(tmp_path / "back.pth", weights_only=True)
    arrays = {key: tensor.numpy() for key, tensor in tensors.items()}
    twin = load_twin(ReferenceUNet(model.config), arrays)
    with torch.inference_mode():
        mask_logits, _ = twin(torch.from_numpy(picture).permute(0, 3, 1, 2))
    assert_close(expected.mask_logits, mask_logits.permute(0, 2, 3, 1), NETWORK)

    chosen = ["--checkpoint", str(workdir / "best"), "--data", str(data), "--split", "60/20/20"]
    evaluation.main([*chosen, "--out", str(tmp_path / "report")])
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["frames"]["n"] == 6
    assert report["configuration"]["image_size"] == [32, 16]
    crop = next((data / "crops").iterdir())
    predict.main([str(workdir / "best"), str(crop), "--out", str(tmp_path / "predicted")])
    assert (tmp_path / "predicted" / "predictions.json").exists()


def test_what_trained_weights_are_worth(data: Path, workdir: Path) -> None:
    """Training that goes on keeps what it started from, and loses a measurement."""
    start = "Trained on data that is not recorded, then on 30 frames of data"
    before = Worth.of_checkpoint(workdir / "last")
    assert before.sentence == f"{start}; no measurement is recorded."
    source = metadata.load_source(workdir / "last")
    measured = before.measured("dfdc: AUC 0.970")
    metadata.write_json(workdir / "last" / "source.json", source | {"worth": measured.to_json()})
    run(data, workdir, "--steps", 5)
    assert metadata.load_source(workdir / "last")["trained"]["step"] == 5
    assert Worth.of_checkpoint(workdir / "last") == before


def test_published_recipe_is_the_default() -> None:
    config = fit.resolve({"data": "dfdc", "workdir": Path("nowhere")}).options()
    published = {"optimizer": "adam", "learning_rate": 1e-5, "batch_size": 64, "dtype": "float32"}
    assert published.items() <= config.items()
    assert (config["mask_loss_weight"], config["class_loss_weight"]) == (0.5, 0.5)
    assert not any(config[name] for name in ("flip", "jpeg", "blur", "noise", "colour", "cut_out"))
    demonstration = fit.resolve({"workdir": Path("nowhere"), "epochs": 1}).options()
    assert demonstration["data"] == "forged_portraits"
    assert (demonstration["base_width"], demonstration["epochs"]) == (8, 1)


def test_each_layout_has_its_published_recipe() -> None:
    def chosen(**given: Any) -> dict[str, Any]:
        return fit.resolve({"data": "dfdc", "workdir": Path("nowhere"), **given}).options()

    common = {"learning_rate": 1e-5, "weight_decay": None, "clip_norm": None, "accumulate": 1}
    combined = {"recipe": "combined", "batch_size": 64, "optimizer": "adam", "epochs": 35}
    combined |= {"schedule": "constant", "mask_loss": "cross-entropy", "heads": "both"}
    segmentation = {"recipe": "segmentation", "batch_size": 16, "optimizer": "rmsprop"}
    segmentation |= {"schedule": "plateau", "decay_factor": 0.1, "mask_loss_weight": 1.0}
    segmentation |= {"mask_loss": "cross-entropy+dice", "heads": "mask", "epochs": 100}
    classification = {"recipe": "classification", "batch_size": 64, "optimizer": "adam"}
    classification |= {"class_loss_weight": 1.0, "heads": "classifier", "schedule": "constant"}
    for expected, several in {
        "combined": [{}, {"layout": "ynet-320"}, {"recipe": "combined"}],
        "segmentation": [
            *({"layout": "segmenter-224"}, {"layout": "segmenter-bilinear"}),
            *({"recipe": "segmentation"}, {"heads": "mask"}),
        ],
        "classification": [{"layout": "classifier-224"}, {"recipe": "classification"}],
    }.items():
        wanted = {"combined": combined, "segmentation": segmentation}.get(expected, classification)
        for given in several:
            assert (common | wanted).items() <= chosen(**given).items(), given
    assert chosen(recipe="segmentation", optimizer="adam", batch_size=4)["batch_size"] == 4


def test_segmentation_recipe_lowers_the_rate_as_pytorch(data: Path, tmp_path: Path) -> None:
    """Twice an epoch, by the validation's Dice; a run that is resumed does not forget it."""
    options = ("--recipe", "segmentation", "--split", "60/20/20", "--log-every", 1)
    run(data, tmp_path / "whole", *options, "--steps", 24, "--keep-last-batch")
    run(data, tmp_path / "parts", *options, "--steps", 9, "--keep-last-batch")
    fit.main(["--workdir", str(tmp_path / "parts"), "--resume", "--steps", "24"])
    assert killed.differing(tmp_path / "whole", tmp_path / "parts") == []
    # 18 frames to train on, in batches of 4: five steps an epoch, 18 // 8 steps between checks.
    validation = read(tmp_path / "whole" / "validation.jsonl")
    assert [line["step"] for line in validation] == list(range(2, 25, 2))
    optimizer = torch.optim.RMSprop([torch.zeros(1, requires_grad=True)], 1e-3)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "max", patience=2)
    dice = {line["step"]: line["pixels.dice"] for line in validation}
    lines = read(tmp_path / "whole" / "metrics.jsonl")
    for line in lines:
        assert line["learning_rate"] == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6)
        if line["step"] in dice:
            plateau.step(dice[line["step"]])
    assert len({line["learning_rate"] for line in lines}) > 1
    assert [line["epoch"] for line in lines] == [1] * 5 + [2] * 5 + [3] * 5 + [4] * 5 + [5] * 4
    assert len(lines) == 24
    progress = json.loads((tmp_path / "whole" / "last" / "training.json").read_text())
    assert progress["samples_seen"] == 4 * 18 + 16


def test_running_again_goes_on(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extras = ("--ema", 0.9, "--flip", 0.5, "--jpeg", 0.5, "--noise", 0.5, "--log-every", 3)
    run(data, tmp_path / "whole", *extras, "--steps", 8)
    run(data, tmp_path / "parts", *extras, "--steps", 4)
    (tmp_path / "parts").rename(tmp_path / "moved")
    capsys.readouterr()
    fit.main(["--workdir", str(tmp_path / "moved"), "--resume", "--steps", "8"])
    assert "goes on after step 4" in capsys.readouterr().out
    assert killed.differing(tmp_path / "whole", tmp_path / "moved") == []
    whole, parts = (read(tmp_path / name / "metrics.jsonl") for name in ("whole", "moved"))
    for line, other in zip(whole[-1:], parts[-1:], strict=True):
        assert line["loss"] == other["loss"]


def test_memory_may_run_short_on_the_way(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rematerialised: list[object] = []
    remat = nnx.remat
    monkeypatch.setattr(nnx, "remat", lambda layer: rematerialised.append(layer) or remat(layer))
    run(data, tmp_path / "run", "--steps", 1)
    assert not rematerialised
    fit.main(["--workdir", str(tmp_path / "run"), "--resume", "--steps", "2", "--remat"])
    assert len(rematerialised) == 2 * SHALLOW.levels + 1


@pytest.mark.slow
def test_kills_and_sigterm_change_nothing(data: Path, tmp_path: Path) -> None:
    steps = 30
    calm = killed.fit(tmp_path / "calm", str(data), steps)
    rng = random.Random(0)
    for _ in range(2):
        killed.kill_at_random(tmp_path / "killed", str(data), steps, rng)
    child = killed.fit(tmp_path / "killed", str(data), steps)
    log = tmp_path / "killed" / "metrics.jsonl"
    await_steps(child, log, more_than=len(read(log)))
    child.send_signal(signal.SIGTERM)
    child.communicate()
    assert child.returncode in (0, 128 + signal.SIGTERM)  # 0 if it was done already
    saved = json.loads((tmp_path / "killed" / "last" / "training.json").read_text())
    assert saved["step"] == read(log)[-1]["step"]  # no step is lost
    killed.finish(killed.fit(tmp_path / "killed", str(data), steps))
    killed.finish(calm)
    assert killed.differing(tmp_path / "calm", tmp_path / "killed") == []
    assert not list((tmp_path / "killed" / "checkpoints").glob(".*"))
    assert [line["step"] for line in read(log)] == list(range(1, steps + 1))


@pytest.mark.parametrize("damage", ["delete", "corrupt", "truncate", "empty", "config"])
def test_damaged_newest_checkpoint_is_passed_over(
    damage: str, data: Path, workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = weights(workdir)
    newest = (workdir / "last").resolve()
    large = max((newest / "training").rglob("*"), key=lambda path: path.stat().st_size)
    if damage == "delete":
        large.unlink()
    elif damage == "corrupt":
        content = bytearray(large.read_bytes())
        content[len(content) // 2] ^= 1
        large.write_bytes(content)
    elif damage == "config":
        (newest / "config.json").unlink()
    else:
        (newest / "training.json").write_text("{" if damage == "truncate" else "{}")
    # Shorter than before: what is damaged has the higher number, and counts for nothing.
    run(data, workdir, "--steps", 3, "--save-every", 2, "--keep", 1)
    assert (workdir / "last").resolve().name == "step_00000003"
    run(data, workdir, "--steps", 4, "--save-every", 2)
    printed = capsys.readouterr()
    assert f"{newest} is passed over" in printed.err
    assert "goes on after step 2" in printed.out
    for path, leaf in weights(workdir).items():
        np.testing.assert_array_equal(leaf, expected[path])


def test_full_disk_loses_nothing(
    data: Path, workdir: Path, monkeypatch: pytest.MonkeyPatch, fails: Callable[..., str]
) -> None:
    before = listing(workdir / "checkpoints")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "posix_fallocate", full)
    message = fails(fit.main, *options(data, workdir, "--steps", 6, "--save-every", 1))
    assert "No space left on device" in message
    assert listing(workdir / "checkpoints") == before


def test_full_disk_is_an_error_at_once(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: Callable[..., str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "posix_fallocate", full)
    more = ("--steps", 20_000, "--save-every", 19_000, "--log-every", 1, "--split", "60/20/20")
    fails(fit.main, *options(data, tmp_path / "run", *more))
    assert len(read(tmp_path / "run" / "metrics.jsonl")) < 1000


def test_data_that_changed_is_refused(
    data: Path, tmp_path: Path, fails: Callable[..., str]
) -> None:
    copy, workdir = shutil.copytree(data, tmp_path / "copy"), tmp_path / "run"
    shutil.copytree(data.parent / "start", tmp_path / "start")
    run(copy, workdir, "--steps", 1)
    crop = next((copy / "crops").iterdir())
    with Image.open(crop) as image:
        Image.new("RGB", image.size).save(crop)
    message = fails(fit.main, *options(copy, workdir, "--steps", 2))
    assert "is not what" in message
    assert "--init-from" in message


def test_two_runs_in_one_place_are_refused(
    data: Path, workdir: Path, fails: Callable[..., str]
) -> None:
    before = listing(workdir)
    with held(workdir):
        assert "in use by another run" in fails(fit.main, *options(data, workdir, "--steps", 6))
    assert listing(workdir) == before


def test_links_and_leftovers_are_put_in_order(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workdir = tmp_path / "run"
    workdir.mkdir()
    (workdir / ".training.json.abcd1234").touch()  # killed at the very start
    run(data, workdir, "--steps", 2, "--split", "60/20/20")
    for name in ("last", "best"):
        (workdir / name).unlink()
    (workdir / ".metrics.jsonl.abcd1234").touch()
    (workdir / ".gitignore").touch()
    run(data, workdir, "--steps", 2, "--split", "60/20/20")
    assert {"last", "best", ".gitignore"} <= {path.name for path in workdir.iterdir()}
    assert not list(workdir.glob(".*1234"))
    flax_unet.load(workdir / "best")
    capsys.readouterr()
    fit.main(["--workdir", str(workdir)])
    assert "demonstration" not in capsys.readouterr().out


def test_file_system_without_links(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a mounted cloud drive: a file names the checkpoint, and every command follows it."""
    workdir, split = tmp_path / "checkpoints" / "run", ("--split", "60/20/20")
    with monkeypatch.context() as drive:
        drive.setattr(os, "symlink", no_links)
        run(data, workdir, *split, "--steps", 2, "--save-every", 1)
        run(data, workdir, *split, "--steps", 3, "--resume")
        assert "goes on after step 2" in capsys.readouterr().out
        last, saved = workdir / "last", workdir / "checkpoints" / "step_00000003"
        assert last.read_text() == "checkpoints/step_00000003\n"
        expected = flat(store.load_weights(saved))
        for path, leaf in weights(workdir).items():
            np.testing.assert_array_equal(leaf, expected[path])
        predict.main([str(last), str(next((data / "crops").iterdir())), "--faces", "none"])
        to_torch.main([str(last), str(tmp_path / "back.pth")])
        card.main([str(last)])
        assert (saved / "README.md").is_file()
        run(data, tmp_path / "tuned", "--init-from", last, "--steps", 1)
        drive.chdir(tmp_path)
        capsys.readouterr()
        evaluation.main(["--data", str(data), "--split", "60/20/20"])
        assert capsys.readouterr().out.startswith("checkpoints/run/best on ")
    # Moved to a file system with links, by what follows them.
    last.unlink()
    shutil.copytree(saved, last)
    run(data, workdir, "--steps", 4)
    assert last.is_symlink()
    assert last.resolve().name == "step_00000004"


def test_another_metric_starts_anew(data: Path, tmp_path: Path) -> None:
    workdir, split = tmp_path / "run", ("--split", "60/20/20")
    run(data, workdir, *split, "--steps", 2)
    run(data, workdir, *split, "--steps", 4, "--best-metric", "frames.log_loss")
    progress = json.loads((workdir / "last" / "training.json").read_text())
    assert progress["best"]["metric"] == "frames.log_loss"
    assert progress["best"]["step"] == 4


def test_other_validation_frames_start_anew(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Labels are corrected after a run has ended early; the best and its counts were of others."""
    for part in ("training", "validation"):
        shutil.copytree(data, tmp_path / "data" / part)
    shutil.copytree(data.parent / "start", tmp_path / "start")
    labels = tmp_path / "data" / "validation" / "metadata.json"
    right = labels.read_text()
    labels.write_text(right.replace('"REAL"', '"FAKE"', 4))
    still = ("--learning-rate", 1e-30, "--early-stopping", 2, "--eval-every", 1)  # 7 steps an epoch

    def ended(steps: int) -> tuple[int, int, int]:
        run(tmp_path / "data", tmp_path / "run", *still, "--steps", steps)
        found = json.loads((tmp_path / "run" / "last" / "training.json").read_text())
        return found["step"], found["best"]["step"], found["evaluations_without_gain"]

    assert ended(28) == ended(35) == (21, 7, 2)
    assert "changed since" not in capsys.readouterr().out
    labels.write_text(right)
    assert ended(28) == (28, 28, 0)
    assert "note: the validation data changed since step 21, so" in capsys.readouterr().out
    assert ended(35) == (35, 28, 1)
    assert "changed since" not in capsys.readouterr().out


def test_loss_that_is_not_finite_stops(
    data: Path, tmp_path: Path, fails: Callable[..., str]
) -> None:
    workdir = tmp_path / "run"
    arguments = ("--learning-rate", "1e38", "--steps", "6", "--save-every", "1")
    message = fails(fit.main, *options(data, workdir, *arguments))
    assert "the loss of step " in message
    last = (workdir / "last").resolve()
    assert str(last) in message
    flax_unet.load(last)
    # At an evaluation too; and where nothing is saved, the run may be started otherwise.
    other = ("--learning-rate", "1e38", "--split", "60/20/20", "--epochs", 1, "--log-every", 99)
    assert "the loss of step " in fails(fit.main, *options(data, tmp_path / "other", *other))
    run(data, tmp_path / "other", "--split", "60/20/20", "--epochs", 1)


def test_starts_from_a_checkpoint_with_a_fresh_head(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], fails: Callable[..., str]
) -> None:
    start = tmp_path / "start"
    write_checkpoint(start, dataclasses.replace(SHALLOW, decoder_levels=0))
    fixed = ["--data", str(data), "--batch-size", "4", "--init-from", str(start)]
    fixed += ["--learning-rate", "0", "--steps", "1", "--freeze-encoder"]
    fit.main([*fixed, "--heads", "both", "--workdir", str(tmp_path / "run")])
    assert f"{start} has no mask head; it starts fresh" in capsys.readouterr().out
    trained = weights(tmp_path / "run")
    for path, leaf in flat(store.load_weights(start)).items():
        np.testing.assert_array_equal(trained[path], leaf)
    message = fails(fit.main, *fixed, "--base-width", "4", "--workdir", tmp_path / "other")
    assert "base_width: 2 there, 4 here" in message


def test_original_class_loads_what_was_trained_from_scratch(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path / "run", "--steps", 1, *TINY)
    to_torch.to_torch(tmp_path / "run" / "last", tmp_path / "back.pth")
    tensors = torch.load(tmp_path / "back.pth", weights_only=True)
    assert list(tensors) == list(LAYOUTS["ynet-224"]["tensors"])
    config = UNetConfig(base_width=2, image_size=16)
    Original(config).load_state_dict(tensors, strict=True)
    kernel = tensors["down5.maxpool_conv.1.double_conv.0.weight"]
    bound = (32 * 9) ** -0.5  # PyTorch's initial values
    assert kernel.shape == (64, 32, 3, 3)
    assert 0.99 * bound < kernel.abs().max() <= bound
    assert (tensors["down5.maxpool_conv.1.double_conv.1.running_var"] == 1).all()
    run(data, tmp_path / "slim", "--steps", 1, *TINY, "--layout", "ynet-slim")
    to_torch.to_torch(tmp_path / "slim" / "last", tmp_path / "slim.pth")
    slim = torch.load(tmp_path / "slim.pth", weights_only=True)
    ReferenceUNet(config).load_state_dict(slim, strict=True)


def test_original_class_loads_what_was_trained_from_its_file(data: Path, tmp_path: Path) -> None:
    """The tensors that nothing uses come back as they were, over a resumed run and another one."""
    config = UNetConfig(base_width=4, levels=1, decoder_levels=1)
    source = small_tensors("ynet-224", levels=1, decoder_levels=1)
    torch.save(source, tmp_path / "small.pth")
    convert(tmp_path / "small.pth", tmp_path / "start", verify=False)
    fixed = ["--data", str(data), "--batch-size", "4", "--learning-rate", "1e-3", "--size", "16"]
    fixed += ["--workdir", str(tmp_path / "run"), "--init-from", str(tmp_path / "start")]
    fit.main([*fixed, "--steps", "1"])
    shutil.rmtree(tmp_path / "start")
    fit.main([*fixed, "--steps", "2"])  # the same command goes on without it
    fixed = fixed[: fixed.index("--workdir")]
    fixed += ["--workdir", str(tmp_path / "again"), "--init-from", str(tmp_path / "run" / "last")]
    fit.main([*fixed, "--steps", "1"])
    for workdir in ("run", "again"):
        to_torch.to_torch(tmp_path / workdir / "last", tmp_path / f"{workdir}.pth")
        tensors = torch.load(tmp_path / f"{workdir}.pth", weights_only=True)
        assert list(tensors) == list(source)
        Original(config).load_state_dict(tensors, strict=True)
        unused = {key: tensor for key, tensor in source.items() if key.startswith("down2.")}
        assert len(unused) == 14
        assert_same_tensors({key: tensors[key] for key in unused}, unused)
        assert not torch.equal(tensors["outc.conv.weight"], source["outc.conv.weight"])
    # A segmenter's class does not own them.
    alone = ["--heads", "mask", "--schedule", "constant", "--steps", "1"]
    fit.main([*fixed, *alone, "--workdir", str(tmp_path / "alone")])
    to_torch.to_torch(tmp_path / "alone" / "last", tmp_path / "alone.pth")
    tensors = torch.load(tmp_path / "alone.pth", weights_only=True)
    config = dataclasses.replace(config, classifier_widths=None)
    ReferenceUNet(config).load_state_dict(tensors, strict=True)


def test_level_of_the_classifier_alone_goes_with_it(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deep, shallow = tmp_path / "deep", tmp_path / "shallow"
    write_checkpoint(deep, dataclasses.replace(SHALLOW, levels=2))
    alone = ("--heads", "mask", "--schedule", "constant", "--steps", 1)
    run(data, shallow, "--init-from", deep, *alone)
    assert f"the classifier of {deep} is not trained" in capsys.readouterr().out
    assert any(path.startswith("down2") for path in flat(store.load_weights(deep)))
    assert not any(path.startswith("down2") for path in weights(shallow))


def test_early_stopping_and_a_file_of_options(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "options.yaml"
    file.write_text(
        f"data: {data}\nsplit: 60/20/20\ninit-from: {data.parent}/start\nbatch_size: 4\n"
        "learning_rate: 0\nearly_stopping: 2\nbest_metric: frames.log_loss\nkeep: 1\n"
        "class_balance: balanced\n"
    )
    fit.main(["--config", str(file), "--workdir", str(tmp_path / "run"), "--epochs", "9"])
    printed = capsys.readouterr().out
    # Weights that stay as they are gain nothing after the first evaluation but by the statistics.
    evaluations = read(tmp_path / "run" / "validation.jsonl")
    assert read(tmp_path / "run" / "metrics.jsonl")[-1]["step"] == evaluations[-1]["step"]
    assert len(evaluations) < 9
    best = min(evaluations, key=lambda line: line["frames.log_loss"])
    assert f"of step {best['step']}" in printed
    assert (tmp_path / "run" / "best").resolve().name == f"step_{best['step']:08}"


def test_resumes_on_other_devices_and_processes_until_one_gets_a_signal(
    data: Path, tmp_path: Path
) -> None:
    more = ("--sync-batch-norm", "--log-every", "1", "--learning-rate", "1e-5")
    one, two = tmp_path / "one", tmp_path / "two"
    calls = [
        options(data, one, *more, "--steps", 6, "--devices", 1),
        options(data, two, *more, "--steps", 2, "--devices", 2),
        options(data, two, *more, "--steps", 4, "--devices", 4),
    ]
    finish(start(FIT, calls, devices=4))
    children = together(FIT, [options(data, two, *more, "--steps", 100_000)])
    try:
        await_steps(children[0], two / "metrics.jsonl", more_than=5)
        assert children[0].poll() is None
        children[1].send_signal(signal.SIGTERM)
        ended = [child.communicate(timeout=300) for child in children]
    finally:
        for child in children:
            child.kill()
            child.communicate()
    assert [child.returncode for child in children] == [128 + signal.SIGTERM] * 2, ended
    flax_unet.load(two / "last")
    assert "goes on after step 4" in ended[0][0]
    assert "goes on" not in ended[1][0]  # one process speaks for all
    logs = [read(directory / "metrics.jsonl") for directory in (one, two)]
    assert [line["step"] for line in logs[1]] == list(range(1, len(logs[1]) + 1))
    for name in ("mask_loss", "class_loss"):
        found, expected = ([line[name] for line in log[:6]] for log in logs)
        np.testing.assert_allclose(found, expected, atol=DEVICES_32, rtol=0)


COUNTING = """
import jax
misses = []
jax.monitoring.register_event_listener(
    lambda event, **_: misses.append(event) if event.endswith("/cache_misses") else None
)
import atexit
atexit.register(lambda: print("misses", len(misses)))
"""


def stop_at(step: int, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sends this process a signal when a step is logged."""
    log = Tracker.log

    def logged(tracker: Tracker, file: str, metrics: dict[str, Any]) -> None:
        log(tracker, file, metrics)
        if metrics["step"] == step:
            signal.raise_signal(number)

    monkeypatch.setattr(Tracker, "log", logged)


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGHUP"])
def test_signal_saves_and_ends(
    name: str,
    data: Path,
    workdir: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    number = signal.Signals[name]
    stop_at(5, number, monkeypatch)
    before = signal.signal(number, signal.default_int_handler)
    try:
        with pytest.raises(SystemExit) as stopped:
            run(data, workdir, "--steps", 1000, "--log-every", 1)
    finally:
        signal.signal(number, before)
    assert stopped.value.code == 128 + number
    assert "interrupted" in capsys.readouterr().out
    last = read(workdir / "metrics.jsonl")[-1]["step"]
    assert 5 <= last < 9
    assert json.loads((workdir / "last" / "training.json").read_text())["step"] == last


def test_an_error_leaves_no_checkpoint_half_written(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: Callable[..., str]
) -> None:
    """One that is being written when it occurs: a process that ends cannot finish it."""
    save, wait, write = Checkpoints.save, Checkpoints.wait, Checkpoints._write
    awaited = threading.Event()

    def failing(*arguments: Any) -> None:
        save(*arguments)
        awaited.clear()
        raise InputError("the data is gone")

    def waiting(*arguments: Any, **options: Any) -> None:
        awaited.set()
        wait(*arguments, **options)

    def late(*arguments: Any) -> None:
        awaited.wait(timeout=60)
        write(*arguments)

    monkeypatch.setattr(Checkpoints, "save", failing)
    monkeypatch.setattr(Checkpoints, "wait", waiting)
    monkeypatch.setattr(Checkpoints, "_write", late)
    message = fails(fit.main, *options(data, tmp_path / "run", "--steps", 4, "--save-every", 2))
    assert message == "error: the data is gone\n"
    assert (tmp_path / "run" / "last" / "training.json").is_file()
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step_00000002"]


def test_lost_terminal_is_ignored_under_nohup(
    data: Path, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_at(5, signal.SIGHUP, monkeypatch)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        run(data, workdir, "--steps", 6, "--log-every", 1)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert read(workdir / "metrics.jsonl")[-1]["step"] == 6


@pytest.mark.slow
def test_lost_terminal(data: Path, workdir: Path) -> None:
    """Writing to it fails from then on, which must not come before the checkpoint."""
    ours, theirs = os.openpty()
    os.set_blocking(ours, False)
    owns = (
        "import fcntl, signal, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)"  # nohup may have the tests ignore it
    )
    call = options(data, workdir, "--steps", 100_000, "--log-every", 1)
    program = f"{owns}\nfrom train.fit.__main__ import main\nmain({call!r})"
    line = [sys.executable, "-c", program]
    with subprocess.Popen(
        line, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    ) as child:
        try:
            os.close(theirs)
            printed = b""
            while len(read(workdir / "metrics.jsonl")) < 6 and child.poll() is None:
                with contextlib.suppress(BlockingIOError, OSError):
                    printed += os.read(ours, 2**16)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(timeout=0.1)
            os.close(ours)
            assert child.wait(timeout=120) == 128 + signal.SIGHUP, printed.decode()
        finally:
            child.kill()
    last = read(workdir / "metrics.jsonl")[-1]["step"]
    assert json.loads((workdir / "last" / "training.json").read_text())["step"] == last
    flax_unet.load(workdir / "last")


def test_starting_afresh(
    data: Path, workdir: Path, tmp_path: Path, fails: Callable[..., str]
) -> None:
    before = listing(workdir)
    message = fails(fit.main, *options(data, workdir, "--no-resume"))
    assert f"--no-resume: {workdir} holds a run; name a new directory by --workdir" in message
    assert listing(workdir) == before
    run(data, tmp_path / "new", "--no-resume", "--steps", 1)
    assert "resume" not in json.loads((tmp_path / "new" / "training.json").read_text())
    # One that was killed before its first checkpoint left only its options.
    shutil.rmtree(workdir / "checkpoints")
    run(data, workdir, "--no-resume", "--steps", 1, "--seed", 3)
    assert json.loads((workdir / "training.json").read_text())["seed"] == 3
    assert [line["step"] for line in read(workdir / "metrics.jsonl")] == [1]


def test_exhausted_memory(
    data: Path,
    workdir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fails: Callable[..., str],
) -> None:
    map_step = distributed.map_step

    class Large:
        """A step that asks for 2^47 bytes, as one that is too large does on any device."""

        def __init__(self, *arguments: Any) -> None:
            self.lower = map_step(*arguments).lower

        def __call__(self, *_: object) -> None:
            jax.block_until_ready(jax.numpy.zeros(1 << 45))

    monkeypatch.setattr(distributed, "map_step", Large)
    message = fails(fit.main, *options(data, tmp_path / "fresh", "--steps", 6))
    assert "the memory is exhausted (Out of memory allocating" in message
    assert "--batch-size 2 would need less" in message
    assert "--accumulate 2" in message
    assert "--remat" in message
    # What is planned for a run that goes on cannot change.
    message = fails(fit.main, *options(data, workdir, "--steps", 6))
    assert "--batch-size" not in message
    assert "--remat" in message
    monkeypatch.setattr(estimate, "free_memory", lambda: 1000)
    with pytest.raises(SystemExit):
        run(data, tmp_path / "other", "--steps", 6)
    assert "so it may not fit: a smaller --base-width or --size" in capsys.readouterr().out


def test_second_start_compiles_nothing(data: Path, tmp_path: Path) -> None:
    printed = []
    for name in ("first", "second"):
        calls = [options(data, tmp_path / name, "--steps", 2)]
        child = start(FIT, calls, devices=1, prelude=COUNTING, cache=str(tmp_path / "cache"))
        printed.append(finish(child).splitlines()[-1])
    assert printed[0] != "misses 0"
    assert printed[1] == "misses 0"
