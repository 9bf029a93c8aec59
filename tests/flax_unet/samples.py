"""Small pictures, videos and networks for the tests, and where the real ones are."""

import json
import re
import shutil
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from jax.typing import DTypeLike
from matplotlib import cbook
from PIL import Image

from convert import mapping, parity, stand_in
from convert.from_torch import convert
from convert.torch_unet import ReferenceUNet
from flax_unet import UNet, UNetConfig
from flax_unet.checkpoint.store import build
from flax_unet.media.faces import opencv
from tests.conftest import small_tensors

cv2 = opencv()
SHARED = Path(__file__).parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the face-swap clip is not here")
CLIP, CLIP_FRAMES = SHARED / "face_swap_clip.avi", (0, 75, 150, 225, 299)
SIDE = 32  # of the small networks' pictures
FILM_SIZE = (64, 48)
_FORMS = {".mts": "mpegts", ".m2ts": "mpegts"}  # FFmpeg knows the others by their suffix


def small_checkpoint(directory: Path, layout: str = "ynet-224") -> Path:
    """A stand-in four channels wide, for small pictures."""
    torch.save(small_tensors(layout), directory / f"{layout}.pth")
    convert(directory / f"{layout}.pth", directory / layout, verify=False)
    config = json.loads((directory / layout / "config.json").read_text())
    config["model"]["image_size"] = SIDE
    (directory / layout / "config.json").write_text(json.dumps(config))
    return directory / layout


def contents(out: Path) -> dict[str, Any]:
    """All results of a prediction, but for the time at which they were made."""
    found: dict[str, Any] = {path.name: path.read_bytes() for path in out.iterdir()}
    found["predictions.json"] = json.loads(found["predictions.json"])
    del found["predictions.json"]["made_by"]["created"]
    found["report.html"] = re.sub(rb"Made on .* UTC", b"", found["report.html"])
    return found


def both(
    config: UNetConfig, seed: int, dtype: DTypeLike = jnp.float32
) -> tuple[UNet, ReferenceUNet]:
    """A model and its twin with the same seeded weights, in eval mode."""
    tensors = stand_in.state_dict(config, seed)
    matched = mapping.match(config, {key: array.shape for key, array in tensors.items()})
    assert not matched.problems
    model = build(config, mapping.to_flax(matched.rules, tensors), dtype=dtype)
    return model, parity.load_twin(ReferenceUNet(config), tensors)


@nnx.jit
def run(module: Any, x: Any) -> Any:
    """A layer or network as one program; each operation would be compiled by itself otherwise."""
    return module(x)


def noise(width: int = 100, height: int = 80, seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(values)


def photo() -> Image.Image:
    """512x600, one face with enough around it: Grace Hopper, as Matplotlib brings her."""
    path = cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    return Image.open(str(path)).convert("RGB")


def group(*places: tuple[int, int, int], size: tuple[int, int] = (1600, 1000)) -> Image.Image:
    """A large picture with the same face at (left, top), so many pixels wide."""
    face = photo().crop((163, 90, 373, 350))
    canvas = Image.new("RGB", size, (90, 120, 90))
    for left, top, width in places:
        canvas.paste(face.resize((width, round(width * face.height / face.width))), (left, top))
    return canvas


def png_of_size(width: int, height: int) -> bytes:
    """A valid PNG header that claims a size, and nothing behind it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        crc = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows)


def numbered(count: int, size: tuple[int, int] = FILM_SIZE) -> Iterator[Image.Image]:
    """Pictures that show their number, however they are compressed: bars, one a binary digit."""
    width, height = size
    for number in range(count):
        bits = [number >> digit & 1 for digit in range(8)]
        columns = np.repeat(np.array(bits, np.uint8) * 200 + 20, -(-width // 8))[:width]
        yield Image.fromarray(np.broadcast_to(columns, (height, width)).copy()).convert("RGB")


def number_of(image: Image.Image) -> int:
    """The number of a picture of `numbered`."""
    width = -(-image.width // 8)
    row = np.asarray(image.convert("L"))[image.height // 2, width // 2 :: width]
    return sum(1 << digit for digit, value in enumerate(row) if value > 120)


def write_video(
    path: Path,
    pictures: Iterable[Image.Image],
    *,
    size: tuple[int, int] = FILM_SIZE,
    code: str = "MJPG",
    rate: float = 10.0,
) -> Path:
    film = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*code), rate, size)
    assert film.isOpened()
    for picture in pictures:
        film.write(np.asarray(picture)[..., ::-1])
    film.release()
    return path


def encode(
    path: Path,
    pictures: Iterable[Image.Image | av.VideoFrame],
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    *,
    rate: int = 10,
    times: Sequence[int] | None = None,
    prepare: Callable[[Any], None] = lambda stream: None,
    before: Callable[[Any], list[Any]] = lambda container: [],
    **options: Any,
) -> Path:
    """Writes a video of so many frames a second, or with frames at `times` in 1/`rate` s."""
    of_container = {k: options.pop(k) for k in {*options} & {"mpegts_m2ts_mode"}}
    with av.open(
        str(path), "w", _FORMS.get(path.suffix), container_options=of_container
    ) as container:
        others = before(container)  # packets of other streams
        stream: Any = container.add_stream(codec, rate, options)
        stream.pix_fmt = pix_fmt
        for number, picture in enumerate(pictures):
            is_image = isinstance(picture, Image.Image)
            frame: Any = av.VideoFrame.from_image(picture) if is_image else picture
            if number == 0:
                stream.width, stream.height = frame.width, frame.height
                prepare(stream)
                for packet in others:
                    container.mux(packet)
            frame.pts = number if times is None else times[number]
            frame.time_base = Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def add_sound(
    container: Any, seconds: int, codec: str = "pcm_s16le", rate: int = 8000
) -> list[Any]:
    """A stream of sound: a tone in packets of 1/100 s."""
    stream = container.add_stream(codec, rate)
    size, packets = rate // 100, []
    for number in range(100 * seconds):
        tone = np.sin(np.arange(size) * 0.3) * 8000
        frame = av.AudioFrame.from_ndarray(tone.astype(np.int16)[None], layout="mono")
        frame.rate, frame.pts, frame.time_base = rate, number * size, Fraction(1, rate)
        packets += stream.encode(frame)
    return packets + stream.encode()


def rewrap(source: Path, target: Path, code: str, time: Callable[[int], int]) -> Path:
    """The same encoded frames in another file, each at a time in 1/10 of a second."""
    reader = cv2.VideoCapture(str(source), cv2.CAP_FFMPEG)
    reader.set(cv2.CAP_PROP_FORMAT, -1)
    film = cv2.VideoWriter(
        *(str(target), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*code), 10.0, FILM_SIZE),
        [cv2.VIDEOWRITER_PROP_RAW_VIDEO, 1],
    )
    number = 0
    while (packet := reader.read())[0]:
        film.set(cv2.VIDEOWRITER_PROP_PTS, time(number))
        film.write(packet[1].reshape(1, -1))
        number += 1
    film.release()
    return target


def patched(source: Path, target: Path, *changes: tuple[bytes, int, bytes]) -> Path:
    """A copy in which, so far behind the first occurrence of a mark, other bytes stand."""
    content = bytearray(source.read_bytes())
    for mark, distance, replacement in changes:
        at = content.index(mark) + distance
        content[at : at + len(replacement)] = replacement
    target.write_bytes(content)
    return target


def sound_avi(path: Path) -> Path:
    """An AVI of a second of silence, and no picture."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)

    rate = 8000
    main = struct.pack("<14I", 0, rate, 0, 0x10, rate, 0, 1, rate, 0, 0, 0, 0, 0, 0)
    stream = struct.pack(
        "<4s4s10I4H", b"auds", bytes(4), *(0, 0, 0, 1, rate, 0, rate, rate, 0, 1), 0, 0, 0, 0
    )
    sound = struct.pack("<HHIIHHH", 1, 1, rate, rate, 1, 8, 0)
    header = chunk(b"avih", main) + chunk(
        b"LIST", b"strl" + chunk(b"strh", stream) + chunk(b"strf", sound)
    )
    movie = b"movi" + chunk(b"00wb", b"\x80" * rate)
    content = b"AVI " + chunk(b"LIST", b"hdrl" + header) + chunk(b"LIST", movie)
    path.write_bytes(chunk(b"RIFF", content))
    return path


def copy(source: Path, target: Path) -> Path:
    shutil.copy(source, target)
    return target
