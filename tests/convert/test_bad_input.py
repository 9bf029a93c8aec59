"""Files that cannot be converted: one message, status 2, the destination untouched."""

import io
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from convert import from_torch, parity, to_torch
from convert.torch_unet import ReferenceUNet
from tests.conftest import SMALL, listing, small_tensors

Fails = Callable[..., str]


class Evil:
    """Unpickling this would create the file that it names."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


def saved(content: Any, *, legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def zipped(names: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in names.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def without(*keys: str) -> dict[str, torch.Tensor]:
    return {key: t for key, t in small_tensors("ynet-slim").items() if key not in keys}


def scripted() -> bytes:
    """A TorchScript archive's outline; writing a real one is deprecated."""
    return zipped({"net/data.pkl": b"", "net/constants.pkl": b"", "net/code/__torch__.py": b""})


GOOD = saved(small_tensors("ynet-slim"))
LEGACY = saved(small_tensors("ynet-slim"), legacy=True)
SAFE = safetensors.torch.save(small_tensors("ynet-slim"))
LONG_HEADER = (2**60).to_bytes(8, "little") + b'{"a":1}'
NAN = {**without(), "inc.double_conv.0.bias": torch.tensor([1.0, float("nan"), 2, 3])} | {
    "outc.conv.bias": torch.tensor([float("inf"), -float("inf")])
}
EXPANDED = {**without(), "outc.conv.bias": torch.zeros(1).expand(2**40)}
SHARED = {**without(), **dict.fromkeys((f"x.{i}" for i in range(100)), torch.zeros(2**19))}
RECURSIVE: list[Any] = [0]
RECURSIVE += [RECURSIVE]
COMPRESSED = zipped({"net/data.pkl": b"", "net/data/0": bytes(2**22)}, zipfile.ZIP_DEFLATED)

CASES: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "empty": (b"", ("is empty", "again")),
    "random": (np.random.default_rng(0).bytes(4096), ("not a PyTorch or safetensors checkpoint",)),
    "web page": (b"<!DOCTYPE html><html>...", ("begins with", "web page")),
    "random after a pickle's first byte": (b"\x80\x02" + b"\xff" * 99, ("damaged",)),
    "truncated zip": (GOOD[: len(GOOD) // 2], ("truncated", "again")),
    "truncated legacy": (LEGACY[: len(LEGACY) // 2], ("truncated", "again")),
    "truncated legacy pickle": (LEGACY[:300], ("truncated", "again")),
    "truncated safetensors": (SAFE[: len(SAFE) // 2], ("truncated", "again")),
    "safetensors with a header of exabytes": (LONG_HEADER, ("truncated or damaged",)),
    "zip of something else": (zipped({"a.txt": b"hello"}), ("not a PyTorch checkpoint", "a.txt")),
    "compressed zip": (COMPRESSED, ("compressed", "refused")),
    "TorchScript": (scripted(), ("TorchScript", "state_dict()")),
    "whole model": (
        saved(ReferenceUNet(SMALL["classifier-224"])),
        (
            "whole pickled model",
            "convert.torch_unet.ReferenceUNet",
            "torch.save(model.state_dict()",
        ),
    ),
    "whole model, legacy": (
        saved(ReferenceUNet(SMALL["classifier-224"]), legacy=True),
        (
            "whole pickled model",
            "convert.torch_unet.ReferenceUNet",
            "torch.save(model.state_dict()",
        ),
    ),
    "a list": (saved([torch.zeros(1)]), ("holds no state dict", "a list")),
    "no tensors": (saved({"epoch": 3, "loss": 0.5}), ("holds no state dict", "epoch, loss")),
    "several": (
        saved({"first": without(), "second": without()}),
        ("several sets of tensors (first, second)", "Save the right one"),
    ),
    "numbers as keys": (saved({1: torch.zeros(1)}), ("keys that are not text",)),
    "NaN and infinity": (
        saved(NAN),
        (
            "inc.double_conv.0.bias: 1 of 4 values are NaN or infinite",
            "outc.conv.bias: 2 of 2 values are NaN or infinite",
            "earlier checkpoint",
        ),
    ),
    "negative variance": (
        saved({**without(), "inc.double_conv.1.running_var": torch.full((4,), -0.5)}),
        ("inc.double_conv.1.running_var: a variance of -0.5",),
    ),
    "a claim of terabytes": (saved(EXPANDED), ("more tensors than it can hold", "outc.conv.bias")),
    "one tensor under a hundred names": (saved(SHARED), ("more tensors than it can hold", "x.")),
    "quantised": (
        saved({**without(), "outc.conv.bias": torch.zeros(2, dtype=torch.int8)}),
        ("outc.conv.bias", "torch.int8", "before they are quantised"),
    ),
    "missing, extra and misshapen tensors": (
        saved(
            {
                **without("up1.up.weight", "down2.maxpool_conv.1.double_conv.4.running_mean"),
                "outc.conv.weight": torch.zeros(3, 4, 1, 1),
                "attention.weight": torch.zeros(5, 6),
            }
        ),
        (
            "ynet-slim, base width 4",
            "differs in 4 tensors",
            "missing    up1.up.weight: expected (64, 32, 2, 2), found nothing",
            "missing    down2.maxpool_conv.1.double_conv.4.running_mean: expected (16,)",
            "shape      outc.conv.weight: expected (2, 4, 1, 1), found (3, 4, 1, 1)",
            "unexpected attention.weight: expected no such tensor, found (5, 6)",
        ),
    ),
    "another network": (
        saved({f"layer{i}.0.conv1.weight": torch.zeros(8, 8, 3, 3) for i in range(1, 5)}),
        ("no known layout", "nearest is", "unexpected layer1.0.conv1.weight", "U-YNet or U-Net"),
    ),
    "meta device": (
        saved({**without(), "outc.conv.bias": torch.zeros(2, device="meta")}),
        ("outc.conv.bias holds no values",),
    ),
    "whole numbers": (
        saved({**without(), "outc.conv.bias": torch.ones(2, dtype=torch.int64)}),
        ("outc.conv.bias holds whole numbers",),
    ),
    "float64 that float32 would round": (
        saved({**without(), "outc.conv.bias": torch.tensor([0.1, 1e300], dtype=torch.float64)}),
        ("outc.conv.bias: float64 values that float32 would round",),
    ),
    **{
        f"mask_values of {type(value).__name__}": (
            saved({**without(), "mask_values": value}),
            (f"mask_values is a {type(value).__name__}", "Save the state dict without it"),
        )
        for value in ({1, 2}, {(1, 2): 3}, (0, 1), b"01", [float("nan")], [[[[0]]]], [RECURSIVE])
    },
    "damaged pickle": (
        zipped(
            {"net/data.pkl": b"\x80\x02}q\x00(X\x01\x00\x00\x00aK\x01u0\xff.", "net/version": b"3"}
        ),
        ("truncated or damaged. Download",),
    ),
}


@pytest.fixture(scope="module")
def existing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A converted checkpoint."""
    directory = tmp_path_factory.mktemp("existing")
    torch.save(small_tensors("ynet-224"), directory / "small.pth")
    from_torch.convert(directory / "small.pth", directory / "out", verify=False)
    return directory / "out"


@pytest.mark.parametrize("case", CASES)
def test_file_that_cannot_be_converted(
    case: str, existing: Path, tmp_path: Path, fails: Fails
) -> None:
    content, expected = CASES[case]
    path = tmp_path / "bad.pth"
    path.write_bytes(content)
    shutil.copytree(existing, tmp_path / "occupied")
    before = listing(tmp_path)
    for out in ("results/new", "occupied"):
        message = fails(from_torch.main, path, "--out", tmp_path / out, "--overwrite")
        assert str(path) in message
        for part in expected:
            assert part in message
        assert listing(tmp_path) == before


@pytest.mark.parametrize("kind", ["zip", "legacy", "plain pickle", "beside tensors", "protocol 4"])
def test_hostile_pickle_is_refused_and_never_run(kind: str, tmp_path: Path, fails: Fails) -> None:
    trace, path = tmp_path / "trace", tmp_path / "evil.pth"
    evil = Evil(trace)
    path.write_bytes(
        {
            "zip": lambda: saved(evil),
            "legacy": lambda: saved(evil, legacy=True),
            "plain pickle": lambda: pickle.dumps(evil, protocol=2),
            "beside tensors": lambda: saved({**without(), "hook": evil}),
            "protocol 4": lambda: zipped(
                {"net/data.pkl": pickle.dumps(evil, protocol=4), "net/version": b"3"}
            ),
        }[kind]()
    )
    message = fails(from_torch.main, path, "--out", tmp_path / "out")
    assert f"{os.mkdir.__module__}.mkdir" in message
    assert "nothing was run" in message
    assert not trace.exists()
    assert not (tmp_path / "out").exists()
    evil.__reduce__()[0](*evil.__reduce__()[1])  # it would have: the trap works
    assert trace.exists()


def test_no_file(tmp_path: Path, fails: Fails) -> None:
    assert "does not exist" in fails(from_torch.main, tmp_path / "none.pth", "--dry-run")
    assert "is not a file" in fails(from_torch.main, tmp_path, "--dry-run")


def test_existing_destination(small_file: Path, tmp_path: Path, fails: Fails) -> None:
    out = tmp_path / "out"
    from_torch.convert(small_file, out, verify=False)
    before = listing(tmp_path)
    assert "--overwrite" in fails(from_torch.main, small_file, "--out", out)
    assert listing(tmp_path) == before
    from_torch.main([str(small_file), "--out", str(out), "--overwrite", "--no-verify"])
    assert listing(tmp_path).keys() != before.keys()  # Orbax names its files anew
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "small.pth"]


def test_overwrite_deletes_nothing_but_checkpoints(
    small_file: Path, tmp_path: Path, fails: Fails
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.tex").write_text("years of work")
    message = fails(from_torch.main, small_file, "--out", home, "--overwrite", "--no-verify")
    assert "holds other files than a checkpoint's and is not overwritten" in message
    assert (home / "thesis.tex").read_text() == "years of work"
    for source in (small_file, home / "small.pth"):
        from_torch.convert(small_file, tmp_path / "model", overwrite=True, verify=False)
        shutil.rmtree(home)
        shutil.copytree(tmp_path / "model", home)  # a checkpoint, and something else
        other = home / "small.pth"
        other.write_bytes(small_file.read_bytes())
        message = fails(from_torch.main, source, "--out", home, "--overwrite", "--no-verify")
        assert "holds other files than a checkpoint's and is not overwritten" in message
        assert other.exists()


def test_a_linked_destination_is_followed(small_file: Path, tmp_path: Path) -> None:
    from_torch.convert(small_file, tmp_path / "real", verify=False)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    before = (tmp_path / "real" / "source.json").read_text()
    from_torch.convert(small_file, tmp_path / "link", overwrite=True, size=(32, 32))
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "source.json").read_text() != before


def test_termination_cleans_up(small_file: Path, tmp_path: Path) -> None:
    """SIGTERM in the middle of the work, as a scheduler sends it."""
    code = (
        "import os, signal, sys\n"
        "from convert import from_torch, layout\n"
        "layout.identify = lambda _: os.kill(os.getpid(), signal.SIGTERM)\n"
        "from_torch.main(sys.argv[1:])\n"
    )
    before = listing(tmp_path)
    arguments = [str(small_file), "--out", str(tmp_path / "new" / "out")]
    done = subprocess.run([sys.executable, "-c", code, *arguments], check=False)
    assert done.returncode == 128 + signal.SIGTERM
    assert listing(tmp_path) == before


def test_dry_run_writes_nothing(
    small_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = listing(tmp_path)
    from_torch.main([str(small_file), "--dry-run", "--size", "32x32"])
    assert listing(tmp_path) == before


def test_default_destination(
    small_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    from_torch.main([str(small_file), "--no-verify"])
    assert sorted(p.name for p in (tmp_path / "checkpoints" / "small").iterdir()) == [
        *("config.json", "manifest.json", "source.json", "unused", "weights")
    ]
    printed = capsys.readouterr().out
    assert "ynet-224, base width 4" in printed
    assert "not verified" in printed


def test_model_that_computes_something_else_is_not_put_in_place(
    small_file: Path, tmp_path: Path, fails: Fails, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_twin = parity.load_twin

    def with_swapped_means(twin: ReferenceUNet, tensors: Any) -> ReferenceUNet:
        first, second = (f"inc.double_conv.{i}.running_mean" for i in (1, 4))
        return load_twin(twin, {**tensors, first: tensors[second], second: tensors[first]})

    monkeypatch.setattr(parity, "load_twin", with_swapped_means)
    before = listing(tmp_path)
    out = tmp_path / "new" / "out"
    message = fails(from_torch.main, small_file, "--out", out, "--size", "32x32")
    assert "computes something else" in message
    assert "EXCEEDED" in message
    assert listing(tmp_path) == before


def saturated(layout: str) -> dict[str, torch.Tensor]:
    """Tensors of a network whose probabilities are 0 or 1."""
    tensors = small_tensors(layout)
    return tensors | {"linear_2.weight": tensors["linear_2.weight"] * 1000}


CLASSIFIERS = [layout for layout, config in SMALL.items() if config.has_classifier]


@pytest.mark.parametrize("layout", CLASSIFIERS)
def test_sure_networks_agree_with_pytorch(layout: str, tmp_path: Path) -> None:
    torch.save(saturated(layout), tmp_path / "ckpt.pth")
    for side in (2, 5):
        size = (side * SMALL[layout].stride, 2 * SMALL[layout].stride)
        proof = from_torch.convert(tmp_path / "ckpt.pth", None, size=size).parity
        assert proof is not None
        assert proof.holds, proof


def test_sure_network_that_computes_something_else_is_refused(
    tmp_path: Path, fails: Fails, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both probabilities are 1, whatever the first layer does."""
    load_twin = parity.load_twin

    def with_flipped_kernel(twin: ReferenceUNet, tensors: Any) -> ReferenceUNet:
        first = "inc.double_conv.0.weight"
        return load_twin(twin, {**tensors, first: tensors[first][..., ::-1, ::-1].copy()})

    monkeypatch.setattr(parity, "load_twin", with_flipped_kernel)
    torch.save(saturated("classifier-224"), tmp_path / "ckpt.pth")
    message = fails(from_torch.main, tmp_path / "ckpt.pth", "--dry-run", "--size", "64x64")
    assert "computes something else" in message
    (line,) = (line for line in message.splitlines() if "EXCEEDED" in line)
    assert "real_logit" in line


def test_not_a_number_is_never_within_the_tolerance() -> None:
    outputs = [parity.UNetOutput(None, parity.jax.numpy.asarray([x])) for x in (0.5, float("nan"))]
    assert not parity._compare(*outputs).holds
    json.dumps(parity._compare(*outputs).to_json(), allow_nan=False)


@pytest.mark.parametrize("name", ["broken.png", "missing.png"])
def test_picture_that_cannot_be_read(
    name: str, small_file: Path, tmp_path: Path, fails: Fails
) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    out = tmp_path / "out"
    message = fails(from_torch.main, small_file, "--out", out, "--image", tmp_path / name)
    assert name in message
    assert not out.exists()


LIMITED = """
import contextlib, io, json, os, resource, runpy, sys
import flax_unet.utils.files

resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
ended = []
for is_foreseen, *command in json.loads(sys.argv[1]):
    if not is_foreseen and hasattr(os, "posix_fallocate"):
        del os.posix_fallocate  # the look ahead for room sees nothing
    sys.argv = command
    with contextlib.redirect_stderr(io.StringIO()) as errors:
        try:
            runpy.run_module(command[0], run_name="__main__", alter_sys=True)
        except SystemExit as status:
            ended.append((status.code, errors.getvalue()))
print(json.dumps(ended))
"""


def test_full_disk(tmp_path: Path) -> None:
    """A full disk is found before anything is written.

    Where that is not foreseen, the libraries' writes fail halfway, and what they leave is deleted.
    The commands run in a process whose files cannot grow past a limit. It ends after the one that
    leaves threads behind which go on writing.
    """
    path, converted = tmp_path / "ckpt.pth", tmp_path / "converted"
    torch.save(small_tensors("ynet-slim", base_width=16), path)
    from_torch.convert(path, converted, verify=False)
    before = listing(tmp_path)
    commands = [
        (is_foreseen, *map(str, command))
        for is_foreseen, number in ((True, 1), (False, 2))
        for command in (
            ("convert.to_torch", converted, tmp_path / f"{number}.pth"),
            ("convert.from_torch", path, "--out", tmp_path / f"{number}" / "out", "--no-verify"),
        )
    ]
    process = [sys.executable, "-c", LIMITED, json.dumps(commands)]
    done = subprocess.run(process, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ended = json.loads(done.stdout.splitlines()[-1])
    assert len(ended) == 4
    for (is_foreseen, _, *arguments), (status, errors) in zip(commands, ended, strict=True):
        assert status == 2, errors
        assert "error: " in errors
        assert "cannot be written" in errors
        if is_foreseen:
            assert "Traceback" not in errors
        elif arguments[0] == str(converted):
            assert "2.pth cannot be written" in errors
    after = listing(tmp_path)
    after.pop("2", None)
    assert after == before


@pytest.mark.parametrize("where", ["/proc/flax-unet-test", "/dev/null/out"])
def test_directory_that_cannot_be_written(where: str, small_file: Path, fails: Fails) -> None:
    message = fails(from_torch.main, small_file, "--out", where, "--no-verify")
    assert f"{where} cannot be written" in message
    directory = small_file.parent / "out"
    from_torch.convert(small_file, directory, verify=False)
    message = fails(to_torch.main, directory, f"{where}.pth")
    assert f"{where}.pth cannot be written" in message


def test_to_torch_of_what_is_no_checkpoint(small_file: Path, tmp_path: Path, fails: Fails) -> None:
    out = tmp_path / "back.pth"
    assert "does not exist" in fails(to_torch.main, tmp_path / "none", out)
    assert "convert it first" in fails(to_torch.main, small_file, out)
    assert "is not a checkpoint" in fails(to_torch.main, tmp_path, out)
    from_torch.convert(small_file, tmp_path / "out", verify=False)
    assert "give that suffix" in fails(
        to_torch.main, tmp_path / "out", tmp_path / "back.safetensors"
    )
    assert "--overwrite" in fails(to_torch.main, tmp_path / "out", small_file)
    message = fails(to_torch.main, tmp_path / "out", tmp_path / "out", "--overwrite")
    assert "is a directory; name a file" in message
    source = json.loads((tmp_path / "out" / "source.json").read_text())
    source["entries"].pop("inc.double_conv.0.weight")
    (tmp_path / "out" / "source.json").write_text(json.dumps(source))
    message = fails(to_torch.main, tmp_path / "out", out)
    assert "does not describe the weights" in message
    assert "inc.double_conv.0.weight" in message
    assert not out.exists()
