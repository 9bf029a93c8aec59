"""Plots of an evaluation, as PNG. The positive class is FAKE, its score the fake probability.

A plot that needs frames of both classes states which class is missing.
"""

import textwrap
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flax_unet import UNet
from flax_unet.nn.decision import label
from flax_unet.nn.inference import compiled
from flax_unet.predict.draw import heated
from train.data.dataset import Dataset
from train.data.loader import load_frame
from train.eval import classification
from train.eval.classification import Verdicts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Title, image (S, S, 3) uint8, label mask and predicted mask (S, S) with 1 = MANIPULATED or None.
Mistake = tuple[str, np.ndarray, np.ndarray | None, np.ndarray | None]

WORST = 12  # mistakes on the sheet
_FAKE, _REAL, _GREY = "#c8102e", "#1f6fb2", "#777777"
_TRUE_RATE = "FAKE frames called FAKE (recall)"
_FALSE_RATE = "REAL frames called FAKE (false-positive rate)"
_SCORE_BINS = 40
_DPI = 120
_PANEL = 2.4  # inches a side, of a picture on the sheet of mistakes
_PIXELS = 400  # a side, at least, of a picture with a mask there
_FONT = 9  # points
_LETTERS = 26  # of a title, that fit on a line above such a picture
_TITLE_LINES = 4


def write_roc(path: Path, verdicts: Verdicts) -> None:
    """The ROC with its area and its equal error rate."""
    figure, axes = _axes("ROC, positive class FAKE", _FALSE_RATE, _TRUE_RATE)
    if _has(axes, verdicts, "REAL", "FAKE"):
        sums = verdicts.sums()
        label = f"AUC {classification.auc(sums):.4f}; {_counts(verdicts)}"
        rate, _ = classification.equal_error_rate(sums)
        axes.plot([0, 1], [0, 1], ":", color=_GREY, label="chance")
        axes.plot(sums.roc_fp / sums.reals, sums.roc_tp / sums.fakes, color=_FAKE, label=label)
        axes.plot(rate, 1 - rate, "ko", ms=4, label=f"equal error rate {rate:.4f}")
        axes.legend(loc="lower right")
    _save(figure, path)


def write_precision_recall(path: Path, verdicts: Verdicts) -> None:
    """Precision over recall, with the average precision and chance."""
    precision_label = "FAKE among the frames called FAKE (precision)"
    figure, axes = _axes("Precision and recall of FAKE", _TRUE_RATE, precision_label)
    if _has(axes, verdicts, "FAKE"):
        sums = verdicts.sums()
        precision = np.append(classification.precision_at_thresholds(sums)[::-1], 1)
        recall, share = sums.roc_tp[::-1] / sums.fakes, sums.fakes / sums.n
        average = f"average precision {classification.average_precision(sums):.4f}"
        axes.axhline(share, ls=":", color=_GREY, label=f"chance: {share:.4f} are FAKE")
        # Recall falls; a precision holds from its recall down to the next, as in the average.
        label = f"{average}; {_counts(verdicts)}"
        axes.step(recall, precision, where="post", color=_FAKE, label=label)
        axes.legend(loc="lower left")
    _save(figure, path)


def write_scores(path: Path, verdicts: Verdicts) -> None:
    """Histograms of the fake probabilities of REAL and of FAKE frames."""
    share = "frames of the label, per cent (log)"
    figure, axes = _axes("Scores of REAL and FAKE frames", "fake probability", share)
    # Before the bars: a logarithmic axis finds no limits of its own around bars of one height.
    lowest = min(0.1, 50 / len(verdicts.score))
    axes.set(aspect="auto", xlim=(0, 1), yscale="log", ylim=(lowest, 120))
    edges = np.linspace(0, 1, _SCORE_BINS + 1).tolist()
    for name, is_fake, color in (("REAL", False, _REAL), ("FAKE", True, _FAKE)):
        score = verdicts.score[verdicts.is_fake == is_fake]
        weights = np.full(len(score), 100 / max(len(score), 1))  # classes of unequal sizes compare
        label = f"labelled {name}, n = {len(score):,}"
        shown: dict[str, Any] = {
            "histtype": "stepfilled",
            "color": color,
            "alpha": 0.5,
            "label": label,
        }
        axes.hist(score, edges, weights=weights, **shown)
    axes.axvline(0.5, ls=":", color="black", label="called FAKE from 0.5 up")
    axes.legend(loc="upper center")
    _save(figure, path)


def write_calibration(path: Path, verdicts: Verdicts) -> None:
    """The share of FAKE over the mean fake probability, in the bins of the calibration error."""
    count, mean_score, share = verdicts.calibration()
    error = f"calibration error {np.average(np.abs(mean_score - share), weights=count):.4f}"
    share_label = "FAKE among the frames of a bin (share)"
    figure, axes = _axes("Calibration, positive class FAKE", "mean fake probability", share_label)
    axes.plot([0, 1], [0, 1], ":", color=_GREY, label="calibrated")
    axes.plot(mean_score, share, color=_FAKE, lw=1, label=f"{error}; {_counts(verdicts)}")
    axes.scatter(mean_score, share, 15 + 250 * count / count.max(), _FAKE, alpha=0.6, lw=0)
    axes.plot([], [], "o", color=_FAKE, alpha=0.6, label="larger dots: more frames")
    figure.legend(loc="outside lower center")  # the dots may lie anywhere on the axes
    _save(figure, path)


def worst(verdicts: Verdicts, model: UNet, data: Dataset) -> Iterator[Mistake]:
    """At most WORST frames that are called wrongly, the surest first.

    `verdicts` are the model's on every frame of `data`, in its order. The model runs again on the
    mistakes, for their masks.
    """
    wrong = np.flatnonzero(verdicts.called_fake != verdicts.is_fake)
    error = np.abs(verdicts.score - verdicts.is_fake)[wrong]
    forward = compiled(model)
    for row in wrong[np.argsort(-error, kind="stable")][:WORST]:
        frame = load_frame(data, int(row), model.config.input_size)
        output = forward(frame.image[None].astype(np.float32) / 255)
        found = None if output.is_manipulated is None else np.asarray(output.is_manipulated[0])
        labelled, called = (label(not of[row]) for of in (verdicts.is_fake, verdicts.called_fake))
        title = f"{data.table.file[row]}\n{labelled} called {called}\n"
        title += f"probability of FAKE {verdicts.score[row]:.3f}"
        yield title, frame.image, frame.mask if frame.has_mask else None, found


def write_worst(path: Path, rows: Sequence[Mistake]) -> None:
    """A sheet of mistakes: each picture, and beside it its masks if any row has one."""
    from matplotlib.figure import Figure

    with_masks = any(mask is not None for row in rows for mask in row[2:])
    panels = 3 if with_masks else 1
    across = min(max(len(rows), 1), 2 if with_masks else 6)  # mistakes side by side
    lines = max(-(-len(rows) // across), 1)
    size = (max(across * panels * _PANEL, 5), lines * (_PANEL + 0.7) + 0.3)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(lines, across * panels, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    if not rows:
        figure.text(0.5, 0.5, "no frame is called wrongly", ha="center", va="center")
    if with_masks:
        words = "red, within the white line: MANIPULATED"
        figure.supxlabel(words, fontsize=_FONT)
    for (title, image, *masks), panel in zip(rows, grid.reshape(-1, panels), strict=False):
        panel[0].imshow(image)
        panel[0].set_title(_wrapped(title), fontsize=_FONT, loc="left", parse_math=False)
        shown = zip(panel[1:], masks, ("labelled", "predicted"), strict=False)
        for axes, mask, what in shown:
            if mask is None:
                words = f"no mask is {what}"
                axes.text(0.5, 0.5, words, ha="center", fontsize=_FONT, transform=axes.transAxes)
            else:
                axes.imshow(heated(image, mask, scale=-(-_PIXELS // len(image))))
                axes.set_title(f"{what} MANIPULATED:\n{np.mean(mask == 1):.1%}", fontsize=_FONT)
    _save(figure, path)


def _counts(verdicts: Verdicts) -> str:
    fakes = int(verdicts.is_fake.sum())
    return f"n = {fakes:,} FAKE, {len(verdicts.is_fake) - fakes:,} REAL"


def _has(axes: "Axes", verdicts: Verdicts, *classes: str) -> bool:
    """Whether there are frames of the classes; writes on the plot which class is missing."""
    there = {"FAKE": verdicts.is_fake.any(), "REAL": not verdicts.is_fake.all()}
    missing = [name for name in classes if not there[name]]
    if missing:
        words = f"not defined: no frame is labelled {missing[0]}\n{_counts(verdicts)}"
        axes.text(0.5, 0.5, words, ha="center", va="center")
    return not missing


def _axes(title: str, x_label: str, y_label: str) -> tuple["Figure", "Axes"]:
    """Axes for two shares, a little wider than [0, 1] so that no line hides behind the frame."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 5.5), layout="constrained")  # without pyplot: no display, no state
    axes = figure.subplots()
    axes.set(title=title, xlabel=x_label, ylabel=y_label, aspect="equal")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.grid(alpha=0.3)
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
