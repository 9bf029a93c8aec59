"""Results appear whole or not at all."""

from pathlib import Path

import pytest

from flax_unet import InputError
from flax_unet.utils.files import staged_directory, staged_file


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
