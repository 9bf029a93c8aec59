"""Which checkpoint is meant when none is named."""

from pathlib import Path

from flax_unet.checkpoint import metadata
from flax_unet.utils.errors import InputError

CHECKPOINTS = Path("checkpoints")
_OF_A_RUN = ("best", "last")  # what training points to in its directory; the better choice first


def newest_checkpoint() -> Path:
    """The checkpoint under `checkpoints/` that was written last; of a training run, its best.

    Raises:
        InputError: there is none.
    """
    # What a command that was killed left half-written has a name that starts with a dot.
    places = [path for path in CHECKPOINTS.glob("*") if not path.name.startswith(".")]
    found = [path for place in places if (path := _checkpoint_at(place)) is not None]
    if not found:
        raise InputError(
            f"there is no checkpoint under {CHECKPOINTS}/; convert one: "
            "python -m convert.from_torch ckpt.pth, or name one by --checkpoint"
        )
    return max(found, key=lambda path: (path / metadata.CONFIG).stat().st_mtime_ns)


def _checkpoint_at(place: Path) -> Path | None:
    candidates = (place, *(place / name for name in _OF_A_RUN))
    return next((path for path in candidates if metadata.is_checkpoint(path)), None)
