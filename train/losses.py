"""The two losses, of each picture; the published loss is 0.5 of either's mean."""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from flax_unet.model import UNetOutput


@dataclasses.dataclass(frozen=True)
class Objective:
    """What the loss is made of."""

    mask_weight: float = 0.5
    class_weight: float = 0.5
    mask_classes: tuple[float, float] = (1.0, 1.0)  # weights of untouched and manipulated pixels
    frame_classes: tuple[float, float] = (1.0, 1.0)  # weights of FAKE and REAL frames


def mask_loss(mask_logits: jax.Array, mask: jax.Array, classes: tuple[float, float]) -> jax.Array:
    """The cross-entropy of each picture's pixels, averaged over the picture.

    Args:
        mask_logits: (B, H, W, 2).
        mask: (B, H, W), 1 = MANIPULATED.
        classes: weights of the classes. Unlike PyTorch's, they are not divided by their sum over
            the batch, so that a picture's loss does not depend on the others.

    Returns:
        (B,), at least 0.
    """
    # Of two classes, softmax's cross-entropy is the logistic one of their difference; without
    # picking the class's logit its gradient needs no scatter.
    logit = mask_logits[..., 1] - mask_logits[..., 0]
    return _weighted_cross_entropy(logit, mask, classes).mean((1, 2))


def class_loss(
    real_logit: jax.Array, is_real: jax.Array, classes: tuple[float, float]
) -> jax.Array:
    """The binary cross-entropy of each picture's verdict.

    Args:
        real_logit: (B,), the log-odds of REAL.
        is_real: (B,), 1 = REAL.
        classes: weights of FAKE and REAL.

    Returns:
        (B,), at least 0.
    """
    return _weighted_cross_entropy(real_logit, is_real, classes)


def _weighted_cross_entropy(
    logit: jax.Array, label: jax.Array, classes: tuple[float, float]
) -> jax.Array:
    loss = optax.sigmoid_binary_cross_entropy(logit, label.astype(logit.dtype))
    if classes == (1.0, 1.0):
        return loss
    return loss * jnp.where(label == 1, classes[1], classes[0])


def losses(
    output: UNetOutput, batch: dict[str, jax.Array], objective: Objective
) -> tuple[jax.Array, jax.Array]:
    """The mask's and the class's loss of each picture (B,); 0 for a head that there is not."""
    nothing = jnp.zeros(len(batch["is_real"]))
    of_masks = of_classes = nothing
    if output.mask_logits is not None:
        of_masks = mask_loss(output.mask_logits, batch["mask"], objective.mask_classes)
    if output.real_logit is not None:
        of_classes = class_loss(output.real_logit, batch["is_real"], objective.frame_classes)
    return of_masks, of_classes
