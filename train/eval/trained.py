"""Whether frames are among those that the weights were trained on."""

from collections.abc import Mapping
from typing import Any

from flax_unet.checkpoint import metadata
from flax_unet.checkpoint.worth import GENERATED, without_folders
from train.data.dataset import Dataset
from train.data.layouts.tree import WHOLE
from train.data.splits import PARTS, held_out
from train.data.storage.manifest import Manifest


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
        return _changed(trained, data, split)
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


def _changed(trained: Mapping[str, Any], data: Dataset, split: str | None) -> str | None:
    """What to say if the weights were trained on this data set when its content was another.

    More or fewer sources are dealt to other parts. Splits that a data set has of its own stay.
    """
    before = without_folders(str(trained.get("data", "")))
    if before != without_folders(data.name) or _stays(trained, data, split):
        return None
    return (
        f"the weights were trained on {before} when its files or options were "
        "others, so which of these frames they saw is not known, and figures of unseen ones may be "
        "far worse. Score other frames, or rename this data set if it is another one"
    )


def _stays(trained: Mapping[str, Any], data: Dataset, split: str | None) -> bool:
    """Whether frames are of a split that stays what it is when others change.

    Photos of a folder are dealt out anew whenever the data set is made of them, so its splits stay
    only as long as it has the one that was trained on.
    """
    if "/" in (split or "") or data.split in (PARTS[0], WHOLE):
        return False
    from train.data.synthetic.portraits import SOURCES  # takes long to import

    kind, _, source = data.name.partition(":")
    if kind not in GENERATED or source in ("", *SOURCES):
        return True
    stored = Manifest.read(data.directory).fingerprints
    return trained.get("data_fingerprint") in stored.values()
