"""Machines of a cluster that cannot do the work."""

from pathlib import Path

import pytest

from flax_unet.utils.cluster import Origin
from flax_unet.utils.errors import InputError

HERE = {"pillow": "12.0", "av": None}


def test_machine_that_cannot_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    origin = Origin.here(HERE)
    (tmp_path / "in").mkdir()
    monkeypatch.chdir("/")
    with pytest.raises(InputError, match=rf"does not see {tmp_path}/out; all machines must share"):
        origin.enter(HERE, [Path("in"), Path("out")])
    with pytest.raises(InputError, match=r"has pillow 1\.0, and the machine of the command 12\.0;"):
        origin.enter({**HERE, "pillow": "1.0"}, [Path("in")])
    with pytest.raises(InputError, match=r"has av 15\.0, and the machine of the command \(none\);"):
        origin.enter({**HERE, "av": "15.0"}, [])
    assert Path.cwd() == Path("/")


def test_machine_works_where_the_command_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    origin = Origin.here(HERE)
    (tmp_path / "in").mkdir()
    monkeypatch.chdir("/")
    origin.enter(HERE, [Path("in"), tmp_path])
    assert Path.cwd() == tmp_path
    monkeypatch.chdir("/")
    origin._replace(directory=tmp_path / "elsewhere").enter(HERE, [tmp_path])  # all are absolute
    assert Path.cwd() == Path("/")
