"""U-YNet in JAX: detects forged faces and marks the manipulated pixels."""

import importlib
from typing import TYPE_CHECKING, Any

from flax_unet.nn.config import PUBLISHED, UNetConfig
from flax_unet.utils.errors import InputError

if TYPE_CHECKING:
    from flax_unet.checkpoint.store import load
    from flax_unet.detector import Detector
    from flax_unet.nn.unet import UNet, UNetOutput
    from flax_unet.predict.files import predict_file, predict_files
    from flax_unet.predict.results import FaceResult, FileResult, PersonResult, VideoResult
    from flax_unet.verdict import Verdict

__all__ = [
    "PUBLISHED",
    "Detector",
    "FaceResult",
    "FileResult",
    "InputError",
    "PersonResult",
    "UNet",
    "UNetConfig",
    "UNetOutput",
    "Verdict",
    "VideoResult",
    "load",
    "predict_file",
    "predict_files",
]

# Imported at first use (PEP 562): JAX and Flax take seconds, which --help need not wait for.
_HOMES = {
    "Detector": "detector",
    "UNet": "nn.unet",
    "UNetOutput": "nn.unet",
    "Verdict": "verdict",
    "load": "checkpoint.store",
    **dict.fromkeys(("predict_file", "predict_files"), "predict.files"),
    **dict.fromkeys(("FaceResult", "FileResult", "PersonResult", "VideoResult"), "predict.results"),
}

if not TYPE_CHECKING:  # or a type checker would take any name for one of this package's

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
