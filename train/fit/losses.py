"""The losses of the published recipes: cross-entropies of each picture, Dice of a batch."""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from flax_unet.nn.unet import UNetOutput
from train.eval.segmentation import DICE_EPSILON


@dataclasses.dataclass(frozen=True)
class Objective:
    """What the loss is made of."""

    mask_weight: float = 0.5
    class_weight: float = 0.5
    mask_classes: tuple[float, float] = (1.0, 1.0)  # weights of untouched and manipulated pixels
    frame_classes: tuple[float, float] = (1.0, 1.0)  # weights of FAKE and REAL frames
    dice: bool = False  # whether `dice_loss` is added to the mask's cross-entropy


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


def dice_loss(
    mask_logits: jax.Array, mask: jax.Array, labelled: jax.Array, axis_name: str
) -> jax.Array:
    """1 less the mean over both classes of the Dice coefficient of the batch of all devices.

    The coefficient is (2 sum(p t) + e) / (sum(p) + sum(t) + e), e = DICE_EPSILON, with p the
    softmax and t the labels of a class, and each sum over all pixels of the whole batch. It is 1
    for a class that neither predicts nor labels a pixel.

    Its gradient by the weights of a device has to be averaged over the devices, like that of a
    mean over pictures.

    Args:
        mask_logits: (B, H, W, 2), this device's.
        mask: (B, H, W), 1 = MANIPULATED.
        labelled: (B,), whether the mask is known; other pictures are in no sum.
        axis_name: of `jax.pmap`.

    Returns:
        (), in [0, 1].
    """
    counted = labelled.astype(mask_logits.dtype)[:, None, None, None]
    p = jax.nn.softmax(mask_logits) * counted
    t = jnp.stack((mask == 0, mask == 1), axis=-1) * counted
    sums = jnp.stack([(p * t).sum((0, 1, 2)), (p + t).sum((0, 1, 2))])
    # The value is the sum over the devices. The gradient is this device's part of it times their
    # number, since the gradients of all of them are averaged afterwards.
    mine = jax.lax.axis_size(axis_name) * sums
    both, either = mine + jax.lax.stop_gradient(jax.lax.psum(sums, axis_name) - mine)
    return 1 - ((2 * both + DICE_EPSILON) / (either + DICE_EPSILON)).mean()


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
