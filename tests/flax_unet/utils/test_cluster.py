"""Machines of a cluster that cannot do the work."""

from pathlib import Path

import pytest

from flax_unet.utils import cluster
from flax_unet.utils.cluster import Origin, connected
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


@pytest.mark.parametrize("address", ["", "foo", "10.0.0.1", "10.0.0.1:99999", "http://a:1/x"])
def test_what_is_not_an_address(address: str) -> None:
    with (
        pytest.raises(InputError, match=r"this is not an address; give HOST:PORT, such as"),
        connected(address, None),
    ):
        pass


def test_cluster_without_cores(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = iter([0, 0, 0, 4])
    monkeypatch.setattr(cluster, "cores", lambda: next(found))
    monkeypatch.setattr(cluster, "_PAUSE", 0.0)
    cluster._wait_for_cores("auto")
    assert "waiting up to 300 s for a machine with cores" in capsys.readouterr().err
    monkeypatch.setattr(cluster, "cores", lambda: 0)
    monkeypatch.setattr(cluster, "_START", -1.0)
    with pytest.raises(InputError, match=r"no machine of the cluster has a core for tasks; start"):
        cluster._wait_for_cores("auto")
