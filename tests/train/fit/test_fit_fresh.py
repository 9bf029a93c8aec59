"""Training on faces that are forged anew in each epoch."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks import killed
from flax_unet.checkpoint import metadata
from flax_unet.checkpoint.worth import RANDOM, Worth
from tests.train.fit.conftest import SHALLOW, write_checkpoint
from train.data import audit, export
from train.data.dataset import SELF_BLENDED, open_dataset
from train.data.synthetic import fresh
from train.eval import __main__ as evaluation
from train.eval.trained import overlap
from train.fit import __main__ as fit
from train.fit.tracking import read


@pytest.fixture(autouse=True)
def few_faces(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """20 faces, of which 16 are for training."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "fresh cache"))
    monkeypatch.setattr("train.data.synthetic.portraits.COUNT", 20)


def run(folder: Path, name: str, *more: object) -> Path:
    if not (folder / "start").exists():
        write_checkpoint(folder / "start", SHALLOW)
    options = ["--data", SELF_BLENDED, "--init-from", folder / "start", "--workdir", folder / name]
    options += ["--batch-size", 8, "--learning-rate", "1e-2", "--log-every", 1, *more]
    fit.main([str(option) for option in options])
    return folder / name


def test_it_learns_and_goes_on_as_if_it_had_not_ended(tmp_path: Path) -> None:
    extras = ("--flip", 0.5, "--noise", 0.5)
    whole = run(tmp_path, "whole", *extras, "--steps", 24)  # six epochs
    losses = [line["loss"] for line in read(whole / "metrics.jsonl")]
    assert len(losses) == 24
    assert np.mean(losses[-4:]) < 0.95 * np.mean(losses[:4])
    assert len(read(whole / "validation.jsonl")) == 6
    parts = run(tmp_path, "parts", *extras, "--steps", 7)  # into the second epoch
    fit.main(["--workdir", str(parts), "--resume", "--steps", "24"])
    assert killed.differing(whole, parts) == []


def test_every_command_opens_its_splits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_checkpoint(tmp_path / "start", SHALLOW)
    metadata.write_json(tmp_path / "start" / "source.json", {"worth": RANDOM.to_json()})
    trained = run(tmp_path, "run", "--steps", 2)
    assert Worth.of_checkpoint(trained / "last").sentence == (
        "Trained on 16 drawn faces (self_blended) only; no measurement is recorded; real faces may "
        "be called FAKE wrongly, and real face swaps REAL."
    )
    for out in ("one", "two"):
        options = ["--checkpoint", str(trained / "last"), "--data", SELF_BLENDED]
        evaluation.main([*options, "--out", str(tmp_path / out)])
    one, two = ((tmp_path / out / "predictions.csv").read_text() for out in ("one", "two"))
    assert one == two
    assert len(one.splitlines()) == 1 + 32
    report = audit.audit(SELF_BLENDED)
    assert {split: row["frames"] for split, row in report["splits"].items()} == {
        **{"train": 32, "validation": 32, "test": 32}
    }
    assert not report["shared_sources"]
    assert not report["duplicates"]
    for split in ("train", "test"):
        folder = str(tmp_path / split)
        export.main([folder, "--data", SELF_BLENDED, "--split", split])
        data = open_dataset(folder, None)
        assert len(data) == 32
        assert data.table.has_mask.all()
        assert data.table.is_real.sum() == 16


def test_an_odd_batch_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(tmp_path, "run", "--steps", 2, "--batch-size", 7)
    assert ended.value.code == 2
    assert (
        "--batch-size 7: self_blended shows each face beside a forgery" in capsys.readouterr().err
    )


def test_real_frames_of_a_folder_are_forged_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: Callable[..., str]
) -> None:
    """A folder of real frames alone trains both heads, and goes on as if it had not ended.

    What was trained on is found again in the folder, whose forgeries other code may make.
    """
    folder = tmp_path / "folder"
    export.main([str(folder), "--data", "forged_portraits", "--split", "train"])
    rows = json.loads((folder / "metadata.json").read_text())
    reals = {name: row for name, row in rows.items() if row["label"] == "REAL"}
    (folder / "metadata.json").write_text(json.dumps(reals))
    for picture in (folder / "crops").rglob("*.png"):
        if "fake" in picture.relative_to(folder).as_posix():
            picture.unlink()
    shutil.rmtree(folder / "masks")
    options = ("--data", folder, "--self-blend", "--batch-size", 4, "--validation", "50%")
    whole = run(tmp_path, "whole", *options, "--steps", 6)
    parts = run(tmp_path, "parts", *options, "--steps", 4)
    fit.main(["--workdir", str(parts), "--resume", "--steps", "6"])
    assert killed.differing(whole, parts) == []
    for workdir in (whole, parts):
        assert metadata.load_source(workdir / "last")["trained"]["split"] == "50/50/0"
        trained_on = Worth.of_checkpoint(workdir / "last").trained_on
        assert re.fullmatch(
            r"data that is not recorded, then on \d+ frames of folder, with forgeries made by "
            "blending",
            str(trained_on),
        )
    source = metadata.load_source(whole / "last")
    for split, is_seen in ((None, True), ("train:50/50/0", True), ("validation:50/50/0", False)):
        said = overlap(source, open_dataset(str(folder), split), split, 0)
        assert (said is not None) == is_seen, split
    monkeypatch.setattr(fresh, "version", lambda _: "0")
    assert overlap(source, open_dataset(str(folder), None), None, 0) is not None
    message = fails(fit.main, "--workdir", whole, "--steps", 8)
    assert f"the forgeries of {folder} are made by another version of this program" in message
    assert f"train on by --init-from {whole / 'last'} in a new --workdir" in message
    # Runs of the first versions have one fingerprint of the data and of what makes its forgeries.
    file = whole / "last" / "training.json"
    saved = metadata.read_json(file) | {"data_fingerprint": "of both"}
    del saved["made_with"]
    metadata.write_json(file, saved)
    message = fails(fit.main, "--workdir", whole, "--steps", 8)
    assert f"the forgeries of {folder} are made by another version of this program" in message
