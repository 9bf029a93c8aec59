"""Fixtures: small stand-ins of every published layout."""

import contextlib
import ctypes
import dataclasses
import gc
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

# Workers share the processors: more threads would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Before JAX is imported: the tests, their processes and later runs share what they compile.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent.parent / ".pytest_cache" / "compiled")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import jax
import numpy as np
import psutil
import pytest
import torch

from convert import stand_in
from convert.torch_unet import Down, ReferenceUNet
from flax_unet import PUBLISHED, UNetConfig
from flax_unet.nn.config import WITH_UNUSED_LEVEL

SMALL = {
    name: dataclasses.replace(config, base_width=4, image_size=config.stride * 2)
    for name, config in PUBLISHED.items()
}


def small_tensors(layout: str, seed: int = 0, **changes: object) -> dict[str, torch.Tensor]:
    """A stand-in of a published layout, four channels wide."""
    config: UNetConfig = dataclasses.replace(SMALL[layout], **changes)
    tensors = stand_in.state_dict(config, seed, unused_level=layout in WITH_UNUSED_LEVEL)
    return {key: torch.from_numpy(array) for key, array in tensors.items()}


class Original(ReferenceUNet):
    """The twin with the level that the original class owns and never uses."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__(config)
        width = config.widths[-1]
        self.add_module(f"down{config.levels + 1}", Down(width, 2 * width, config.conv_bias))


def pytest_collection_finish() -> None:
    """Leaves out of later garbage collections what is imported: half a second each."""
    gc.collect()
    gc.freeze()


MOST_RESIDENT = 3 * 2**29  # bytes; a worker may take 2 GB, of which a test needs some


def resident() -> int:
    """Bytes of memory that this process holds."""
    return psutil.Process().memory_info().rss


@pytest.fixture(autouse=True)
def programs() -> Iterator[None]:
    """Forgets what was compiled once it takes much memory."""
    global after_forgetting
    yield
    if resident() < min(after_forgetting + 2**27, MOST_RESIDENT):
        return
    jax.clear_caches()
    gc.collect()
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):  # the C library is not GNU's
            ctypes.CDLL(None).malloc_trim(0)
    after_forgetting = resident()


after_forgetting = resident()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that packed data sets go to: each test has its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def shared_cache(
    cache: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One cache for all tests that ask for it, in which the embedded data set is made once."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # that of all workers
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "shared-cache"))


@pytest.fixture
def small_file(tmp_path: Path) -> Path:
    """A small ynet-224 stand-in as PyTorch saves it."""
    path = tmp_path / "small.pth"
    torch.save(small_tensors("ynet-224"), path)
    return path


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must end with status 2, and gives its message."""

    def run(main: Callable[..., None], *arguments: object) -> str:
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        assert stopped.value.code == 2
        message = capsys.readouterr().err
        assert message.startswith("error: ")
        return message

    return run


def listing(directory: Path) -> dict[str, bytes | None]:
    """Everything below a directory, to see that nothing changed."""
    return {
        str(path.relative_to(directory)): path.read_bytes() if path.is_file() else None
        for path in sorted(directory.rglob("*"))
    }


def images(count: int, size: int, seed: int = 0) -> np.ndarray:
    """Noise (count, size, size, 3) float32 in [0, 1)."""
    return np.random.default_rng(seed).random((count, size, size, 3), dtype=np.float32)
