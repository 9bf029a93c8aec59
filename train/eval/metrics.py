"""The metrics: name, label, function, definition and direction of each stand in one row."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from flax_unet.nn.decision import DECISION
from train.eval import classification, segmentation
from train.eval.classification import CALIBRATION_BINS, ratio


def at(value: Any, *names: str) -> Any:
    """The value at a path of names in nested objects, None if there is none."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


@dataclass(frozen=True)
class Metric:
    """A figure of a report."""

    name: str  # in report.json; a dot leads into an object
    label: str  # in tables and on the model card
    function: Callable[[Any], float]  # of the task's sums; NaN where the metric is not defined
    meaning: str = ""  # definition and positive class
    better: Literal["higher", "lower", "neither"] = "higher"
    # Why it may be NaN: {unit} is what is counted, {missing} the class without labels.
    undefined: str = "no {unit} is labelled {missing}"
    hub_name: str = ""  # on the Hugging Face Hub
    has_interval: bool = True
    # For intervals, see `train.eval.bootstrap.widened`.
    videos: str = "all"  # those whose frames the metric rests on
    most: float = 1.0  # of its values, which are 0 or more
    is_share: bool = False  # of verdicts, or of pairs of them

    @property
    def title(self) -> str:
        """The label and, where it could surprise, the direction."""
        return self.label + " (lower is better)" * (self.better == "lower" and self.has_interval)

    def find(self, section: Any) -> Any:
        """Its value in a section of a report, None if that lacks it."""
        return at(section, *self.name.split("."))


@dataclass(frozen=True)
class Task:
    """The metrics of one of the network's outputs, which are the rows of a table."""

    title: str
    hub_name: str  # on the Hugging Face Hub
    positive: str  # the positive class
    columns: dict[str, tuple[str, ...]]  # of the table: the path to their figures in a report
    meaning: dict[str, str]  # of entries of a report that are not metrics
    metrics: tuple[Metric, ...]


_count = partial(Metric, better="neither", has_interval=False)
_share = partial(Metric, is_share=True)
_NO_PIXELS = "no pixel is labelled or predicted MANIPULATED"

# fmt: off
CLASSIFICATION = Task(
    title="Verdicts",
    hub_name="image-classification",
    positive="FAKE",
    columns={"frames": ("frames",), "videos": ("videos",)},
    meaning={
        "decision": DECISION,
        "confusion": "counts named <label>_called_<decision>; fake_called_fake are the true "
        "positives",
    },
    metrics=(
        _count("n", "number", lambda s: int(s.n)),
        _count("n_real", "labelled REAL", lambda s: int(s.reals)),
        _count("n_fake", "labelled FAKE", lambda s: int(s.fakes)),
        _count("correct", "correct", lambda s: int(s.tp + s.tn), better="higher"),
        _count("wrong", "wrong", lambda s: int(s.fp + s.fn), better="lower"),
        _count("confusion.fake_called_fake", "FAKE called FAKE", lambda s: int(s.tp)),
        _count("confusion.fake_called_real", "FAKE called REAL", lambda s: int(s.fn)),
        _count("confusion.real_called_fake", "REAL called FAKE", lambda s: int(s.fp)),
        _count("confusion.real_called_real", "REAL called REAL", lambda s: int(s.tn)),
        _share("accuracy", "accuracy of both classes", lambda s: ratio(s.tp + s.tn, s.n),
               "correct / n, of both classes", hub_name="accuracy"),
        _share("balanced_accuracy", "balanced accuracy",
               lambda s: (ratio(s.tp, s.fakes) + ratio(s.tn, s.reals)) / 2,
               "mean of the recalls of FAKE and of REAL", hub_name="balanced_accuracy",
               videos="smaller class"),
        _share("precision", "precision of FAKE", lambda s: ratio(s.tp, s.tp + s.fp),
               "positive class FAKE: how many of those called FAKE are FAKE",
               undefined="no {unit} is called FAKE", videos="called FAKE"),
        _share("recall", "recall of FAKE", lambda s: ratio(s.tp, s.fakes),
               "positive class FAKE: how many of the FAKE are called FAKE",
               videos="FAKE"),
        _share("f1", "F1 of FAKE", lambda s: ratio(2 * s.tp, 2 * s.tp + s.fn + s.fp),
               "positive class FAKE: harmonic mean of precision and recall", hub_name="f1",
               undefined="no {unit} is labelled FAKE and no {unit} is called FAKE",
               videos="FAKE or called FAKE"),
        _share("auc", "AUC of FAKE", classification.auc,
               "area under the ROC; positive class FAKE, score 1 - real_probability, a tie counts "
               "half", hub_name="roc_auc", videos="smaller class"),
        _share("average_precision", "average precision of FAKE", classification.average_precision,
               "positive class FAKE: sum of precision times the gain in recall",
               videos="smaller class"),
        _share("eer", "equal error rate", lambda s: classification.equal_error_rate(s)[0],
               "equal error rate: where the ROC, its points joined by straight lines, has a "
               "false-positive rate (REAL called FAKE) equal to its false-negative rate (FAKE "
               "called REAL)", "lower", videos="smaller class"),
        Metric("eer_threshold", "its threshold on the fake probability",
               lambda s: classification.equal_error_rate(s)[1],
               "the highest fake probability t such that, when t and above are called FAKE, the "
               "false-positive rate is at least the false-negative rate",
               "neither", has_interval=False),
        Metric("log_loss", "log loss of the label", lambda s: ratio(s.log_loss, s.n),
               "mean -ln(probability given to the label), probabilities clipped to within 2.2e-16 "
               "of 0 and 1", "lower", most=classification.WORST_LOG_LOSS),
        Metric("brier", "Brier score of FAKE", lambda s: ratio(s.squared_error, s.n),
               "mean squared difference of the fake probability and the label (FAKE 1, REAL 0)",
               "lower"),
        Metric("ece", "calibration error of FAKE", lambda s: ratio(abs(s.calibration).sum(), s.n),
               f"expected calibration error over {CALIBRATION_BINS} equal-width bins of the fake "
               "probability: mean, weighted by count, of |mean fake probability - share of FAKE|",
               "lower"),
    ),
)

_CALIBRATED = ("n_real", "n_fake", "recall", "log_loss", "brier", "ece")
CALIBRATION = tuple(  # of frames and of videos
    replace(
        CLASSIFICATION,
        title="Calibration",
        columns={
            f"{unit}, {decided}": ("calibration", decided, unit)
            for decided in ("published", "calibrated")
        },
        metrics=(
            _share("false_alarm_rate", "false alarms: REAL called FAKE",
                   lambda s: ratio(s.fp, s.reals),
                   "how many of the REAL are called FAKE", "lower", videos="REAL"),
            *(metric for metric in CLASSIFICATION.metrics if metric.name in _CALIBRATED),
        ),
    )
    for unit in ("frames", "videos")
)

SEGMENTATION = Task(
    title="Masks",
    hub_name="image-segmentation",
    positive="MANIPULATED",
    columns={"all frames": ("pixels",), "fake frames": ("pixels", "fake_frames")},
    meaning={"fake_frames": "the same figures of the frames labelled FAKE alone"},
    metrics=(
        _count("n", "frames with a mask label", lambda s: int(s.n),
               "frames with a mask label; the others are in none of these figures"),
        _count("n_empty_label", "label empty", lambda s: int(s.empty_labels),
               "frames whose label has no MANIPULATED pixel"),
        _count("n_both_empty", "label and prediction empty", lambda s: int(s.both_empty),
               "frames whose label and prediction have none; each is a 1 in dice and iou_mean"),
        Metric("dice", "Dice of MANIPULATED, as published", lambda s: ratio(s.dice, s.n),
               "as published: mean over frames of 2|A and B| / (|A| + |B|) of the MANIPULATED "
               "pixels, epsilon 1e-6; both empty counts as 1", hub_name="dice"),
        Metric("iou_mean", "IoU of MANIPULATED, mean of frames", lambda s: ratio(s.iou, s.n),
               "mean over frames of |A and B| / |A or B| of the MANIPULATED pixels; both empty "
               "counts as 1", hub_name="iou"),
        Metric("iou_pooled", "IoU of MANIPULATED, pooled",
               lambda s: ratio(s.tp, s.tp + s.fp + s.fn),
               "the same of the pixels of all frames put together", undefined=_NO_PIXELS,
               videos="marked"),
        Metric("f1", "F1 of MANIPULATED, pooled",
               lambda s: ratio(2 * s.tp, 2 * s.tp + s.fp + s.fn),
               "positive class MANIPULATED, pixels of all frames put together",
               undefined=_NO_PIXELS, videos="marked"),
        Metric("auc", "AUC of MANIPULATED, pooled (no interval)",
               lambda s: segmentation.histogram_auc(s.histogram),
               "area under the ROC of pixels; positive class MANIPULATED, score the manipulated "
               "logit less the untouched one, cut to 8 significant bits; a tie counts half. It has "
               "no interval, which would take the scores of each frame",
               undefined="the labelled pixels are all of one class", has_interval=False),
        Metric("accuracy", "accuracy of both classes, pooled",
               lambda s: ratio(s.tp + s.tn, s.tp + s.fp + s.fn + s.tn),
               "share of pixels whose class is right, of both classes"),
    ),
)
