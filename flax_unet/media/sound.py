"""Adds the sound of a video to a film that was made of it, in the process of `serve`."""

import heapq
import itertools
from collections.abc import Iterator
from fractions import Fraction

import av
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Discard

from flax_unet.media.decoder import opened
from flax_unet.media.worker import Reply

_PLAYED_EVERYWHERE = {"aac", "mp3"}  # of what MP4 can hold; the rest is encoded anew
_RATE = 48_000  # samples a second
_OFTEN = 100  # packets
_MP4 = {"movflags": "+faststart"}  # as the film


def add(
    path: str, form: str, film: str, target: str, start: float, seconds: float
) -> Iterator[Reply | None]:
    """Writes `target`: the film with so many seconds of the sound of the video `path`.

    The sound begins at the video's time `start`. `form` is FFmpeg's name of the video's container.
    The last reply has `added`, which is False if the video has no sound; nothing is written then.
    None comes now and then.

    Raises:
        InputError: the video cannot be opened.
    """
    with opened(path, form) as video:
        sound = video.streams.best("audio")
        if not isinstance(sound, AudioStream) or sound.codec_context is None:
            yield Reply({"end": True, "added": False})
            return
        for stream in video.streams:
            stream.discard = Discard.default if stream.index == sound.index else Discard.all
        with opened(film, "mov") as pictures, av.open(f"file:{target}", "w", "mp4", _MP4) as out:
            packets = heapq.merge(
                _pictures(pictures, out), _heard(video, sound, out, start, seconds), key=_seconds
            )
            for number, packet in enumerate(packets):
                out.mux(packet)
                if number % _OFTEN == 0:
                    yield None
    yield Reply({"end": True, "added": True})


def _pictures(pictures: InputContainer, out: OutputContainer) -> Iterator[Packet]:
    stream = out.add_stream_from_template(pictures.streams.video[0])
    for packet in pictures.demux():
        if packet.size:
            packet.stream = stream
            yield packet


def _heard(
    video: InputContainer, sound: AudioStream, out: OutputContainer, start: float, seconds: float
) -> Iterator[Packet]:
    """The packets of the sound, whose times are then those of the film."""
    begin = start + (video.start_time or 0) / av.time_base
    packets = (packet for packet in video.demux(sound) if packet.size and packet.pts is not None)
    if sound.codec_context.codec.canonical_name in _PLAYED_EVERYWHERE:
        stream = out.add_stream_from_template(sound)
        for packet in packets:
            if begin <= _seconds(packet) < begin + seconds:
                shift = round(begin / packet.time_base)
                packet.pts = packet.dts = (packet.pts or 0) - shift
                packet.stream = stream
                yield packet
        return
    layout = "mono" if sound.channels == 1 else "stereo"
    stream = out.add_stream("aac", rate=_RATE, layout=layout)
    resampler = AudioResampler("fltp", layout, _RATE)
    for packet in packets:
        if not begin <= _seconds(packet) < begin + seconds:
            continue
        try:
            frames = packet.decode()
        except FFmpegError:  # a gap
            continue
        for frame in itertools.chain.from_iterable(map(resampler.resample, frames)):
            frame.pts, frame.time_base = (frame.pts or 0) - round(begin * _RATE), Fraction(1, _RATE)
            yield from stream.encode(frame)
    yield from stream.encode(None)


def _seconds(packet: Packet) -> float:
    time = packet.pts if packet.dts is None else packet.dts
    return float((time or 0) * packet.time_base)
