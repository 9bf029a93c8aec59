"""What people read: tables, the CSV and the pictures."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from tests.train.eval.verdicts import predictions
from train.eval import plots, report
from train.eval.classification import Verdicts
from train.eval.predictions import BINS, Predictions, evaluate_predictions
from train.eval.segmentation import PixelCounts

PLOTS = (
    plots.write_roc,
    plots.write_precision_recall,
    plots.write_scores,
    plots.write_calibration,
)


def with_masks(names: list[str]) -> Predictions:
    """Three frames: FAKE found with half of its pixels, FAKE missed without label, REAL."""
    tp, fp, fn = np.array([[10, 0, 0], [5, 0, 0], [5, 0, 0]])
    return Predictions(
        *(np.array(names), np.array(["v, 1", 'v "2"', "ü\n3"]), np.array([False, False, True])),
        real_probability=np.array([0.25, 0.75, 0.625]),
        real_logit=np.log([1 / 3, 3, 5 / 3]),
        pixels=PixelCounts(tp, fp, fn, 100 - tp - fp - fn),
        has_mask=np.array([True, False, True]),
        manipulated_pixels=np.array([15, 7, 0]),
        histogram=np.ones((2, 2, BINS), np.int64),
    )


def test_first_lines_are_as_published() -> None:
    """4707 right of 5001: 94.12 per cent, as was reported."""
    is_real = np.arange(5001) % 2 == 0
    right = np.arange(5001) >= 294
    of = predictions(is_real, np.where(is_real == right, 0.9, 0.1), np.arange(5001) % 20)
    lines = report.text(evaluate_predictions(of)).splitlines()
    assert lines[:2] == ["Correct 4707, Wrong 294", "Accuracy 94.12 %"]


def test_text() -> None:
    figures = evaluate_predictions(with_masks(["a", "b", "c"]))
    text = report.text(figures)
    rows = {" ".join(line.split()[:-2]): line.split()[-2:] for line in text.splitlines()}
    assert text.startswith("Correct 2, Wrong 1\nAccuracy 66.67 %\n")
    assert "Positive class: FAKE" in text
    assert "Positive class: MANIPULATED" in text
    assert rows["FAKE called FAKE"] == ["1", "1"]
    assert rows["FAKE called REAL"] == ["1", "1"]
    assert rows["REAL called FAKE"] == ["0", "0"]
    assert rows["its threshold on the fake probability"] == ["0.3750", "0.3750"]
    assert rows["frames with a mask label"] == ["2", "1"]
    assert rows["label and prediction empty"] == ["1", "0"]
    (line,) = (line for line in text.splitlines() if "Dice of MANIPULATED" in line)
    assert line.split()[5:] == ["0.8333", "[0.6667,", "1.0000]", "0.6667"]
    assert "fake frames: intervals need two videos or more" in text


def test_text_of_what_is_not_defined_or_not_there() -> None:
    text = report.text(evaluate_predictions(predictions([True, True], [0.9, 0.8])))
    (line,) = (line for line in text.splitlines() if "AUC of FAKE" in line)
    assert line.split() == ["AUC", "of", "FAKE", "-", "-"]
    assert "  frames: auc is not defined: no frame is labelled FAKE\n" in text
    assert "  videos: auc is not defined: no video is labelled FAKE\n" in text
    assert "Masks" not in text
    both = with_masks(["a", "b", "c"])
    masks = Predictions(**{**vars(both), "real_probability": None, "real_logit": None})
    text = report.text(evaluate_predictions(masks))
    assert text.startswith("Masks. Positive class: MANIPULATED.")
    assert "FAKE called" not in text


def rows_of(path: Path, of: Predictions) -> list[dict[str, str]]:
    report.write_csv(path, of)
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.DictReader(file))


def test_csv(tmp_path: Path) -> None:
    names = ['a,"b"\n.png', "很 ü\r.png", "bytes \udcff.png"]
    of = with_masks(names)
    rows = rows_of(tmp_path / "predictions.csv", of)
    assert list(rows[0]) == [
        "file",
        "video",
        "label",
        "real_probability",
        "fake_probability",
        "predicted",
        "manipulated_pixels",
        "dice",
    ]
    assert [row["file"] for row in rows] == names
    assert [row["video"] for row in rows] == of.video.tolist()
    assert [row["label"] for row in rows] == ["FAKE", "FAKE", "REAL"]
    assert [row["predicted"] for row in rows] == ["FAKE", "REAL", "REAL"]
    assert [float(row["real_probability"]) for row in rows] == [0.25, 0.75, 0.625]
    assert [float(row["fake_probability"]) for row in rows] == [0.75, 0.25, 0.375]
    assert [row["manipulated_pixels"] for row in rows] == ["15", "7", "0"]
    assert float(rows[0]["dice"]) == pytest.approx(20 / 30)
    assert [row["dice"] for row in rows[1:]] == ["", "1.0"]


def test_csv_keeps_every_bit_and_leaves_missing_heads_out(tmp_path: Path) -> None:
    exact = np.random.default_rng(0).random(50).astype(np.float32).astype(np.float64)
    exact[0] = 0.5
    rows = rows_of(tmp_path / "predictions.csv", predictions([True] * 50, exact))
    assert "dice" not in rows[0]
    assert "manipulated_pixels" not in rows[0]
    assert [float(row["real_probability"]) for row in rows] == exact.tolist()
    assert rows[0]["predicted"] == "FAKE"
    both = with_masks(["a", "b", "c"])
    masks = Predictions(**{**vars(both), "real_probability": None, "real_logit": None})
    (row, *_) = rows_of(tmp_path / "masks.csv", masks)
    assert set(row) == {"file", "video", "label", "manipulated_pixels", "dice"}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are written, to be looked into."""
    figures: list[Figure] = []
    save = plots._save

    def keep(figure: Figure, path: Path) -> None:
        figures.append(figure)
        save(figure, path)

    monkeypatch.setattr(plots, "_save", keep)
    return figures


def line(axes: Axes, label: str) -> np.ndarray:
    """The points of the line whose legend begins so, (T, 2)."""
    (found,) = (each for each in axes.lines if str(each.get_label()).startswith(label))
    return np.column_stack([np.asarray(values, float) for values in found.get_data()])


def test_curves(drawn: list[Figure], tmp_path: Path) -> None:
    """Fake probabilities 0.9 FAKE, 0.8 REAL, 0.7 FAKE, 0.2 REAL."""
    of = Verdicts(np.array([False, True, False, True]), np.array([0.1, 0.2, 0.3, 0.8]))
    for write in PLOTS:
        write(tmp_path / "plot.png", of)
        with Image.open(tmp_path / "plot.png") as image:
            assert image.format == "PNG"
            image.load()
    roc, precision_recall, scores, calibration = (figure.axes[0] for figure in drawn)
    corners = [[0, 0], [0, 0.5], [0.5, 0.5], [0.5, 1], [1, 1]]
    np.testing.assert_allclose(line(roc, "AUC 0.7500; n = 2 FAKE, 2 REAL"), corners)
    np.testing.assert_allclose(line(roc, "equal error rate 0.5"), [[0.5, 0.5]])
    assert roc.get_xlabel().startswith("REAL frames called FAKE")
    assert roc.get_ylabel().startswith("FAKE frames called FAKE")
    expected = [[1, 1 / 2], [1, 2 / 3], [0.5, 1 / 2], [0.5, 1], [0, 1]]
    np.testing.assert_allclose(line(precision_recall, "average precision 0.8333"), expected)
    assert precision_recall.lines[1].get_drawstyle() == "steps-post"  # as the average adds up
    legend = scores.get_legend()
    assert legend is not None
    assert "labelled FAKE, n = 2" in [text.get_text() for text in legend.get_texts()]
    points = line(calibration, "calibration error")
    np.testing.assert_allclose(points, [[0.2, 0], [0.7, 1], [0.8, 0], [0.9, 1]], atol=1e-7)


@pytest.mark.parametrize("score", [0.0, 0.25, 1.0])
def test_plots_of_constant_scores(score: float, drawn: list[Figure], tmp_path: Path) -> None:
    """Warnings are errors here."""
    for write in PLOTS:
        write(tmp_path / "plot.png", Verdicts(np.array([True, False]), np.array([score] * 2)))
    assert drawn[2].axes[0].get_ylim() == (0.1, 120)


@pytest.mark.parametrize("missing", ["FAKE", "REAL"])
def test_plots_of_one_class(missing: str, drawn: list[Figure], tmp_path: Path) -> None:
    of = Verdicts(np.array([missing == "FAKE"] * 3), np.array([0.2, 0.5, 0.9]))
    for write in PLOTS:
        write(tmp_path / f"{write.__name__}.png", of)
    words = [" ".join(text.get_text() for text in figure.axes[0].texts) for figure in drawn]
    assert f"no frame is labelled {missing}" in words[0]
    assert (f"no frame is labelled {missing}" in words[1]) == (missing == "FAKE")
    assert len(list(tmp_path.iterdir())) == 4


def test_sheet_of_mistakes(drawn: list[Figure], tmp_path: Path) -> None:
    """The marked quarter is red where it lies; names of any kind do no harm."""
    image = np.full((8, 8, 3), 100, np.uint8)
    marked = np.zeros((8, 8), np.uint8)
    marked[:4, 4:] = 1
    rows: list[Any] = [
        ("$x_1$.png\nFAKE called REAL", image, marked, marked * 0),
        ("很\udcff" + "long" * 40, image, None, marked),
    ]
    plots.write_worst(tmp_path / "sheet.png", rows)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.format == "PNG"
    pictures = [[np.asarray(each.get_array()) for each in axes.images] for axes in drawn[0].axes]
    assert [len(shown) for shown in pictures] == [1, 1, 1, 1, 0, 1]
    label = pictures[1][0].astype(int)
    assert label.shape == (400, 400, 3)  # enlarged, for a smooth line
    assert (label[:100, 300:, 0] > label[:100, 300:, 1] + 40).all()
    np.testing.assert_array_equal(label[350:, :50], 100)
    np.testing.assert_array_equal(pictures[2][0], 100)  # nothing was predicted
    assert "labelled MANIPULATED:\n25.0%" in drawn[0].axes[1].get_title()
    plots.write_worst(tmp_path / "one.png", [("a", image, None, None)])
    plots.write_worst(tmp_path / "none.png", [])
    assert drawn[2].texts[0].get_text() == "no frame is called wrongly"
