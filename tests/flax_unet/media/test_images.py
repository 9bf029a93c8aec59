"""Pictures as they are read: every kind upright and in colour, or a reason why not."""

import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pillow_heif
import pytest
from PIL import ExifTags, Image, ImageCms, PngImagePlugin

from flax_unet.media import images
from flax_unet.utils.errors import InputError
from tests.flax_unet.samples import noise, patched, photo, png_of_size

needs_permissions = pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "I", "F", "CMYK"])
def test_modes_are_converted_as_pil_does(mode: str, tmp_path: Path) -> None:
    path = tmp_path / f"picture.{'tiff' if mode in ('I', 'F', 'CMYK') else 'png'}"
    noise(40, 30).convert(mode).save(path)
    read = images.read_image(path)
    with Image.open(path) as opened:
        expected = opened.convert("RGB")
        np.testing.assert_array_equal(np.asarray(read), np.asarray(expected))
        published = np.asarray(expected.resize((24, 24), Image.Resampling.NEAREST))
        for image in (read, opened):
            np.testing.assert_array_equal(images.resized(image, (24, 24)), published)
    np.testing.assert_array_equal(
        images.to_input(read, (24, 24)), published.astype(np.float32) / 255
    )


def test_cmyk_jpeg_keeps_its_colours(tmp_path: Path) -> None:
    red = Image.new("RGB", (16, 16), (200, 30, 40))
    red.convert("CMYK").save(tmp_path / "red.jpg")
    read = np.asarray(images.read_image(tmp_path / "red.jpg")).astype(int)
    assert np.abs(read - np.asarray(red)).max() < 10


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
def test_photos_are_turned_upright(orientation: int, suffix: str, tmp_path: Path) -> None:
    # What a camera stores whose picture is to be turned so, by the definition of the tag: where
    # the first row and the first column of what is stored belong.
    upright = np.zeros((30, 40, 3), np.uint8)
    upright[:10], upright[:, :10, 1] = (200, 0, 0), 200
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(upright, 3),
    }[orientation]
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = tmp_path / f"photo.{suffix}"
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif, quality=95)
    read = np.asarray(images.read_image(path)).astype(int)
    assert read.shape == upright.shape
    assert np.abs(read - upright).mean() < 12


@pytest.mark.parametrize("exif", [b"Exif\0\0nonsense", b"Exif\0\0MM\0*\xff\xff\xff\xff", b""])
def test_damaged_exif_harms_no_picture(exif: bytes, tmp_path: Path) -> None:
    photo().save(tmp_path / "photo.jpg", exif=exif)
    assert images.read_image(tmp_path / "photo.jpg").size == (512, 600)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tiff"])
def test_first_picture_of_several(suffix: str, tmp_path: Path) -> None:
    first, *others = (Image.new("RGB", (20, 20), (value, 0, 0)) for value in (250, 120, 10))
    path = tmp_path / f"several.{suffix}"
    first.save(path, save_all=True, append_images=others)
    notes: list[str] = []
    read = np.asarray(images.read_image(path, notes)).astype(int)
    assert np.abs(read - np.asarray(first)).max() < 10
    assert notes == ["it holds several pictures; the first one was judged"]


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tiff", "jpg"])
def test_single_pictures_have_no_notes(suffix: str, tmp_path: Path) -> None:
    notes: list[str] = []
    noise().save(tmp_path / f"one.{suffix}")
    images.read_image(tmp_path / f"one.{suffix}", notes)
    assert notes == []


BROKEN: dict[str, tuple[bytes, str]] = {
    "empty.png": (b"", "is empty"),
    "text.jpg": (b"this is not a picture", "is not a picture of a known format"),
    "script.eps": (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "is not a picture of a known",
    ),
    "truncated.png": (png_of_size(100, 100), "cannot be decoded"),
    "large.png": (png_of_size(12_000, 12_000), "is 12000x12000, over 100,000,000 pixels"),
    "wide.png": (png_of_size(100_000, 10), "is 100000x10, over .* or 32,768 a side"),
    "tall.png": (png_of_size(1, 2**31 - 1), "too large|over 100,000,000"),
    "bomb.png": (png_of_size(100_000, 100_000), "is 100000x100000, over 100,000,000 pixels"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_picture(name: str, tmp_path: Path) -> None:
    content, reason = BROKEN[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=reason) as raised:
        images.read_image(tmp_path / name)
    assert str(raised.value).startswith(f"{tmp_path / name} ")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "bmp", "tiff", "ppm"])
def test_truncated_pictures(suffix: str, tmp_path: Path) -> None:
    noise().save(tmp_path / f"whole.{suffix}")
    content = (tmp_path / f"whole.{suffix}").read_bytes()
    for share in (0.02, 0.3, 0.9):
        (tmp_path / f"cut.{suffix}").write_bytes(content[: int(share * len(content))])
        with pytest.raises(InputError, match=r"cut\."):
            images.read_image(tmp_path / f"cut.{suffix}")


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_loop(path: Path) -> None:
    path.symlink_to(path)


NO_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "does not exist"),
    "folder": (Path.mkdir, "is a directory"),
    "pipe": (make_fifo, "is not a regular file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "is not a regular file"),
    "dangling link": (lambda path: path.symlink_to("nowhere"), "is a link to nothing"),
    "link to itself": (make_loop, "cannot be read: Too many levels of symbolic links"),
    "below a file": (
        lambda path: path.parent.rmdir() or path.parent.touch(),
        "cannot be read: Not",
    ),
}


@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_file_is_not_read(kind: str, tmp_path: Path) -> None:
    make, reason = NO_FILES[kind]
    path = tmp_path / "folder" / "x.png"
    path.parent.mkdir()
    make(path)
    with pytest.raises(InputError, match=reason):
        images.read_image(path)


@pytest.mark.parametrize("name", ["x" * 300 + ".png", "nul\0byte.png"])
def test_names_that_no_system_has(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        images.read_image(tmp_path / name)


@needs_permissions
def test_without_permission(tmp_path: Path) -> None:
    noise().save(tmp_path / "x.png")
    (tmp_path / "x.png").chmod(0)
    with pytest.raises(InputError, match="cannot be read: Permission denied"):
        images.read_image(tmp_path / "x.png")


FUZZ = """
import itertools, resource, sys, time
from pathlib import Path
import numpy as np
from flax_unet.media.faces import Box
from flax_unet.verdict import Verdict
from flax_unet.utils.errors import InputError
from flax_unet.media.images import read_image
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
rng = np.random.default_rng(int(sys.argv[2]))
path = Path(sys.argv[1]) / "fuzzed"
whole = [file.read_bytes() for file in sorted(Path(sys.argv[1]).glob("whole.*"))]
end = time.monotonic() + float(sys.argv[3])
read = refused = 0
while time.monotonic() < end or not (read and refused):
    content = bytearray(whole[rng.integers(len(whole))])
    if rng.random() < 0.3:  # noise behind a good beginning
        start = rng.integers(4, 60)
        content[start:] = rng.bytes(len(content) - start)
    for at in rng.integers(0, len(content), rng.integers(1, 30)):
        content[at] = rng.integers(256)
    if rng.random() < 0.3:
        del content[rng.integers(1, len(content)):]
    path.write_bytes(content)
    try:
        read_image(path)
        read += 1
    except InputError as error:
        assert str(error).startswith(f"{path} "), error
        refused += 1
print(read, refused)
"""


def test_damage_of_any_kind(tmp_path: Path) -> None:
    for suffix in ("png", "jpg", "webp", "gif", "bmp", "tiff", "ppm"):
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6
        with_exif: dict[str, Any] = {} if suffix in ("gif", "bmp", "ppm") else {"exif": exif}
        noise(24, 20).save(tmp_path / f"whole.{suffix}", **with_exif)
    command = [sys.executable, "-c", FUZZ, str(tmp_path), "0", "3"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert "PIL" not in ended.stderr  # libtiff's own words cannot be helped
    read, refused = map(int, ended.stdout.split())
    assert read > 20
    assert refused > 20


def test_mask_lies_on_the_picture() -> None:
    """The upper right quarter is marked, by the palette's index."""
    marked = np.zeros((8, 8), bool)
    marked[:4, 4:] = True
    mask = images.mask_image(marked, (40, 20))
    assert mask.mode == "P"
    assert np.asarray(mask)[:10, 20:].all()
    assert np.asarray(mask).sum() == 200
    assert mask.convert("L").getextrema() == (0, 255)


def marked(size: tuple[int, int] = (64, 48)) -> Image.Image:
    """Red above and left, green above and right, blue below: no compression loses that."""
    picture = Image.new("RGB", size, (20, 30, 220))
    picture.paste((220, 30, 20), (0, 0, size[0] // 2, size[1] // 2))
    picture.paste((20, 200, 30), (size[0] // 2, 0, size[0], size[1] // 2))
    return picture


@pytest.mark.parametrize(
    ("name", "form"),
    [
        *(("phone.HEIC", "HEIF"), ("phone.heif", "HEIF"), ("called.jpg", "HEIF")),
        *(
            ("web.avif", "AVIF"),
            ("web.jfif", "JPEG"),
            ("old.jpe", "JPEG"),
            ("scan.jp2", "JPEG2000"),
        ),
        *(("scan.j2k", "JPEG2000"), ("drawn.tga", "TGA"), ("drawn.pnm", "PPM")),
    ],
)
def test_formats_that_people_have(name: str, form: str, tmp_path: Path) -> None:
    pillow_heif.register_heif_opener()
    marked().save(tmp_path / name, form, quality=95)
    notes: list[str] = []
    read = np.asarray(images.read_image(tmp_path / name, notes)).astype(int)
    assert (tmp_path / name).suffix.lower() in images.SUFFIXES
    assert np.abs(read - np.asarray(marked())).mean() < 6
    assert notes == []
    assert images.is_picture((tmp_path / name).read_bytes()) == (form != "TGA")  # it has no mark


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "AVIF", "HEIF", "BMP"])
def test_pictures_that_are_called_tga(form: str, tmp_path: Path) -> None:
    pillow_heif.register_heif_opener()
    marked().save(tmp_path / "called.tga", form, quality=95)
    read = np.asarray(images.read_image(tmp_path / "called.tga")).astype(int)
    assert np.abs(read - np.asarray(marked())).mean() < 6


def test_first_of_a_stereo_picture(tmp_path: Path) -> None:
    path = tmp_path / "stereo.jpg"
    marked().save(path, "MPO", save_all=True, append_images=[Image.new("RGB", (64, 48))])
    notes: list[str] = []
    read = np.asarray(images.read_image(path, notes)).astype(int)
    assert np.abs(read - np.asarray(marked())).mean() < 6
    assert notes == ["it holds several pictures; the first one was judged"]


def test_avif_whose_main_brand_is_that_of_a_container(tmp_path: Path) -> None:
    marked().save(tmp_path / "web.avif", quality=95)
    general = patched(tmp_path / "web.avif", tmp_path / "general.avif", (b"ftypavif", 4, b"mif1"))
    read = np.asarray(images.read_image(general)).astype(int)
    assert np.abs(read - np.asarray(marked())).mean() < 6
    assert images.is_picture(general.read_bytes()[:16])


@pytest.mark.parametrize("brand", [b"mif1", b"msf1"])
def test_heif_whose_main_brand_is_that_of_a_container(brand: bytes, tmp_path: Path) -> None:
    pillow_heif.register_heif_opener()
    marked().save(tmp_path / "phone.heic", quality=95)
    general = patched(tmp_path / "phone.heic", tmp_path / "general.heic", (b"ftypheic", 4, brand))
    read = np.asarray(images.read_image(general)).astype(int)
    assert np.abs(read - np.asarray(marked())).mean() < 6
    assert images.is_picture(general.read_bytes()[:16])


def test_heif_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pillow_heif.register_heif_opener()
    marked().save(tmp_path / "x.heic", "HEIF")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(InputError, match=r"x\.heic is HEIF.*pip install pillow-heif"):
        images.read_image(tmp_path / "x.heic")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
def test_what_transparency_hides_is_not_judged(mode: str, tmp_path: Path) -> None:
    rows = np.arange(40)[:, None] * np.ones((1, 30), int)
    opaque = rows >= 10
    if mode == "P":  # the colour 7 of the palette is transparent
        picture = Image.fromarray(np.where(opaque, 3, 7).astype(np.uint8), "P")
        picture.putpalette(np.random.default_rng(0).integers(0, 256, 768, np.uint8).tobytes())
        plain = np.asarray(picture.convert("RGB"))
        picture.save(tmp_path / "x.png", transparency=7)
    elif mode == "RGB":  # the same by a colour, as PNG can
        plain = np.where(opaque[..., None], (10, 200, 30), (1, 2, 3)).astype(np.uint8)
        Image.fromarray(plain).save(tmp_path / "x.png", transparency=(1, 2, 3))
    else:
        plain = np.asarray(noise(30, 40).convert("L" if mode == "LA" else "RGB"))
        alpha = np.where(opaque, 255, 0).astype(np.uint8)
        picture = Image.fromarray(np.dstack([plain, alpha]), mode)
        picture.save(tmp_path / "x.png")
        plain = np.asarray(Image.fromarray(plain).convert("RGB"))
    notes: list[str] = []
    read = np.asarray(images.read_image(tmp_path / "x.png", notes))
    np.testing.assert_array_equal(read[10:], plain[10:])
    assert (read[:10] == images.GREY).all()
    assert notes == ["it is transparent in places; these were laid on grey"]


def bmp_of_32_bits(picture: Image.Image) -> bytes:
    """RGBA as BMP with the header of version 4, by its specification."""
    width, height = picture.size
    masks = struct.pack("<4I4s48x", 0xFF0000, 0xFF00, 0xFF, 0xFF000000, b"BGRs")
    header = struct.pack("<IiiHHI20x", 108, width, height, 1, 32, 3) + masks
    pixels = np.asarray(picture)[::-1, :, [2, 1, 0, 3]].tobytes()
    return struct.pack("<2sI4xI", b"BM", 14 + len(header) + len(pixels), 122) + header + pixels


@pytest.mark.parametrize("suffix", ["bmp", "tga"])
@pytest.mark.parametrize("alpha", [0, 255])
def test_alpha_that_is_not_used(suffix: str, alpha: int, tmp_path: Path) -> None:
    picture = noise(30, 40)
    with_alpha = picture.convert("RGBA")
    with_alpha.putalpha(alpha)
    path = tmp_path / f"x.{suffix}"
    if suffix == "bmp":
        path.write_bytes(bmp_of_32_bits(with_alpha))
    else:
        with_alpha.save(path)
    notes: list[str] = []
    np.testing.assert_array_equal(images.read_image(path, notes), picture)
    assert notes == ["its alpha is 0 everywhere and was left out"] * (alpha == 0)


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
Primaries = dict[bytes, tuple[float, float, float]]  # by tag, as XYZ under D50
P3: Primaries = {
    **{b"rXYZ": (0.5151, 0.2412, -0.0011), b"gXYZ": (0.2920, 0.6922, 0.0419)},
    **{b"bXYZ": (0.1571, 0.0666, 0.7841)},
}
EXCHANGED: Primaries = {b"rXYZ": (0.1431, 0.0606, 0.7141), b"bXYZ": (0.4360, 0.2225, 0.0139)}


def icc(primaries: Primaries) -> bytes:
    """The profile of sRGB with other primaries, by ICC's specification."""
    profile = bytearray(SRGB)
    for entry in range(132, 132 + 12 * int.from_bytes(profile[128:132]), 12):
        tag, at, _ = struct.unpack(">4sII", profile[entry : entry + 12])
        if tag in primaries:
            numbers = (round(of * 2**16) for of in primaries[tag])
            profile[at + 8 : at + 20] = struct.pack(">3i", *numbers)
    return bytes(profile)


@pytest.mark.parametrize("suffix", ["png", "jpg", "heic"])
@pytest.mark.parametrize(
    ("profile", "is_noted"),
    [(SRGB, False), (icc(P3), False), (icc(EXCHANGED), True), (b"damaged", False)],
)
def test_colour_profiles_are_noted_where_they_matter(
    profile: bytes, is_noted: bool, suffix: str, tmp_path: Path
) -> None:
    pillow_heif.register_heif_opener()
    picture = photo().resize((128, 150))
    picture.save(tmp_path / f"x.{suffix}", icc_profile=profile, quality=95)
    notes: list[str] = []
    read = np.asarray(images.read_image(tmp_path / f"x.{suffix}", notes)).astype(int)
    assert np.abs(read - np.asarray(picture)).mean() < 6  # as they are stored
    found = [note.partition(",")[0] for note in notes]
    assert found == ["its colour profile is not applied"] * is_noted


@pytest.mark.parametrize("mode", ["RGB", "L", "LA"])
@pytest.mark.parametrize(
    ("chunks", "noted"),
    [
        ({b"gAMA": 100_000}, ["its gamma of 1 is not applied"]),
        ({b"gAMA": 45_455}, []),
        ({b"gAMA": 0}, []),
        ({b"gAMA": 100_000, b"sRGB": 0}, []),  # which counts
    ],
)
def test_gamma_is_noted_where_it_matters(
    chunks: dict[bytes, int], noted: list[str], mode: str, tmp_path: Path
) -> None:
    info = PngImagePlugin.PngInfo()
    for name, value in chunks.items():
        info.add(name, value.to_bytes(4 if name == b"gAMA" else 1))
    Image.new("RGB", (16, 16), (128, 128, 128)).convert(mode).save(tmp_path / "x.png", pnginfo=info)
    notes: list[str] = []
    assert images.read_image(tmp_path / "x.png", notes).getpixel((0, 0)) == (128, 128, 128)
    assert [note.partition(",")[0] for note in notes] == noted
    shift = 255 * (128 / 255) ** (1 / 2.2) - 128
    assert all(f"by {shift:.0f} of 255 on average; save it as sRGB" in note for note in notes)


@pytest.mark.parametrize(
    ("values", "top"),
    [
        (np.array([[0, 257, 65535]], np.uint16), 65535),
        (np.array([[0, 16, 4095]], np.uint16), 4095),
        (np.array([[0, 4, 1023]], np.int32), 1023),
        (np.array([[0, 0.25, 1]], np.float32), 1),
        (np.array([[0, 300.5, 16000]], np.float32), 16383),
    ],
)
def test_more_than_8_bits_are_scaled(values: np.ndarray, top: int, tmp_path: Path) -> None:
    Image.fromarray(values).save(tmp_path / "x.tiff")
    notes: list[str] = []
    read = np.asarray(images.read_image(tmp_path / "x.tiff", notes))
    expected = np.rint(values.astype(float) * 255 / top)[..., None] * np.ones(3)
    np.testing.assert_array_equal(read, expected)
    (note,) = notes
    assert note.endswith(f"were scaled from 0 ... {top} to 8 bits")


RAW = {  # a name, the tags of the first picture
    "DNG": ("photo.tif", {254: 1, 50706: b"\1\4\0\0"}),
    "linear DNG": ("photo.tiff", {50706: b"\1\4\0\0"}),
    "by its suffix": ("photo.CR2", {}),
}


@pytest.mark.parametrize("kind", RAW)
def test_raw_data_is_not_judged_by_its_thumbnail(kind: str, tmp_path: Path) -> None:
    name, tags = RAW[kind]
    noise(16, 12).save(tmp_path / name, "TIFF", tiffinfo=tags)
    with pytest.raises(InputError, match=rf"{name} is a camera's raw data: export it as"):
        images.read_image(tmp_path / name)


def test_a_thumbnail_before_the_picture_is_not_judged(tmp_path: Path) -> None:
    scan = tmp_path / "scan.tif"
    noise(16, 12).save(scan, tiffinfo={254: 1}, save_all=True, append_images=[noise(64, 48)])
    with pytest.raises(InputError, match=r"scan\.tif begins with a thumbnail"):
        images.read_image(scan)


def test_raw_data_that_is_not_tiff(tmp_path: Path) -> None:
    (tmp_path / "photo.raf").write_bytes(b"FUJIFILMCCD-RAW 0201" + bytes(100))
    with pytest.raises(InputError, match=r"photo\.raf is a camera's raw data"):
        images.read_image(tmp_path / "photo.raf")


def test_a_picture_that_is_called_raw_data(tmp_path: Path) -> None:
    noise(16, 12).save(tmp_path / "photo.dng", "PNG")
    np.testing.assert_array_equal(images.read_image(tmp_path / "photo.dng"), noise(16, 12))


@pytest.mark.parametrize("value", [-1.0, 70000.0, np.nan, np.inf])
def test_values_of_no_known_range(value: float, tmp_path: Path) -> None:
    Image.fromarray(np.array([[0.5, value]], np.float32)).save(tmp_path / "x.tiff")
    with pytest.raises(InputError, match=r"x\.tiff has values outside 0 \.\.\. 65535"):
        images.read_image(tmp_path / "x.tiff")


def test_16_bits_a_channel(tmp_path: Path) -> None:
    deep = np.random.default_rng(0).integers(0, 2**16, (30, 40, 3), np.uint16)
    assert cv2.imwrite(str(tmp_path / "x.png"), deep)  # blue, green, red
    notes: list[str] = []
    read = np.asarray(images.read_image(tmp_path / "x.png", notes))
    np.testing.assert_array_equal(read, deep[..., ::-1] >> 8)
    assert notes == ["of 16 bits a channel, the upper 8 were judged"]


def write_tiff(
    path: Path, planes: np.ndarray, photometric: int, order: Literal["<", ">"] = "<"
) -> None:
    """Writes (channels, H, W) as uncompressed TIFF, by its specification: a strip a channel."""
    planes = planes.astype(planes.dtype.newbyteorder(order))
    count, height, width = planes.shape
    data, bits = planes.tobytes(), 8 * planes.itemsize
    size, kind = len(data) // count, 3 if planes.dtype.kind == "f" else 1
    tags = {
        **{256: [width], 257: [height], 258: [bits] * count, 259: [1], 262: [photometric]},
        **{273: [8 + size * i for i in range(count)], 277: [count], 278: [height]},
        **{279: [size] * count, 284: [2 if count > 1 else 1], 339: [kind] * count},
    }
    end = 8 + len(data) + 2 + 12 * len(tags) + 4
    directory, beyond = struct.pack(f"{order}H", len(tags)), b""
    for tag, values in tags.items():
        packed = struct.pack(f"{order}{len(values)}I", *values)
        field = packed if len(packed) == 4 else struct.pack(f"{order}I", end + len(beyond))
        beyond += packed if len(packed) > 4 else b""
        directory += struct.pack(f"{order}HHI", tag, 4, len(values)) + field
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(data))
    path.write_bytes(start + data + directory + bytes(4) + beyond)


@pytest.mark.parametrize("order", "<>")
def test_planes_of_16_bits(order: Literal["<", ">"], tmp_path: Path) -> None:
    deep = np.random.default_rng(0).integers(0, 2**16, (3, 30, 40), np.uint16)
    write_tiff(tmp_path / "x.tif", deep, 2, order)
    notes: list[str] = []
    read = np.asarray(images.read_image(tmp_path / "x.tif", notes))
    np.testing.assert_array_equal(read, np.moveaxis(deep, 0, 2) >> 8)
    assert notes == ["of 16 bits a channel, the upper 8 were judged"]


def test_negatives_of_scanners(tmp_path: Path) -> None:
    black_is_0 = np.arange(0, 2**16, 257).astype(np.uint16).reshape(16, 16)
    path = tmp_path / "x.tif"
    write_tiff(path, 65535 - black_is_0[None], 0)
    read = np.asarray(images.read_image(path))
    np.testing.assert_array_equal(read, (black_is_0 // 257)[..., None] * np.ones(3))
    write_tiff(path, np.zeros((1, 4, 4), np.float32), 0)
    with pytest.raises(InputError, match=r"x\.tif is a negative in floating point"):
        images.read_image(path)


@pytest.mark.parametrize("largest", [200, 65535])
def test_transparency_of_grey_with_16_bits(largest: int, tmp_path: Path) -> None:
    values = np.array([[0, 100, largest]], np.uint16)
    Image.fromarray(values).save(tmp_path / "x.png", transparency=100)
    content = (tmp_path / "x.png").read_bytes()
    assert b"tRNS" in content
    notes: list[str] = []
    read = np.asarray(images.read_image(tmp_path / "x.png", notes))[..., 0]
    np.testing.assert_array_equal(read, [[0, images.GREY, min(largest, 255)]])
    assert notes[-1] == "it is transparent in places; these were laid on grey"


def test_large_jpeg_is_reduced(tmp_path: Path) -> None:
    marked((1200, 900)).save(tmp_path / "x.jpg", quality=90)
    marked((1200, 900)).save(tmp_path / "x.png")
    notes: list[str] = []
    read = images.read_image(tmp_path / "x.jpg", notes, 500_000)
    assert read.size == (600, 450)
    assert np.abs(np.asarray(read).astype(int) - np.asarray(marked((600, 450)))).mean() < 3
    (note,) = notes
    assert "1200x900 pixels and was judged at 600x450" in note
    with pytest.raises(InputError, match=r"x\.jpg is 1200x900, over 10,000 pixels"):
        images.read_image(tmp_path / "x.jpg", [], 10_000)
    with pytest.raises(InputError, match=r"x\.png is 1200x900, over 500,000 pixels"):
        images.read_image(tmp_path / "x.png", [], 500_000)


def test_more_pixels_than_pillow_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Phones have 200 megapixels; Pillow refuses from 179 on."""
    marked((1200, 900)).save(tmp_path / "x.jpg")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    assert images.read_image(tmp_path / "x.jpg").size == (1200, 900)
