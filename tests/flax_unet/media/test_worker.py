"""Decoding in a process of its own: whatever happens there costs one file, and soon ends."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from flax_unet.media import worker
from flax_unet.media.discover import items
from flax_unet.media.videos import Sampling, VideoReader
from flax_unet.media.worker import PassingError, WorkerError
from flax_unet.predict.pipeline import FileNote, InspectedFrame, Options, inspect, lots
from flax_unet.utils.errors import InputError
from flax_unet.utils.malloc import KEPT_MEMORY
from tests.flax_unet.predict.test_pipeline import Recorder
from tests.flax_unet.samples import encode, noise, number_of, numbered, write_video

LARGE = (640, 480)  # more pixels than fit a pipe: the decoder waits in the middle of the video
pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    return write_video(folder / "film.avi", numbered(30, LARGE), size=LARGE)


def decoders(process: psutil.Process | None = None) -> list[psutil.Process]:
    """The processes that decode for a process; None: for this one."""
    found = []
    for child in (process or psutil.Process()).children():
        with contextlib.suppress(psutil.NoSuchProcess):  # it was killed
            found += [child] if "flax_unet.media.serve" in child.cmdline() else []
    return found


def signal_all(number: int) -> None:
    for process in decoders():
        process.send_signal(number)


@pytest.fixture(autouse=True)
def no_decoder_is_left() -> Iterator[None]:
    worker._end_all()
    yield
    worker._end_all()
    assert not decoders()


def test_decoders_keep_their_memory(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEPT_MEMORY:
        monkeypatch.delenv(name, raising=False)
    assert count(film)
    (decoder,) = decoders()
    assert decoder.environ().items() >= KEPT_MEMORY.items()


def count(path: Path) -> int:
    return sum(frame is not None for frame in VideoReader(path, Sampling()).frames())


def test_the_memory_of_a_video_is_freed(tmp_path: Path) -> None:
    """With it, not when Python looks for objects that refer to each other the next time."""
    film = encode(tmp_path / "film.mp4", [noise(*LARGE)] * 12)
    found = []
    for _ in range(6):
        assert count(film) == 12
        (decoder,) = decoders()
        found.append(decoder.memory_info().rss)
    assert found[-1] - found[1] < 2**24  # four videos hold 36 MB


def test_one_process_for_many_files(film: Path) -> None:
    assert [count(film) for _ in range(3)] == [30] * 3
    (process,) = decoders()
    with pytest.raises(InputError):
        count(Path(__file__))
    (film.parent / "text.avi").write_bytes(film.read_bytes()[:12] + b"text" * 100)
    with pytest.raises(InputError, match="holds no video that can be decoded"):
        count(film.parent / "text.avi")
    assert count(film) == 30
    assert decoders() == [process]


@pytest.mark.parametrize(
    ("number", "message", "kind"),
    [
        (signal.SIGKILL, "was being decoded when the decoder was killed, perhaps", PassingError),
        (signal.SIGSEGV, "makes the decoder crash .exit status -11.; export it again", WorkerError),
    ],
)
def test_decoder_that_dies_costs_one_file(
    number: int, message: str, kind: type[Exception], film: Path
) -> None:
    reader = VideoReader(film, Sampling())
    frames = reader.frames()
    next(frames)
    signal_all(number)
    with pytest.raises(InputError, match=message) as raised:
        list(frames)
    assert str(raised.value).startswith(f"{film} ")
    assert type(raised.value.__cause__) is kind
    assert count(film) == 30


def test_decoder_that_dies_within_a_folder(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.avi", "b.avi", "c.avi"):
        (film.parent / name).write_bytes(film.read_bytes())
    paths = [film.parent / name for name in ("a.avi", "b.avi", "c.avi")]
    frames = VideoReader.frames

    def killed(self: VideoReader) -> Iterator[object]:
        for frame in frames(self):
            yield frame
            if self.path.name == "b.avi" and frame is not None:
                signal_all(signal.SIGKILL)

    monkeypatch.setattr(VideoReader, "frames", killed)
    detector = Recorder()
    found = list(inspect(detector, lots(items(paths), 1), Options()))  # pyright: ignore[reportArgumentType]
    judged = [one.item.path.name for one in found if isinstance(one, InspectedFrame)]
    assert (judged.count("a.avi"), judged.count("c.avi")) == (30, 30)
    assert 1 <= judged.count("b.avi") < 30
    (note,) = (one for one in found if isinstance(one, FileNote))
    assert note.is_problem
    assert "b.avi was being decoded when the decoder was killed" in note.text


def test_decoder_that_hangs(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = VideoReader(film, Sampling()).frames()
    assert any(frame is not None for frame in frames)
    signal_all(signal.SIGSTOP)
    # Only now: the decoder's start may take longer.
    monkeypatch.setattr(worker, "_TICK", 0.01)
    monkeypatch.setattr(worker, "PATIENCE", 0.3)
    stalled = "keeps the decoder busy for 0 s without progress; does its disk or network stall"
    with pytest.raises(InputError, match=stalled) as raised:
        assert None in list(frames)  # so that the work can be ended meanwhile
    assert isinstance(raised.value.__cause__, PassingError)
    assert not decoders()
    monkeypatch.undo()
    assert count(film) == 30


def test_reading_that_is_given_up_ends_the_decoder(film: Path) -> None:
    frames = VideoReader(film, Sampling()).frames()
    assert any(frame is not None for frame in frames)
    frames.close()
    assert not decoders()


def test_two_readers_at_once(film: Path) -> None:
    first, second = (VideoReader(film, Sampling()).frames() for _ in range(2))
    both = [[], []]
    for pair in zip(filter(None, first), filter(None, second), strict=True):
        for numbers, frame in zip(both, pair, strict=True):
            numbers.append(number_of(frame.image))
    assert both == [list(range(30))] * 2
    counts: list[int] = []
    threads = [threading.Thread(target=lambda: counts.append(count(film))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [30] * 4


PARENT = """
import os, signal, sys
from pathlib import Path
from flax_unet.media.videos import Sampling, VideoReader
frames = VideoReader(Path(sys.argv[1]), Sampling()).frames()
assert any(frame is not None for frame in frames)
print("decoding", flush=True)
sys.stdin.readline()
print(sum(frame is not None for frame in frames))
"""


@pytest.mark.parametrize("is_stuck", [False, True])
def test_decoder_ends_with_its_parent(is_stuck: bool, film: Path) -> None:
    """Even if that is killed: the decoder waits for room in the pipe, or for a request."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(film)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdin is not None
        assert parent.stdout.readline() == b"decoding\n"
        (decoder,) = decoders(psutil.Process(parent.pid))
        if not is_stuck:
            parent.stdin.write(b"\n")
            parent.stdin.flush()
            assert parent.stdout.readline() == b"29\n"
        parent.kill()
    decoder.wait(timeout=30)


def test_ctrl_c_ends_both_without_a_traceback(film: Path) -> None:
    program = PARENT.replace("sys.stdin.readline()", "signal.signal(2, signal.default_int_handler)")
    program = program.replace("print(sum", "os.kill(0, signal.SIGINT); print(sum")
    program = f"try:\n{textwrap.indent(program, ' ')}\nexcept KeyboardInterrupt: sys.exit(130)"
    ended = subprocess.run(
        [sys.executable, "-c", program, str(film)],
        capture_output=True,
        text=True,
        timeout=60,
        start_new_session=True,  # the signal is for its group, as from a terminal
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "decoding\n", "")


def test_memory_is_bounded(film: Path) -> None:
    count(film)
    (decoder,) = decoders()
    if hasattr(decoder, "rlimit"):
        assert decoder.rlimit(psutil.RLIMIT_AS)[1] <= 6 * 2**30
    adjusted = Path(f"/proc/{decoder.pid}/oom_score_adj")
    if adjusted.exists():
        assert adjusted.read_text() == "1000\n"  # it goes before its parent


def test_nothing_heavy_is_imported_there() -> None:
    program = "import json, sys, flax_unet.media.serve; print(json.dumps(sorted(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert not {"jax", "torch", "cv2", "matplotlib"} & set(json.loads(ended.stdout))


def test_modules_of_the_working_directory_are_not_imported(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "av.py").write_text("raise SystemExit")
    (tmp_path / "json.py").write_text("raise SystemExit")
    monkeypatch.chdir(tmp_path)
    assert count(film) == 30


def test_from_a_script_without_a_main_guard(film: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\nfrom flax_unet.media.videos import Sampling, VideoReader\n"
        f"frames = VideoReader(Path({str(film)!r}), Sampling()).frames()\n"
        "print(sum(frame is not None for frame in frames))\n"
    )
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert (ended.stdout, ended.stderr) == ("30\n", "")


def test_package_that_is_found_by_the_working_directory_alone(film: Path, tmp_path: Path) -> None:
    (tmp_path / "flax_unet").symlink_to(Path(worker.__file__).parents[1])
    program = f"""if True:
        import pathlib, sys, flax_unet.media.worker as worker
        from flax_unet.media.videos import Sampling, VideoReader
        assert pathlib.Path(worker.__file__).is_relative_to({str(tmp_path)!r})
        frames = VideoReader(pathlib.Path({str(film)!r}), Sampling()).frames()
        print(sum(frame is not None for frame in frames))
    """
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True
    )
    assert (ended.stdout, ended.stderr) == (b"30\n", b"")
