"""The losses of the published recipes: cross-entropies of each picture, Dice of a batch."""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from flax_unet import UNetConfig
from flax_unet.nn.unet import UNetOutput
from flax_unet.utils.errors import InputError
from train.eval.segmentation import DICE_EPSILON
from train.fit.config import Recipe


@dataclasses.dataclass(frozen=True)
class Objective:
    """The weights of the loss's parts."""

    mask_weight: float = 0.5
    class_weight: float = 0.5
    mask_classes: tuple[float, float] = (1.0, 1.0)  # weights of untouched and manipulated pixels
    frame_classes: tuple[float, float] = (1.0, 1.0)  # weights of FAKE and REAL frames
    dice: bool = False  # whether `dice_loss` is added to the mask's cross-entropy


def objective_of(network: UNetConfig, recipe: Recipe) -> Objective:
    """The loss of a recipe, with equal weights of the classes.

    Raises:
        InputError: the recipe's loss cannot be computed, or all its weights are 0.
    """
    dice = recipe.mask_loss == "cross-entropy+dice" and network.has_mask_head
    if dice and recipe.accumulate > 1:
        raise InputError(
            f"--accumulate {recipe.accumulate}: the Dice loss is of all pixels of a batch and "
            "cannot be computed in parts; leave it out, or give --mask-loss cross-entropy"
        )
    objective = Objective(recipe.mask_loss_weight, recipe.class_loss_weight, dice=dice)
    used = objective.mask_weight * network.has_mask_head
    used += objective.class_weight * network.has_classifier
    if not used:
        raise InputError("--mask-loss-weight and --class-loss-weight leave no loss; raise one")
    return objective


def mask_loss(mask_logits: jax.Array, mask: jax.Array, classes: tuple[float, float]) -> jax.Array:
    """The cross-entropy of each picture's pixels, averaged over the picture: (B,), at least 0.

    `mask_logits` is (B, H, W, 2) and `mask` (B, H, W), 1 = MANIPULATED. Unlike PyTorch's, the
    weights of the classes are not divided by their sum over the batch, so that a picture's loss
    does not depend on the others.
    """
    # For two classes, softmax's cross-entropy is the logistic one of their difference. It does not
    # index by class, so its gradient needs no scatter.
    logit = mask_logits[..., 1] - mask_logits[..., 0]
    return cross_entropy(logit, mask, classes).mean((1, 2))


def dice_loss(
    mask_logits: jax.Array, mask: jax.Array, labelled: jax.Array, axis_name: str
) -> jax.Array:
    """1 - Dice, averaged over both classes, of the batch of all devices: (), in [0, 1].

    Dice is (2 sum(p t) + e) / (sum(p) + sum(t) + e), e = DICE_EPSILON, with p the softmax and t the
    labels of a class, and each sum over all pixels of the whole batch. It is 1 for a class that is
    neither predicted nor labelled anywhere.

    Average the gradient over the devices, like that of a mean over pictures.

    Args:
        mask_logits: (B, H, W, 2), this device's.
        mask: (B, H, W), 1 = MANIPULATED.
        labelled: (B,), whether the mask is known; other pictures are left out of the sums.
        axis_name: of `jax.pmap`.
    """
    counted = labelled.astype(mask_logits.dtype)[:, None, None, None]
    p = jax.nn.softmax(mask_logits) * counted
    t = jnp.stack((mask == 0, mask == 1), axis=-1) * counted
    sums = jnp.stack([(p * t).sum((0, 1, 2)), (p + t).sum((0, 1, 2))])
    # The value is the sum over the devices. The gradient is this device's part times their number,
    # since gradients are averaged over the devices afterwards.
    mine = jax.lax.axis_size(axis_name) * sums
    both, either = mine + jax.lax.stop_gradient(jax.lax.psum(sums, axis_name) - mine)
    return 1 - ((2 * both + DICE_EPSILON) / (either + DICE_EPSILON)).mean()


def cross_entropy(logit: jax.Array, label: jax.Array, classes: tuple[float, float]) -> jax.Array:
    """The binary cross-entropy of each element, at least 0, times the weight of its class.

    `classes` are the weights of the classes 0 and 1. `logit` is the log-odds of class 1, of any
    shape, and `label`, of the same shape, is 0 or 1.
    """
    loss = optax.sigmoid_binary_cross_entropy(logit, label.astype(logit.dtype))
    if classes == (1.0, 1.0):
        return loss
    return loss * jnp.where(label == 1, classes[1], classes[0])


def losses(
    output: UNetOutput, batch: dict[str, jax.Array], objective: Objective
) -> tuple[jax.Array, jax.Array]:
    """The mask's and the class's loss of each picture (B,); 0 for a missing head."""
    of_masks = of_classes = jnp.zeros(len(batch["is_real"]))
    if output.mask_logits is not None:
        of_masks = mask_loss(output.mask_logits, batch["mask"], objective.mask_classes)
    if output.real_logit is not None:
        of_classes = cross_entropy(output.real_logit, batch["is_real"], objective.frame_classes)
    return of_masks, of_classes
