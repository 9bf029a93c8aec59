"""Results appear whole or not at all."""

import errno
import os
from pathlib import Path

import pytest

from flax_unet import InputError
from flax_unet.utils.files import followed, link, locked, staged_directory, staged_file


def test_failure_leaves_everything_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "er" / "result"

    def fail() -> None:
        with staged_directory(target) as stage:
            (stage / "part").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_success_replaces_only_what_may_be(tmp_path: Path) -> None:
    target = tmp_path / "result"
    for text in ("old", "new"):
        with staged_directory(target, may_replace=lambda _: True) as stage:
            (stage / "file").write_text(text)
            assert text == "old" or (target / "file").read_text() == "old"
    assert (target / "file").read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]
    with pytest.raises(InputError, match="exists already"), staged_directory(target):
        pass
    assert (target / "file").read_text() == "new"


def test_permissions_are_those_of_a_plain_write(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "file").touch()
    with staged_directory(tmp_path / "staged"), staged_file(tmp_path / "file"):
        pass
    assert (tmp_path / "staged").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain" / "file").stat().st_mode


def test_staged_file_replaces_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "result"
    target.write_text("old")
    with staged_file(target) as stage:
        stage.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"

    def fail() -> None:
        with staged_file(target) as stage:
            stage.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such locks")
def test_a_lock_that_was_moved_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by a run that ends while the next one begins."""
    import fcntl

    path, lock = tmp_path / "lock", fcntl.flock
    with locked(path) as none:
        assert none is None
    assert not path.exists()  # it may be a directory that another process deleted
    path.touch()
    with locked(path) as first, locked(path) as second:
        assert (first, second) == (True, False)

    def late(*arguments: int) -> None:
        path.rename(tmp_path / "moved")
        lock(*arguments)

    monkeypatch.setattr(fcntl, "flock", late)
    with locked(path) as third:
        assert third is False


def no_links(*_: object, **__: object) -> None:
    """As on a mounted cloud drive."""
    raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))


def test_links_and_files_in_their_place_replace_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "runs" / "1", tmp_path / "runs" / "2"
    first.mkdir(parents=True)
    second.mkdir()
    for target in (first, second):
        link(tmp_path / "last", target)
        assert (tmp_path / "last").resolve() == target
    with monkeypatch.context() as drive:
        drive.setattr(os, "symlink", no_links)
        for target in (first, second):
            link(tmp_path / "last", target)
            assert (tmp_path / "last").read_text() == f"runs/{target.name}\n"
            assert followed(tmp_path / "last") == target
    link(tmp_path / "last", first)
    assert (tmp_path / "last").is_symlink()
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "last"}


@pytest.mark.parametrize(
    "content",
    ["", "\n", ".", "..", "runs/../..", "/", "none", "\0", "runs\nruns", "r" * 9999, b"\xff"],
)
def test_other_files_are_not_links(content: str | bytes, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    path = tmp_path / "last"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert followed(path) == path
