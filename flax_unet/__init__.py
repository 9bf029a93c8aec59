"""U-YNet in JAX: tell real faces from forged ones, and mark the manipulated pixels."""

from flax_unet.checkpoint import load
from flax_unet.config import PUBLISHED, UNetConfig
from flax_unet.detector import Detector, Verdict
from flax_unet.errors import InputError
from flax_unet.model import UNet, UNetOutput

__all__ = [
    "PUBLISHED",
    "Detector",
    "InputError",
    "UNet",
    "UNetConfig",
    "UNetOutput",
    "Verdict",
    "load",
]
