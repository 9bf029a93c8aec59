"""Videos: exactly the frames that are asked for, whatever the file claims; films that play."""

import io
import math
import os
import resource
import struct
import subprocess
import sys
import wave
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.error import FFmpegError
from PIL import Image

from flax_unet.media import videos as videos_module
from flax_unet.media import worker
from flax_unet.media.videos import Sampling, VideoFrame, VideoReader, VideoWriter
from flax_unet.utils.errors import InputError
from tests.flax_unet.samples import (
    CLIP,
    FILM_SIZE,
    add_sound,
    copy,
    cv2,
    encode,
    needs_shared,
    number_of,
    numbered,
    patched,
    png_of_size,
    rewrap,
    sound_avi,
    write_video,
)

FRAMES = 50
ALL = Sampling()
CODES = {
    ".avi": "MJPG",
    ".mp4": "mp4v",
    ".mov": "mp4v",
    ".mkv": "FFV1",
    ".webm": "VP80",
    ".wmv": "WMV2",
    ".mpg": "MPG1",
}


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same 50 frames, 10 a second, in every container."""
    folder = tmp_path_factory.mktemp("videos")
    rates = {".mpg": 25.0}  # which knows no 10
    return {
        suffix: write_video(
            folder / f"film{suffix}", numbered(FRAMES), code=code, rate=rates.get(suffix, 10.0)
        )
        for suffix, code in CODES.items()
    }


def read(path: Path, sampling: Sampling = ALL) -> tuple[list[VideoFrame], VideoReader]:
    reader = VideoReader(path, sampling)
    return [frame for frame in reader.frames() if frame is not None], reader


@pytest.mark.parametrize("suffix", CODES)
def test_every_container(suffix: str, videos: dict[str, Path]) -> None:
    frames, reader = read(videos[suffix])
    assert [frame.number for frame in frames] == list(range(FRAMES))
    assert [number_of(frame.image) for frame in frames] == list(range(FRAMES))
    rate = 25.0 if suffix == ".mpg" else 10.0
    assert reader.rate == rate
    assert [frame.seconds for frame in frames] == pytest.approx(np.arange(FRAMES) / rate)
    assert reader.shortfall() is None
    assert {frame.image.size for frame in frames} == {FILM_SIZE}
    assert {frame.image.mode for frame in frames} == {"RGB"}


def test_colours_are_not_swapped(tmp_path: Path) -> None:
    red = Image.new("RGB", FILM_SIZE, (220, 30, 10))
    frames, _ = read(write_video(tmp_path / "red.avi", [red]))
    assert np.abs(np.asarray(frames[0].image).astype(int) - np.asarray(red)).max() < 12


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(every=7), [0, 7, 14, 21, 28, 35, 42, 49]),
        (Sampling(every=50), [0]),
        (Sampling(every=10**9), [0]),
        (Sampling(frames=1), [25]),
        (Sampling(frames=2), [12, 37]),
        (Sampling(frames=4), [6, 18, 31, 43]),  # the middles of four equal parts
        (Sampling(frames=50), list(range(50))),
        (Sampling(frames=10**9), list(range(50))),
    ],
)
@pytest.mark.parametrize("suffix", [".avi", ".webm", ".mpg"])
def test_sampling(
    suffix: str, sampling: Sampling, expected: list[int], videos: dict[str, Path]
) -> None:
    frames, reader = read(videos[suffix], sampling)
    assert [frame.number for frame in frames] == expected
    assert [number_of(frame.image) for frame in frames] == expected
    rate = 25.0 if suffix == ".mpg" else 10.0
    assert [frame.seconds for frame in frames] == pytest.approx(np.array(expected) / rate)
    if sampling.every == 7:
        assert reader.rate == pytest.approx(rate / 7)
    if sampling.frames is not None:
        assert reader.rate == pytest.approx(rate * len(expected) / FRAMES)
    if suffix != ".mpg":  # which claims fewer frames than it has
        assert reader.expected() == len(expected)


@pytest.mark.parametrize(
    ("suffix", "sampling", "chosen"),
    [(".avi", Sampling(every=2), [0, 2, 4]), (".webm", Sampling(frames=2), [1, 4])],
)
def test_only_so_many_pixels_are_decoded(
    suffix: str, sampling: Sampling, chosen: list[int], videos: dict[str, Path]
) -> None:
    """From the beginning on, where frames are read in a row or cannot be sought."""
    reader = VideoReader(videos[suffix], sampling, max_pixels=6 * 2**16)
    assert [frame.number for frame in reader.frames() if frame is not None] == chosen
    assert reader.unread() == "only its first 6 frames were looked at"
    assert reader.shortfall() is None
    whole = VideoReader(videos[suffix], sampling, max_pixels=FRAMES * 2**16)
    assert any(whole.frames())
    assert whole.unread() is None


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(frames=2), Sampling(keyframes=True)])
def test_the_first_frame_is_always_decoded(sampling: Sampling, videos: dict[str, Path]) -> None:
    reader = VideoReader(videos[".mp4"], sampling, max_pixels=1)
    assert [frame.number for frame in reader.frames() if frame is not None] == [0]
    assert reader.unread() == "only its first frame was looked at"


def test_skipped_frames_are_none(videos: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a thread which reads can be stopped between frames."""
    monkeypatch.setattr(worker, "_TICK", worker.PATIENCE)  # no None for the time that passes
    chosen = [f is not None for f in VideoReader(videos[".avi"], Sampling(every=25)).frames()]
    assert chosen == ([True] + [False] * 24) * 2
    sampled = Sampling(frames=2)
    chosen = [f is not None for f in VideoReader(videos[".webm"], sampled).frames()]
    assert chosen[: 2 * FRAMES] == [False] * 2 * FRAMES  # while sizes are found, and frames counted
    assert np.flatnonzero(chosen[2 * FRAMES :]).tolist() == [12, 37]
    chosen = [f is not None for f in VideoReader(videos[".avi"], sampled).frames()]
    assert chosen == [False] * FRAMES + [True] * 2  # each frame is a keyframe


def test_variable_frame_rate(videos: dict[str, Path], tmp_path: Path) -> None:
    path = rewrap(
        videos[".webm"], tmp_path / "variable.webm", "VP80", lambda n: n if n < 20 else 4 * n - 60
    )
    frames, reader = read(path)
    assert [number_of(frame.image) for frame in frames] == list(range(FRAMES))
    expected = [n / 10 if n < 20 else (4 * n - 60) / 10 for n in range(FRAMES)]
    assert [frame.seconds for frame in frames] == pytest.approx(expected)
    assert reader.shortfall() is None  # although it is shorter than its length would have it
    frames, _ = read(path, Sampling(frames=5))
    assert [number_of(frame.image) for frame in frames] == [5, 15, 25, 35, 45]


@pytest.mark.parametrize("claim", [10**9, 2**32 - 1, 1])
def test_wrong_claims_of_length(claim: int, videos: dict[str, Path], tmp_path: Path) -> None:
    value = struct.pack("<I", claim)
    path = patched(
        videos[".avi"], tmp_path / "claims.avi", (b"avih", 24, value), (b"vids", 32, value)
    )
    for sampling, expected in (
        (ALL, list(range(FRAMES))),
        (Sampling(frames=4), [6, 18, 31, 43]),
        (Sampling(every=20), [0, 20, 40]),
    ):
        frames, reader = read(path, sampling)
        assert [number_of(frame.image) for frame in frames] == expected
        assert reader.rate == pytest.approx(
            10 * (len(expected) / FRAMES if sampling.frames else 1 / sampling.every)
        )
        if claim > FRAMES:
            assert reader.shortfall() == f"it claims {claim:,} frames; 50 could be read"
        else:
            assert reader.shortfall() is None


@pytest.mark.parametrize("rate", [0, 1, 10**6])
def test_implausible_frame_rates(rate: int, videos: dict[str, Path], tmp_path: Path) -> None:
    # Frames a second are a fraction: 20 and 24 bytes behind the kind of stream.
    change = (b"vids", 20, struct.pack("<II", 1, rate))
    frames, reader = read(patched(videos[".avi"], tmp_path / "rate.avi", change))
    assert [number_of(frame.image) for frame in frames] == list(range(FRAMES))
    seconds = [frame.seconds for frame in frames]
    assert seconds == sorted(seconds)
    assert all(math.isfinite(value) for value in seconds)
    assert 0 < reader.rate <= 240


@pytest.mark.parametrize("suffix", [".avi", ".webm", ".mkv", ".mpg"])
def test_truncated(suffix: str, videos: dict[str, Path], tmp_path: Path) -> None:
    content = videos[suffix].read_bytes()
    (tmp_path / f"cut{suffix}").write_bytes(content[: len(content) * 6 // 10])
    frames, reader = read(tmp_path / f"cut{suffix}")
    assert 5 < len(frames) < FRAMES
    numbers = [number_of(frame.image) for frame in frames]
    if suffix != ".mpg":  # whose last frame is made up, and which claims nothing
        assert numbers == list(range(len(frames)))
        assert reader.shortfall() == f"it claims 50 frames; {len(frames)} could be read"
    sampled, _ = read(tmp_path / f"cut{suffix}", Sampling(frames=3))
    total = len(frames)
    assert [f.number for f in sampled] == [(2 * part + 1) * total // 6 for part in range(3)]


def refused(path: Path, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as raised:
        read(path)
    assert str(raised.value).startswith(f"{path} ")


def test_truncated_before_its_index(videos: dict[str, Path], tmp_path: Path) -> None:
    content = videos[".mp4"].read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: content.index(b"moov") - 4])
    refused(tmp_path / "cut.mp4", "holds no video that can be decoded")


def test_without_frames(videos: dict[str, Path], tmp_path: Path) -> None:
    content = videos[".avi"].read_bytes()
    (tmp_path / "none.avi").write_bytes(content[: content.index(b"movi") + 4])
    refused(tmp_path / "none.avi", "holds no (frame|video) that can be decoded")
    path = write_video(tmp_path / "none.mkv", [], code="FFV1")
    if path.stat().st_size:
        refused(path, "holds no (frame|video) that can be decoded")


def test_unknown_codec(videos: dict[str, Path], tmp_path: Path) -> None:
    changes = (b"vidsMJPG", 4, b"ZZZZ"), (b"MJPG", 0, b"ZZZZ")  # in the header and the format
    refused(
        patched(videos[".avi"], tmp_path / "new.avi", *changes),
        "is compressed in a way that cannot be decoded here; export it again as MP4",
    )


def write_wav(path: Path) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(16_000))
    return path


def test_sound_alone(tmp_path: Path) -> None:
    refused(sound_avi(tmp_path / "sound.avi"), "holds no video that can be decoded .sound alone")
    refused(write_wav(tmp_path / "wav.avi"), "is not a video of a known format")


@pytest.mark.parametrize("name", ["list.avi", "list.mp4", "list.mkv"])
@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        "ffconcat version 1.0\nfile film.avi\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\n",
        "<?xml version='1.0'?><MPD></MPD>",
        "just a text",
    ],
)
def test_lists_of_other_files_never_reach_the_decoder(
    text: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(videos_module, "replies", lambda *_, **__: pytest.fail("it was opened"))
    (tmp_path / name).write_text(text)
    refused(tmp_path / name, "is not a video of a known format")


def write_pngs(path: Path, pngs: list[bytes], size: tuple[int, int]) -> Path:
    """A video whose frames are as given, whatever the container says."""
    film = cv2.VideoWriter(
        *(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MPNG"), 10.0, size),
        [cv2.VIDEOWRITER_PROP_RAW_VIDEO, 1],
    )
    for png in pngs:
        film.write(np.frombuffer(png, np.uint8)[None])
    film.release()
    return path


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("side", [12_000, 40_000, 2**31 - 1])
def test_huge_frames(side: int, tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    path = write_pngs(tmp_path / "huge.avi", [png_of_size(side, side)] * 3, (640, 480))
    refused(path, "is 12000x12000, over|holds no (frame|video) that can be decoded")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_000_000  # KiB


def test_frames_that_change_their_size(tmp_path: Path) -> None:
    """Every frame has the size of the first, which was checked."""
    pngs = [png(Image.new("RGB", size)) for size in ((40, 30), (40, 30), (20, 900), (900, 30))]
    frames, _ = read(write_pngs(tmp_path / "grows.avi", pngs, (40, 30)))
    assert [frame.image.size for frame in frames] == [(40, 30)] * 4


@pytest.mark.parametrize("size", [(33, 17), (1, 1), (2, 200), (150, 1)])
def test_odd_sizes(size: tuple[int, int], tmp_path: Path) -> None:
    pictures = [Image.new("RGB", size, (value, 0, 0)) for value in (50, 250)]
    frames, _ = read(write_pngs(tmp_path / "odd.avi", list(map(png, pictures)), size))
    assert [f.image.tobytes() for f in frames] == [picture.tobytes() for picture in pictures]


def test_turned_upright(videos: dict[str, Path], tmp_path: Path) -> None:
    marked = Image.new("RGB", FILM_SIZE)
    marked.paste((250, 250, 250), (0, 0, 20, 20))
    path = write_video(tmp_path / "film.mp4", [marked] * 3, code="mp4v")
    quarter = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, FILM_SIZE[1] << 16, 0, 1 << 30)
    frames, _ = read(patched(path, tmp_path / "turned.mp4", (b"tkhd", 44, quarter)))
    image = np.asarray(frames[0].image.convert("L"))
    assert image.shape == (FILM_SIZE[0], FILM_SIZE[1])
    assert image[:15, -15:].min() > 200  # a quarter to the right
    assert image[:15, :15].max() < 50


@pytest.mark.parametrize(
    "name",
    [
        *("%03d.avi", "a b 'c' \"d\".avi", "ü 顔.avi", "-rf.avi", "two\nlines.avi", ".avi.avi"),
        *("concat:a|b.avi", "http:x.avi", "\x1b[31m.avi", os.fsdecode(b"\xff.avi")),
        "x" * 251 + ".avi",
    ],
)
def test_names(name: str, videos: dict[str, Path], tmp_path: Path) -> None:
    frames, _ = read(copy(videos[".avi"], tmp_path / name))
    assert len(frames) == FRAMES


def test_names_relative_to_the_working_directory(
    videos: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy(videos[".avi"], tmp_path / "http:x.avi")
    monkeypatch.chdir(tmp_path)
    assert len(read(Path("http:x.avi"))[0]) == FRAMES


def test_missing_and_empty_files(tmp_path: Path) -> None:
    refused(tmp_path / "none.avi", "does not exist")
    (tmp_path / "empty.avi").touch()
    refused(tmp_path / "empty.avi", "is empty")
    os.mkfifo(tmp_path / "pipe.avi")
    refused(tmp_path / "pipe.avi", "is not a regular file")


@needs_shared
def test_the_clip() -> None:
    frames, reader = read(CLIP)
    assert len(frames) == 300
    assert {frame.image.size for frame in frames} == {(256, 256)}
    assert reader.shortfall() is None


@pytest.mark.parametrize("rate", [1.0, 12.5, 29.97, 60.0])
def test_films_are_read_again(rate: float, tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "film.mp4", FILM_SIZE, rate) as film:
        for picture in numbered(30):
            film.write(picture)
    frames, reader = read(tmp_path / "film.mp4")
    assert [number_of(frame.image) for frame in frames] == list(range(30))
    assert reader.rate == pytest.approx(rate, rel=1e-3)
    content = (tmp_path / "film.mp4").read_bytes()
    assert content[4:8] == b"ftyp"
    assert content.index(b"moov") < content.index(b"mdat")  # it starts before all of it is there
    assert b"avc1" in content


def test_slow_films_show_a_frame_a_second(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "film.mp4", FILM_SIZE, 1e-9) as film:
        for picture in numbered(3):
            film.write(picture)
    frames, reader = read(tmp_path / "film.mp4")
    assert (len(frames), reader.rate) == (3, 1.0)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((256, 256), (256, 256)),
        ((33, 17), (32, 16)),
        ((1, 1), (16, 16)),
        ((2560, 1440), (1280, 720)),
        ((1000, 4000), (320, 1280)),
        ((30_000, 20), (1280, 16)),
    ],
)
def test_films_of_any_size(
    size: tuple[int, int], expected: tuple[int, int], tmp_path: Path
) -> None:
    with VideoWriter(tmp_path / "film.mp4", size, 10.0) as film:
        for side in (size, (50, 50)):  # the second frame is of another size
            film.write(Image.new("RGB", side, (200, 30, 30)))
    frames, _ = read(tmp_path / "film.mp4")
    assert [frame.image.size for frame in frames] == [expected] * 2
    for frame in frames:
        assert np.abs(np.asarray(frame.image).astype(int) - (200, 30, 30)).max() < 20


def sounds(path: Path) -> list[Any]:
    """The packets of sound of a file."""
    with av.open(str(path)) as container:
        return [packet for packet in container.demux(audio=0) if packet.size]


@pytest.mark.parametrize(
    ("codec", "suffix", "written"),
    [
        *(("aac", ".mp4", "aac"), ("aac", ".ts", "aac"), ("pcm_s16le", ".mkv", "aac")),
        # FFmpeg's frames of these need no resampling, and have the times of the container.
        *(("libopus", ".mkv", "aac"), ("flac", ".mkv", "aac")),
        *(("ac3", ".mkv", "aac"), ("ac3", ".ts", "aac")),
    ],
)
def test_films_have_the_sound_of_the_video(
    codec: str, suffix: str, written: str, tmp_path: Path
) -> None:
    video = encode(
        *(tmp_path / f"video{suffix}", numbered(40)),
        before=lambda container: add_sound(container, 4, codec, 48_000),
    )
    original, _ = read(video)
    with VideoWriter(tmp_path / "film.mp4", FILM_SIZE, 10.0, video) as film:
        for frame in original[:20]:
            film.write(frame.image, frame.seconds)
    assert film.notes == []
    assert {path.name for path in tmp_path.iterdir()} == {video.name, "film.mp4"}
    frames, _ = read(tmp_path / "film.mp4")
    assert [number_of(frame.image) for frame in frames] == list(range(20))
    assert [f.seconds for f in frames] == pytest.approx(np.arange(20) / 10, abs=0.03)
    heard = sounds(tmp_path / "film.mp4")
    with av.open(str(tmp_path / "film.mp4")) as container:
        assert container.streams.audio[0].codec_context.name == written
        assert container.streams[0].type == "video"
    last = heard[-1]
    assert (last.pts + last.duration) * last.time_base == pytest.approx(2.0, abs=0.05)
    if codec == "aac" and suffix == ".mp4":  # as it was
        expected = [bytes(packet) for packet in sounds(video)]
        found = [bytes(packet) for packet in heard]
        start = expected.index(found[0])
        assert start <= 1
        assert found == expected[start : start + len(found)]
    content = (tmp_path / "film.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_films_show_frames_at_their_times(tmp_path: Path) -> None:
    times = [5.0, 5.1, 5.2, 7.0, 7.05, 9.5]
    with VideoWriter(tmp_path / "film.mp4", FILM_SIZE, 1.25) as film:
        for picture, time in zip(numbered(6), times, strict=True):
            film.write(picture, time)
    frames, _ = read(tmp_path / "film.mp4")
    assert [number_of(frame.image) for frame in frames] == list(range(6))
    assert [f.seconds for f in frames] == pytest.approx([t - 5 for t in times], abs=1e-4)


@pytest.mark.parametrize("seconds", [7 * 3600.0, 2e14])
def test_films_end_before_a_pause_that_mp4_cannot_hold(seconds: float, tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "film.mp4", FILM_SIZE, 10.0) as film:
        for number, picture in enumerate(numbered(9)):
            film.write(picture, number / 10 + (seconds if number >= 6 else 0))
    assert film.notes == ["the overlay ends at 0.5 s: what follows is over 6 hours later"]
    frames, _ = read(tmp_path / "film.mp4")
    assert [number_of(frame.image) for frame in frames] == list(range(6))


def test_films_end_before_a_frame_that_cannot_be_encoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing:
        """An encoder that takes no more frames."""

        def encode(self, frame: Any) -> list[Any]:
            raise FFmpegError(22, "Invalid argument")

    with VideoWriter(tmp_path / "film.mp4", FILM_SIZE, 10.0) as film:
        for number, picture in enumerate(numbered(9)):
            if number == 6:
                monkeypatch.setattr(film, "_stream", Refusing())
            film.write(picture, number / 10)
    note = "the overlay ends at 0.5 s: what follows cannot be encoded (Invalid argument)"
    assert film.notes == [note]
    with av.open(str(tmp_path / "film.mp4")):
        pass


def test_sparse_films_have_no_sound(tmp_path: Path) -> None:
    video = encode(
        tmp_path / "video.mkv", numbered(40), before=lambda container: add_sound(container, 4)
    )
    with VideoWriter(tmp_path / "film.mp4", FILM_SIZE, 0.5, video) as film:
        for number, picture in enumerate(numbered(3)):
            film.write(picture, 2.0 * number)
    frames, _ = read(tmp_path / "film.mp4")
    assert [frame.seconds for frame in frames] == [0, 1, 2]
    with av.open(str(tmp_path / "film.mp4")) as container:
        assert not container.streams.audio


def test_film_keeps_its_pictures_where_there_is_no_sound(tmp_path: Path) -> None:
    silent = encode(tmp_path / "silent.mp4", numbered(3))
    (tmp_path / "broken.mp4").write_bytes(silent.read_bytes()[:100])
    for video, notes in ((silent, 0), (tmp_path / "broken.mp4", 1)):
        with VideoWriter(tmp_path / "film.mp4", FILM_SIZE, 10.0, video) as film:
            for picture in numbered(3):
                film.write(picture)
        assert len(film.notes) == notes
        assert len(read(tmp_path / "film.mp4")[0]) == 3
        assert not (tmp_path / "film.sound.mp4").exists()


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "does not exist"), (b"other", "is not a video of a known")]
)
def test_film_of_a_video_that_is_gone_meanwhile(
    content: bytes | None, reason: str, tmp_path: Path
) -> None:
    video = encode(tmp_path / "gone.mkv", numbered(3))
    with VideoWriter(tmp_path / "film.mp4", FILM_SIZE, 10.0, video) as film:
        for frame in read(video)[0]:
            film.write(frame.image, frame.seconds)
        video.unlink()
        if content is not None:
            video.write_bytes(content)
    (note,) = film.notes
    assert note.startswith(f"the overlay has no sound: the video {reason}")
    assert len(read(tmp_path / "film.mp4")[0]) == 3


def test_work_on_sound_ends_when_it_is_not_wanted(tmp_path: Path) -> None:
    class LeftError(Exception):
        pass

    def check_wanted() -> None:
        raise LeftError

    video = encode(
        tmp_path / "video.mkv", numbered(3), before=lambda container: add_sound(container, 4)
    )
    film = VideoWriter(tmp_path / "film.mp4", FILM_SIZE, 10.0, video, check_wanted)
    with pytest.raises(LeftError), film:
        film.write(next(numbered(1)))
    assert {path.name for path in tmp_path.iterdir()} == {"video.mkv", "film.mp4"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_full_disk_while_sound_is_added(tmp_path: Path) -> None:
    """The video is not to blame, and with more room the film has its sound."""
    video = encode(
        tmp_path / "video.mkv", numbered(3), before=lambda container: add_sound(container, 4)
    )
    (tmp_path / "film.sound.mp4").symlink_to("/dev/full")
    film = VideoWriter(tmp_path / "film.mp4", FILM_SIZE, 10.0, video)
    with pytest.raises(InputError, match=r"film\.mp4 could not be written completely"), film:
        film.write(next(numbered(1)))
    assert film.notes == []
    assert {path.name for path in tmp_path.iterdir()} == {"video.mkv", "film.mp4"}


def test_film_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"film\.mp4 cannot be written"):
        VideoWriter(tmp_path / "missing" / "film.mp4", FILM_SIZE, 10.0)


FULL_DISK = """
import resource, sys
from pathlib import Path
import numpy as np
from PIL import Image
from flax_unet.utils.errors import InputError
from flax_unet.media.videos import VideoWriter
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
rng = np.random.default_rng(0)
try:
    with VideoWriter(Path(sys.argv[1]), (320, 240), 10.0) as film:
        for _ in range(20):
            film.write(Image.fromarray(rng.integers(0, 256, (240, 320, 3), np.uint8)))
except InputError as error:
    print(error)
"""


def test_full_disk_is_noticed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "film.mp4")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert ended.stdout == "film.mp4 could not be written completely; is the disk full?\n"


FUZZ = """
import resource, sys, time
from pathlib import Path
import numpy as np
from flax_unet.utils.errors import InputError
from flax_unet.media.videos import Sampling, VideoReader
resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
rng = np.random.default_rng(int(sys.argv[2]))
folder = Path(sys.argv[1])
whole = {file.suffix: file.read_bytes() for file in sorted(folder.glob("film.*"))}
end = time.monotonic() + float(sys.argv[3])
read = refused = 0
while time.monotonic() < end:
    suffix = str(rng.choice(list(whole)))
    content = bytearray(whole[suffix])
    kind = rng.integers(3)
    if kind == 0:  # noise behind a good beginning
        start = rng.integers(12, min(2000, len(content)))
        content[start:] = rng.bytes(len(content) - start)
    elif kind == 1:
        del content[rng.integers(12, len(content)):]
    reach = rng.choice([400, len(content)])  # in headers, or anywhere
    for at in rng.integers(12, max(reach, 13), rng.integers(50)):
        content[min(at, len(content) - 1)] = rng.integers(256)
    path = folder / f"fuzzed{suffix}"
    path.write_bytes(content)
    sampling = Sampling(frames=5) if rng.integers(2) else Sampling(every=3)
    try:
        reader = VideoReader(path, sampling)
        for frame in reader.frames():
            if frame is not None:
                assert 0 <= frame.seconds < float("inf"), frame
        assert 0 < reader.rate < 1000
        reader.expected(), reader.shortfall(), reader.notes()
        read += 1
    except InputError as error:
        assert str(error).startswith(f"{path} "), error
        refused += 1
print(read, refused)
"""


def test_damage_of_any_kind(videos: dict[str, Path], tmp_path: Path) -> None:
    for suffix, path in videos.items():
        copy(path, tmp_path / f"film{suffix}")
    encode(tmp_path / "film.ts", numbered(30), g="10")
    encode(tmp_path / "film.3gp", numbered(30), g="10")
    encode(tmp_path / "film.mp4", numbered(30), "libsvtav1", preset="12")
    hevc: dict[str, Any] = {"x265-params": "log-level=none:keyint=10"}
    encode(tmp_path / "film.m2ts", numbered(30), "libx265", **hevc)
    command = [sys.executable, "-c", FUZZ, str(tmp_path), "0", "2"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stderr) == (0, "")
    opened, turned_away = map(int, ended.stdout.split())
    assert opened > 5
    assert turned_away > 5
