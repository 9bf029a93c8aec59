"""Compares the outputs of the PyTorch twin and the Flax model for the same images."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import torch

from convert.torch_unet import ReferenceUNet
from flax_unet.nn.config import UNetConfig
from flax_unet.nn.inference import compiled
from flax_unet.nn.unet import UNet, UNetOutput

TOLERANCES = {  # by output: how large which difference may be
    "real_probability": (1e-5, "max_abs"),
    # Probabilities near 0 and 1 hardly move, however far their logits are apart.
    "real_logit": (1e-3, "max_rel"),
    "mask_logits": (1e-4, "max_rel"),
}
_LEAST_SCALE = {"real_logit": 1.0}  # below it, the probability is bounded more closely
NOISE_IMAGES = 2
NOISE_SEED = 0


@dataclasses.dataclass(frozen=True)
class Difference:
    """How far one output is from the twin's."""

    output: str
    max_abs: float
    max_rel: float  # as a share of the twin's mean absolute value, of a real logit's of 1 at least
    tolerance: float
    measure: str  # the field that `tolerance` bounds
    within: bool


@dataclasses.dataclass(frozen=True)
class Parity:
    """The comparison over all images."""

    images: int
    differences: tuple[Difference, ...]
    decisions_equal: int | None  # images that both call REAL or both FAKE
    pixels_equal: int | None  # mask pixels of one class
    pixels: int | None

    @property
    def holds(self) -> bool:
        """Whether every output is within its tolerance."""
        return all(difference.within for difference in self.differences)

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON values; numbers that are not finite become null."""
        fields = dataclasses.asdict(self)
        fields["differences"] = list(fields["differences"])
        for difference in fields["differences"]:
            for name in ("max_abs", "max_rel"):
                if not np.isfinite(difference[name]):
                    difference[name] = None
        return fields

    def __str__(self) -> str:
        lines = [
            f"  {d.output:16}  largest difference {d.max_abs:.2e} absolute, {d.max_rel:.2e} "
            f"relative; tolerance {d.tolerance:.0e} of {d.measure}: "
            f"{'ok' if d.within else 'EXCEEDED'}"
            for d in self.differences
        ]
        if self.decisions_equal is not None:
            lines.append(f"  decisions         {self.decisions_equal} of {self.images} agree")
        if self.pixels is not None:
            lines.append(f"  mask pixels       {self.pixels_equal:,} of {self.pixels:,} agree")
        return "\n".join(lines)


def noise(config: UNetConfig) -> np.ndarray:
    """Seeded uniform noise (NOISE_IMAGES, H, W, in_channels) float32 in [0, 1) for a network."""
    rng = np.random.default_rng(NOISE_SEED)
    return rng.random((NOISE_IMAGES, *config.input_size, config.in_channels), dtype=np.float32)


def load_twin(model: ReferenceUNet, tensors: Mapping[str, np.ndarray]) -> ReferenceUNet:
    """Sets the twin's weights from a source's tensors, in eval mode; unused ones are left out.

    Raises:
        RuntimeError: a tensor of the twin is missing, or has another shape.
    """
    wanted = [key for key in model.state_dict() if not key.endswith("num_batches_tracked")]
    if lacking := sorted(set(wanted) - tensors.keys()):
        raise RuntimeError(f"the PyTorch twin lacks {lacking}")
    floats = {key: torch.tensor(np.asarray(tensors[key], np.float32)) for key in wanted}
    model.load_state_dict(floats, strict=False)
    return model.eval()


def twin_output(twin: ReferenceUNet, images: np.ndarray) -> UNetOutput:
    """The PyTorch twin's output for images (B, H, W, in_channels), in the Flax model's layout."""
    with torch.inference_mode():
        mask_logits, real_logit = twin(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous())
    return UNetOutput(
        None if mask_logits is None else jax.numpy.asarray(mask_logits.permute(0, 2, 3, 1).numpy()),
        None if real_logit is None else jax.numpy.asarray(real_logit.numpy()),
    )


def verify(model: UNet, tensors: Mapping[str, np.ndarray], images: np.ndarray) -> Parity:
    """Compares a converted model with the PyTorch twin that holds the source's tensors.

    The model is in eval mode, on the CPU; the images are (B, H, W, in_channels) float32
    in [0, 1].
    """
    twin = load_twin(ReferenceUNet(model.config), tensors)
    forward = compiled(model)
    # One image at a time: memory stays small however many there are.
    expected = _joined([twin_output(twin, image[None]) for image in images])
    found = _joined([forward(image[None]) for image in images])
    return _compare(expected, found)


def _joined(outputs: list[UNetOutput]) -> UNetOutput:
    """The outputs for single images as that of a batch."""
    return jax.tree.map(lambda *arrays: jax.numpy.concatenate(arrays), *outputs)


def _compare(expected: UNetOutput, found: UNetOutput) -> Parity:
    differences = []
    decisions_equal = pixels_equal = pixels = None
    images = len(jax.tree.leaves(expected)[0])
    if expected.is_real is not None:
        differences += [
            _difference(output, expected, found) for output in ("real_probability", "real_logit")
        ]
        decisions_equal = int((expected.is_real == found.is_real).sum())
    if expected.is_manipulated is not None:
        differences.append(_difference("mask_logits", expected, found))
        pixels_equal = int((expected.is_manipulated == found.is_manipulated).sum())
        pixels = expected.is_manipulated.size
    return Parity(images, tuple(differences), decisions_equal, pixels_equal, pixels)


def _difference(output: str, expected: UNetOutput, found: UNetOutput) -> Difference:
    wanted, got = (np.asarray(getattr(side, output), np.float64) for side in (expected, found))
    scale = max(np.abs(wanted).mean(), _LEAST_SCALE.get(output, 0.0))
    max_abs = float(np.abs(wanted - got).max())
    max_rel = float(max_abs / scale) if max_abs else 0.0
    tolerance, measure = TOLERANCES[output]
    within = {"max_abs": max_abs, "max_rel": max_rel}[measure] <= tolerance  # false for NaN
    return Difference(output, max_abs, max_rel, tolerance, measure, within)
