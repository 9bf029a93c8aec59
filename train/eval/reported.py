"""What the original project reported of its weights, beside what was measured here."""

from flax_unet import PUBLISHED, UNetConfig
from train.data.dataset import Table

WEIGHTS = "the published weights of epoch 35 for 224x224, on frames of DFDC"
REPORTED = (  # where, accuracy, its counts, speed
    ("deployment's README", "94.35 %", "epoch and frames not stated", ""),
    ("Tesla V100, float32, one at a time", "94.12 %", "4707 of 5001", "88.55 frames a second"),
    ("Tesla T4", "94.12 %", "4707 of 5001", "51.11 frames a second"),
    ("Xeon E5-2698", "94.12 %", "4707 of 5001", "5.41 frames a second"),
    ("VCK5000 FPGA, int8, batches of 8", "93.00 %", "4651 of 5001", "316.80 frames a second"),
)
_LAYOUTS = ("ynet-224", "ynet-slim")  # of these weights, with and without the unused tensors
_EXPORTED = ("-real.mp4", "-fake.mp4")  # how `train.data.export` names the embedded set's videos


def is_comparable(layout: str | None, config: UNetConfig, table: Table) -> bool:
    """Whether a checkpoint could be these weights and a data set could be made of DFDC.

    Args:
        layout: what the checkpoint was converted from, None if it was not.
        config: its network.
        table: the data set's. DFDC's videos are files named .mp4, and their names tell no class.
    """
    return (
        layout in _LAYOUTS
        and config == PUBLISHED[layout]
        and all(video.endswith(".mp4") for video in table.video)
        and not all(video.endswith(_EXPORTED) for video in table.video)
    )


def text(correct: int, frames: int) -> str:
    """The accuracy measured here, and below it the ones reported elsewhere, as a table."""
    rows = [
        ("measured here", f"{100 * correct / frames:.2f} %", f"{correct} of {frames}", ""),
        *((f"reported: {where}", *figures) for where, *figures in REPORTED),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
    return "\n  ".join([f"Accuracy here and, reported elsewhere, of {WEIGHTS}:", *lines])
