"""Which files are meant: each once, in order, and a reason for each that cannot be had."""

import os
from pathlib import Path

import pytest
from PIL import Image

from flax_unet.media.discover import Item, items
from tests.flax_unet.samples import encode, numbered

needs_permissions = pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_files_are_themselves_whatever_their_name(tmp_path: Path) -> None:
    names = ["a.png", "b.JPG", "c.MP4", "d", "e.txt", ".f.png", "g.gif", "missing.webm"]
    found = list(items([tmp_path / name for name in names]))
    assert [item.path.name for item in found] == names
    videos = {"c.MP4", "missing.webm"}
    assert {item.path.name for item in found if item.kind == "video"} == videos
    assert {item.problem for item in found} == {None}


def test_a_suffix_counts_only_where_the_content_has_no_mark(tmp_path: Path) -> None:
    encode(tmp_path / "video.mp4", numbered(2)).rename(tmp_path / "video.tga")
    Image.new("RGB", (64, 64)).save(tmp_path / "picture.tga", "PNG")
    grey = Image.new("RGB", (64, 64), (0x47, 0x47, 0x47))  # the mark of a stream's packets
    grey.save(tmp_path / "grey.tga")
    kinds = {item.path.name: item.kind for item in items([tmp_path])}
    assert kinds == {"grey.tga": "picture", "picture.tga": "picture", "video.tga": "video"}


def test_raw_data_in_the_container_of_videos_is_a_picture(tmp_path: Path) -> None:
    (tmp_path / "photo.CR3").write_bytes(b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(100))
    (item,) = items([tmp_path / "photo.CR3"])
    assert item.kind == "picture"


def test_folders_are_what_is_below(tmp_path: Path) -> None:
    wanted = ["b.png", "c.avi", "a/2.jpg", "a/z/1.webp", "x.png/3.TIFF", "ä/4.bmp"]
    touch(*(tmp_path / name for name in wanted))
    touch(*(tmp_path / name for name in ["notes.txt", "png", ".d.png", "._b.png", ".git/5.png"]))
    (tmp_path / "empty").mkdir()
    touch(tmp_path.parent / "elsewhere" / "6.png")
    (tmp_path / "link").symlink_to(tmp_path.parent / "elsewhere")
    (tmp_path / "loop").symlink_to(tmp_path)
    found = list(items([tmp_path, tmp_path / "link", tmp_path / "b.png"]))
    assert [str(item.path.relative_to(tmp_path)) for item in found] == [
        *(*wanted, "link/6.png", "b.png")
    ]
    assert {item.problem for item in found} == {None}


def test_folder_without_pictures(tmp_path: Path) -> None:
    touch(tmp_path / "notes.txt", tmp_path / "below" / "more.txt")
    (item,) = items([tmp_path])
    assert item == Item(tmp_path, "folder", f"{tmp_path} holds no picture or video")


@needs_permissions
def test_unreadable_folders(tmp_path: Path) -> None:
    touch(tmp_path / "a" / "1.png", tmp_path / "b" / "2.png", tmp_path / "c.png")
    (tmp_path / "a").chmod(0)
    try:
        found = list(items([tmp_path, tmp_path / "a", tmp_path / "a" / "1.png"]))
    finally:
        (tmp_path / "a").chmod(0o700)
    assert [str(item.path.relative_to(tmp_path)) for item in found] == [
        *("c.png", "a", "b/2.png", "a", "a/1.png")
    ]
    problem = f"{tmp_path / 'a'} cannot be read: Permission denied"
    assert [item.problem for item in found] == [None, problem, None, problem, None]


def test_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "a" / "1.png", tmp_path / "b" / "2.png")
    scan = os.scandir

    def scandir(path: Path) -> object:
        if path == tmp_path / "a":
            raise OSError(5, "Input/output error")
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    broken, good = items([tmp_path])
    problem = f"{tmp_path / 'a'} cannot be read: Input/output error"
    assert broken == Item(tmp_path / "a", "folder", problem)
    assert good.path == tmp_path / "b" / "2.png"


def test_deeper_than_python_recurses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    depth = 1500
    for _ in range(depth):
        Path("d").mkdir()
        os.chdir("d")
    Path("1.png").touch()
    try:
        found = list(items([tmp_path]))
    finally:  # pytest's own way recurses
        Path("1.png").unlink()
        for _ in range(depth):
            os.chdir("..")
            Path("d").rmdir()
    (item,) = found
    assert len(item.path.relative_to(tmp_path).parts) == depth + 1


def test_names_of_any_bytes(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff \x1b[31m\n.png")
    touch(tmp_path / name)
    (item,) = items([tmp_path])
    assert item.path == tmp_path / name
    assert item.name == f"{tmp_path}/\\udcff \x1b[31m\n.png"  # all but what is not text


@pytest.mark.parametrize("name", ["x" * 5000, "a/" * 3000, "nul\0byte.png"])
def test_paths_that_no_system_has(name: str) -> None:
    (item,) = items([Path(name)])
    assert item.kind == "picture"
