"""Records on the weights travel in PyTorch files, and do not change what PyTorch reads."""

import json
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from convert import from_torch, stand_in
from convert.from_torch import convert
from convert.to_torch import to_torch
from convert.torch_unet import ReferenceUNet
from flax_unet import InputError
from flax_unet.checkpoint import metadata
from flax_unet.checkpoint.worth import DAMAGED, RANDOM, UNKNOWN, Worth
from flax_unet.nn.config import Size
from flax_unet.nn.decision import Calibration
from tests.conftest import SMALL, small_tensors
from tests.tolerances import assert_same_tensors

Fails = Callable[..., str]
LAYOUT = "ynet-slim"
WORTH = Worth.trained("forged_portraits:avatars", people=210).measured("dfdc: AUC 0.970")
CALIBRATION = {"temperature": 1.25, "threshold": 0.71, "of": {"data": "Größe", "n": [1, None]}}
# As legacy files, safetensors and the whole of a training run have them.
WAYS: dict[str, Callable[[Any, Path], None]] = {
    "zip.pth": torch.save,
    "legacy.pth": lambda content, path: torch.save(
        content, path, _use_new_zipfile_serialization=False
    ),
    "run.ckpt": lambda content, path: torch.save({"state_dict": content, "epoch": 3}, path),
    "header.safetensors": lambda content, path: safetensors.torch.save_file(
        dict(content), path, {"flax_unet": text_of(content), "format": "pt"}
    ),
}


def text_of(content: Any) -> str:
    return content._metadata[""]["flax_unet"]


def carrying(text: Any) -> OrderedDict[str, torch.Tensor]:
    tensors: Any = OrderedDict(small_tensors(LAYOUT))
    tensors._metadata = {"": {"version": 1, "flax_unet": text}}
    return tensors


def converted(path: Path, content: Any) -> Path:
    """A checkpoint of what a file holds."""
    torch.save(content, path.with_suffix(".pth"))
    convert(path.with_suffix(".pth"), path, verify=False)
    return path


def edit(checkpoint: Path, **changes: Any) -> Path:
    source = metadata.load_source(checkpoint) | changes
    metadata.write_json(checkpoint / metadata.SOURCE, source)
    return checkpoint


@pytest.fixture
def known(tmp_path: Path) -> Path:
    """A checkpoint with both records."""
    checkpoint = converted(tmp_path / "known", small_tensors(LAYOUT))
    return edit(checkpoint, worth=WORTH.to_json(), calibration=CALIBRATION)


@pytest.mark.parametrize("way", WAYS)
def test_records_come_back(way: str, known: Path, tmp_path: Path) -> None:
    to_torch(known, tmp_path / "there.pth")
    there = torch.load(tmp_path / "there.pth", weights_only=True)
    WAYS[way](there, tmp_path / way)
    conversion = convert(tmp_path / way, tmp_path / "again", verify=False)
    source = metadata.load_source(tmp_path / "again")
    assert Worth.of(source) == WORTH
    assert source["calibration"] == CALIBRATION
    to_torch(tmp_path / "again", tmp_path / "back.pth")
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    assert text_of(back) == text_of(there)
    assert conversion.layout == f"{LAYOUT}, base width 4"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [(96, 96), (320, 224)])
def test_size_of_the_pictures_comes_back(way: str, size: Size, tmp_path: Path) -> None:
    """At the layout's size, 224x224, the same weights give other verdicts."""
    torch.save(small_tensors(LAYOUT), tmp_path / "foreign.pth")
    convert(tmp_path / "foreign.pth", tmp_path / "sized", size=size, verify=False)
    to_torch(tmp_path / "sized", tmp_path / "there.pth")
    WAYS[way](torch.load(tmp_path / "there.pth", weights_only=True), tmp_path / way)
    again = convert(tmp_path / way, tmp_path / "again", verify=False)
    assert again.config.input_size == size
    assert metadata.load_config(tmp_path / "again").input_size == size
    assert Worth.of_checkpoint(tmp_path / "again") == UNKNOWN
    other = convert(tmp_path / way, None, size=(112, 112), verify=False)
    assert other.config.input_size == (112, 112)


@pytest.mark.parametrize(
    "size", [90, 91, 0, -96, 2**15, 8192, True, 224.0, "224", [224], [224, "a"], [[1], 2], {}]
)
def test_size_that_is_not_taken(size: Any, tmp_path: Path, fails: Fails) -> None:
    """A wrong one would change all verdicts, and a huge one would take all memory."""
    torch.save(carrying(json.dumps({"worth": GOOD, "image_size": size})), tmp_path / "odd.pth")
    out = tmp_path / "out"
    message = fails(from_torch.main, tmp_path / "odd.pth", "--out", out, "--no-verify")
    assert "odd.pth says that its" in message
    assert "ive --size" in message
    assert not out.exists()
    convert(tmp_path / "odd.pth", out, size=(96, 96), verify=False)
    assert Worth.of_checkpoint(out) == WORTH


def test_who_says_the_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text, option, said in (
        ("{}", [], "224x224 pixels (height x width), usual for the layout"),
        ('{"image_size": 96, "worth": 1}', [], "96x96 pixels (height x width), the file says so"),
        ('{"image_size": 96}', ["--size", "64x64"], "64x64 pixels (height x width), by --size"),
    ):
        torch.save(carrying(text), tmp_path / "a.pth")
        from_torch.main([str(tmp_path / "a.pth"), "--dry-run", "--no-verify", *option])
        assert said in capsys.readouterr().out


def test_pytorch_reads_the_same_network(known: Path, tmp_path: Path) -> None:
    to_torch(known, tmp_path / "there.pth")
    for weights_only in (True, False):
        there = torch.load(tmp_path / "there.pth", weights_only=weights_only)
        assert_same_tensors(there, small_tensors(LAYOUT))
        ReferenceUNet(SMALL[LAYOUT]).load_state_dict(there, strict=True)


def test_weights_that_pytorch_trained_on_lose_the_record(known: Path, tmp_path: Path) -> None:
    """They are others."""
    to_torch(known, tmp_path / "there.pth")
    network = ReferenceUNet(SMALL[LAYOUT])
    network.load_state_dict(torch.load(tmp_path / "there.pth", weights_only=True))
    assert Worth.of_checkpoint(converted(tmp_path / "trained", network.state_dict())) == UNKNOWN


def test_files_without_a_record_get_none(tmp_path: Path) -> None:
    checkpoint = converted(tmp_path / "foreign", small_tensors(LAYOUT))
    assert Worth.of_checkpoint(checkpoint) == UNKNOWN
    to_torch(checkpoint, tmp_path / "back.pth")
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    assert type(back) is dict
    assert not hasattr(back, "_metadata")


def test_stand_in_says_that_it_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(stand_in.PUBLISHED, LAYOUT, SMALL[LAYOUT])
    stand_in.main([LAYOUT, str(tmp_path / "random.pth")])
    out = tmp_path / "random"
    from_torch.main([str(tmp_path / "random.pth"), "--out", str(out), "--no-verify"])
    assert "worth       Random weights: verdicts mean nothing.\n" in capsys.readouterr().out
    assert Worth.of_checkpoint(out) == RANDOM
    to_torch(out, tmp_path / "back.pth")
    convert(tmp_path / "back.pth", tmp_path / "again", verify=False)
    assert Worth.of_checkpoint(tmp_path / "again") == RANDOM


def test_checkpoint_trained_before_there_were_records(known: Path, tmp_path: Path) -> None:
    trained = {"data": "/home/me/dfdc", "init_from": None, "layout": LAYOUT, "seed": 0}
    metadata.write_json(known / metadata.SOURCE, {"trained": trained})
    to_torch(known, tmp_path / "there.pth")
    convert(tmp_path / "there.pth", tmp_path / "again", verify=False)
    worth = Worth.of_checkpoint(tmp_path / "again")
    assert worth.sentence == "Trained on dfdc; no measurement is recorded."
    assert b"/home" not in (tmp_path / "there.pth").read_bytes()


def test_record_of_two_networks_is_of_neither(tmp_path: Path) -> None:
    both: Any = OrderedDict(
        (f"{who}.{key}", tensor)
        for who in ("student", "teacher")
        for key, tensor in small_tensors(LAYOUT).items()
    )
    both._metadata = {"": {"flax_unet": json.dumps({"worth": WORTH.to_json()})}}
    torch.save(both, tmp_path / "both.pth")
    convert(tmp_path / "both.pth", tmp_path / "one", key="student", verify=False)
    assert Worth.of_checkpoint(tmp_path / "one") == UNKNOWN


GOOD = WORTH.to_json()
HOSTILE: dict[str, Any] = {
    "not text": 5,
    "a tensor": torch.zeros(3),
    "a list": ["a"],
    "not JSON": "{",
    "another type": "[1]",
    "a megabyte": json.dumps({"worth": GOOD, "calibration": {"a": "x" * 2**20}}),
    "a long sentence": json.dumps({"worth": GOOD | {"sentence": "x" * 10_000}}),
    "deep": "[" * 60_000,
    "a sentence of blanks": json.dumps({"worth": GOOD | {"sentence": "   "}}),
    "control characters": json.dumps({"worth": GOOD | {"sentence": "\x1b]0;owned\x07\n"}}),
    "not a number": '{"worth": {"sentence": "a"}, "calibration": {"temperature": NaN}}',
    "infinity": '{"worth": {"sentence": "a"}, "calibration": {"temperature": 1e999}}',
    "digits": '{"worth": {"sentence": "a"}, "calibration": {"temperature": ' + "9" * 5000 + "}}",
    "calibration is a list": json.dumps({"worth": GOOD, "calibration": [1]}),
    "calibration without figures": json.dumps({"worth": GOOD, "calibration": {"note": "x"}}),
    "threshold of 2": json.dumps(
        {"worth": GOOD, "calibration": {"temperature": 1.0, "threshold": 2.0}}
    ),
    "worth is text": json.dumps({"worth": "good"}),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_damaged_record(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The weights convert as they would without it, and the report says that it is damaged."""
    torch.save(carrying(HOSTILE[kind]), tmp_path / "hostile.pth")
    out = tmp_path / "out"
    from_torch.main([str(tmp_path / "hostile.pth"), "--out", str(out), "--no-verify"])
    printed = capsys.readouterr().out
    assert f"worth       {DAMAGED.sentence}\n" in printed
    assert printed.replace("\n", "").isprintable()
    assert len(printed) < 4000
    assert Worth.of_checkpoint(out) == DAMAGED
    assert "calibration" not in metadata.load_source(out)
    to_torch(out, tmp_path / "back.pth")
    assert_same_tensors(torch.load(tmp_path / "back.pth", weights_only=True), small_tensors(LAYOUT))


def test_a_calibration_of_a_file_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(
        carrying(json.dumps({"worth": GOOD, "calibration": CALIBRATION})), tmp_path / "a.pth"
    )
    from_torch.main([str(tmp_path / "a.pth"), "--out", str(tmp_path / "a"), "--no-verify"])
    printed = capsys.readouterr().out
    assert "temperature of 1.25, and calls a face FAKE from 0.71 on" in printed
    assert metadata.load_calibration(tmp_path / "a") == Calibration(1.25, 0.71)


@pytest.mark.parametrize("state", [[], {"_metadata": []}, {"_metadata": {"": None}}, {"a": 1}])
def test_state_dict_with_other_attributes(state: Any, tmp_path: Path) -> None:
    tensors = OrderedDict(small_tensors(LAYOUT))
    if isinstance(state, dict):
        tensors.__dict__.update(state)
    assert Worth.of_checkpoint(converted(tmp_path / "other", tensors)) == UNKNOWN


def test_too_much_to_carry(known: Path, tmp_path: Path) -> None:
    edit(known, calibration={"curve": [0.125] * 20_000})
    with pytest.raises(InputError, match=r"calibration in source.json has [\d,]+ characters"):
        to_torch(known, tmp_path / "there.pth")
    source = metadata.load_source(known) | {"calibration": {"temperature": float("nan")}}
    (known / metadata.SOURCE).write_text(json.dumps(source))
    with pytest.raises(InputError, match=r"calibration in source.json cannot be carried"):
        to_torch(known, tmp_path / "there.pth")
    assert not (tmp_path / "there.pth").exists()
