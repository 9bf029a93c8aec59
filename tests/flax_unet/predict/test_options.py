"""Options of the command, its last lines, and the same from Python."""

import csv
import io
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import flax_unet
from flax_unet import Detector, InputError, Verdict, predict_file, predict_files
from flax_unet.checkpoint import metadata
from flax_unet.media.discover import LeftOut
from flax_unet.media.faces import Box
from flax_unet.nn.decision import digits_beside, heads_disagree, in_digits, per_cent
from flax_unet.predict import __main__ as predict
from flax_unet.predict.meaning import meaning
from flax_unet.predict.results import Decision, FaceResult, FileResult, FrameResult, VideoResult
from tests.conftest import listing
from tests.flax_unet.samples import encode, group, noise, numbered, photo, small_checkpoint

Printed = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures, a video, and what is neither."""
    path = tmp_path / "in"
    path.mkdir()
    photo().save(path / "a.png")
    group((100, 100, 250), (700, 200, 120)).save(path / "b.jpg")
    pictures = (photo().resize((256, 300)) for _ in range(4))
    encode(path / "c.mp4", pictures)
    Image.new("RGB", (200, 200), "grey").save(path / "d wall.png")
    for name in ("e.cr2", "f.zip", "g.xcf", "h.xcf", ".hidden.png"):
        (path / name).write_bytes(b"x")
    (path / "i.ts").write_text("export const x = 1;\n")
    (path / "j.tiff").write_bytes(b"broken")
    return path


def run(*arguments: object) -> int:
    try:
        predict.main([str(argument) for argument in arguments])
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0


def document(out: Path) -> dict[str, Any]:
    return json.loads((out / "predictions.json").read_text())


def test_every_file_of_a_folder_is_accounted_for(
    model: Path, folder: Path, tmp_path: Path, capsys: Printed
) -> None:
    out = tmp_path / "out"
    assert run(model, folder, "--out", out) == 1
    *_, counts, left_out, _ = capsys.readouterr().out.splitlines()
    written = document(out)
    summary = written["summary"]
    assert summary["files"] == len(written["files"]) == 5
    assert summary["real"] + summary["fake"] == 3
    assert (summary["without_face"], summary["failed"], summary["left_out"]) == (1, 1, 6)
    assert counts == (
        f"5 files: {summary['real']} REAL, {summary['fake']} FAKE, 1 without a face to judge, "
        "1 failed, 6 more left out"
    )
    assert left_out == (
        "left out: 2 .xcf (not a picture or video, by its suffix); 1 .png (hidden); "
        "1 .cr2 (a camera's raw data: export it as JPEG or TIFF); 1 .zip (an archive: unpack it); "
        "1 .ts (not a video, by its content)"
    )
    named = [name for one in written["left_out"] for name in one["such_as"]]
    seen = [result["file"] for result in written["files"]]
    assert sorted(named + seen) == sorted(str(path) for path in folder.iterdir())
    # Lines of JSON stay alone.
    assert run(model, folder, "--json") == 1
    printed = capsys.readouterr()
    assert len([json.loads(line) for line in printed.out.splitlines()]) == 5
    assert counts in printed.err
    assert left_out in printed.err


def test_few_frames_of_videos_in_folders_and_lists(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    film = tmp_path / "films" / "film.mp4"
    film.parent.mkdir()
    encode(film, numbered(50), g="10", sc_threshold="0")
    for given, options, expected in (
        (film.parent, (), 32),
        (film.parent, ("--every", 1), 50),
        (film.parent, ("--frames", 7), 7),
        (film.parent, ("--keyframes",), 5),
        (film, (), 50),
        ("-", (), 32),
        ("-", ("--every", 1), 50),
    ):
        listed = io.TextIOWrapper(io.BytesIO(os.fsencode(film)))
        monkeypatch.setattr(sys, "stdin", listed)
        out = tmp_path / f"out{expected}{Path(given).name}"
        assert run(model, given, "--faces", "none", *options, "--out", out) == 0
        (found,) = document(out)["files"]
        assert found["frames_read"] == expected
        assert ("of each video 32" in capsys.readouterr().err) == (expected == 32)


def test_one_file_needs_no_summary(model: Path, folder: Path, capsys: Printed) -> None:
    assert run(model, folder / "a.png") == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_threshold(model: Path, folder: Path, tmp_path: Path, capsys: Printed) -> None:
    picture = folder / "a.png"
    fake = predict_file(picture, model).decision.fake_probability
    assert fake is not None
    for threshold, verdict in ((fake + 1e-3, "REAL"), (fake - 1e-3, "FAKE")):
        out = tmp_path / verdict
        assert run(model, picture, "--threshold", threshold, "--out", out) == 0
        assert f"{picture}:  {verdict}" in capsys.readouterr().out
        written = document(out)
        assert written["files"][0]["verdict"] == verdict
        assert written["files"][0]["faces"][0]["verdict"] == verdict
        assert written["options"]["threshold"] == threshold
        assert written["meaning"]["verdict"] == (
            f"FAKE where fake_probability >= {threshold:g}, else REAL"
        )
    with pytest.raises(ValueError, match=r"threshold is 1\.5; expected one between 0 and 1"):
        Detector.from_checkpoint(model, threshold=1.5)


def test_the_published_decision_is_the_default() -> None:
    for real in (0.0, 0.25, 0.5, np.nextafter(0.5, 1), 0.75, 1.0):
        verdict = Verdict((9, 9), Box(0, 0, 9, 9), float(real))
        assert verdict.label == ("REAL" if round(real) == 1 else "FAKE")  # Python rounds 0.5 to 0


def test_how_faces_are_batched_changes_nothing(
    model: Path, folder: Path, tmp_path: Path, capsys: Printed
) -> None:
    pictures = [folder / "a.png", folder / "b.jpg", folder / "c.mp4"]
    found = []
    for number, options in enumerate(([], ["--batch-size", 3, "--devices", 1])):
        assert run(model, *pictures, *options, "--out", tmp_path / f"{number}") == 0
        found.append(document(tmp_path / f"{number}")["files"])
    for usual, other in zip(*found, strict=True):
        assert usual["real_probability"] == pytest.approx(other["real_probability"], abs=1e-6)
        assert usual["verdict"] == other["verdict"]
    assert run(model, *pictures, "--dtype", "bfloat16", "--out", tmp_path / "low") == 0
    low = document(tmp_path / "low")
    assert low["options"]["dtype"] == "bfloat16"
    for usual, other in zip(found[0], low["files"], strict=True):
        difference = abs(usual["real_probability"] - other["real_probability"])
        assert 0 < difference < 0.02  # bfloat16 has 8 bits
    capsys.readouterr()
    assert run(model, *pictures, "--devices", "9") == 2
    assert "--devices 9: there are" in capsys.readouterr().err
    assert run(model, *pictures, "--batch-size", "0") == 2


def test_overwrite(model: Path, folder: Path, tmp_path: Path, capsys: Printed) -> None:
    out = tmp_path / "out"
    assert run(model, folder / "a.png", folder / "c.mp4", "--out", out) == 0
    assert run(model, folder / "b.jpg", "--out", out) == 2
    assert "exists already and holds results; give --overwrite" in capsys.readouterr().err
    assert run(model, folder / "b.jpg", "--out", out, "--overwrite") == 0
    assert {path.name for path in out.iterdir()} == {
        *("predictions.json", "predictions.jsonl", "predictions.csv", "summary.csv"),
        "report.html",
        *("b.mask.png", "b.overlay.png"),
    }
    # Nothing else is deleted: a foreign file, other results, a directory.
    (out / "thesis.txt").write_text("years of work")
    before = listing(out)
    assert run(model, folder / "a.png", "--out", out, "--overwrite") == 2
    assert f"{out} holds thesis.txt, which is not a result" in capsys.readouterr().err
    assert listing(out) == before
    assert run(model, folder / "a.png", "--out", folder, "--overwrite") == 2
    assert run(model, folder / "a.png", "--overwrite") == 2
    assert "--overwrite: " in capsys.readouterr().err


def test_a_failed_run_keeps_older_results(model: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(model, folder / "a.png", "--out", out) == 0
    before = listing(out)
    assert run(model, folder / "j.tiff", "--out", out, "--overwrite") == 2
    assert listing(out) == before


def test_no_overlays(model: Path, folder: Path, tmp_path: Path, capsys: Printed) -> None:
    out = tmp_path / "out"
    assert run(model, folder / "a.png", folder / "c.mp4", "--out", out, "--no-overlays") == 0
    assert {path.name for path in out.iterdir()} == {
        *(
            "predictions.json",
            "predictions.jsonl",
            "predictions.csv",
            "summary.csv",
            "report.html",
            "a.mask.png",
            "c.timeline.png",
            "c.closeup.jpg",
        )
    }
    written = "predictions.jsonl, predictions.csv, summary.csv, report.html, masks\n"
    assert capsys.readouterr().out.endswith(written)
    assert not any("overlay" in result for result in document(out)["files"])


def test_max_megapixels(model: Path, tmp_path: Path, capsys: Printed) -> None:
    noise(1200, 900).save(tmp_path / "x.png")
    noise(1200, 900).save(tmp_path / "x.jpg")
    paths = [tmp_path / "x.png", tmp_path / "x.jpg"]
    assert run(model, *paths, "--faces", "none", "--max-megapixels", 1) == 1
    printed = capsys.readouterr().out
    assert "x.png:  failed: is 1200x900, over 1,000,000 pixels" in printed
    assert "make it smaller, or raise --max-megapixels" in printed
    assert "1200x900 pixels and was judged at 600x450" in printed
    assert run(model, *paths, "--faces", "none", "--max-megapixels", 2) == 0


@pytest.mark.parametrize("form", ["PNG", "JPEG", "AVIF", "MP4"])
def test_a_file_on_standard_input(
    form: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    path = tmp_path / f"x.{form.lower()}"
    if form == "MP4":
        encode(path, numbered(20))
    else:
        photo().save(path, form)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes())))
    assert run(model, "-") == 2
    error = capsys.readouterr().err
    what = "a video" if form == "MP4" else "a picture"
    assert error.startswith(f"error: standard input holds {what}; ")
    assert error.count("\n") == 1


@pytest.mark.parametrize("name", ["P1010023.JPG", "BMW/a.png", "archive/AVI/a.png", "P2 wide.png"])
def test_lists_that_begin_as_formats_do(
    name: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    noise().save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"{name}\n".encode())))
    assert run(model, "-", "--faces", "none", "--json") == 0
    assert json.loads(capsys.readouterr().out)["file"] == name


def test_closed_standard_input(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert run(model, "-") == 2
    assert capsys.readouterr().err == "error: standard input names no file\n"


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("Screenshot at 3.45\u202fPM.png", r"Screenshot at 3.45\u202fPM.png"),
        ("two\nlines.png", r"two\nlines.png"),
        (os.fsdecode(b"\xff.png"), r"\udcff.png"),
    ],
)
def test_recorded_paths_lead_back_to_the_files(
    name: str, printed: str, model: Path, tmp_path: Path, capsys: Printed
) -> None:
    """Where they are text: an archive's own tables are joined by them."""
    (tmp_path / name).write_bytes(b"not a picture")
    noise().save(tmp_path / "b.png")
    out = tmp_path / "out"
    assert run(model, tmp_path, "--faces", "none", "--out", out) == 1
    assert f"{tmp_path}/{printed}:  failed: is not a picture" in capsys.readouterr().out
    recorded = printed if "\udcff" in name else name
    (file,) = [one["file"] for one in document(out)["files"] if one["status"] == "failed"]
    assert file == f"{tmp_path}/{recorded}"
    with (out / "predictions.csv").open(newline="", encoding="utf-8") as table:
        assert file in [row["file"] for row in csv.DictReader(table)]
    report = (out / "report.html").read_text(encoding="utf-8").replace("<wbr>", "")
    assert printed in report
    assert "is not a picture" in report


def test_files_of_another_suffix(model: Path, tmp_path: Path) -> None:
    """They are judged as what they are."""
    encode(tmp_path / "video.mp4", numbered(3)).rename(tmp_path / "video.png")
    photo().save(tmp_path / "picture.mp4", "JPEG")
    film, picture = predict_files([tmp_path / "video.png", tmp_path / "picture.mp4"], model)
    assert (film.kind, len(film.frames), film.problem) == ("video", 3, None)
    assert (picture.kind, len(picture.faces), picture.problem) == ("picture", 1, None)


def test_swapped_arguments(model: Path, folder: Path, tmp_path: Path, capsys: Printed) -> None:
    for given in (folder / "a.png", folder):
        assert run(given, model) == 2
        error = capsys.readouterr().err
        assert error == f"error: {given} is not a checkpoint, and {model} is one; name it first\n"


def test_a_verdict_is_readable(model: Path) -> None:
    (verdict,) = Detector.from_checkpoint(model)([noise()])
    assert verdict.label == ("REAL" if verdict.is_real else "FAKE")
    text = str(verdict)
    assert text.startswith(f"{verdict.label} (fake ")
    assert text.endswith("in (0, 0, 100, 80) of 100x80 pixels")
    assert "\n" not in text
    assert "array" not in text
    sure = Verdict((9, 9), Box(0, 0, 9, 9), 0.00001)
    assert str(sure).startswith("FAKE (fake > 99.9%, real < 0.1%)")


@pytest.mark.parametrize(
    ("real", "share", "disagree"),
    [
        *((True, 0.32, True), (True, 0.05, True), (True, 0.049, False), (True, 0.0, False)),
        *((False, 0.32, False), (False, 0.005, False), (False, 0.004, True), (False, 0.0, True)),
        *((None, 0.3, None), (True, None, None)),
    ],
)
def test_when_the_heads_disagree(
    real: bool | None, share: float | None, disagree: bool | None
) -> None:
    """REAL with much marked, or FAKE with nothing to speak of; with one rule everywhere."""
    assert heads_disagree(real, share) is disagree
    probability = None if real is None else 0.77 if real else 0.23
    mask = None if share is None else np.arange(1000) < 1000 * share
    verdict = Verdict((9, 9), Box(0, 0, 9, 9), probability, mask)
    assert verdict.heads_disagree is disagree
    assert ("the heads disagree" in str(verdict)) == bool(disagree)
    decision = Decision(probability)
    faces = [FaceResult(verdict.box, decision, share)]
    for result in (
        FileResult("a.png", "picture", size=(9, 9), frames=[FrameResult(faces, [], None, None)]),
        VideoResult("a.mp4", "video", size=(9, 9), frames=[FrameResult(faces * 4, [], 0, 0.0)]),
    ):
        result.conclude()
        assert ("marked manipulated: the heads disagree" in str(result)) == bool(disagree)
        written = result.to_json()
        if isinstance(result, VideoResult):
            assert written["heads_disagree"] is disagree
            assert [person["heads_disagree"] for person in written["people"]] == [disagree]
        else:
            assert written["faces"][0]["heads_disagree"] is disagree
    assert "5% or more" in meaning()["heads_disagree"]


@pytest.mark.parametrize(
    ("probability", "digits", "text"),
    [
        *((0.5, 0, "50%"), (0.994, 0, "99%"), (0.995, 0, "> 99%"), (1.0, 0, "> 99%")),
        *((0.9994, 1, "99.9%"), (0.9996, 1, "> 99.9%"), (0.0004, 1, "< 0.1%"), (0.0, 1, "< 0.1%")),
        (0.0006, 1, "0.1%"),
    ],
)
def test_no_probability_is_rounded_to_certainty(probability: float, digits: int, text: str) -> None:
    assert per_cent(probability, digits) == text


@pytest.mark.parametrize(
    ("threshold", "probabilities", "digits"),
    [
        (0.5, [], 2),
        (0.6519506, [0.6359, 0.66, 0.0, 1.0], 2),
        (0.6519506, [0.6510], 3),  # 0.65 would be FAKE from 0.65 on
        (0.6519506, [0.6519506], 2),
        (0.6519506, [0.651949], 4),
        (0.6519506, [np.nextafter(0.6519506, 0)], 16),
        (0.9996, [0.5], 4),  # 0.999 or 1.000 is no threshold
    ],
)
def test_digits_show_on_which_side_of_the_threshold_a_probability_is(
    threshold: float, probabilities: list[float], digits: int
) -> None:
    assert digits_beside(threshold, probabilities) == digits
    limit = in_digits(threshold, digits)
    for probability in probabilities:
        shown = in_digits(probability, digits)
        if "%" in shown:
            assert shown == ("> 99%" if probability > threshold else "< 1%")
        else:
            assert (float(shown) < float(limit)) == (probability < threshold)


def test_every_column_is_explained(model: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(model, folder / "a.png", "--out", out) == 0
    with (out / "predictions.csv").open(encoding="utf-8", newline="") as table:
        columns = next(csv.reader(table))
    explained = {name for key in document(out)["meaning"] for name in key.split(", ")}
    assert set(columns) - explained == {"left", "top", "right", "bottom"}  # of `box`


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"false_alarm_rate": {"wished": 0.05, "reached": 0.04}}, 0.05),
        ({}, None),
        ({"false_alarm_rate": 0.05}, None),
        ({"false_alarm_rate": {"wished": "<b>"}}, None),
        ({"false_alarm_rate": {"wished": 5.0}}, None),
    ],
)
def test_the_rate_of_false_alarms_of_a_threshold(
    record: dict[str, Any], expected: float | None
) -> None:
    assert metadata.false_alarm_rate({"calibration": record}) == expected
    assert metadata.false_alarm_rate({}) is None


def test_python_gives_what_the_command_writes(
    model: Path, folder: Path, tmp_path: Path, capsys: Printed
) -> None:
    out = tmp_path / "out"
    assert run(model, folder, "--out", out, "--every", 2) == 1
    written = document(out)
    left_out = LeftOut()
    detector = Detector.from_checkpoint(model)
    found = list(predict_files([folder], detector, every=2, left_out=left_out))
    files = ("mask", "overlay", "timeline", "close_up")
    assert [result.to_json() for result in found] == [
        {key: value for key, value in result.items() if key not in files}
        for result in written["files"]
    ]
    assert left_out.to_json() == written["left_out"]
    printed = capsys.readouterr().out
    assert all(str(result) in printed for result in found)
    film = predict_file(folder / "c.mp4", detector, frames=2)
    assert isinstance(film, flax_unet.VideoResult)
    assert film.frames_judged == 2
    (person,) = film.people
    assert person.detection_confidence is not None
    assert person.detection_confidence > 0.8
    broken = predict_file(folder / "j.tiff", str(model))
    assert broken.problem is not None
    assert "cannot be decoded" in broken.problem or "known format" in broken.problem


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"every": 0}, "every is 0; expected at least 1"),
        ({"frames": 0}, "frames is 0; expected at least 1"),
        ({"every": 2, "frames": 3}, "every, frames and keyframes exclude each other"),
        ({"frames": 3, "keyframes": True}, "exclude each other"),
        ({"faces": "all"}, "faces is 'all'; expected one of auto, crop, none"),
    ],
)
def test_arguments_out_of_range(options: Any, reason: str, model: Path, folder: Path) -> None:
    with pytest.raises(ValueError, match=reason):
        predict_file(folder / "a.png", model, **options)


def test_one_path_is_not_a_list_of_its_letters(model: Path, folder: Path) -> None:
    """The first letter of a path is often that of the root of all files."""
    for path in (folder, str(folder)):
        with pytest.raises(ValueError, match="this is one path"):
            next(predict_files(path, model))  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="is a directory; name a file, or call predict_files"):
        predict_file(folder, model)


def test_doubtful_faces_are_marked(model: Path, tmp_path: Path) -> None:
    from PIL import ImageFilter

    photo().filter(ImageFilter.GaussianBlur(12)).save(tmp_path / "blurred.png")
    photo().crop((240, 0, 512, 600)).save(tmp_path / "cut.png")
    photo().crop((0, 0, 512, 240)).save(tmp_path / "below.png")
    photo().save(tmp_path / "good.png")
    names = ("blurred", "cut", "below", "good")
    blurred, cut, below, good = (predict_file(tmp_path / f"{name}.png", model) for name in names)
    assert "blurred" in blurred.faces[0].doubts
    assert "1 face is blurred: less certain" in blurred.notes
    assert "cut off" in cut.faces[0].doubts
    assert "cut off" in below.faces[0].doubts
    assert good.faces[0].doubts == ()
    assert (good.faces[0].detection_confidence or 0.0) > 0.9


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_faces_on_their_side(degrees: int, model: Path, tmp_path: Path) -> None:
    photo().rotate(degrees, expand=True).save(tmp_path / "x.png")
    result = predict_file(tmp_path / "x.png", model)
    upright = predict_file(shutil.copy(tmp_path / "x.png", tmp_path / "y.png"), model)
    assert result.size == upright.size == (512, 600)
    assert len(result.faces) == 1
    back = (360 - degrees) % 360
    notes = [note for note in result.notes if "turned by" in note]
    assert notes == [] if degrees == 0 else f"turned by {back} degrees" in notes[0]


def test_numbered_frames_have_no_face(model: Path, tmp_path: Path) -> None:
    film = encode(tmp_path / "x.mp4", numbered(5))
    result = predict_file(film, model)
    assert isinstance(result, VideoResult)
    assert (result.people, result.person, result.decision.verdict) == ([], None, None)
    assert result.notes == ["no face to judge in 5 of 5 frames"]
