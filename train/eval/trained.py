"""Whether frames are among those that the weights were trained on."""

from collections.abc import Mapping
from typing import Any

from flax_unet.checkpoint import metadata
from flax_unet.checkpoint.worth import without_folders
from train.data.dataset import Dataset
from train.data.layouts.tree import WHOLE
from train.data.splits import PARTS, held_out


def overlap(source: Mapping[str, Any], data: Dataset, split: str | None, seed: int) -> str | None:
    """What to say of frames that training saw, or may have seen; None where nothing suggests it.

    Args:
        source: the checkpoint's record of its origin, of `metadata.load_source`.
        data: the frames.
        split: what the user named of them, if anything.
        seed: of a split by source video.
    """
    trained = metadata.trained(dict(source))
    if trained.get("data_fingerprint") != data.fingerprint:
        return _changed(str(trained.get("data", "")), data, split)
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


def _changed(before: str, data: Dataset, split: str | None) -> str | None:
    """What to say if the weights were trained on the data set `before`, of other content.

    More or fewer sources are dealt to other parts. Splits that a data set has of its own stay.
    """
    is_own = "/" not in (split or "") and data.split not in (PARTS[0], WHOLE)
    if is_own or without_folders(before) != without_folders(data.name):
        return None
    return (
        f"the weights were trained on {without_folders(before)} when its files or options were "
        "others, so which of these frames they saw is not known, and figures of unseen ones may be "
        "far worse. Score other frames, or rename this data set if it is another one"
    )
