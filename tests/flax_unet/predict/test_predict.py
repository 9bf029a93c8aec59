"""The command: every file accounted for, in print, in JSON and in a table; nothing half done."""

import csv
import io
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import font_manager  # noqa: F401 - its first import writes a cache: not in a test
from PIL import Image

from benchmarks import prediction
from convert import parity
from convert.torch_unet import ReferenceUNet
from flax_unet import Detector, detector, load, predict_file
from flax_unet.checkpoint import metadata
from flax_unet.checkpoint.worth import DAMAGED, RANDOM, UNKNOWN, Worth
from flax_unet.media.faces import Box
from flax_unet.media.videos import Sampling, VideoReader
from flax_unet.predict import __main__ as predict
from flax_unet.predict import draw, predictions, results, writer
from flax_unet.utils.errors import command
from tests.conftest import listing, small_tensors
from tests.flax_unet.samples import (
    CLIP,
    SIDE,
    group,
    needs_shared,
    noise,
    numbered,
    photo,
    png_of_size,
    small_checkpoint,
    sound_avi,
    write_video,
)
from tests.tolerances import NETWORK, PROBABILITY, assert_close

Fails = Callable[..., str]
Printed = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_checkpoint(tmp_path_factory.mktemp("model"))


TABLES = {"predictions.json", "predictions.jsonl", "predictions.csv", "summary.csv", "report.html"}


def run(*arguments: object) -> int:
    """The exit status of the command."""
    try:
        predict.main([str(argument) for argument in arguments])
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0


def written(out: Path) -> list[dict[str, Any]]:
    return json.loads((out / "predictions.json").read_text())["files"]


def table(out: Path, level: str) -> list[dict[str, str]]:
    """The rows of predictions.csv that are about files, or about faces."""
    with (out / "predictions.csv").open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["level"] == level]


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ({"worth": RANDOM.to_json()}, "Random weights: verdicts mean nothing."),
        ({}, UNKNOWN.sentence),
        ({"trained": {"data": "dfdc"}}, "Trained on dfdc; no measurement is recorded."),
        ({"worth": Worth("<b>Mine</b>, größer.").to_json()}, "<b>Mine</b>, größer."),
        ({"worth": {"sentence": "\x1b[2J" * 2**18}}, DAMAGED.sentence),
    ],
    ids=["stand-in", "converted", "trained", "by hand", "hostile"],
)
def test_what_the_weights_are_worth_is_said_once(
    source: dict[str, Any], sentence: str, model: Path, tmp_path: Path, capsys: Printed
) -> None:
    checkpoint = shutil.copytree(model, tmp_path / "model")
    metadata.write_json(checkpoint / metadata.SOURCE, source)
    for name in ("a.png", "b.png"):
        noise().save(tmp_path / name)
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    out = tmp_path / "out"
    assert run(checkpoint, *paths, "--faces", "none", "--out", out) == 0
    printed = capsys.readouterr()
    assert printed.err == f"note: {sentence}\n"
    assert sentence not in printed.out
    predictions = json.loads((out / "predictions.json").read_text())
    assert predictions["worth"] == sentence
    assert "weights" in predictions["meaning"]["worth"]
    assert run(checkpoint, *paths, "--faces", "none", "--json") == 0
    printed = capsys.readouterr()
    assert printed.err.endswith(f"note: {sentence}\n")
    assert sentence not in printed.out
    judging = Detector.from_checkpoint(checkpoint)
    assert judging.worth.sentence == sentence
    assert predict_file(paths[0], judging, faces="none").worth == sentence


def test_crops_are_judged_as_pytorch_does(model: Path, tmp_path: Path, capsys: Printed) -> None:
    names = ["a b.png", "other/a b.png", "gesicht ü.jpg"]
    (tmp_path / "other").mkdir()
    for seed, name in enumerate(names):
        noise(seed=seed).save(tmp_path / name)
    paths = [str(tmp_path / name) for name in names]
    out = tmp_path / "out"
    assert run(model, *paths, "--faces", "none", "--out", out) == 0

    printed = capsys.readouterr().out
    predictions = json.loads((out / "predictions.json").read_text())
    assert "REAL" in predictions["meaning"]["real_probability"]
    assert "MANIPULATED" in predictions["meaning"]["mask"]
    assert [result["file"] for result in predictions["files"]] == paths
    assert len({result["mask"] for result in predictions["files"]}) == 3
    tensors = {key: value.numpy() for key, value in small_tensors("ynet-224").items()}
    twin = parity.load_twin(ReferenceUNet(load(model).config), tensors)
    for path, result in zip(paths, predictions["files"], strict=True):
        with Image.open(path) as opened:  # the published preprocessing, spelt out
            shape = (SIDE, SIDE)
            pixels = np.asarray(opened.convert("RGB").resize(shape, Image.Resampling.NEAREST))
        expected = parity.twin_output(twin, pixels[None].astype(np.float32) / 255)
        assert expected.real_probability is not None
        assert expected.is_manipulated is not None
        real = float(expected.real_probability[0])
        assert abs(result["real_probability"] - real) <= PROBABILITY
        assert result["real_probability"] + result["fake_probability"] == 1
        assert result["verdict"] == ("REAL" if real > 0.5 else "FAKE")
        (face,) = result["faces"]
        assert face["box"] == [0, 0, 100, 80]
        # The mask is resized to the picture, whose 8,000 pixels are not all of the network's.
        assert abs(face["manipulated_share"] - float(expected.is_manipulated.mean())) < 2e-3
        assert f"{path}:  {result['verdict']}  (real {result['real_probability']:.4f}" in printed
        with Image.open(out / result["mask"]) as mask:
            assert mask.size == (100, 80)
            assert mask.mode == "P"
            assert set(np.unique(np.asarray(mask))) <= {0, 1}
        with Image.open(out / result["overlay"]) as overlay:
            assert overlay.size == (100, 80)


def test_photos_of_people(model: Path, tmp_path: Path, capsys: Printed) -> None:
    group((100, 100, 250), (700, 200, 120), (1100, 300, 40)).save(tmp_path / "three.png")
    photo().save(tmp_path / "one.jpg")
    noise().save(tmp_path / "none.png")
    out = tmp_path / "out"
    names = ["three.png", "one.jpg", "none.png"]
    assert run(model, *(tmp_path / name for name in names), "--out", out) == 0
    three, one, none = written(out)
    assert [len(result["faces"]) for result in (three, one, none)] == [2, 1, 0]
    assert [len(result["too_small"]) for result in (three, one, none)] == [1, 0, 0]
    # The picture is as FAKE as the face that is FAKE most likely.
    assert three["fake_probability"] == max(face["fake_probability"] for face in three["faces"])
    assert none["verdict"] is none["real_probability"] is None
    assert none["status"] == "ok"
    assert none["notes"] == ["no face found"]
    assert three["notes"] == ["a face is too small to judge"]
    assert "mask" not in none
    with Image.open(out / three["mask"]) as mask:
        marked = np.asarray(mask).astype(bool)
    outside = np.ones_like(marked)
    for left, top, right, bottom in (face["box"] for face in three["faces"]):
        outside[top:bottom, left:right] = False
    assert marked.any()
    assert not (marked & outside).any()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{tmp_path}/three.png:  ")
    assert lines[0].endswith("2 faces")
    assert sum(line.startswith("  face at (") for line in lines) == 2
    assert "  note: a face is too small to judge" in lines
    assert f"{tmp_path}/none.png:  no face to judge" in lines
    rows = table(out, "face")
    assert [(row["file"].rpartition("/")[2], row["face"]) for row in rows] == [
        *(("three.png", "1"), ("three.png", "2"), ("one.jpg", "1"))
    ]
    files = table(out, "file")
    assert [row["verdict"] for row in files] == [three["verdict"], one["verdict"], ""]
    worst = max(three["faces"], key=lambda face: face["fake_probability"])
    for name in ("manipulated_share", "heads_disagree"):
        assert [row[name] for row in files] == [str(worst[name]), str(one[name]), ""]
        assert (three[name], one[name]) == (worst[name], one["faces"][0][name])
    assert [row["notes"] for row in files] == ["a face is too small to judge", "", "no face found"]
    for row, face in zip(rows, [*three["faces"], *one["faces"]], strict=True):
        corners = [int(row[name]) for name in ("left", "top", "right", "bottom")]
        assert corners == face["box"]
        assert float(row["real_probability"]) == face["real_probability"]
        assert float(row["manipulated_share"]) == face["manipulated_share"]
        assert row["verdict"] == face["verdict"]


def test_a_video(model: Path, tmp_path: Path, capsys: Printed) -> None:
    film = write_video(tmp_path / "a film.avi", numbered(40), rate=12.5)
    out = tmp_path / "out"
    assert run(model, film, "--faces", "none", "--out", out, "--every", 2) == 0
    (result,) = written(out)
    assert (result["kind"], result["status"], result["notes"]) == ("video", "ok", [])
    assert (result["frames_read"], result["frames_judged"]) == (20, 20)
    assert [frame["frame"] for frame in result["frames"]] == list(range(0, 40, 2))
    seconds = [frame["seconds"] for frame in result["frames"]]
    assert seconds == pytest.approx(np.arange(0, 40, 2) / 12.5)
    fakes = [frame["fake_probability"] for frame in result["frames"]]
    assert result["fake_probability"] == pytest.approx(np.mean(fakes))
    assert result["verdict"] == ("REAL" if result["fake_probability"] < 0.5 else "FAKE")
    assert result["aggregation"] == results.AGGREGATION
    shares = [frame["faces"][0]["manipulated_share"] for frame in result["frames"]]
    assert result["manipulated_share"] == pytest.approx(np.mean(shares))
    line = capsys.readouterr().out.splitlines()[0]
    assert line.startswith(f"{film}:  {result['verdict']}")
    assert line.endswith("mean of 20 frames")
    (whole,) = table(out, "file")
    assert whole["verdict"] == result["verdict"]
    assert float(whole["fake_probability"]) == result["fake_probability"]
    rows = table(out, "face")
    assert [int(row["frame"]) for row in rows] == list(range(0, 40, 2))
    assert [float(row["fake_probability"]) for row in rows] == fakes
    with Image.open(out / result["timeline"]) as timeline:
        assert timeline.width > 500
    reader = VideoReader(out / result["overlay"], Sampling())
    assert sum(frame is not None for frame in reader.frames()) == 20
    assert reader.rate == 6.25  # so that it lasts as long as the video


def test_heads_that_a_network_lacks(tmp_path: Path, capsys: Printed) -> None:
    noise().save(tmp_path / "face.png")
    film = write_video(tmp_path / "film.avi", numbered(3))
    for layout, absent in (("classifier-224", "manipulated"), ("segmenter-224", "REAL")):
        out = tmp_path / f"{layout}-out"
        network = small_checkpoint(tmp_path, layout)
        assert run(network, tmp_path / "face.png", film, "--faces", "none", "--out", out) == 0
        lines = capsys.readouterr().out.splitlines()
        assert all(absent not in line for line in lines[:2])
        has_mask = layout == "segmenter-224"
        for result in written(out):
            assert (result["verdict"] is None) == has_mask
            assert (result["real_probability"] is None) == has_mask
        picture, video = written(out)
        assert (picture["faces"][0]["manipulated_share"] is None) != has_mask
        assert picture["manipulated_share"] == picture["faces"][0]["manipulated_share"]
        assert (video["manipulated_share"] is None) != has_mask
        always = {*TABLES, "face.overlay.png", "film.overlay.mp4"}
        own = {"face.mask.png"} if has_mask else {"film.timeline.png", "film.closeup.jpg"}
        assert {path.name for path in out.iterdir()} == always | own


def test_threshold_of_the_mask(model: Path, tmp_path: Path) -> None:
    noise().save(tmp_path / "face.png")
    film = write_video(tmp_path / "film.avi", numbered(3))
    arguments = [model, tmp_path / "face.png", film, "--faces", "none"]
    strict, published = tmp_path / "strict", tmp_path / "published"
    assert run(*arguments, "--mask-threshold", 0.75, "--out", strict) == 0
    assert run(*arguments, "--out", published) == 0
    predictions = json.loads((strict / "predictions.json").read_text())
    assert predictions["options"]["mask_threshold"] == 0.75
    assert "probability" in predictions["meaning"]["mask_threshold"]
    assert json.loads((published / "predictions.json").read_text())["options"] == {
        **predictions["options"],
        "mask_threshold": None,
    }
    (verdict,) = Detector.from_checkpoint(model)([noise()])
    assert verdict.mask_probability is not None
    assert verdict.manipulated_probability is not None
    with Image.open(strict / "face.mask.png") as mask:
        marked = np.asarray(mask) == 1
    np.testing.assert_array_equal(marked, verdict.manipulated_probability > 0.75)
    overlays = []
    for directory in (strict, published):
        with Image.open(directory / "face.overlay.png") as overlay:
            overlays.append(np.asarray(overlay))
    drawn = draw.overlay(noise(), [replace(verdict, mask=verdict.mask_probability > 0.75)])
    np.testing.assert_array_equal(overlays[0], drawn)
    assert (overlays[0] != overlays[1]).any()  # another contour
    picture, video = predictions["files"]
    share = (verdict.mask_probability > 0.75).mean()
    assert picture["faces"][0]["manipulated_share"] == pytest.approx(share)
    before = written(published)
    assert picture["faces"][0]["manipulated_share"] < before[0]["faces"][0]["manipulated_share"]
    assert video["manipulated_share"] < before[1]["manipulated_share"]
    assert video["fake_probability"] == before[1]["fake_probability"]


def test_logits_of_pictures_and_videos(model: Path, tmp_path: Path, capsys: Printed) -> None:
    group((100, 100, 250), (700, 200, 120), (1100, 300, 40)).save(tmp_path / "three.png")
    noise().save(tmp_path / "none.png")
    film = write_video(tmp_path / "film.avi", (photo() for _ in range(24)), size=(512, 600))
    out = tmp_path / "out"
    paths = [tmp_path / "three.png", tmp_path / "none.png", film]
    assert run(model, *paths, "--save-logits", "--every", 2, "--out", out) == 0
    assert "logits" in capsys.readouterr().out
    predictions = json.loads((out / "predictions.json").read_text())
    assert predictions["options"]["save_logits"] is True
    assert "class 1 MANIPULATED" in predictions["meaning"]["logits"]
    three, none, video = predictions["files"]
    assert (three["logits"], video["logits"]) == ("three.logits.npy", "film.logits.npy")
    assert "logits" not in none
    assert {path.name for path in out.glob("*.npy")} == {three["logits"], video["logits"]}
    for result in (three, video):
        faces = [face for frame in result.get("frames", [result]) for face in frame["faces"]]
        assert len(faces) == (2 if result is three else 12)
        logits = np.load(out / result["logits"], mmap_mode="r")
        assert logits.shape == (len(faces), SIDE, SIDE, 2)
        assert logits.dtype == np.float32
        for face, of_face in zip(faces, logits, strict=True):
            marked = of_face[..., 1] > of_face[..., 0]
            assert face["manipulated_share"] == marked.mean()
    # The mask at the picture's size follows from them and the boxes.
    whole = np.zeros((three["height"], three["width"]), bool)
    for face, of_face in zip(three["faces"], np.load(out / three["logits"]), strict=True):
        left, top, right, bottom = face["box"]
        marked = Image.fromarray(of_face[..., 1] > of_face[..., 0])
        size = (right - left, bottom - top)
        whole[top:bottom, left:right] |= np.asarray(marked.resize(size, Image.Resampling.NEAREST))
    with Image.open(out / three["mask"]) as mask:
        np.testing.assert_array_equal(np.asarray(mask) == 1, whole)
    with Image.open(tmp_path / "three.png") as image:
        box = Box(*three["faces"][1]["box"])
        (verdict,) = Detector.from_checkpoint(model, keep_logits=True)([image], [box])
    assert_close(np.load(out / three["logits"])[1], verdict.mask_logits, NETWORK)


def test_logits_without_a_place_or_a_mask_head(model: Path, tmp_path: Path, fails: Fails) -> None:
    noise().save(tmp_path / "face.png")
    classifier = small_checkpoint(tmp_path, "classifier-224")
    before = listing(tmp_path)
    message = fails(predict.main, model, tmp_path / "face.png", "--save-logits")
    assert "--save-logits: name a directory for them with --out" in message
    arguments = [classifier, tmp_path / "face.png", "--faces", "none", "--out", tmp_path / "out"]
    for options in (["--mask-threshold", 0.5], ["--save-logits"]):
        message = fails(predict.main, *arguments, *options)
        assert f"{options[0]}: {classifier} has no mask head" in message
    both = fails(predict.main, *arguments, "--mask-threshold", 0.5, "--save-logits")
    assert "--mask-threshold and --save-logits: " in both
    assert listing(tmp_path) == before


def write_bad(folder: Path) -> dict[str, str]:
    """Files that cannot be judged, and why."""
    folder.mkdir()
    reasons = {
        "a missing.png": "does not exist",
        "b empty.png": "is empty; replace or remove it",
        "c text.jpg": "is not a picture of a known format",
        "d cut.png": "cannot be decoded",
        "e bomb.png": "is 100000x100000, over 100,000,000 pixels",
        "f sound.avi": "holds no video that can be decoded (sound alone, or damaged); export it",
        "g list.mp4": "is not a video of a known format (MP4, MOV, MKV, WebM, AVI, MPEG-TS and "
        "others); export it again as MP4 (H.264)",
        "h pipe.png": "is not a regular file",
        "i link.png": "is a link to nothing",
        "j folder": "holds no picture or video",
        "k.unknown": "is not a picture of a known format",
    }
    (folder / "b empty.png").touch()
    (folder / "c text.jpg").write_text("no picture")
    (folder / "d cut.png").write_bytes(png_of_size(50, 50))
    (folder / "e bomb.png").write_bytes(png_of_size(100_000, 100_000))
    sound_avi(folder / "f sound.avi")
    (folder / "g list.mp4").write_text("#EXTM3U\nhttp://127.0.0.1:9/x.ts\n")
    os.mkfifo(folder / "h pipe.png")
    (folder / "i link.png").symlink_to("nowhere")
    (folder / "j folder").mkdir()
    (folder / "k.unknown").write_text("no picture")
    return reasons


def test_bad_files_among_good_ones(model: Path, tmp_path: Path, capsys: Printed) -> None:
    reasons = write_bad(tmp_path / "bad")
    noise().save(tmp_path / "first.png")
    noise().save(tmp_path / "last.png")
    bad = [tmp_path / "bad" / name for name in reasons]
    out = tmp_path / "out"
    paths = [tmp_path / "first.png", *bad, tmp_path / "last.png"]
    assert run(model, *paths, "--faces", "none", "--out", out) == 1
    output = capsys.readouterr()
    assert output.err == f"note: {UNKNOWN.sentence}\n"
    lines = [line for line in output.out.splitlines() if not line.startswith("  ")]
    found = written(out)
    assert [result["file"] for result in found] == list(map(str, paths))
    assert [result["status"] for result in found] == ["ok", *["failed"] * len(bad), "ok"]
    *lines, counts, _ = lines
    assert counts.startswith(f"{len(paths)} files: ")
    assert counts.endswith(f", {len(bad)} failed")
    for path, line, result, row in zip(paths, lines, found, table(out, "file"), strict=True):
        assert row["file"] == result["file"] == str(path)
        if path in bad:
            reason = reasons[path.name]
            assert line.startswith(f"{path}:  failed: {reason}")
            assert result["problem"].startswith(f"{path} {reason}")
            assert row["problem"] == result["problem"]
            assert result["kind"] == {".avi": "video", ".mp4": "video", "": "folder"}.get(
                path.suffix, "picture"
            )


def test_bad_files_alone(model: Path, tmp_path: Path, capsys: Printed) -> None:
    reasons = write_bad(tmp_path / "bad")
    out = tmp_path / "out"
    paths = [tmp_path / "bad" / name for name in reasons]
    assert run(model, *paths, "--out", out) == 2
    output = capsys.readouterr()
    assert output.err == "error: every file failed; the reasons are above\n"
    assert output.out.count("failed: ") == len(reasons)
    assert f"{len(reasons)} files: 0 REAL, 0 FAKE, {len(reasons)} failed" in output.out
    assert not out.exists()


def test_json_lines_and_nothing_else(model: Path, tmp_path: Path, capsys: Printed) -> None:
    reasons = write_bad(tmp_path / "bad")
    noise().save(tmp_path / "good.png")
    film = write_video(tmp_path / "film.avi", numbered(3))
    bad = [tmp_path / "bad" / name for name in reasons]
    out = tmp_path / "out"
    arguments = [model, tmp_path / "good.png", *bad, film, "--faces", "none", "--json"]
    assert run(*arguments, "--out", out) == 1
    lines = capsys.readouterr().out.splitlines()
    assert list(map(json.loads, lines)) == written(out)
    assert run(*arguments) == 1
    alone = list(map(json.loads, capsys.readouterr().out.splitlines()))
    files = ("mask", "overlay", "timeline", "close_up")
    assert alone == [{k: v for k, v in r.items() if k not in files} for r in written(out)]


HOSTILE = [
    *("\x1b]0;owned\x07\x1b[31m.png", "line\nbreak\r.png", os.fsdecode(b"\xff\xfe.png")),
    *("\u202egnp.png", "..png.png", "-.png", "%s%n.png", "%03d.png", "a;b|c&d $(e).png"),
    *("quote\"'`.png", "<b>.png", "=1+1.png", "ü顔\u200d.png", "x" * 251 + ".png", "CON.png"),
    *("same/Name.png", "same/name.PNG", "other/name.png", "other/deep/name.png"),
]


def test_names_of_any_kind(model: Path, tmp_path: Path, capsys: Printed) -> None:
    folder = tmp_path / "pictures"
    for seed, name in enumerate(HOSTILE):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        noise(20, 20, seed).save(folder / name, "PNG")
    (folder / ".hidden").mkdir()
    before = listing(folder)
    out = tmp_path / "out"
    visible = [name for name in HOSTILE if not name.startswith(".")]
    assert run(model, folder, "--faces", "none", "--out", out) == 0
    printed = capsys.readouterr().out
    assert printed.replace("\n", "").isprintable()
    *_, counts, left_out, where = lines = printed.splitlines()
    assert len(lines) == len(visible) + 3
    assert counts.startswith(f"{len(visible)} files: ")
    hidden = len(HOSTILE) - len(visible) + 1
    assert counts.endswith(f", {hidden} more left out")
    assert left_out == "left out: 1 .png, 1 without a suffix (hidden)"
    assert where.startswith(f"{out}: ")
    found = written(out)
    assert len({result["file"] for result in found}) == len(found) == len(visible)
    made = [result[kind] for result in found for kind in ("mask", "overlay")]
    assert len({name.lower() for name in made}) == len(made) == 2 * len(visible)
    assert {path.name for path in out.iterdir()} == {*made, *TABLES}
    assert [row["file"] for row in table(out, "file")] == [result["file"] for result in found]
    assert listing(folder) == before
    assert run(model, folder / "..png.png", "--faces", "none") == 0  # when it is asked for


def test_same_file_twice(model: Path, tmp_path: Path) -> None:
    noise().save(tmp_path / "a.png")
    film = write_video(tmp_path / "a.avi", numbered(3))
    out = tmp_path / "out"
    again = [tmp_path / "a.png", film]
    assert run(model, *again, *again, "--faces", "none", "--out", out) == 0
    assert [result["overlay"] for result in written(out)] == [
        *("a.overlay.png", "a-2.overlay.mp4", "a-3.overlay.png", "a-4.overlay.mp4")
    ]


@pytest.mark.parametrize("ends", [b"\n", b"\r\n", b"\0"])
def test_list_from_standard_input(
    ends: bytes, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    names = ["a b.png", "ü.png", os.fsdecode(b"\xff.png")]
    names += ["two\nlines.png"] if ends == b"\0" else []
    for name in [*names, "first.png", "last.png"]:
        noise(20, 20).save(tmp_path / name)
    listed = ends.join(os.fsencode(tmp_path / name) for name in names) + ends + ends
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(listed)))
    arguments = [tmp_path / "first.png", "-", tmp_path / "last.png", "--json", "--faces", "none"]
    assert run(model, *arguments) == 0
    found = [json.loads(line)["file"] for line in capsys.readouterr().out.splitlines()]
    assert len(found) == len(names) + 2
    assert found[1] == str(tmp_path / "a b.png")
    assert found[-1] == str(tmp_path / "last.png")


def test_standard_input_without_names(
    model: Path, monkeypatch: pytest.MonkeyPatch, fails: Fails
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\n\n")))
    assert "standard input names no file" in fails(predict.main, model, "-")


def test_existing_output_is_kept(
    model: Path, tmp_path: Path, fails: Fails, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Detector, "from_checkpoint", lambda *_: pytest.fail("work was begun"))
    noise().save(tmp_path / "face.png")
    out = tmp_path / "out"
    out.mkdir()
    (out / "predictions.json").write_text("mine")
    message = fails(predict.main, model, tmp_path / "face.png", "--out", out)
    assert f"{out} exists already" in message
    assert listing(out) == {"predictions.json": b"mine"}
    assert {path.name for path in tmp_path.iterdir()} == {"face.png", "out"}


def test_output_in_the_folder_that_is_judged(model: Path, tmp_path: Path) -> None:
    for number in range(30):
        noise(20, 20).save(tmp_path / f"{number}.png")
    out = tmp_path / "a" / "out"
    assert run(model, tmp_path, "--faces", "none", "--out", out) == 0
    assert len(written(out)) == 30


@pytest.mark.parametrize("what", ["mask", "logits", "film", "table"])
def test_full_disk_leaves_nothing(
    what: str, model: Path, tmp_path: Path, fails: Fails, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    owner, name = {
        "mask": (Image.Image, "save"),
        "logits": (np.lib.format, "write_array_header_1_0"),
        "film": (writer, "VideoWriter"),
        "table": (predictions, "_rows"),
    }[what]
    noise().save(tmp_path / "face.png")
    film = write_video(tmp_path / "film.avi", numbered(3))
    before = listing(tmp_path)
    monkeypatch.setattr(owner, name, full)
    out = tmp_path / "new" / "out"
    arguments = [model, film, tmp_path / "face.png", "--faces", "none", "--out", out]
    assert "No space left on device" in fails(predict.main, *arguments, "--save-logits")
    if what == "table":  # everything is judged, and kept
        assert (out.parent / "out.unfinished" / "predictions.jsonl").is_file()
        monkeypatch.undo()
        assert run(*arguments, "--save-logits") == 0
        shutil.rmtree(out.parent)
    assert listing(tmp_path) == before
    assert "ahead" not in [thread.name for thread in threading.enumerate()]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt(), 130), (SystemExit(143), 143)])
def test_interrupted(
    error: BaseException,
    status: int,
    workers: int,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    noise().save(tmp_path / "face.png")
    film = write_video(tmp_path / "film.avi", numbered(50))
    before = listing(tmp_path)

    def interrupted(result: results.VideoResult) -> str:
        raise error

    monkeypatch.setattr(results.VideoResult, "__str__", interrupted)
    out = tmp_path / "out"
    paths = [tmp_path / "face.png", film, film, film, film]
    options = ["--faces", "none", "--workers", workers]
    assert run(model, *paths, *options, "--out", out) == status
    left = {name: of for name, of in listing(tmp_path).items() if not name.startswith("cache")}
    assert {name for name in left if "out.unfinished" not in name} == before.keys()
    lines = (tmp_path / "out.unfinished" / "predictions.jsonl").read_text().splitlines()
    assert [json.loads(line)["file"] for line in lines] == [str(paths[0]), str(film)]
    assert "ahead" not in [thread.name for thread in threading.enumerate()]
    assert not multiprocessing.active_children()


ENDLESS = """
import itertools, os, signal, sys, threading
from flax_unet.media import videos
from flax_unet.predict import __main__ as predict, pipeline

class Endless(videos.VideoReader):
    def frames(self):
        for read in itertools.count():
            if read % 1_000_000 == 0:  # again, if Python had it raised where it is ignored
                threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGINT)).start()
            yield None

pipeline.VideoReader = Endless
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
predict.main(sys.argv[1:])
"""


def test_interrupted_while_frames_are_counted(model: Path, tmp_path: Path) -> None:
    film = write_video(tmp_path / "film.avi", numbered(5))
    before = listing(tmp_path)
    arguments = [model, film, "--faces", "none", "--frames", 3, "--out", tmp_path / "out"]
    ended = subprocess.run(
        [sys.executable, "-c", ENDLESS, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")
    assert listing(tmp_path) == before


def test_reader_that_has_seen_enough(model: Path, tmp_path: Path) -> None:
    for number in range(5):
        noise(20, 20).save(tmp_path / f"{number}.png")
    arguments = [sys.executable, "-m", "flax_unet.predict", model, tmp_path, "--faces", "none"]
    with subprocess.Popen(
        list(map(str, arguments)), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 128 + signal.SIGPIPE


def test_broken_pipe_ends_any_command(capfd: pytest.CaptureFixture[str]) -> None:
    @command
    def main() -> None:
        raise BrokenPipeError(32, "Broken pipe")

    kept = os.dup(1)
    try:
        with pytest.raises(SystemExit) as stopped:
            main()
    finally:
        os.dup2(kept, 1)
        os.close(kept)
    assert stopped.value.code == 141
    assert capfd.readouterr().err == ""


def test_letters_that_the_output_lacks(model: Path, tmp_path: Path) -> None:
    noise().save(tmp_path / "ü顔.png")
    arguments = [sys.executable, "-m", "flax_unet.predict", model, tmp_path, "--faces", "none"]
    ended = subprocess.run(
        list(map(str, arguments)),
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    )
    assert rb"\xfc\u9854.png:  " in ended.stdout


def test_face_model_that_is_none(model: Path, tmp_path: Path, fails: Fails) -> None:
    noise().save(tmp_path / "face.png")
    (tmp_path / "faces.onnx").write_text("no model")
    arguments = [model, tmp_path / "face.png", "--face-model", tmp_path / "faces.onnx"]
    assert "is not a YuNet model" in fails(predict.main, *arguments)


def test_without_the_extra(
    model: Path, tmp_path: Path, fails: Fails, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise().save(tmp_path / "face.png")
    film = write_video(tmp_path / "film.avi", numbered(3))
    needed = "this needs the package {} of the extra media: pip install {}, or"
    monkeypatch.setitem(sys.modules, "cv2", None)
    message = fails(predict.main, model, tmp_path / "face.png")
    assert needed.format("cv2", "opencv-python-headless") in message
    monkeypatch.setitem(sys.modules, "av", None)
    assert needed.format("av", "av") in fails(predict.main, model, film, "--faces", "none")
    assert run(model, tmp_path / "face.png", "--faces", "none") == 0


def test_checkpoint_that_is_none(tmp_path: Path, fails: Fails) -> None:
    noise().save(tmp_path / "face.png")
    before = listing(tmp_path)
    arguments = [tmp_path / "none", tmp_path / "face.png", "--out", tmp_path / "a" / "out"]
    assert "convert" in fails(predict.main, *arguments)
    assert listing(tmp_path) == before


@pytest.mark.parametrize(
    "options", [["--every", "0"], ["--frames", "-1"], ["--every", "2", "--frames", "2"]]
)
def test_wrong_options(options: list[str], model: Path, capsys: Printed) -> None:
    assert run(model, "x.png", *options) == 2
    assert re.search("expected a whole number from 1|not allowed with", capsys.readouterr().err)


@pytest.mark.parametrize("threshold", ["0", "1", "nan", "-0.5", "half"])
def test_wrong_thresholds(threshold: str, model: Path, capsys: Printed) -> None:
    assert run(model, "x.png", "--mask-threshold", threshold) == 2
    expected = f"expected a number above 0 and below 1, got {threshold}"
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize("name", ["=1+1.png", "\t=1+1.png", "\r@a.png", "\n-a.png"])
def test_names_are_no_formulas(
    name: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    noise().save(tmp_path / name)
    assert run(model, name, "--faces", "none", "--out", "out") == 0
    assert [row["file"] for row in table(tmp_path / "out", "file")] == [f"'{name}"]
    assert written(tmp_path / "out")[0]["file"] == name


def test_video_that_is_cut_short(model: Path, tmp_path: Path, capsys: Printed) -> None:
    content = write_video(tmp_path / "film.avi", numbered(50)).read_bytes()
    (tmp_path / "cut.avi").write_bytes(content[: len(content) // 2])
    noise().save(tmp_path / "face.png")
    out = tmp_path / "out"
    names = [tmp_path / "cut.avi", tmp_path / "face.png"]
    assert run(model, *names, "--faces", "none", "--out", out) == 1
    cut, _ = written(out)
    assert cut["status"] == "failed"
    assert "it claims 50 frames" in cut["problem"]
    assert cut["verdict"] is not None  # of what could be read
    assert (out / cut["overlay"]).exists()
    assert "failed: is cut short: it claims 50 frames" in capsys.readouterr().out


def test_face_model_without_faces(model: Path, fails: Fails) -> None:
    message = fails(predict.main, model, "x.png", "--faces", "none", "--face-model", "y.onnx")
    assert "leave out one" in message


def test_progress_bar(
    model: Path, tmp_path: Path, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Bar(predict.tqdm):
        def __init__(self, **options: Any) -> None:
            super().__init__(unit=options["unit"], disable=False)

    monkeypatch.setattr(predict, "tqdm", Bar)
    film = write_video(tmp_path / "\x1b[31mfilm.avi", numbered(40))
    noise().save(tmp_path / "face.png")
    assert run(model, tmp_path / "face.png", film, "--faces", "none", "--frames", 20) == 0
    drawn = capsys.readouterr().err
    assert "21/21" in drawn  # the picture, and then the video's frames
    assert "\\x1b[31mfilm.avi" in drawn
    assert "\x1b[31m" not in drawn


@needs_shared
@pytest.mark.slow
def test_the_clip(model: Path, tmp_path: Path, capsys: Printed) -> None:
    out = tmp_path / "out"
    assert run(model, CLIP, "--out", out) == 0
    (result,) = written(out)
    assert (result["frames_read"], result["frames_judged"]) == (300, 300)
    assert {len(frame["faces"]) for frame in result["frames"]} == {1}
    assert result["verdict"] in ("REAL", "FAKE")
    assert capsys.readouterr().out.startswith(f"{CLIP}:  {result['verdict']}")
    original = VideoReader(CLIP, Sampling())
    overlay = VideoReader(out / result["overlay"], Sampling())
    assert sum(frame is not None for frame in overlay.frames()) == 300
    assert sum(frame is not None for frame in original.frames()) == 300
    assert overlay.rate == pytest.approx(original.rate)
    with Image.open(out / result["timeline"]) as timeline:
        timeline.load()


def test_speed(tmp_path: Path, capsys: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_here(module: str, *words: str) -> float:
        assert module == "flax_unet.predict"
        assert run(*words) == 0
        capsys.readouterr()
        return 1.0

    monkeypatch.setattr(prediction, "run_module", run_here)
    monkeypatch.setattr(detector, "_MOST_ON_CPU", 2)
    prediction.main(["--frames", "2", "--base-width", "2", "--out", str(tmp_path / "speed.json")])
    result = json.loads((tmp_path / "speed.json").read_text())
    assert json.loads(capsys.readouterr().out) == result
    assert result["frames"] == result["frames_with_a_face"] == 2
    parts = {"decode", "find_faces", "network", "draw_and_encode"}
    assert result["frames_a_second"].keys() == {"command", *parts}
    assert result["seconds_for_one_frame"] > 0
    assert all(rate > 0 for rate in result["frames_a_second"].values())
