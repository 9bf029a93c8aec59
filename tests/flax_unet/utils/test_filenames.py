"""Names of files, whatever is in them: printed on one line, and never leading elsewhere."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flax_unet.utils.filenames import Names, shown


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("gesicht ü 顔.png", "gesicht ü 顔.png"),
        ('it\'s "quoted".png', 'it\'s "quoted".png'),
        ("two\nlines\t.png", r"two\nlines\t.png"),
        ("\x1b]0;title\x07\x1b[31mred.png", r"\x1b]0;title\x07\x1b[31mred.png"),
        ("\u202egnp.exe", r"\u202egnp.exe"),  # would be shown from right to left
        (os.fsdecode(b"\xff\xfe.png"), r"\udcff\udcfe.png"),
    ],
)
def test_shown(name: str, printed: str) -> None:
    assert shown(name) == printed


def test_each_name_is_given_once() -> None:
    names = Names()
    wanted = ["a", "a", "A", "a-2", "b", "a", "", ".", "..hidden"]
    assert [names.new(name) for name in wanted] == [
        *("a", "a-2", "A-3", "a-2-2", "b", "a-4", "_", "_-2", "hidden")
    ]


def test_many_equal_names_take_no_longer_each() -> None:
    names = Names()
    assert len({names.new("frame") for _ in range(20_000)}) == 20_000


@pytest.mark.parametrize(
    "wanted", ["../../etc/passwd", "..\\..\\windows", "/absolute", "c:drive", "a" * 300, "ü" * 200]
)
def test_results_stay_in_their_folder(wanted: str, tmp_path: Path) -> None:
    name = Names().new(wanted) + ".overlay.webm"
    (tmp_path / name).touch()
    assert [path.name for path in tmp_path.iterdir()] == [name]


@given(st.lists(st.text(st.characters()), max_size=20))
def test_any_names(wanted: list[str]) -> None:
    names = Names()
    given_names = [names.new(name) for name in wanted]
    assert len({name.lower() for name in given_names}) == len(wanted)
    for name in given_names:
        assert len(f"{name}.timeline.png".encode()) < 255
        assert name.isprintable()
        assert not set(name) & set('/\\<>:"|?*')
        assert not name.startswith(".")
