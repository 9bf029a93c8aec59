"""Figures by data set, compression and method, against counts of pairs."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.train.eval.verdicts import CLOSE, by_definition, predictions
from tests.train.fit.conftest import SHALLOW, write_checkpoint
from tests.train.folders import edit, write_folder
from train.data.dataset import open_dataset
from train.data.export import export
from train.eval import __main__ as evaluation
from train.eval import groups, report
from train.eval.predictions import AGGREGATES, Predictions, evaluate_predictions

KINDS = [  # label, traits
    *((True, {"data_set": "FF", "compression": c}) for c in ("c23", "c40")),
    *(
        (False, {"data_set": "FF", "compression": c, "method": m})
        for c in ("c23", "c40")
        for m in ("DF", "NT")
    ),
    *((label, {"data_set": "Celeb"}) for label in (True, False)),
    (False, {"compression": "c23", "method": "alone"}),
    (True, {}),
]


def scored(seed: int = 0) -> tuple[Predictions, dict[str, dict[str, str]]]:
    """Three videos of each kind, of one to four frames, in any order."""
    rng = np.random.default_rng(seed)
    rows, traits = [], {}
    for number, (label, of_kind) in enumerate(3 * KINDS):
        traits[f"v{number}"] = of_kind
        rows += [(label, f"v{number}")] * int(rng.integers(1, 5))
    rng.shuffle(rows)
    is_real, video = map(np.array, zip(*rows, strict=True))
    probability = np.round(np.clip(rng.normal(0.4 + 0.2 * is_real, 0.2), 0, 1), 1)  # with ties
    return predictions(is_real, probability, video), traits


def expected(of: Predictions, chosen: np.ndarray) -> dict[str, dict[str, Any]]:
    """The figures of frames, and of videos by the mean of their frames."""
    assert of.real_probability is not None
    score, is_fake, video = 1 - of.real_probability, ~of.is_real, of.video
    names = sorted({*video[chosen]})
    of_videos = [np.flatnonzero(video == name) for name in names]
    mean = np.array([score[frames].mean() for frames in of_videos])
    fake = np.array([is_fake[frames[0]] for frames in of_videos])
    found = {}
    for unit, labels, scores in (
        ("frames", is_fake[chosen], score[chosen]),
        ("videos", fake, mean),
    ):
        figures = by_definition(labels, scores)
        found[unit] = {
            "n_real": int((~labels).sum()),
            "n_fake": int(labels.sum()),
            "accuracy": figures["accuracy"],
            "auc": None if np.isnan(figures["auc"]) else figures["auc"],
        }
    return found


def test_each_method_is_scored_with_the_real_frames_beside_it() -> None:
    of, traits = scored()
    section = groups.evaluate(of, traits, AGGREGATES[0])["groups"]
    assert section["positive"] == "FAKE"
    known = [{name: traits[v].get(name) for name in groups.TRAITS} for v in of.video]
    wanted = [
        *[(None, "c23", None), (None, "c23", "alone"), ("Celeb", None, None), ("FF", None, None)],
        *[("FF", c, m) for c in ("c23", "c40") for m in (None, "DF", "NT")],
    ]
    rows = section["rows"]
    assert [tuple(row[name] for name in groups.TRAITS) for row in rows] == wanted
    for row, (data_set, compression, method) in zip(rows, wanted, strict=True):
        chosen = np.array(
            [
                one["data_set"] == data_set
                and compression in (None, one["compression"])
                and (method in (None, one["method"]) or bool(is_real))
                for one, is_real in zip(known, of.is_real, strict=True)
            ]
        )
        for unit, figures in expected(of, chosen).items():
            for name, value in figures.items():
                assert row[unit][name] == (
                    value if value is None else pytest.approx(value, abs=CLOSE)
                ), (row, unit, name)
    alone = rows[1]["frames"]
    assert alone["notes"] == ["auc is not defined: no frame is labelled REAL"]
    assert (alone["n_real"], alone["auc"]) == (0, None)


def test_nothing_without_traits_or_a_classifier() -> None:
    of, traits = scored()
    assert groups.evaluate(of, {}, AGGREGATES[0]) == {}
    masks = Predictions(of.file, of.video, of.is_real)
    assert groups.evaluate(masks, traits, AGGREGATES[0]) == {}
    assert "By data set" not in report.text(evaluate_predictions(of, seed=None))


def test_table_and_csv(tmp_path: Path) -> None:
    of, traits = scored()
    section = groups.evaluate(of, traits, AGGREGATES[0])
    text = report.text(evaluate_predictions(of, seed=None) | section)
    assert "By data set, compression and method. Positive class: FAKE; " in text
    rows = section["groups"]["rows"]
    (row,) = (row for row in rows if (row["compression"], row["method"]) == ("c40", "NT"))
    cells = [row[unit][name] for unit in ("frames", "videos") for name in ("n_real", "n_fake")]
    (line,) = (line.split() for line in text.splitlines() if line.split()[1:3] == ["c40", "NT"])
    assert line[0] == "FF"
    assert [int(line[place]) for place in (3, 4, 7, 8)] == cells
    assert float(line[6]) == pytest.approx(row["frames"]["auc"], abs=1e-4)
    assert "  c23, alone: auc is not defined: no video is labelled REAL\n" in text
    report.write_groups(tmp_path / "groups.csv", section["groups"])
    with (tmp_path / "groups.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert len(found) == len(rows)
    for written, row in zip(found, rows, strict=True):
        assert [written[name] or None for name in groups.TRAITS] == [
            row[name] for name in groups.TRAITS
        ]
        assert int(written["videos_labelled_fake"]) == row["videos"]["n_fake"]
        assert written["frames_auc_of_fake"] == str(row["frames"]["auc"] or "")
        assert float(written["videos_accuracy"]) == row["videos"]["accuracy"]


def test_from_metadata_to_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Through the packed data set, which is packed again when metadata.json changes."""
    folder = write_folder(tmp_path / "data", videos=8)
    write_checkpoint(tmp_path / "model", SHALLOW)
    command = ["--checkpoint", str(tmp_path / "model"), "--data", str(folder)]
    evaluation.main([*command, "--out", str(tmp_path / "before")])
    assert "By data set" not in capsys.readouterr().out
    assert not (tmp_path / "before" / "groups.csv").exists()
    before = json.loads((tmp_path / "before" / "report.json").read_text())
    assert "groups" not in before
    for number in range(8):
        key = f"v{number:03d}.mp4"
        entry = json.loads((folder / "metadata.json").read_text())[key]
        traits = {"data_set": "made up", "compression": 23, "method": None}
        if entry["label"] == "FAKE":
            traits["method"] = "odd\n\x1b[31m" if number < 4 else "even"
        edit(folder, **{key: entry | traits})
    evaluation.main([*command, "--out", str(tmp_path / "after")])
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "By data set, compression and method" in printed
    after = json.loads((tmp_path / "after" / "report.json").read_text())
    assert after["data"]["fingerprint"] == before["data"]["fingerprint"]  # of the pictures
    rows = after["groups"]["rows"]
    assert [tuple(row[name] for name in groups.TRAITS) for row in rows] == [
        *[("made up", None, None), ("made up", "23", None)],
        *[("made up", "23", "even"), ("made up", "23", "odd\\n\\x1b[31m")],
    ]
    assert [(row["frames"]["n_fake"], row["videos"]["n_real"]) for row in rows] == [
        *[(12, 4), (12, 4), (6, 4), (6, 4)]
    ]
    for name in ("accuracy", "auc"):
        assert rows[0]["frames"][name] == pytest.approx(after["frames"][name])
    assert (tmp_path / "after" / "groups.csv").is_file()
    export(open_dataset(str(folder), None), tmp_path / "exported")
    again = open_dataset(str(tmp_path / "exported"), None)
    assert again.traits == open_dataset(str(folder), None).traits
