"""The verdict on one face."""

import dataclasses

import numpy as np
from PIL import Image

from flax_unet.media.faces import Box
from flax_unet.nn.decision import THRESHOLD, Decision, heads_disagree, per_cent


@dataclasses.dataclass(frozen=True, eq=False)
class Verdict:
    """The network's outputs for one face; None where it lacks the head.

    The polarities are opposed, as published: the classifier's 1 is REAL, the mask's 1 MANIPULATED.

    Attributes:
        size: (width, height) of the picture in pixels.
        box: the part of the picture that was judged.
        real_probability: in [0, 1], that the face is REAL; calibrated if the Detector is.
        mask: (H, W) bool, which pixels of the network's grid over the box are MANIPULATED.
        mask_probability: (H, W) float32 in [0, 1], the probability of MANIPULATED.
        mask_logits: (H, W, 2) float32, the mask head's output: class 0 untouched, class 1
            MANIPULATED. Only from a Detector that keeps them.
        threshold: the face is FAKE from this probability of FAKE on.
        raw_real_probability: the network's own, before calibration; None without calibration,
            where `real_probability` is the network's own.
    """

    size: tuple[int, int]
    box: Box
    real_probability: float | None = None
    mask: np.ndarray | None = None
    mask_probability: np.ndarray | None = None
    mask_logits: np.ndarray | None = None
    threshold: float = THRESHOLD
    raw_real_probability: float | None = None

    def __str__(self) -> str:
        parts = []
        if self.real_probability is not None:
            real, fake = per_cent(self.real_probability, 1), per_cent(1 - self.real_probability, 1)
            raw = ""
            if self.raw_fake_probability is not None:
                raw = f"; threshold {per_cent(self.threshold, 1)}, "
                raw += f"raw fake {per_cent(self.raw_fake_probability, 1)}"
            parts.append(f"{self.label} (fake {fake}, real {real}{raw})")
        if self.manipulated_share is not None:
            parts.append(f"{self.manipulated_share:.1%} of the pixels marked manipulated")
        if self.heads_disagree:
            parts.append("the heads disagree")
        return f"{', '.join(parts)}, in {tuple(self.box)} of {self.size[0]}x{self.size[1]} pixels"

    @property
    def decision(self) -> Decision:
        """The classifier's decision."""
        return Decision(self.real_probability, self.threshold, self.raw_real_probability)

    @property
    def label(self) -> str | None:
        """`REAL` or `FAKE`: the classifier's decision."""
        return self.decision.verdict

    @property
    def fake_probability(self) -> float | None:
        """1 - real_probability."""
        return self.decision.fake_probability

    @property
    def raw_fake_probability(self) -> float | None:
        """1 - raw_real_probability."""
        return self.decision.raw_fake_probability

    @property
    def is_real(self) -> bool | None:
        """Whether the classifier's decision is REAL."""
        return self.decision.is_real

    @property
    def manipulated_share(self) -> float | None:
        """The share of the box that is marked MANIPULATED, in [0, 1]."""
        return None if self.mask is None else float(np.mean(self.mask))

    @property
    def heads_disagree(self) -> bool | None:
        """Whether `label` and `manipulated_share` contradict each other; None without both."""
        return heads_disagree(self.is_real, self.manipulated_share)

    @property
    def is_manipulated(self) -> np.ndarray | None:
        """(height, width) bool at the picture's size, False outside the box."""
        return None if self.mask is None else self._at_size(self.mask)

    @property
    def manipulated_probability(self) -> np.ndarray | None:
        """(height, width) float32 in [0, 1] at the picture's size, 0 outside the box."""
        return None if self.mask_probability is None else self._at_size(self.mask_probability)

    @property
    def mask_probability_8bit(self) -> np.ndarray | None:
        """(H, W) uint8: 255 times `mask_probability`, rounded down."""
        return None if self.mask_probability is None else _8bit(self.mask_probability)

    @property
    def notebook_mask(self) -> np.ndarray | None:
        """(H, W) bool: the mask as the published notebook computes it.

        It rounds the probabilities of both classes down to 8 bits before it compares them, and a
        tie is class 0: pixels just above 0.5 are not marked. Class 0 is taken as
        1 - `mask_probability`, which float32 rounds otherwise than softmax: a pixel can differ
        where 255 times its probability is within 1e-4 of 128.
        """
        if self.mask_probability is None:
            return None
        return _8bit(self.mask_probability) > _8bit(1 - self.mask_probability)

    def _at_size(self, grid: np.ndarray) -> np.ndarray:
        """Each pixel takes the value of the grid's cell that it lies in."""
        shape = (self.box.width, self.box.height)
        inside = Image.fromarray(grid).resize(shape, Image.Resampling.NEAREST)
        whole = np.zeros((self.size[1], self.size[0]), grid.dtype)
        whole[self.box.top : self.box.bottom, self.box.left : self.box.right] = inside
        return whole


def _8bit(probability: np.ndarray) -> np.ndarray:
    """255 times a float32 probability as uint8, rounded down, as PyTorch casts it."""
    return (probability * np.float32(255)).astype(np.uint8)
