"""Whether frames are among those that the weights were trained on."""

from collections.abc import Mapping
from typing import Any

from train.data.dataset import Dataset
from train.data.splits import PARTS, held_out


def overlap(source: Mapping[str, Any], data: Dataset, split: str | None, seed: int) -> str | None:
    """What to say of frames that training saw; None where it saw none of them, or is not recorded.

    Args:
        source: the checkpoint's record of its origin, of `metadata.load_source`.
        data: the frames.
        split: what the user named of them, if anything.
        seed: of a split by source video.
    """
    trained = source.get("trained")
    if not isinstance(trained, dict) or trained.get("data_fingerprint") != data.fingerprint:
        return None
    shares, of_training = trained.get("split"), trained.get("seed")
    if shares is None or (others := held_out(str(shares))) is None:
        return "the weights were trained on this split; figures of other frames may be far worse"
    same = (shares, of_training) == ((split or "").rpartition(":")[2], seed)
    if same and data.split in PARTS[1:]:
        return None
    return (
        "the weights were trained on some of these frames; name another split or, where the data "
        f"set has none of its own, give --split {others} --seed {of_training}"
    )
