"""Packaging: what else can be read, and what each other kind of file is called."""

import bz2
import collections
import ctypes
import gzip
import importlib
import io
import json
import lzma
import operator
import os
import pickle
import re
import runpy
import shlex
import shutil
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from convert import from_torch, to_torch, torch_file
from convert.from_torch import convert
from tests.conftest import listing, small_tensors
from tests.tolerances import assert_same_tensors

Fails = Callable[..., str]
NET = small_tensors("ynet-slim")


def saved(content: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


GOOD = saved(NET)


def round_trip(path: Path, folder: Path) -> dict[str, torch.Tensor]:
    convert(path, folder / "out", verify=False)
    to_torch.to_torch(folder / "out", folder / "back.pth")
    return torch.load(folder / "back.pth", weights_only=True)


@pytest.mark.parametrize(
    "name", ["last.ckpt", "pytorch_model.bin", "model.pth.tar", "weights", "x.y"]
)
def test_any_suffix(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(GOOD)
    from_torch.main([name, "--no-verify"])
    (out,) = (tmp_path / "checkpoints").iterdir()
    assert out.name == name.partition(".")[0]


@pytest.mark.parametrize("padding", [0, 1, 7, 300])
def test_safetensors_header_with_spaces(padding: int, tmp_path: Path) -> None:
    content = safetensors.torch.save(NET)
    length = int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8 : 8 + length]), indent=1).encode() + b" " * padding
    path = tmp_path / "ckpt.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + length :])
    back = round_trip(path, tmp_path)
    assert_same_tensors({key: back[key] for key in NET}, NET)


def sharded(folder: Path, suffix: str, write: Callable[[Any, Path], None]) -> Path:
    """A checkpoint in three files, and its index."""
    folder.mkdir()
    names = [f"model-{i + 1:05}-of-00003.{suffix}" for i in range(3)]
    weight_map = {key: names[i % 3] for i, key in enumerate(NET)}
    for name in names:
        write({key: NET[key] for key in NET if weight_map[key] == name}, folder / name)
    index = folder / f"model.{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    return index


@pytest.mark.parametrize(
    ("suffix", "write"), [("safetensors", safetensors.torch.save_file), ("bin", torch.save)]
)
@pytest.mark.parametrize("named", ["index", "folder"])
def test_shards(suffix: str, write: Any, named: str, tmp_path: Path) -> None:
    index = sharded(tmp_path / "model", suffix, write)
    assert_same_tensors(round_trip(index if named == "index" else index.parent, tmp_path), NET)
    source = json.loads((tmp_path / "out" / "source.json").read_text())
    assert len(source["shards"]) == 3


@pytest.mark.parametrize(
    ("shard", "expected"),
    [
        ("../secret.safetensors", "refused"),
        ("/etc/passwd", "refused"),
        ("..\\secret", "refused"),
        ("..", "refused"),
        ("missing.safetensors", "is missing"),
        ("model-00002-of-00003.safetensors", "but it does not"),
    ],
)
def test_shards_that_an_index_may_not_name(
    shard: str, expected: str, tmp_path: Path, fails: Fails
) -> None:
    index = sharded(tmp_path / "model", "safetensors", safetensors.torch.save_file)
    (tmp_path / "secret.safetensors").write_bytes(safetensors.torch.save(NET))
    content = json.loads(index.read_text())
    content["weight_map"]["inc.double_conv.0.weight"] = shard
    index.write_text(json.dumps(content))
    message = fails(from_torch.main, index, "--dry-run")
    assert expected in message
    for damaged in ("[]", '{"weight_map": 3}', "{", "[" * 100_000):
        index.write_text(damaged)
        assert "is not an index of shards" in fails(from_torch.main, index, "--dry-run")


def test_one_shard_names_the_index_beside_it(tmp_path: Path, fails: Fails) -> None:
    index = sharded(tmp_path / "model", "safetensors", safetensors.torch.save_file)
    shard = tmp_path / "model" / "model-00002-of-00003.safetensors"
    message = fails(from_torch.main, shard, "--dry-run")
    assert message.rstrip().endswith(f"python -m convert.from_torch {index}")
    index.rename(tmp_path / "elsewhere.json")
    assert "shard 2 of 3" in fails(from_torch.main, shard, "--dry-run")
    (tmp_path / "model" / "broken.index.json").write_text("{")
    assert "shard 2 of 3" in fails(from_torch.main, shard, "--dry-run")
    other = shard.rename(tmp_path / "ckpt.safetensors")
    assert " shard" not in fails(from_torch.main, other, "--dry-run")


@pytest.mark.parametrize(
    "keys",
    [
        ["_flat_param"],
        ["model._fsdp_wrapped_module._flat_param", "model.outc.conv.weight"],
        ["model._fpw_module.flat_param_0", "_flat_param"],
        ["linear_1._flat_param", *(key for key in NET if "linear_1" not in key)],
    ],
)
def test_flattened_parameters_are_named(keys: list[str], tmp_path: Path, fails: Fails) -> None:
    content = {"epoch": 1, "state_dict": {key: torch.ones(100) for key in keys}}
    torch.save(content, tmp_path / "ckpt.pth")
    message = fails(from_torch.main, tmp_path / "ckpt.pth", "--dry-run")
    assert keys[0] in message
    assert "FULL_STATE_DICT" in message


def oldest(tensors: dict[str, torch.Tensor]) -> bytes:
    """A file as PyTorch before 0.1.10 wrote it: a tar archive, of four files of pickles."""

    class Id(int):
        """Becomes a persistent id, as a string of digits."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: Any) -> str | None:
            return str(int(obj)) if isinstance(obj, Id) else None

    storages, views = io.BytesIO(), io.BytesIO()
    pickle.dump(len(tensors), storages, 2)
    pickle.dump(len(tensors), views, 2)
    content: dict[str, Id] = collections.OrderedDict()
    for number, (key, tensor) in enumerate(tensors.items()):
        kind = {torch.float32: torch.FloatStorage, torch.int64: torch.LongStorage}[tensor.dtype]
        pickle.dump((number, "cpu", kind), storages, 2)
        storages.write(struct.pack("<q", tensor.numel()) + tensor.numpy().tobytes())
        pickle.dump((1000 + number, number, torch.FloatTensor), views, 2)
        axes = tensor.ndim
        numbers = (*tensor.shape, *tensor.stride(), 0)
        views.write(struct.pack(f"<ii{2 * axes + 1}q", axes, 0, *numbers))
        content[key] = Id(1000 + number)
    pickle.dump([], storages, 2)
    pickled = io.BytesIO()
    Pickler(pickled, 2).dump(content)
    buffer = io.BytesIO()
    system = pickle.dumps({"protocol_version": 1000, "little_endian": True}, 2)
    parts = {"sys_info": system, "pickle": pickled.getvalue()}
    parts |= {"storages": storages.getvalue(), "tensors": views.getvalue()}
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in parts.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@pytest.mark.filterwarnings("ignore:.*TypedStorage is deprecated:UserWarning")
def test_oldest_format(tmp_path: Path) -> None:
    path = tmp_path / "old.tar"
    path.write_bytes(oldest(NET))
    assert_same_tensors(dict(torch.load(path, weights_only=False)), NET)  # PyTorch takes it too
    assert_same_tensors(round_trip(path, tmp_path), NET)


@pytest.mark.filterwarnings("ignore:.*TypedStorage is deprecated:UserWarning")
def test_oldest_format_damaged(tmp_path: Path, fails: Fails) -> None:
    content, path = oldest(NET), tmp_path / "old.tar"
    rng = np.random.default_rng(0)
    for _ in range(40):
        broken = bytearray(content)
        for at in rng.integers(0, len(content), 400):
            broken[at] = rng.integers(256)
        path.write_bytes(broken[: rng.integers(600, len(content) + 1)])
        fails(from_torch.main, path, "--dry-run")


def tarred(names: dict[str, bytes], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # pyright: ignore
        for name, data in names.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return buffer.getvalue()


HTML = b"\xef\xbb\xbf\n <!DOCTYPE html>\n<html><body>Sign in</body></html>"
FILES: dict[str, tuple[bytes, str, tuple[str, ...]]] = {
    "gzip": (gzip.compress(GOOD), "a.pth.gz", ("packed by gzip", "gunzip -c", "a.pth")),
    "xz": (lzma.compress(GOOD), "a.pth.xz", ("packed by xz", "xz -dc")),
    "bzip2": (bz2.compress(GOOD), "a.pth", ("packed by bzip2", "bzip2 -dc")),
    "zstd": (b"\x28\xb5\x2f\xfd" + bytes(99), "a.pth.zst", ("packed by zstd", "zstd -dc")),
    "truncated gzip": (gzip.compress(GOOD)[:99], "a.pth", ("packed by gzip",)),
    "damaged gzip": (gzip.compress(GOOD)[:10] + b"\xff" * 99, "a.pth.gz", ("packed by gzip",)),
    "tar": (tarred({"run/best.pth": GOOD}), "a.tar", ("tar archive", "tar -xf", "run/best.pth")),
    "tar.gz": (
        tarred({"b.pth": GOOD}, "w:gz"),
        "a.pth",
        ("tar archive, packed by gzip", "tar -xf"),
    ),
    "zip of a checkpoint": (
        zipped("readme.txt", "run/best.pth"),
        "a.zip",
        ("zip archive", "unzip", "run/best.pth"),
    ),
    "TorchScript": (
        zipped("m/data.pkl", "m/constants.pkl", "m/code/x.py"),
        "a.pt",
        ("TorchScript", "torch.jit.load"),
    ),
    "torch.export": (
        zipped("archive/archive_format", "archive/models/model.json"),
        "a.pt2",
        ("torch.export", "torch.export.load"),
    ),
    "Keras": (zipped("config.json", "model.weights.h5"), "a.keras", ("Keras",)),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(64), "a.h5", ("HDF5", "Keras")),
    "NumPy": (b"\x93NUMPY\x01\x00" + bytes(64), "a.npy", ("NumPy array",)),
    "unpacked in a zip": (
        zipped("other/deep/net/data.pkl", "other/deep/net/data/0"),
        "a.pth",
        ("unpacked checkpoint (other/deep/net/data.pkl). Unpack it: unzip ", "a.pth, and"),
    ),
    "NumPy arrays": (zipped("a.npy", "b.npy"), "a.npz", ("NumPy arrays",)),
    "ONNX": (b"\x08\x08\x12\x07pytorch\x1a\x052.1.0", "a.pth", ("ONNX",)),
    "Git LFS": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n",
        "a.pth",
        ("Git LFS", "git lfs pull"),
    ),
    "web page": (HTML, "a.pth", ("web page", "begins with")),
    "answer of a server": (
        b'<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code></Error>',
        "a.pth",
        ("text file", "begins with"),
    ),
    "JSON": (b'{"error": "not found"}', "a.pth", ("JSON",)),
    "text": (b"Access denied\n", "a.pth", ("text file", "begins with")),
    "zeros": (bytes(4096), "a.pth", ("zeros alone",)),
    "PNG": (b"\x89PNG\r\n\x1a\n" + bytes(64), "a.png", ("a picture", "wrong order")),
    "JPEG": (b"\xff\xd8\xff\xe0" + bytes(64), "a.jpg", ("a picture", "flax_unet.predict")),
    "WebP": (b"RIFF\x10\x00\x00\x00WEBPVP8 ", "a.webp", ("a picture",)),
    "HEIC": (b"\x00\x00\x00\x18ftypheic" + bytes(64), "a.heic", ("a picture",)),
    "MP4": (b"\x00\x00\x00\x18ftypisom" + bytes(64), "a.mp4", ("a video", "flax_unet.predict")),
    "WebM": (b"\x1aE\xdf\xa3" + bytes(64), "a.webm", ("a video",)),
    "MPEG-TS": ((b"G" + bytes(187)) * 4, "a.ts", ("a video",)),
    "random": (np.random.default_rng(1).bytes(999), "a.pth", ("begins with",)),
    "plain pickle": (pickle.dumps({"a": 1}), "a.pkl", ("torch.save did not write",)),
    "pickled tensors": (pickle.dumps(NET), "a.pkl", ("torch.save did not write",)),
}


@pytest.mark.parametrize("case", FILES)
def test_other_kinds_are_named(case: str, tmp_path: Path, fails: Fails) -> None:
    content, name, expected = FILES[case]
    path = tmp_path / name
    path.write_bytes(content)
    before = listing(tmp_path)
    message = fails(from_torch.main, path, "--out", tmp_path / "out")
    assert message.startswith(f"error: {path} ")
    assert message.count("\n") == 1
    for part in expected:
        assert part in message
    assert ("web page" in message) == (case == "web page")
    assert listing(tmp_path) == before


@pytest.mark.parametrize("size", [1, 2])
def test_files_of_a_few_bytes_are_refused(size: int, tmp_path: Path, fails: Fails) -> None:
    path = tmp_path / "a.pth"
    for byte in range(256):
        path.write_bytes(bytes([byte]) * size)
        assert fails(from_torch.main, path, "--dry-run").startswith(f"error: {path} ")


@pytest.mark.parametrize("case", ["gzip", "xz", "bzip2", "tar"])
def test_the_command_that_a_message_names_helps(case: str, tmp_path: Path, fails: Fails) -> None:
    content, name, _ = FILES[case]
    (tmp_path / name).write_bytes(content)
    message = fails(from_torch.main, tmp_path / name, "--dry-run")
    command = message.partition(": ")[2].partition(": ")[2].strip()
    if shutil.which(command.split()[0]) is None:
        pytest.skip(f"{command.split()[0]} is not installed")
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    (unpacked,) = (p for p in tmp_path.rglob("*") if p.is_file() and p.name != name)
    assert unpacked.read_bytes() == GOOD


HOSTILE = "$(touch pwned)`touch pwned`'\"; touch pwned #"
EVIL = "--to-command=touch pwned #.pth"
COMMANDS: dict[str, tuple[bytes, str]] = {
    "a tar's member": (tarred({EVIL: b"x"}), "a.tar"),
    "a zip's member": (zipped(EVIL, "-d pwned.pth"), "a.zip"),
    "a tar": (tarred({"best.pth": b"x"}), EVIL),
    "a tar of another host": (tarred({"best.pth": b"x"}), "host:best.tar"),
    "a zip": (zipped("best.pth"), EVIL),
    "gzip": (gzip.compress(GOOD), "--suffix=pwned.pth.gz"),
    "TorchScript": (FILES["TorchScript"][0], f"{HOSTILE}.pt"),
    "torch.export": (FILES["torch.export"][0], f"{HOSTILE}.pt2"),
}

STAND_IN = """
import pathlib, types

def load(file):
    assert pathlib.Path(file).is_file()
    return types.SimpleNamespace(state_dict=dict)

export = jit = types.SimpleNamespace(load=load)
save = lambda content, out: pathlib.Path(out).touch()
"""


@pytest.mark.parametrize("case", COMMANDS)
def test_command_of_a_message_runs_nothing_that_a_file_chose(
    case: str, tmp_path: Path, fails: Fails, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content, name = COMMANDS[case]
    (tmp_path / name).write_bytes(content)
    message = fails(from_torch.main, f"./{name}", "--dry-run")
    command = re.split(r"Unpack it(?: first)?: |instead: ", message)[1].strip()
    if command.startswith("python"):
        (tmp_path / "torch.py").write_text(STAND_IN)
        command = command.replace("python", shlex.quote(sys.executable), 1)
    elif shutil.which(command.split()[0]) is None:
        pytest.skip(f"{command.split()[0]} is not installed")
    done = subprocess.run(command, shell=True, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.glob("pwned*"))


def folder(path: Path, *names: str) -> Path:
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(b"x")
    return path


FOLDERS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "distributed": ((".metadata", "__0_0.distcp"), ("distributed", "dcp_to_torch")),
    "unpacked": (("data.pkl", "data/0", "version"), ("unpacked checkpoint", "zip -0 -r")),
    "unpacked below": (
        ("net/data.pkl", "net/data/0"),
        ("unpacked checkpoint", "zip -0 -r net.pth"),
    ),
    "pictures": (("a.jpg", "b.png"), ("pictures or videos", "flax_unet.predict")),
    "clips": (("clip.mp4",), ("pictures or videos", "wrong order")),
    "SavedModel": (("saved_model.pb", "variables/x"), ("TensorFlow",)),
    "Orbax": (("_CHECKPOINT_METADATA", "d/x"), ("Orbax", "another program")),
    "shards of two kinds": (
        ("model.safetensors.index.json", "pytorch_model.bin.index.json", "model-1.safetensors"),
        ("2 checkpoints in shards", "Name one", "in/model.safetensors.index.json"),
    ),
    "checkpoints": (("a.pth", "b.pth"), ("2 checkpoints", "convert.from_torch")),
    "others": (("notes.txt",), ("is not a file", "notes.txt")),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_folders_are_named(case: str, tmp_path: Path, fails: Fails) -> None:
    names, expected = FOLDERS[case]
    path = folder(tmp_path / "in", *names)
    message = fails(from_torch.main, path, "--out", tmp_path / "out")
    assert message.startswith(f"error: {path} ")
    for part in expected:
        assert part in message


@pytest.mark.parametrize("part", ["x/data.pkl", "x/.metadata", "x/__0_0.distcp", "out/config.json"])
def test_part_of_a_folder_is_named(part: str, small_file: Path, fails: Fails) -> None:
    path = small_file.parent / part
    convert(small_file, small_file.parent / "out", verify=False)
    folder(path.parent, path.name, "data/0") if part.startswith("x/") else None
    message = fails(from_torch.main, path, "--dry-run")
    assert message.startswith(f"error: {path.parent} is ")
    assert any(word in message for word in ("zip -0 -r", "dcp_to_torch", "converted already"))


def test_unpacked_checkpoint_packed_again(tmp_path: Path, fails: Fails) -> None:
    if shutil.which("zip") is None:
        pytest.skip("zip is not installed")
    with zipfile.ZipFile(io.BytesIO(GOOD)) as archive:
        archive.extractall(tmp_path / "in")
    (top,) = (tmp_path / "in").iterdir()
    message = fails(from_torch.main, tmp_path / "in", "--dry-run")
    command = message[message.index("(cd ") :].strip()
    subprocess.run(command, shell=True, check=True, stdout=subprocess.DEVNULL)
    assert_same_tensors(round_trip(tmp_path / "in" / f"{top.name}.pth", tmp_path), NET)


def test_converted_checkpoint_is_named(small_file: Path, tmp_path: Path, fails: Fails) -> None:
    out = tmp_path / "run" / "best"
    convert(small_file, out, verify=False)
    for path in (out, out.parent):
        message = fails(from_torch.main, path, "--dry-run")
        assert "is converted already" in message
        assert f"flax_unet.predict {out}" in message
        assert f"convert.to_torch {out}" in message
    message = fails(to_torch.main, tmp_path / "back.pth", out)
    assert "wrong order" in message
    assert f"convert.to_torch {out} {tmp_path / 'back.pth'}" in message


def test_ten_differences_are_shown_and_the_rest_counted(tmp_path: Path, fails: Fails) -> None:
    content = {k: t for k, t in NET.items() if not k.startswith(("up", "down3"))}
    content |= {f"down2.extra{i}": torch.ones(1) for i in range(3)}
    torch.save(content, tmp_path / "ckpt.pth")
    message = fails(from_torch.main, tmp_path / "ckpt.pth", "--dry-run")
    lines = [line for line in message.splitlines() if line.startswith("  ")]
    count = int(message.partition("differs in ")[2].split()[0])
    assert len(lines) == 11
    assert sum("down2.extra" in line for line in lines) == 3
    assert lines[-1].strip() == f"and {count - 10} more: {count - 10} missing"


def test_what_may_stand_beside_a_network_is_not_a_difference(tmp_path: Path, fails: Fails) -> None:
    content = {k: of for k, of in NET.items() if k != "outc.conv.bias"}
    content |= {"total_ops": torch.ones(1), "inc.total_params": torch.ones(1)}
    torch.save(content, tmp_path / "ckpt.pth")
    message = fails(from_torch.main, tmp_path / "ckpt.pth", "--dry-run")
    assert "differs in 1 tensor:" in message
    assert "total_" not in message


ODD = "x\x1b[2J\nparity      holds\x9b\u202e"
ODDLY_NAMED: dict[str, Callable[[], bytes]] = {
    "a set": lambda: saved({"model": NET, ODD: NET.copy()}),
    "sets in one mapping": lambda: saved(NET | {f"{ODD}.{k}": of for k, of in NET.items()}),
    "a tensor that does not belong": lambda: saved(NET | {f"inc.{ODD}": torch.ones(1)}),
    "a tensor of another network": lambda: saved({f"{ODD}.weight": torch.ones(1)}),
    "an object": lambda: saved(NET | {f"loss.{ODD}": {1}}),
    "a sum of infinities": lambda: saved(
        small_tensors("ynet-224") | {f"down5.{ODD}.weight": torch.tensor([float("inf")])}
    ),
    "whole numbers": lambda: saved(
        small_tensors("ynet-224") | {f"down5.{ODD}.weight": torch.ones(1, dtype=torch.int64)}
    ),
    "a flattened parameter": lambda: saved({f"{ODD}._flat_param": torch.ones(1)}),
    "no tensors": lambda: saved({ODD: 1}),
    "unknown sets": lambda: saved({of: {f"{ODD}.x": torch.ones(1)} for of in ("a", ODD)}),
    "a member of a tar": lambda: tarred({f"{ODD}.pth": b""}),
    "a member of a zip": lambda: zipped(f"{ODD}.pth"),
    "a function": lambda: b"\x80\x04" + short("os") + short(ODD) + b"\x93)R.",
    "a class": lambda: b"\x80\x04" + short("os") + short(ODD.title()) + b"\x93)\x81.",
}


@pytest.mark.parametrize("case", ODDLY_NAMED)
def test_names_of_a_file_cannot_control_the_terminal(
    case: str, tmp_path: Path, fails: Fails
) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(ODDLY_NAMED[case]())
    message = fails(from_torch.main, path, "--dry-run")
    assert all(line.isprintable() for line in message.splitlines())
    assert not any(line.strip().startswith("parity") for line in message.splitlines())


def test_report_cannot_be_forged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = {f"{ODD}.{key}": of for key, of in NET.items()} | {f"loss.{ODD}": torch.ones(1)}
    left_out = {f"lost.{ODD}": torch.zeros(1, dtype=torch.float8_e8m0fnu)}
    (tmp_path / "a.pth").write_bytes(saved({ODD: content | left_out}))
    out = tmp_path / "out"
    from_torch.main([str(tmp_path / "a.pth"), "--out", str(out), "--no-verify"])
    lines = capsys.readouterr().out.splitlines()
    assert all(line.isprintable() for line in lines)
    assert [line for line in lines if line.startswith("parity")] == ["parity      not verified"]
    to_torch.to_torch(out, tmp_path / "back.pth")
    assert_same_tensors(torch.load(tmp_path / "back.pth", weights_only=True), content)


SLOW = ("torch", "jax", "flax", "orbax", "scipy")


@pytest.mark.parametrize("case", ["ONNX", "gzip", "incomplete", "whole model", "several"])
def test_wrong_file_is_refused_before_slow_imports(case: str, tmp_path: Path) -> None:
    """PyTorch and JAX take seconds to import, also on a quick machine."""
    content = {
        "incomplete": lambda: saved({k: t for k, t in NET.items() if "up2" not in k}),
        "whole model": lambda: saved(torch.nn.Linear(2, 2)),
        "several": lambda: saved({"a": NET, "b": NET.copy()}),
    }
    path = tmp_path / "ckpt.pth"
    path.write_bytes(content[case]() if case in content else FILES[case][0])
    code = (
        "import sys\n"
        "from convert import from_torch\n"
        "try:\n"
        "    from_torch.main(sys.argv[1:])\n"
        "finally:\n"
        f"    print([name for name in {SLOW} if name in sys.modules])\n"
    )
    process = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(process, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {path}")
    assert done.stdout.strip() == "[]"


def test_wrong_checkpoint_is_refused_before_slow_imports(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from convert import to_torch\n"
        "try:\n"
        "    to_torch.main(sys.argv[1:])\n"
        "finally:\n"
        f"    print([name for name in {SLOW} if name in sys.modules])\n"
    )
    for wrong in (tmp_path / "none", tmp_path):
        process = [sys.executable, "-c", code, str(wrong), str(tmp_path / "back.pth")]
        done = subprocess.run(process, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stderr.startswith(f"error: {wrong}")
        assert done.stdout.strip() == "[]"


# Pickles that would run code


class Calls:
    """Pickled as a call."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


CALLS = {
    "system": Calls(os.system, "false"),
    "eval": Calls(eval, "1"),
    "exec": Calls(exec, "1"),
    "getattr": Calls(getattr, [], "append"),
    "__import__": Calls(__import__, "os"),
    "import_module": Calls(importlib.import_module, "os"),
    "run_path": Calls(runpy.run_path, "/tmp/x.py"),
    "Popen": Calls(subprocess.Popen, ["false"]),
    "hub": Calls(torch.hub.load, "a/b", "c"),
    "torch.load": Calls(torch.load, "x"),
    "numpy.load": Calls(np.load, "x"),
    "CDLL": Calls(ctypes.CDLL, "x.so"),
    "methodcaller": Calls(operator.methodcaller, "x"),
    "pickle.loads": Calls(pickle.loads, b""),
    "open": Calls(open, "/etc/passwd"),
    "rmtree": Calls(shutil.rmtree, "/tmp/x"),
    "a function of ours": Calls(listing, "x"),
}


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("name", CALLS)
def test_call_is_refused_and_named(name: str, protocol: int, tmp_path: Path, fails: Fails) -> None:
    path = tmp_path / "ckpt.pth"
    content = {"model": NET, "args": [CALLS[name]]}
    path.write_bytes(saved(content, pickle_protocol=protocol))
    message = fails(from_torch.main, path, "--dry-run")
    assert getattr(CALLS[name].call[0], "__name__", name) in message
    assert "nothing was run" in message


def short(text: str) -> bytes:
    return b"\x8c" + bytes([len(text.encode())]) + text.encode()


@pytest.mark.parametrize(
    ("pickled", "named"),
    [
        (short("collections") + short("abc.sys.exit") + b"\x93)R", "collections.abc.sys.exit"),
        (short("torch") + short("serialization.os.system") + b"\x93)R", "os.system"),
        (b"cos\nsystem\n", "os.system"),  # named, not called
        (b"(S'true'\nios\nsystem\n", "os.system"),
        (b"(cos\nsystem\nS'true'\no", "os.system"),
        (b"ctypes\nFunctionType\n)R", "types.FunctionType"),
        (b"cimportlib.util\nX\n)\x81", "importlib.util"),
        (b"c__builtin__\neval\n", "eval"),
        (b"cfunctools\npartial\n(ccollections\nOrderedDict\ntR)R", "makes itself"),
        (short("builtins") + short("object") + b"\x93)R)R", "makes itself"),
    ],
)
def test_tricks_of_the_pickle_machine_are_refused(
    pickled: bytes, named: str, tmp_path: Path, fails: Fails
) -> None:
    path = tmp_path / "ckpt.pth"
    path.write_bytes(b"\x80\x04" + pickled + b".")
    message = fails(from_torch.main, path, "--dry-run")
    assert named in message
    assert "nothing was run" in message


NEST = b"".join(
    b"h" + bytes([i]) + b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) for i in range(200)
)
DEEP = b"K\x01q\x00" + NEST  # the last one's place in the memo is 200


def repeated(build: bytes, values: bytes, *, count: int = 4000) -> bytes:
    """The results of many calls with one long argument, in a list."""
    return values + b"q\x00" + build + b"q\x01]" + b"(" + b"h\x01h\x00\x85R" * count + b"e."


TEXT = b"X" + (2**20).to_bytes(4, "little") + b"x" * 2**20
LONG = b"(" + b"".join(b"J" + i.to_bytes(4, "little") for i in range(2**18)) + b"l"
PAIRS = b"(" + b"".join(b"J" + i.to_bytes(4, "little") + b"N\x86" for i in range(2**17)) + b"l"
NAME = b"X" + (2**20).to_bytes(4, "little") + b"X" * 2**20
META = b"ctorch._utils\n_rebuild_meta_tensor_no_storage\n"
DTYPE = b"ctorch\nfloat32\n"
LEGACY = b"".join(pickle.dumps(of, 2) for of in (torch_file.MAGIC_NUMBER, 1001, {}))[2:]
BOMBS = {
    "bytes of one text": repeated(b"c_codecs\nencode\n", TEXT),
    "sets of one list": repeated(b"c__builtin__\nset\n", LONG),
    "shapes of one list": repeated(b"ctorch\nSize\n", LONG),
    "shapes of one text": repeated(b"ctorch\nSize\n", TEXT),
    "dictionaries of one list": repeated(b"ccollections\nOrderedDict\n", PAIRS),
    "tensors of one shape": (
        LEGACY
        + (LONG + b"q\x00" + META + b"q\x01" + DTYPE + b"q\x02](")
        + (b"h\x01h\x02h\x00\x86R" * 4000 + b"e.")
    ),
    "a tensor that text without end makes": (
        LEGACY + DEEP + b"ctorch._tensor\n_rebuild_from_type_v2\n(h\xc8N)NtR."
    ),
    "a storage whose name takes for ever": (
        LEGACY + DEEP + b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nh\xc8NK\x01tQ."
    ),
    "a shape of less than nothing": LEGACY + META + DTYPE + b"J\xff\xff\xff\xff\x85\x86R.",
    "a shape of text": LEGACY + META + DTYPE + b"X\x01\x00\x00\x00a\x85\x86R.",
    "objects of one name": (NAME + b"q\x00](" + (short("a") + b"h\x00\x93)\x81") * 4000 + b"e."),
    "a hash that takes for ever": b"}K\x01q\x00" + NEST + b"K\x01s.",
    "endless lists": b"]" * 20_000_000 + b".",
    "an array of exabytes": b"\x96" + (2**60).to_bytes(8, "little") + b".",
    "text of exabytes": b"\x8d" + (2**60).to_bytes(8, "little") + b".",
    "a far place of the memo": b"]r\xff\xff\xff\xff.",
    "an extension": b"\x82\x01.",
    "deep": b"]" + b"(l" * 100_000 + b".",
    "recursive": b"]q\x00(h\x00h\x00e.",
    "no end": b"]" * 100,
    "nothing": b".",
    "text as a number": b"I" + b"9" * 1_000_000 + b"\n.",
}


@pytest.mark.parametrize("case", BOMBS)
def test_bombs_end_in_bounded_time_and_memory(case: str, tmp_path: Path) -> None:
    path = tmp_path / "ckpt.pth"
    path.write_bytes(b"\x80\x04" + BOMBS[case])
    code = (
        "import pathlib, resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (60, 60))\n"
        "from convert import from_torch\n"
        "try:\n"
        "    from_torch.main(sys.argv[1:])\n"
        "finally:\n"
        "    print(*(of.read_text() for of in pathlib.Path('/proc/self').glob('status')))\n"
    )
    process = [sys.executable, "-c", code, str(path), "--dry-run"]
    done = subprocess.run(process, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr[-2000:]
    reasons = ("truncated or damaged", "a pickle that torch.save did not write")
    assert done.stderr.startswith(tuple(f"error: {path} is {reason}" for reason in reasons))
    for peak in re.findall(r"VmHWM:\s+(\d+) kB", done.stdout):  # on Linux
        assert int(peak) < 2**19
