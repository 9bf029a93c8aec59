"""Pictures of an evaluation, as PNG. The positive class is FAKE, its score 1 - real_probability.

Predictions must be of a checkpoint that classifies. Where a plot needs frames of a class that has
none, it says so.
"""

import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flax_unet.predict.draw import tinted
from train.eval.classification import calibration_bins, calibration_error
from train.eval.metrics import Predictions
from train.eval.roc import Roc

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Title, image (S, S, 3) uint8, label mask and predicted mask (S, S) with 1 = MANIPULATED or None.
Mistake = tuple[str, np.ndarray, np.ndarray | None, np.ndarray | None]

_FAKE, _REAL, _GREY = "#c8102e", "#1f6fb2", "#777777"
_TRUE_RATE = "FAKE frames called FAKE (recall)"
_FALSE_RATE = "REAL frames called FAKE (false-positive rate)"
_SCORE_BINS = 40
_DPI = 120
_PANEL = 2.0  # inches a side, of a picture on the sheet of mistakes
_LETTERS = 30  # that fit above such a picture in a line
_TITLE_LINES = 4


def write_roc(path: Path, predictions: Predictions) -> None:
    """The ROC with its area and its equal error rate."""
    from sklearn.metrics import roc_auc_score, roc_curve

    is_fake, score = _verdicts(predictions)
    figure, axes = _square("ROC, positive class FAKE", _FALSE_RATE, _TRUE_RATE)
    if _has(axes, is_fake, "REAL", "FAKE"):
        false_rate, true_rate, _ = roc_curve(is_fake, score)
        area = f"AUC {roc_auc_score(is_fake, score):.4f}"
        rate, _ = Roc(~is_fake, 1 - score).equal_error_rate()
        axes.plot([0, 1], [0, 1], ":", color=_GREY, label="chance")
        axes.plot(false_rate, true_rate, color=_FAKE, label=f"{area}; {_counts(is_fake)}")
        axes.plot(rate, 1 - rate, "ko", ms=4, label=f"equal error rate {rate:.4f}")
        axes.legend(loc="lower right")
    _save(figure, path)


def write_precision_recall(path: Path, predictions: Predictions) -> None:
    """Precision over recall, with the average precision and chance."""
    from sklearn.metrics import average_precision_score, precision_recall_curve

    is_fake, score = _verdicts(predictions)
    precision_label = "FAKE among the frames called FAKE (precision)"
    figure, axes = _square("Precision and recall of FAKE", _TRUE_RATE, precision_label)
    if _has(axes, is_fake, "FAKE"):
        precision, recall, _ = precision_recall_curve(is_fake, score)
        share = is_fake.mean()
        average = f"average precision {average_precision_score(is_fake, score):.4f}"
        axes.axhline(share, ls=":", color=_GREY, label=f"chance: {share:.4f} are FAKE")
        # Recall falls; a precision holds from its recall down to the next, as in the average.
        label = f"{average}; {_counts(is_fake)}"
        axes.step(recall, precision, where="post", color=_FAKE, label=label)
        axes.legend(loc="lower left")
    _save(figure, path)


def write_scores(path: Path, predictions: Predictions) -> None:
    """How the fake probabilities of REAL and of FAKE frames are distributed."""
    is_fake, score = _verdicts(predictions)
    title, share = "Scores of REAL and FAKE frames", "frames of the label, per cent (log)"
    figure, axes = _axes(title, "fake probability", share)
    # Before the bars: a logarithmic axis finds no limits of its own around bars of one height.
    axes.set(xlim=(0, 1), yscale="log", ylim=(min(0.1, 50 / len(score)), 120))
    for label, chosen, colour in (("REAL", ~is_fake, _REAL), ("FAKE", is_fake, _FAKE)):
        count = int(chosen.sum())
        axes.hist(
            score[chosen],
            np.linspace(0, 1, _SCORE_BINS + 1).tolist(),
            weights=np.full(count, 100 / max(count, 1)),  # classes of unequal sizes compare
            histtype="stepfilled",
            color=colour,
            alpha=0.5,
            label=f"labelled {label}, n = {count:,}",
        )
    axes.axvline(0.5, ls=":", color="black", label="called FAKE from 0.5 up")
    axes.legend(loc="upper center")
    _save(figure, path)


def write_calibration(path: Path, predictions: Predictions) -> None:
    """What share of the frames with some fake probability is FAKE; bins as in the error."""
    is_fake, score = _verdicts(predictions)
    count, mean_score, share = calibration_bins(~is_fake, 1 - score)
    error = f"calibration error {calibration_error(~is_fake, 1 - score):.4f}"
    share_label = "FAKE among the frames of a bin (share)"
    figure, axes = _square("Calibration, positive class FAKE", "mean fake probability", share_label)
    axes.plot([0, 1], [0, 1], ":", color=_GREY, label="calibrated")
    axes.plot(mean_score, share, color=_FAKE, lw=1, label=f"{error}; {_counts(is_fake)}")
    axes.scatter(mean_score, share, 15 + 250 * count / count.max(), _FAKE, alpha=0.6, lw=0)
    axes.plot([], [], "o", color=_FAKE, alpha=0.6, label="larger dots: more frames")
    figure.legend(loc="outside lower center")  # the dots may lie anywhere on the axes
    _save(figure, path)


def write_worst(path: Path, rows: Sequence[Mistake]) -> None:
    """A sheet of mistakes: each picture, and beside it the masks in red that any row has."""
    from matplotlib.figure import Figure

    with_masks = any(mask is not None for row in rows for mask in row[2:])
    panels = 3 if with_masks else 1
    cards = min(max(len(rows), 1), 2 if with_masks else 6)  # on a line
    lines = max(-(-len(rows) // cards), 1)
    size = (max(cards * panels * _PANEL, 5), lines * (_PANEL + 0.5))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(lines, cards * panels, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    if not rows:
        figure.text(0.5, 0.5, "no frame is called wrongly", ha="center", va="center")
    for place, (title, image, label, predicted) in enumerate(rows):
        line, card = divmod(place, cards)
        picture, *masks = grid[line, card * panels : (card + 1) * panels]
        picture.imshow(image)
        picture.set_title(_wrapped(title), fontsize=7, loc="left", parse_math=False)
        for axes, mask, what in zip(
            masks, (label, predicted), ("labelled", "predicted"), strict=False
        ):
            if mask is None:
                words = f"no mask is {what}"
                axes.text(0.5, 0.5, words, ha="center", fontsize=7, transform=axes.transAxes)
            else:
                axes.imshow(tinted(image, mask))
                axes.set_title(f"{what} MANIPULATED:\n{np.mean(mask == 1):.1%}", fontsize=7)
    _save(figure, path)


def _verdicts(predictions: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """The labels, (N,) bool, true where FAKE, and the fake probabilities, (N,).

    Raises:
        ValueError: the checkpoint does not classify.
    """
    if predictions.real_probability is None:
        raise ValueError("these predictions have no verdicts to plot")
    return ~predictions.is_real, 1 - predictions.real_probability


def _counts(is_fake: np.ndarray) -> str:
    fakes = int(is_fake.sum())
    return f"n = {fakes:,} FAKE, {len(is_fake) - fakes:,} REAL"


def _has(axes: "Axes", is_fake: np.ndarray, *classes: str) -> bool:
    """Whether there are frames of the classes; says on the plot which ones are missing."""
    there = {"FAKE": is_fake.any(), "REAL": not is_fake.all()}
    missing = [name for name in classes if not there[name]]
    if missing:
        words = f"not defined: no frame is labelled {missing[0]}\n{_counts(is_fake)}"
        axes.text(0.5, 0.5, words, ha="center", va="center")
    return not missing


def _axes(title: str, x_label: str, y_label: str) -> tuple["Figure", "Axes"]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 5.5), layout="constrained")  # without pyplot: no display, no state
    axes = figure.subplots()
    axes.set(title=title, xlabel=x_label, ylabel=y_label)
    axes.grid(alpha=0.3)
    return figure, axes


def _square(title: str, x_label: str, y_label: str) -> tuple["Figure", "Axes"]:
    """Axes of two shares, a little wider than [0, 1] so that no line hides behind the frame."""
    figure, axes = _axes(title, x_label, y_label)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    return figure, axes


def _wrapped(title: str) -> str:
    """The title in lines that fit; file names have few places to break, so it breaks anywhere."""
    printable = title.encode(errors="replace").decode()
    lines = [part for line in printable.splitlines() for part in textwrap.wrap(line, _LETTERS)]
    return "\n".join(lines[-_TITLE_LINES:])


def _save(figure: "Figure", path: Path) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # names in any script: a box
        figure.savefig(path, dpi=_DPI, format="png")
