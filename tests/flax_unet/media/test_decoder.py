"""Videos as people have them: every codec, container and oddity is read as a player shows it."""

import itertools
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.codec.context import Flags
from av.packet import PacketSideData, packet_sidedata_type_from_literal
from av.stream import Disposition
from PIL import Image

from flax_unet.media import decoder, worker
from flax_unet.media.videos import Sampling, VideoFrame, VideoReader, is_video
from flax_unet.utils.errors import InputError
from tests.flax_unet.samples import add_sound, encode, number_of, numbered

SIZE = (64, 64)
_NEW_EXTRADATA = packet_sidedata_type_from_literal("new_extradata")
ALL = Sampling()


def read(path: Path, sampling: Sampling = ALL) -> tuple[list[VideoFrame], VideoReader]:
    reader = VideoReader(path, sampling)
    return [frame for frame in reader.frames() if frame is not None], reader


KINDS = {
    "av1.mp4": ("libsvtav1", "yuv420p", {"preset": "12"}),
    "av1.mkv": ("libsvtav1", "yuv420p", {"preset": "12"}),
    "vp9.webm": ("libvpx-vp9", "yuv420p", {"deadline": "realtime", "cpu-used": "8"}),
    "hevc.mov": ("libx265", "yuv420p10le", {"x265-params": "log-level=none"}),
    "hevc.ts": ("libx265", "yuv420p", {"x265-params": "log-level=none"}),
    "prores.mov": ("prores_ks", "yuv422p10le", {}),
    "camera.mts": ("libx264", "yuv420p", {}),
    "camera.m2ts": ("libx264", "yuv420p", {"mpegts_m2ts_mode": "1"}),
    "h264.mp4": ("libx264", "yuv420p", {"g": "7"}),
    "h264.flv": ("libx264", "yuv420p", {}),
    "h264.3gp": ("libx264", "yuv420p", {}),
    "intra.mxf": ("mpeg2video", "yuv420p", {}),
    "divx.avi": ("mpeg4", "yuv420p", {"bf": "2"}),
    "lossless.mkv": ("ffv1", "gray", {}),
}


def key_numbers(path: Path) -> list[int]:
    """The numbers of the keyframes, by decoding everything."""
    with av.open(str(path)) as container:
        frames = enumerate(container.decode(video=0))
        return [number for number, frame in frames if frame.key_frame]


@pytest.mark.parametrize("name", KINDS)
def test_every_codec(name: str, tmp_path: Path) -> None:
    codec, pix_fmt, options = KINDS[name]
    rate = 25 if name.endswith(".mxf") else 10  # which has no 10
    path = encode(tmp_path / name, numbered(30, SIZE), codec, pix_fmt, rate=rate, **options)
    assert is_video(path)
    frames, reader = read(path)
    assert [number_of(frame.image) for frame in frames] == list(range(30))
    assert [frame.number for frame in frames] == list(range(30))
    seconds = np.arange(30) / rate
    assert [frame.seconds for frame in frames] == pytest.approx(seconds, abs=2e-3)
    assert (reader.notes(), reader.shortfall()) == ([], None)
    sampled, reader = read(path, Sampling(frames=4))
    assert [number_of(frame.image) for frame in sampled] == [3, 11, 18, 26]
    assert [frame.number for frame in sampled] == [3, 11, 18, 26]
    assert [f.seconds for f in sampled] == [frames[f.number].seconds for f in sampled]
    assert reader.rate == pytest.approx(rate * 4 / 30, rel=1e-3)
    taken, reader = read(path, Sampling(keyframes=True))
    expected = key_numbers(path)
    assert [frame.number for frame in taken] == expected
    for frame in taken:
        assert frame.seconds == frames[frame.number].seconds
        assert frame.image.tobytes() == frames[frame.number].image.tobytes()
    assert (reader.notes(), reader.shortfall()) == ([], None)
    assert reader.rate == pytest.approx(rate * len(expected) / 30, rel=1e-3)


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv", "film.ts", "film.avi"])
@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_sought_frames_are_those_of_decoding_everything(
    name: str, codec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_TICK", worker.PATIENCE)  # no None for the time that passes
    noise = np.random.default_rng(0).integers(0, 256, (100, 48, 64, 3), np.uint8)
    noise[::2] = noise[1::2]  # so that there is something to predict from
    count, length = 100, 12
    of_codec: dict[str, Any] = {"g": str(length), "bf": "2", "flags": "-cgop"}
    of_codec["x264-params"] = "open-gop=1:scenecut=0"
    path = encode(
        *(tmp_path / name, map(Image.fromarray, noise), codec),
        rate=25,
        **of_codec,
    )
    whole, _ = read(path)
    assert len(whole) == count
    keyframes, _ = read(path, Sampling(keyframes=True))
    assert [frame.number for frame in keyframes] == key_numbers(path)
    assert len(keyframes) > 5
    assert all(frame == whole[frame.number] for frame in keyframes)
    for frames in (1, 2, 5, 33, 100):
        replies = list(VideoReader(path, Sampling(frames=frames)).frames())
        sampled = [frame for frame in replies if frame is not None]
        numbers = [(2 * part + 1) * count // (2 * frames) for part in range(frames)]
        assert [frame.number for frame in sampled] == numbers
        for frame in sampled:
            assert frame.seconds == whole[frame.number].seconds
            assert frame.image.tobytes() == whole[frame.number].image.tobytes()
        if frames == 1 and name != "film.avi":
            assert len(replies) <= count + 2 * length  # counted without decoding, then one group


@pytest.mark.parametrize(
    ("length", "count", "expected", "apart"),
    [
        (12, 5, [5, 27, 49, 65, 87], 2.2),  # halfway from the keyframes to 10, 30, 50, 70, 90
        (1000, 5, [2, 7, 11, 16, 21], 7.8),  # there is one keyframe
        (1, 50, [(2 * part + 1) * 100 // 44 for part in range(22)], 0.5),
        (12, 2, [25, 75], None),  # 2 + 4 frames are decoded
    ],
)
def test_so_many_frames_are_decoded_of_the_whole_video(
    length: int,
    count: int,
    expected: list[int],
    apart: float | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """22 at most: from each keyframe on, the same share of those that would be needed."""
    monkeypatch.setattr(worker, "_TICK", worker.PATIENCE)  # no None for the time that passes
    path = encode(
        tmp_path / "film.mp4", numbered(100, SIZE), g=str(length), bf="0", sc_threshold="0"
    )
    reader = VideoReader(path, Sampling(frames=count), max_pixels=22 * 2**16)
    steps = list(reader.frames())
    frames = [frame for frame in steps if frame is not None]
    assert [frame.number for frame in frames] == expected
    assert [number_of(frame.image) for frame in frames] == expected
    assert len(steps) - 100 <= 22  # 100 packets are counted
    note = "it takes long to decode: the frames that were judged are unevenly spaced, up to"
    assert reader.notes() == ([] if apart is None else [f"{note} {apart} s apart"])
    assert reader.unread() is None
    assert reader.shortfall() is None
    assert reader.expected() == len(expected)


@pytest.mark.parametrize(("name", "share"), [("tv.mpg", 1), ("dvd.vob", 1), ("cut.mxf", 0.7)])
def test_sought_frames_where_times_after_seeking_are_wrong(
    name: str, share: float, tmp_path: Path
) -> None:
    """As within a packet of a program stream, and in MXF without its index."""
    path = encode(
        *(tmp_path / name, noisy(100), "mpeg2video"), rate=25, b="2000000", g="10", bf="2"
    )
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    whole, _ = read(path)
    assert len(whole) >= 60
    for count in (1, 3, 7, 16):
        sampled, _ = read(path, Sampling(frames=count))
        numbers = [(2 * part + 1) * len(whole) // (2 * count) for part in range(count)]
        assert [frame.number for frame in sampled] == numbers
        for frame in sampled:
            assert frame.seconds == whole[frame.number].seconds
            assert frame.image.tobytes() == whole[frame.number].image.tobytes()


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize(
    "params", ["open-gop=1:bframes=3:keyint=20:scenecut=0", "intra-refresh=1:keyint=20"]
)
def test_keyframes_among_pictures_that_need_others(
    params: str, suffix: str, tmp_path: Path
) -> None:
    """Broadcasts refer across keyframes, or refresh pictures in strips without any."""
    of_codec: dict[str, Any] = {"x264-params": params}
    path = encode(tmp_path / f"film.{suffix}", numbered(90, (320, 240)), **of_codec)
    whole, _ = read(path)
    taken, reader = read(path, Sampling(keyframes=True))
    assert [frame.number for frame in taken] == key_numbers(path)
    assert all(frame == whole[frame.number] for frame in taken)
    assert (reader.notes(), reader.shortfall()) == ([], None)


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [("screen.mov", "qtrle", "rgb24"), ("old.avi", "msvideo1", "rgb555le")],
)
def test_keyframes_that_only_the_container_marks(
    name: str, codec: str, pix_fmt: str, tmp_path: Path
) -> None:
    path = encode(tmp_path / name, numbered(40), codec, pix_fmt)
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    expected = [number for number, packet in enumerate(packets) if packet.is_keyframe]
    assert 1 < len(expected) < 40
    taken, reader = read(path, Sampling(keyframes=True))
    assert [frame.number for frame in taken] == expected
    assert [number_of(frame.image) for frame in taken] == expected
    assert reader.notes() == []


def test_first_frame_where_no_keyframe_is_marked(tmp_path: Path) -> None:
    """As in a cut of a broadcast that refreshes its pictures bit by bit."""
    of_codec: dict[str, Any] = {"x264-params": "intra-refresh=1:keyint=20:bframes=0"}
    path = encode(tmp_path / "whole.ts", numbered(40, (320, 240)), **of_codec)
    cut = tmp_path / "cut.ts"
    with av.open(str(path)) as source, av.open(str(cut), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux()):
            if packet.size and number >= 5:
                packet.stream = stream
                target.mux(packet)
    whole, _ = read(cut)
    assert len(whole) > 1
    taken, reader = read(cut, Sampling(keyframes=True))
    assert taken == whole[:1]
    assert "no frame is marked as a keyframe; the first one was judged" in reader.notes()


def test_variable_rate(tmp_path: Path) -> None:
    times = [0, 1, 2, 10, 11, 30, 31, 32, 90, 100]
    path = encode(tmp_path / "phone.mp4", numbered(10), times=times)
    for sampling, numbers in ((ALL, list(range(10))), (Sampling(frames=5), [1, 3, 5, 7, 9])):
        frames, reader = read(path, sampling)
        assert [number_of(frame.image) for frame in frames] == numbers
        expected = [times[number] / 10 for number in numbers]
        assert [frame.seconds for frame in frames] == pytest.approx(expected, abs=1e-3)
        assert reader.shortfall() is None


@pytest.mark.parametrize("jump", [10**8, 2 * 10**15])  # 115 days; more than a film can count
@pytest.mark.parametrize("has_sound", [False, True])
def test_implausible_times(jump: int, has_sound: bool, tmp_path: Path) -> None:
    times = [*range(10), *range(jump, jump + 10)]
    path = encode(
        *(tmp_path / "damaged.mkv", numbered(20)),
        times=times,
        before=lambda container: add_sound(container, 2) if has_sound else [],
    )
    for sampling in (ALL, Sampling(frames=5), Sampling(keyframes=True)):
        frames, reader = read(path, sampling)
        assert [number_of(frame.image) for frame in frames] == [frame.number for frame in frames]
        expected = [frame.number / 10 for frame in frames]
        assert [frame.seconds for frame in frames] == pytest.approx(expected, abs=2e-3)
        note = "10 frames with implausible times; each follows the one before"
        assert (reader.notes(), reader.shortfall()) == ([note], None)


def test_long_sound_without_a_picture(tmp_path: Path) -> None:
    times = [600 + number for number in range(20)]
    path = encode(
        *(tmp_path / "late.mkv", numbered(20)),
        times=times,
        before=lambda container: add_sound(container, 70),
    )
    for sampling, numbers in ((ALL, list(range(20))), (Sampling(frames=2), [5, 15])):
        frames, reader = read(path, sampling)
        assert [number_of(frame.image) for frame in frames] == numbers
        assert [f.seconds for f in frames] == pytest.approx([60 + n / 10 for n in numbers])
        assert reader.shortfall() is None  # although the sound goes on


@pytest.mark.parametrize(
    ("name", "codec"), [("part.mkv", "libx264"), ("part.webm", "libvpx"), ("part.mp4", "libx264")]
)
def test_times_that_start_at_an_hour(name: str, codec: str, tmp_path: Path) -> None:
    times = range(36_000, 36_050)
    path = encode(tmp_path / name, noisy(50), codec, times=times)
    for sampling in (ALL, Sampling(frames=5)):
        frames, reader = read(path, sampling)
        assert [number_of(frame.image) for frame in frames] == [frame.number for frame in frames]
        assert [f.seconds for f in frames] == pytest.approx([f.number / 10 for f in frames])
        assert reader.expected() == len(frames)
        assert reader.shortfall() is None
    if name != "part.mp4":  # which ends with its index
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        frames, reader = read(path)
        assert 10 < len(frames) < 40
        assert reader.shortfall() == f"it claims 50 frames; {len(frames)} could be read"


@pytest.mark.parametrize("is_flagged", [True, False])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_cover_art_is_not_the_video(suffix: str, is_flagged: bool, tmp_path: Path) -> None:
    def add_cover(container: Any) -> list[Any]:
        stream = container.add_stream("mjpeg", 1)
        stream.width, stream.height, stream.pix_fmt = 640, 640, "yuvj420p"
        if is_flagged:
            stream.disposition = Disposition.attached_pic
        cover = av.VideoFrame.from_image(Image.new("RGB", (640, 640), "red"))
        cover.pts = 0
        return stream.encode(cover) + stream.encode()

    path = encode(tmp_path / f"song{suffix}", numbered(10), before=add_cover)
    frames, reader = read(path)
    assert [number_of(frame.image) for frame in frames] == list(range(10))
    assert reader.notes() == ["its cover picture was left out"]


@pytest.mark.parametrize("suffix", [".mov", ".mkv", ".avi"])
def test_motion_jpeg_beside_a_preview_is_the_video(suffix: str, tmp_path: Path) -> None:
    def add_preview(container: Any) -> list[Any]:
        stream = container.add_stream("libx264", 10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        packets = []
        for number in range(10):
            frame = av.VideoFrame(32, 32, "yuv420p")
            frame.pts = number
            packets += stream.encode(frame)
        return packets + stream.encode()

    def prepare(stream: Any) -> None:
        stream.disposition = Disposition.default

    path = encode(
        *(tmp_path / f"camera{suffix}", numbered(10), "mjpeg", "yuvj420p"),
        before=add_preview,
        prepare=prepare,
    )
    frames, reader = read(path)
    assert [number_of(frame.image) for frame in frames] == list(range(10))
    assert reader.notes() == ["it holds 2 videos; one of 64x48 was judged"]


class Demuxed:
    """A container that counts the packets that are read."""

    def __init__(self, container: Any) -> None:
        self.container, self.packets = container, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.container, name)

    def __enter__(self) -> "Demuxed":
        return self

    def __exit__(self, *_: object) -> None:
        self.container.close()

    def demux(self) -> Iterator[av.Packet]:
        for packet in self.container.demux():
            self.packets += 1
            yield packet


def test_few_packets_show_that_motion_jpeg_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its packets are large, and on slow storage nothing is heard while they are read."""

    def add_still(container: Any) -> list[Any]:
        stream = container.add_stream("mpeg4", 10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        return stream.encode(av.VideoFrame(32, 32, "yuv420p")) + stream.encode()

    path = encode(tmp_path / "camera.mov", numbered(100), "mjpeg", "yuvj420p", before=add_still)
    opened, containers = decoder.opened, []

    def counting(path: str, form: str) -> Any:
        containers.append(Demuxed(opened(path, form)))
        return containers[-1]

    monkeypatch.setattr(decoder, "opened", counting)
    next(decoder.read(str(path), "mov", 1, None, None))
    assert 2 <= sum(container.packets for container in containers) <= 4


def test_the_largest_of_several_videos(tmp_path: Path) -> None:
    def add_small(container: Any) -> list[Any]:
        stream = container.add_stream("mpeg4", 10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        return stream.encode(av.VideoFrame(32, 32, "yuv420p")) + stream.encode()

    def prepare(stream: Any) -> None:
        stream.disposition = Disposition.default

    path = encode(tmp_path / "two.mp4", numbered(5), before=add_small, prepare=prepare)
    frames, reader = read(path)
    assert [number_of(frame.image) for frame in frames] == list(range(5))
    assert reader.notes() == ["it holds 2 videos; one of 64x48 was judged"]


def corners(image: Image.Image) -> str:
    """The colours of the corners, clockwise from the upper left."""
    array = np.asarray(image).astype(int)
    inner = (array[4, 4], array[4, -5], array[-5, -5], array[-5, 4])
    names = {(1, 0, 0): "R", (0, 1, 0): "G", (0, 0, 1): "B", (1, 1, 1): "W"}
    return "".join(names[tuple((corner > 128).astype(int).tolist())] for corner in inner)


def marked(size: tuple[int, int] = (64, 32)) -> Image.Image:
    image = Image.new("RGB", size)
    width, height = size[0] // 2, size[1] // 2
    colours = {"red": (0, 0), "lime": (width, 0), "white": (width, height), "blue": (0, height)}
    for colour, corner in colours.items():
        image.paste(colour, (*corner, corner[0] + width, corner[1] + height))
    return image


@pytest.mark.parametrize(
    ("degrees", "hflip", "expected", "size"),
    [
        (0, False, "RGWB", (64, 32)),
        (90, False, "GWBR", (32, 64)),  # counterclockwise
        (180, False, "WBRG", (64, 32)),
        (-90, False, "BRGW", (32, 64)),
        (0, True, "GRBW", (64, 32)),
    ],
)
def test_turned_and_mirrored(
    degrees: int, hflip: bool, expected: str, size: tuple[int, int], tmp_path: Path
) -> None:
    path = encode(
        *(tmp_path / "phone.mp4", [marked()] * 3),
        prepare=lambda stream: stream.set_display_rotation(degrees, hflip=hflip),
    )
    frames, _ = read(path)
    assert [corners(frame.image) for frame in frames] == [expected] * 3
    assert {frame.image.size for frame in frames} == {size}


@pytest.mark.parametrize(("ratio", "width"), [((4, 3), 128), ((8, 9), 85), ((12, 11), 105)])
def test_pixels_that_are_not_square(ratio: tuple[int, int], width: int, tmp_path: Path) -> None:
    def prepare(stream: Any) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(*ratio)

    frames, reader = read(encode(tmp_path / "tv.mp4", [marked((96, 64))] * 2, prepare=prepare))
    assert {frame.image.size for frame in frames} == {(width, 64)}
    assert corners(frames[0].image) == "RGWB"
    text = f"its pixels are not square; frames were stretched to {width}x64"
    assert reader.notes() == [text]


@pytest.mark.parametrize("suffix", [".ts", ".mkv", ".mp4"])
def test_cut_without_its_first_keyframe(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"cut{suffix}"
    whole = encode(tmp_path / "whole.mp4", numbered(40), g="10", bf="0", sc_threshold="0")
    with av.open(str(whole)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux()):
            if packet.size and number >= 4:
                packet.stream = stream
                target.mux(packet)
    for sampling, numbers in ((ALL, list(range(10, 40))), (Sampling(frames=3), [15, 25, 35])):
        frames, reader = read(path, sampling)
        assert [number_of(frame.image) for frame in frames] == numbers
        assert [frame.number + 10 for frame in frames] == numbers
        (note,) = reader.notes()
        assert note == "it starts without a keyframe: its first 6 frames were left out"
        assert reader.shortfall() is None


def test_stream_cut_within_a_packet(tmp_path: Path) -> None:
    content = encode(tmp_path / "tv.ts", numbered(40), g="10").read_bytes()
    path = tmp_path / "cut.ts"
    path.write_bytes(content[len(content) // 2 + 77 :])
    frames, _ = read(path)
    numbers = [number_of(frame.image) for frame in frames]
    assert numbers == list(range(numbers[0], 40))
    assert len(numbers) >= 10


def noisy(count: int) -> Iterator[Image.Image]:
    """Pictures that show their number below noise, which makes large packets."""
    rng = np.random.default_rng(0)
    for picture in numbered(count, (64, 96)):
        picture.paste(Image.fromarray(rng.integers(0, 256, (32, 64, 3), np.uint8)))
        yield picture


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("film.avi", "rawvideo", "yuv420p"),
        ("film.avi", "mjpeg", "yuvj420p"),
        ("film.avi", "libx264", "yuv420p"),
        ("film.wmv", "wmv2", "yuv420p"),
    ],
)
def test_cut_short_where_ffmpeg_shortens_the_length(
    name: str, codec: str, pix_fmt: str, tmp_path: Path
) -> None:
    path = encode(tmp_path / name, noisy(60), codec, pix_fmt, bf="0")
    whole, reader = read(path)
    assert (len(whole), reader.shortfall()) == (60, None)
    content = path.read_bytes()
    for share in (0.5, 0.8):
        path.write_bytes(content[: int(share * len(content))])
        frames, reader = read(path)
        # The last packet is not whole.
        assert [number_of(frame.image) for frame in frames[:-1]] == list(range(len(frames) - 1))
        assert 20 < len(frames) < 55
        assert reader.shortfall() == f"it claims 60 frames; {len(frames)} could be read"
        _, sampled = read(path, Sampling(frames=4))
        assert str(sampled.shortfall()).startswith("it claims 60 frames; ")


def test_avi_without_its_index_is_whole(tmp_path: Path) -> None:
    path = encode(tmp_path / "film.avi", numbered(60), "mjpeg", "yuvj420p")
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(b"idx1")])
    frames, reader = read(path)
    assert [number_of(frame.image) for frame in frames] == list(range(60))
    assert (reader.notes(), reader.shortfall()) == ([], None)


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv", "film.ts"])
def test_broken_stretch_is_passed_over(name: str, tmp_path: Path) -> None:
    path = encode(tmp_path / name, noisy(60), g="10", bf="0", sc_threshold="0")
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    for packet in packets[22:27]:
        assert packet.pos is not None
        begin = packet.pos + 40  # behind the container's words
        length = packet.size - 40 if not name.endswith(".ts") else 188
        content[begin : begin + length] = np.random.default_rng(0).bytes(length)
    path.write_bytes(content)
    frames, reader = read(path)
    numbers = [number_of(frame.image) for frame in frames]
    assert numbers[:20] == list(range(20))
    assert numbers[-30:] == list(range(30, 60))
    (note,) = reader.notes()
    assert note.endswith("passed over; those that follow may be damaged")
    assert 1 <= int(note.split()[0]) <= 10
    assert reader.shortfall() is None
    sampled, _ = read(path, Sampling(frames=10))
    assert len(sampled) == 10


def flat(
    colour: Sequence[float] | np.ndarray, matrix: int, is_full: bool, depth: int = 8, **tags: int
) -> av.VideoFrame:
    """A frame of one colour, (red, green, blue) in [0, 1], by the formulas of the standards."""
    red, blue = {1: (0.2126, 0.0722), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}[matrix]
    luma = red * colour[0] + (1 - red - blue) * colour[1] + blue * colour[2]
    chroma = (colour[2] - luma) / (2 - 2 * blue), (colour[0] - luma) / (2 - 2 * red)
    step = 2 ** (depth - 8)
    scale, offset, wide = (255, 0, 255) if is_full else (219, 16, 224)
    values = [step * (offset + scale * luma), *(step * (128 + wide * c) for c in chroma)]
    frame = av.VideoFrame(*SIZE, "yuv444p" if depth == 8 else "yuv444p10le")
    kind = np.uint8 if depth == 8 else np.uint16
    for plane, value in zip(frame.planes, values, strict=True):
        plane.update(np.full(plane.buffer_size // kind().itemsize, round(value), kind).tobytes())
    frame.colorspace, frame.color_range = matrix, 2 if is_full else 1
    return frame


@pytest.mark.parametrize("matrix", [1, 6, 9])
@pytest.mark.parametrize("is_full", [True, False])
def test_matrix_and_range_of_colours(matrix: int, is_full: bool, tmp_path: Path) -> None:
    colours = [(0.9, 0.2, 0.1), (0.1, 0.8, 0.2), (0.2, 0.3, 0.9), (1, 1, 1), (0, 0, 0)]

    def prepare(stream: Any) -> None:
        stream.codec_context.colorspace = matrix
        stream.codec_context.color_range = 2 if is_full else 1

    pictures = [flat(colour, matrix, is_full) for colour in colours]
    frames, _ = read(encode(tmp_path / "x.mp4", pictures, "libx264", "yuv444p", prepare=prepare))
    for frame, colour in zip(frames, colours, strict=True):
        found = np.asarray(frame.image)[32, 32] / 255
        assert np.abs(found - colour).max() < 0.02


def pq(nits: np.ndarray) -> np.ndarray:
    """SMPTE ST 2084."""
    power = (nits / 10_000) ** (2610 / 16384)
    return ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)


def test_hdr_is_mapped_to_sdr(tmp_path: Path) -> None:
    """Colours up to a paper's white, which is at 203 nits, look as they do in SDR."""
    to_2020 = np.array(
        [[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.088, 0.8956]]
    )
    colours = np.array([(0.8, 0.6, 0.5), (0.5, 0.5, 0.5), (0.9, 0.9, 0.9), (0.7, 0.2, 0.2)])
    linear = np.where(colours > 0.04045, ((colours + 0.055) / 1.055) ** 2.4, colours / 12.92)

    def prepare(stream: Any) -> None:
        context = stream.codec_context
        context.colorspace, context.color_range = 9, 1
        context.color_trc, context.color_primaries = 16, 9

    pictures = [flat(pq(203 * to_2020 @ one), 9, False, depth=10) for one in linear]
    path = encode(tmp_path / "hdr.mkv", pictures, "ffv1", "yuv444p10le", prepare=prepare)
    frames, reader = read(path)
    for frame, colour in zip(frames, colours, strict=True):
        assert np.abs(np.asarray(frame.image)[32, 32] / 255 - colour).max() < 0.06
    assert reader.notes() == ["its colours are HDR (PQ); they were mapped to SDR"]


def test_transparency_is_laid_on_grey(tmp_path: Path) -> None:
    picture = Image.new("RGBA", SIZE, (250, 10, 10, 0))
    picture.paste((10, 250, 10, 255), (0, 0, 32, 64))
    frame = av.VideoFrame.from_ndarray(np.asarray(picture), "rgba")
    frames, reader = read(encode(tmp_path / "logo.mov", [frame], "qtrle", "argb"))
    assert frames[0].image.getpixel((10, 10)) == (10, 250, 10)
    assert frames[0].image.getpixel((50, 10)) == (128, 128, 128)
    assert reader.notes() == ["it is transparent in places; these were laid on grey"]


def half_transparent(count: int) -> list[av.VideoFrame]:
    picture = Image.new("RGBA", SIZE, (250, 10, 10, 0))
    picture.paste((10, 250, 10, 255), (0, 0, 32, 64))
    array = np.asarray(picture)
    return [
        av.VideoFrame.from_ndarray(array, "rgba").reformat(format="yuva420p") for _ in range(count)
    ]


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
def test_transparency_of_webm(codec: str, tmp_path: Path) -> None:
    of_codec: dict[str, Any] = {"auto-alt-ref": "0", "deadline": "realtime", "g": "5"}
    path = encode(tmp_path / "logo.webm", half_transparent(20), codec, "yuva420p", **of_codec)
    for sampling in (ALL, Sampling(frames=3), Sampling(keyframes=True)):
        frames, reader = read(path, sampling)
        assert len(frames) == {ALL: 20, Sampling(frames=3): 3}.get(sampling, 4)
        for frame in frames:
            pixels = np.asarray(frame.image).astype(int)
            assert np.abs(pixels[10, 10] - (10, 250, 10)).max() < 12
            assert np.abs(pixels[10, 50] - 128).max() <= 1
        assert reader.notes() == ["it is transparent in places; these were laid on grey"]


def test_transparency_that_no_decoder_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder, "_WITH_ALPHA", {"vp8": "missing"})
    of_codec: dict[str, Any] = {"auto-alt-ref": "0"}
    path = encode(tmp_path / "logo.webm", half_transparent(3), "libvpx", "yuva420p", **of_codec)
    *_, end = filter(None, decoder.read(str(path), "matroska", 1, None, None))
    assert end.values["notes"] == ["its transparency cannot be read; what it hides was judged, too"]


def join(
    path: Path,
    codec: str,
    *parts: tuple[tuple[int, int], int, int],
    headers: int = 0,
    **options: str,
) -> Path:
    """A video of frames that show their number, in parts: size, width of a pixel, last frame.

    In so many of the first parts, the container has the codec's parameters, and packets do not.
    """
    time = 0
    with av.open(str(path), "w") as container:
        stream: Any = None
        for part, ((width, height), pixel_aspect, end) in enumerate(parts):
            header = b""
            encoder: Any = av.CodecContext.create(codec, "w")
            encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
            encoder.time_base, encoder.framerate = Fraction(1, 10), Fraction(10)
            encoder.sample_aspect_ratio = Fraction(pixel_aspect)
            encoder.options = options
            if part < headers:
                encoder.flags |= Flags.global_header
                encoder.open()
                header = encoder.extradata if part else b""  # the first is the stream's
            if stream is None:
                stream = container.add_stream(codec, 10, options)
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for picture in [*list(numbered(end, (width, height)))[time:], None]:
                frame: Any = None
                if picture is not None:
                    frame = av.VideoFrame.from_image(picture).reformat(format="yuv420p")
                    frame.pts, frame.time_base = time, Fraction(1, 10)
                    time += 1
                for packet in encoder.encode(frame):
                    packet.stream, packet.time_base = stream, Fraction(1, 10)
                    if header:
                        kind: Any = PacketSideData  # its stub has no arguments
                        change = kind(_NEW_EXTRADATA, len(header))
                        change.update(header)
                        packet.set_sidedata(change)
                        header = b""
                    container.mux(packet)
    return path


H264 = {"bf": "0", "g": "10"}
HEADER, USUAL = {**H264, "headers": 1}, {**H264, "headers": 2}
GROWS = (((40, 30), 1, 3), ((160, 120), 1, 40))


@pytest.mark.parametrize(
    ("name", "codec", "parts", "size", "options"),
    [
        ("call.webm", "libvpx", GROWS, (160, 120), {"deadline": "realtime"}),
        ("call.mkv", "libvpx-vp9", GROWS, (160, 120), {"deadline": "realtime"}),
        ("live.flv", "libx264", GROWS, (160, 120), H264),
        ("live.ts", "libx264", GROWS, (160, 120), H264),
        ("ends.ts", "libx264", (((160, 120), 1, 30), ((40, 30), 1, 40)), (160, 120), H264),
        ("wide.ts", "libx264", (((128, 96), 1, 10), ((256, 96), 1, 40)), (256, 96), H264),
        ("turned.ts", "libx264", (((96, 64), 1, 20), ((64, 96), 1, 40)), (96, 96), H264),
        ("shape.ts", "libx264", (((128, 96), 1, 10), ((128, 96), 2, 40)), (256, 96), H264),
        ("usual.flv", "libx264", GROWS, (160, 120), USUAL),
        ("sought.flv", "libx264", (((64, 48), 1, 20), ((64, 80), 1, 40)), (64, 80), USUAL),
        ("header.mkv", "libx264", (((160, 120), 1, 9), ((40, 30), 1, 40)), (160, 120), HEADER),
    ],
)
def test_size_or_shape_of_pixels_changes(
    name: str, codec: str, parts: Any, size: tuple[int, int], options: Any, tmp_path: Path
) -> None:
    """Frames are never made smaller or squashed, whichever are chosen."""
    path = join(tmp_path / name, codec, *parts, **options)
    whole, reader = read(path)
    assert len(whole) == 40
    text = f"its frames differ in size; they were fitted into {size[0]}x{size[1]}"
    assert reader.notes()[-1] == text
    begin = 0
    for (width, height), pixel_aspect, end in parts:
        scale = min(size[0] / (width * pixel_aspect), size[1] / height)
        shown = round(scale * width * pixel_aspect), round(scale * height)
        left, top = (size[0] - shown[0]) // 2, (size[1] - shown[1]) // 2
        for frame in whole[begin:end]:
            assert frame.image.size == size
            inner = frame.image.crop((left, top, left + shown[0], top + shown[1]))
            assert number_of(inner) == frame.number
            bars = np.array(frame.image)
            bars[top : top + shown[1], left : left + shown[0]] = 0
            assert not bars.any()
        begin = end
    for sampling in (Sampling(frames=2), Sampling(frames=7), Sampling(every=9)):
        sampled, reader_of_some = read(path, sampling)
        assert reader_of_some.notes() == reader.notes()
        for frame in sampled:
            assert frame.image.tobytes() == whole[frame.number].image.tobytes()


def test_pixels_to_decode_are_counted_at_the_largest_size(tmp_path: Path) -> None:
    parts = (((64, 48), 1, 3), ((512, 384), 1, 20))
    path = join(tmp_path / "call.webm", "libvpx", *parts, deadline="realtime")
    reader = VideoReader(path, ALL, max_pixels=10 * 512 * 384)
    assert len([frame for frame in reader.frames() if frame is not None]) == 10
    assert reader.unread() == "only its first 10 frames were looked at"


@pytest.mark.parametrize(("name", "form"), [("film.mkv", "matroska"), ("film.ts", "mpegts")])
def test_each_packet_that_is_looked_at_is_progress(name: str, form: str, tmp_path: Path) -> None:
    """On slow storage, even the packets of a second of video can take long."""
    path = encode(
        *(tmp_path / name, numbered(40)),
        before=lambda container: add_sound(container, 4, "mp2", 16000),
    )
    with av.open(str(path)) as container:
        packets = sum(packet.size > 0 for packet in container.demux())
    assert packets > 80  # of sound, too
    replies = decoder.read(str(path), form, 1, None, None)
    before = list(itertools.takewhile(lambda reply: reply is None, replies))
    assert len(before) >= packets


def test_interlaced_pictures_have_no_combs(tmp_path: Path) -> None:
    lines = np.zeros((48, 64, 3), np.uint8)
    lines[1::2] = 200  # what moved between the fields
    path = encode(
        *(tmp_path / "tape.mpg", [Image.fromarray(lines)] * 20, "mpeg2video"),
        rate=25,
        flags="+ildct+ilme",
        prepare=lambda stream: stream.codec_context.open(strict=False),
    )
    note = "it is interlaced; every second line was interpolated"
    frames, reader = read(path)
    assert reader.notes() == [note]
    assert np.asarray(frames[1].image).std() < 10
    larger = numbered(3, (128, 96))
    later = encode(tmp_path / "later.mpg", larger, "mpeg2video", rate=25, times=range(20, 23))
    (tmp_path / "joined.mpg").write_bytes(path.read_bytes() + later.read_bytes())
    frames, reader = read(tmp_path / "joined.mpg")
    assert reader.notes() == ["its frames differ in size; they were fitted into 128x96", note]
    assert {frame.image.size for frame in frames} == {(128, 96)}
    assert np.asarray(frames[1].image).std() < 10


def test_content_says_what_is_a_video(tmp_path: Path) -> None:
    program = "import { Graph } from './graph';\n" + "export const GG = 'G'.repeat(188);\n" * 100
    (tmp_path / "program.ts").write_text(program)
    (tmp_path / "empty.ts").touch()
    film = encode(tmp_path / "film.ts", numbered(5))
    film.rename(tmp_path / "film.txt")
    assert is_video(tmp_path / "film.txt")
    for name in ("program.ts", "empty.ts", "missing.ts", "."):
        assert not is_video(tmp_path / name)
    with pytest.raises(InputError, match="is not a video of a known format"):
        read(tmp_path / "program.ts")
