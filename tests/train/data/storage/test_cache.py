"""The cache: made once, by one process at a time, and tidied."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from flax_unet import InputError
from tests.conftest import listing
from tests.train.faults import limited_files
from tests.train.folders import write_folder
from train.data.dataset import open_dataset
from train.data.storage.cache import cached
from train.data.synthetic import dataset
from train.data.synthetic.dataset import prepare


def test_two_at_once_make_it_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    waits = threading.Event()
    monkeypatch.setattr("builtins.print", lambda *_, **__: waits.set())  # it says so

    def fill(stage: Path) -> None:
        made.append(stage)
        other.start()
        assert waits.wait(60)
        (stage / "file").write_text("content")

    def second() -> None:
        assert (cached(cache / "family", "key", fill) / "file").read_text() == "content"

    other = threading.Thread(target=second)
    cached(cache / "family", "key", fill)
    other.join()
    assert len(made) == 1


@pytest.mark.parametrize("packed_next", ["same", "other"])
def test_what_a_killed_process_left_is_deleted(
    packed_next: str, tmp_path: Path, cache: Path
) -> None:
    program = (
        "import os, signal, sys; from train.data.storage import published;"
        "published.write_records = lambda *_: os.kill(os.getpid(), signal.SIGKILL);"
        "published.pack(published.Path(sys.argv[1]))"
    )
    for name in ("same", "other"):
        write_folder(tmp_path / name, videos=2)
    command = [sys.executable, "-c", program, str(tmp_path / "same")]
    assert subprocess.run(command, check=False).returncode < 0
    assert len(list(cache.rglob("published/*/.*"))) == 1
    open_dataset(str(tmp_path / packed_next), None)
    assert list(cache.rglob("published/*/.*")) == []


def test_packs_of_an_older_state_go_unless_they_are_read(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", videos=2)
    program = (
        "import sys; from train.data.storage.published import *; print(pack(Path(sys.argv[1])))"
    )
    command = [sys.executable, "-c", program, str(folder)]
    made = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert Path(made).exists()
    (folder / "crops" / "v000_0.png").unlink()
    used = open_dataset(str(folder), None)
    assert not Path(made).exists()
    (folder / "crops" / "v000_1.png").unlink()
    subprocess.run(command, capture_output=True, check=True)
    assert len(list(used.directory.parent.iterdir())) == 2
    assert used.record(0)["file"] == b"crops/v000_1.png"


def test_a_place_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"the cache .* cannot be written: .* XDG_CACHE_HOME"):
        open_dataset(str(write_folder(tmp_path / "data", videos=2)), None)
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc")
    with pytest.raises(InputError, match="XDG_CACHE_HOME"):
        open_dataset(str(tmp_path / "data"), None)


def test_two_processes_that_want_the_embedded_data_set(tmp_path: Path) -> None:
    program = "from train.data.synthetic.dataset import prepare; print(prepare(count=10))"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    outputs = [process.communicate() for process in started]
    assert [process.returncode for process in started] == [0, 0], outputs
    (line,) = {stdout for stdout, _ in outputs}
    assert len(list(Path(line.strip()).parent.iterdir())) == 1


def test_a_full_disk_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found before anything is made; or else, when others filled it meanwhile, on writing."""
    with limited_files(1_000_000):
        with pytest.raises(InputError, match="bytes are needed"):
            prepare(count=10, cache=tmp_path)
        monkeypatch.setattr(dataset, "check_space", lambda *_: None)
        with pytest.raises(InputError, match=r"cannot be written: .*XDG_CACHE_HOME"):
            prepare(count=10, cache=tmp_path)
    assert set(listing(tmp_path).values()) == {None}  # no file
