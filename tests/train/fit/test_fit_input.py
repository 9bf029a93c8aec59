"""What training says to input that cannot be used, before it starts."""

import importlib.util
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flax_unet import InputError
from flax_unet.checkpoint import store
from tests.conftest import listing
from tests.train.fit.conftest import SHALLOW, write_checkpoint
from tests.train.folders import write_folder
from train.data.dataset import open_dataset
from train.fit import __main__ as fit
from train.fit.config import FitConfig
from train.fit.setup import open_parts


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_checkpoint(folder / "start", SHALLOW)
    return write_folder(folder / "data", videos=4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch-size", "8", "--accumulate", "3"], "--batch-size 8 cannot be divided among 1"),
        (["--batch-size", "8", "--accumulate", "3"], "6 and 9 do"),
        (["--devices", "9"], "--devices 9: there are 1 (cpu)"),
        (["--devices", "0,1"], "--devices 0,1: there are 1 (cpu)"),
        (["--devices", "some"], "expected all, how many, or which"),
        (["--learning_rates", "1"], "did you mean --learning-rate?"),
        (["--batchsize=1"], "did you mean --batch-size?"),
        (["--batch-size", "many"], "--batch-size is many; expected a whole number of at least 1"),
        (["--epochs", "0"], "--epochs is 0; expected a whole number of at least 1"),
        (["--ema", "2"], "--ema is 2.0; expected a number of at least 0, at most 1"),
        (["--learning-rate", "nan"], "--learning-rate is nan"),
        (["--size", "100"], "image_size is 100; it must be divisible by"),
        (["--size", "64x100"], "image_size is (64, 100); it must be divisible by"),
        (["--size", "1x2x3"], "or height x width, such as 320x224"),
        (["--classifier-widths", "a"], "--classifier-widths is a"),
        (["--heads", "mask", "--classifier-widths", "8"], "the network has no classifier"),
        (["--batch-size", "999"], "fewer than --batch-size 999"),
        (["--resume"], "--resume: there is no training in"),
        (["--process-id", "1"], "missing: --coordinator, --num-processes"),
        (
            ["--coordinator", "here", "--num-processes", "1", "--process-id", "0"],
            "--coordinator here: expected HOST:PORT",
        ),
        (["--devices", "0"], "device 0 is named 0,"),
        (["--clip-norm", "0"], "--clip-norm is 0.0; expected a number above 0"),
        (["--decay-factor", "0"], "expected a number above 0, at most 1"),
        (["--mask-loss-weight", "0", "--class-loss-weight", "0"], "leave no loss"),
        (["--mask-weight=1"], "--mask-weight is now --mask-loss-weight"),
        (["--class-weight", "1"], "--class-weight is now --class-loss-weight"),
        (["--class-weights", "balanced"], "--class-weights is now --class-balance"),
        (["epochs"], "epochs is not an option; did you mean --epochs?"),
        (["--steps", "2", "--epochs", "2"], "give one"),
        (["--early-stopping", "2"], "--early-stopping 2: there are no frames to validate on"),
        (["--best-metric", "frames.auc"], "there are no frames to validate on"),
        (
            ["--best-metric", "frames.n", "--split", "50/25/25", "--batch-size", "2"],
            "cannot rank networks",
        ),
        (["--size", "16", "--batch-size", "1"], "one value a channel"),
        (["--heads", "mask"], "--schedule plateau: there are no frames to validate on"),
        (["--heads", "mask"], "or --schedule constant"),
        (
            ["--recipe", "segmentation", "--split", "50/25/25", "--accumulate", "2"],
            "--accumulate 2: the Dice loss is of all pixels of a batch",
        ),
        (["--recipe", "old"], "choose from 'combined', 'segmentation', 'classification'"),
        (
            ["--keep-last-batch", "--batch-size", "10", "--accumulate", "5"],
            "which has 2 pictures, cannot be divided among 1 devices in "
            "5 parts each; choose another --batch-size",
        ),
        (
            ["--split", "50/25/25", "--validation", "10%"],
            "--split 50/25/25 and --validation 10% both say what is validated on; give one",
        ),
        (["--validation", "test"], "has no such split, only whole; name another, or give a share"),
        (["--validation", "80/10/10"], "has no such split, only whole"),
        (["--validation", "whole"], "--validation whole: these frames are trained on"),
        (["--validation", "100%"], "--validation 100%: expected a share from 1% to 99%"),
        (["--validation", "10"], "--validation 10: a share is written in per cent, such as 10%"),
        (["--validation", "1%"], "--validation 1% leaves no source for validation"),
        (["--validation", "99%"], "--validation 99% leaves no source for train"),
        (["--mask-threshold", "256"], "--mask-threshold is 256; expected a whole number"),
        (["--real-label", "0"], "--real-label 0: "),
        (
            ["--best-metric", "frames.acuracy", "--split", "50/25/25", "--batch-size", "2"],
            "frames.accuracy",
        ),
    ],
)
def test_options(
    arguments: list[str], message: str, data: Path, tmp_path: Path, fails: Callable[..., str]
) -> None:
    fixed = ["--data", data, "--workdir", tmp_path / "run", "--base-width", "2", "--batch-size", 4]
    assert message in fails(fit.main, *fixed, *arguments)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (1, "1"), (True, "true"), (False, "false"), ("Real", "Real")]
)
def test_text_of_a_file_of_options(value: object, text: str) -> None:
    config = FitConfig.from_options({"data": "d", "workdir": "w", "real_label": value})
    assert config.data.real_label == text


def test_text_is_not_a_list() -> None:
    with pytest.raises(InputError, match=r"--real-label is \[0\]; expected text"):
        FitConfig.from_options({"data": "d", "workdir": "w", "real_label": [0]})


@pytest.mark.parametrize("name", ["valid", "Valid", "VALIDATION"])
def test_frames_to_validate_on_by_any_name_of_their_split(name: str, tmp_path: Path) -> None:
    for part in ("Train", "Valid"):
        write_folder(tmp_path / part, videos=2, prefix=part)
    words = ["--data", str(tmp_path), "--workdir", str(tmp_path / "run"), "--validation", name]
    _, validation = open_parts(fit.resolve(fit.read_options(words)))
    assert validation is not None
    assert set(validation.table.video) == {"Valid000.mp4", "Valid001.mp4"}


def test_files_of_options(data: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    file = tmp_path / "options.yaml"
    for content, message in {
        "learning_rat: 1": "learning_rat is not an option; did you mean learning_rate?",
        "class-weights: none": f"{file}: class_weights is now class_balance",
        "[1, 2": "is neither YAML nor JSON",
        "just text": "holds no options",
        "flip: yes please": "--flip is yes please; expected a number",
        "skip_bad: 3": "--skip-bad is 3; expected true or false",
        "optimizer: sgd": "--optimizer is sgd; expected one of adam, adamw",
    }.items():
        file.write_text(content)
        arguments = ["--config", file, "--data", data, "--workdir", tmp_path / "run"]
        assert message in fails(fit.main, *arguments)
    assert "cannot be read" in fails(fit.main, "--config", tmp_path / "missing.yaml")


def test_heads_without_labels(
    data: Path, tmp_path: Path, fails: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = shutil.copytree(data, tmp_path / "bare")
    shutil.rmtree(bare / "masks")
    fixed = ["--data", bare, "--workdir", tmp_path / "run", "--batch-size", 4]
    fixed += ["--init-from", data.parent / "start"]
    assert "--heads classifier" in fails(fit.main, *fixed)
    assert not (tmp_path / "run").exists()
    built, build = [], store.build
    monkeypatch.setattr(store, "build", lambda *a, **k: built.append(1) or build(*a, **k))
    fit.main([*map(str, fixed), "--heads", "classifier", "--steps", "1"])
    # Empty masks of REAL frames teach nothing: train.prepare writes them where no fake has any.
    (bare / "masks").mkdir()
    for mask in (data / "masks").glob("v00[02]_*"):
        shutil.copy(mask, bare / "masks")
    fixed[fixed.index("--workdir") + 1] = tmp_path / "other"
    assert "has no masks of FAKE frames" in fails(fit.main, *fixed)
    assert len(built) == 1  # to train, and not again: there is nothing to evaluate
    assert (tmp_path / "run" / "last").is_dir()


def test_starting_points(
    data: Path, tmp_path: Path, small_file: Path, fails: Callable[..., str]
) -> None:
    fixed = ["--data", data, "--workdir", tmp_path / "run"]
    message = fails(fit.main, *fixed, "--init-from", small_file)
    assert f"python -m convert.from_torch {small_file}" in message
    assert "does not exist" in fails(fit.main, *fixed, "--init-from", tmp_path / "none")


def test_work_directories(data: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("work of years")
    before = listing(other)
    assert "holds no training" in fails(fit.main, "--data", data, "--workdir", other)
    assert listing(other) == before

    run = tmp_path / "run"
    fixed = ["--data", str(data), "--workdir", str(run), "--init-from", str(data.parent / "start")]
    fit.main([*fixed, "--batch-size", "4", "--steps", "1"])
    message = fails(fit.main, *fixed, "--batch-size", "6")
    assert "was trained with --batch-size 4, not 6" in message


def test_options_of_a_run_start_another(data: Path, tmp_path: Path) -> None:
    fixed = ["--data", str(data), "--init-from", str(data.parent / "start"), "--batch-size", "4"]
    fit.main([*fixed, "--steps", "1", "--workdir", str(tmp_path / "one")])
    fit.main([*fixed, "--workdir", str(tmp_path / "one"), "--resume"])
    file = str(tmp_path / "one" / "training.json")
    config = fit.resolve(fit.read_options(["--config", file, "--workdir", str(tmp_path / "two")]))
    assert (config.recipe.steps, config.recipe.batch_size) == (1, 4)
    assert not config.start.resume
    longer = fit.read_options(["--workdir", str(tmp_path / "one"), "--epochs", "2"])
    assert fit.resolve(longer).recipe.steps is None
    unset = fit.read_options(["--workdir", str(tmp_path / "one"), "--steps", "none"])
    assert fit.resolve(unset).recipe.steps is None


def test_start_without_a_checkpoint_shapes_no_other_command(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fixed = ["--data", str(data), "--workdir", str(tmp_path / "run"), "--batch-size", "4"]
    fixed += ["--init-from", str(data.parent / "start"), "--steps", "1"]
    fit.main([*fixed, "--learning-rate", "0.5", "--flip", "0.5"])
    assert "saved no checkpoint" not in capsys.readouterr().out
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    for link in ("last", "best"):
        (tmp_path / "run" / link).unlink(missing_ok=True)
    alone = fit.resolve(fit.read_options(["--workdir", str(tmp_path / "run")]))
    assert (alone.recipe.learning_rate, alone.augmentation.flip) == (0.5, 0.5)
    again = fit.resolve(fit.read_options([*fixed, "--resume"]))
    assert (again.recipe.learning_rate, again.augmentation.flip) == (0.5, 0.5)
    fit.main(fixed)
    printed = capsys.readouterr().out
    assert "training.json, of a start that saved no checkpoint, is replaced" in printed
    saved = json.loads((tmp_path / "run" / "training.json").read_text())
    assert (saved["learning_rate"], saved["flip"]) == (1e-5, 0.0)


def test_run_with_former_names_of_options_continues(data: Path, tmp_path: Path) -> None:
    fixed = ["--data", str(data), "--init-from", str(data.parent / "start"), "--batch-size", "4"]
    fixed += ["--workdir", str(tmp_path / "run"), "--class-loss-weight", "0.7"]
    fit.main([*fixed, "--class-balance", "balanced", "--steps", "1"])
    file = tmp_path / "run" / "training.json"
    former = {"mask_loss_weight": "mask_weight", "class_loss_weight": "class_weight"}
    former |= {"class_balance": "class_weights"}
    saved = json.loads(file.read_text())
    file.write_text(json.dumps({former.get(name, name): value for name, value in saved.items()}))
    fit.main(["--workdir", str(tmp_path / "run"), "--resume", "--steps", "2"])
    assert json.loads(file.read_text()) == {**saved, "steps": 2}
    assert (tmp_path / "run" / "last").resolve().name == "step_00000002"


def test_package_that_is_needed_later(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: Callable[..., str]
) -> None:
    found = importlib.util.find_spec
    for name in ("matplotlib", "tensorboardX"):
        with monkeypatch.context() as without:
            without.delitem(sys.modules, name, raising=False)
            without.setattr(
                importlib.util,
                "find_spec",
                lambda each, name=name: None if each == name else found(each),
            )
            message = fails(fit.main, "--data", tmp_path / "none", "--workdir", tmp_path / "run")
        assert f"pip install {name}, or in a checkout pip install -e '.[train]'" in message


@pytest.mark.skipif(importlib.util.find_spec("wandb") is not None, reason="wandb is installed")
def test_package_that_is_missing(data: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    fixed = ["--data", data, "--base-width", "2", "--size", "16", "--batch-size", "4"]
    message = fails(fit.main, *fixed, "--wandb", "offline", "--workdir", tmp_path / "run")
    assert "pip install wandb, or in a checkout pip install -e '.[wandb]'" in message
    assert not (tmp_path / "run").exists()


def test_masks_that_only_training_has(
    data: Path, tmp_path: Path, fails: Callable[..., str]
) -> None:
    partly = shutil.copytree(data, tmp_path / "partly")
    split = {"--data": partly, "--split": "50/25/25", "--heads": "mask", "--batch-size": 2}
    split |= {"--base-width": 2, "--size": 32, "--steps": 1, "--workdir": tmp_path / "run"}
    words = [word for pair in split.items() for word in pair]
    videos = set(open_dataset(str(partly), "validation:50/25/25").table.video)
    names = {video.removesuffix(".mp4") for video in videos}
    fakes = {"v001", "v003"}
    for without in (names & fakes, names):
        for mask in (partly / "masks").iterdir():
            if mask.name.partition("_")[0] in without:
                mask.unlink()
        assert "none of the FAKE validation frames has a mask" in fails(fit.main, *words)
    assert not (tmp_path / "run").exists()
