"""The programs that are compared: one network, run by PyTorch and by this project.

A contender is built for a task (inference, or a step of training), a batch and a dtype. Its call
computes once and waits. Its result is what all must agree on: outputs, or after a few steps the
losses, which are the same only if the gradients were.

All start from the same float32 weights and float32 pictures on the device. PyTorch computes
bfloat16 by autocast, this project by its `dtype`; float32 is float32 on both, never TF32.
"""

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.subject import SEED, Frames, faces, take, training
from convert import mapping, stand_in
from convert.parity import load_twin
from convert.torch_unet import ReferenceUNet
from flax_unet import UNet, UNetConfig
from flax_unet.checkpoint.store import build
from flax_unet.nn.inference import compiled
from flax_unet.nn.unet import normalised
from train import distributed
from train.fit.config import Recipe
from train.fit.step import zero_totals

OURS = "this project"
PYTORCH = {  # by name: memory format, whether torch.compile is used
    "PyTorch, as published": (torch.contiguous_format, False),
    "PyTorch, channels last": (torch.channels_last, False),
    "PyTorch, channels last, compiled": (torch.channels_last, True),
}
CALLS = {"inference": 1, "training": 3}  # the last one's result is compared: steps change weights
WEIGHT_DECAY = 1e-8  # L2, added to PyTorch's gradient, as published; also the default of `Recipe`


class Subject(NamedTuple):
    """What all compute on."""

    config: UNetConfig
    tensors: dict[str, np.ndarray]  # weights by PyTorch's names
    frames: Frames

    def take(self, count: int) -> "Subject":
        """The same with so many pictures, again and again if there are fewer."""
        return self._replace(frames=take(self.frames, 0, count))


def subject_of(config: UNetConfig) -> Subject:
    """A stand-in's weights and a few faces."""
    return Subject(config, stand_in.state_dict(config, SEED), faces(config.input_size))


class Contender(NamedTuple):
    """One program."""

    call: Callable[[], None]  # computes once, and waits
    result: Callable[[], dict[str, np.ndarray]]  # of the calls since the last result
    planned: int | None = None  # bytes that it takes at most by its compiler's plan


def make(name: str, task: str, subject: Subject, dtype: str) -> Contender:
    """The contender of a name: OURS or one of PYTORCH."""
    if name == OURS:
        return {"inference": _our_inference, "training": _our_training}[task](subject, dtype)
    return _pytorch(task, subject, dtype, *PYTORCH[name])


def _pytorch(
    task: str, subject: Subject, dtype: str, layout: torch.memory_format, is_compiled: bool
) -> Contender:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    model = load_twin(ReferenceUNet(subject.config), subject.tensors)
    model = model.to(device).to(memory_format=layout)  # pyright: ignore[reportCallIssue]
    torch.backends.cudnn.benchmark = True  # XLA, too, tries which algorithm is fastest
    frames = {name: torch.from_numpy(of).to(device) for name, of in subject.frames.items()}
    image = (frames["image"].permute(0, 3, 1, 2).float() / 255).contiguous(memory_format=layout)
    autocast = contextlib.nullcontext()
    if dtype == "bfloat16":
        autocast = torch.autocast(device, torch.bfloat16)
    forward = model
    if is_compiled:
        torch._dynamo.reset()  # or it would go on with a program for batches of any size
        forward = torch.compile(model, dynamic=False)
    found: dict[str, torch.Tensor] = {}

    def wait(**outputs: torch.Tensor) -> None:
        if device == "cuda":
            torch.cuda.synchronize()
        found.update(outputs)

    def result() -> dict[str, np.ndarray]:
        return {name: of.detach().float().cpu().numpy() for name, of in found.items()}

    def infer() -> None:
        with torch.inference_mode(), autocast:
            mask_logits, real_logit = forward(image)
        wait(mask_logits=mask_logits.permute(0, 2, 3, 1), real_probability=real_logit.sigmoid())

    if task == "inference":
        return Contender(infer, result)

    model.train()
    fused = device == "cuda" and layout is torch.channels_last
    optimizer = torch.optim.Adam(
        model.parameters(), Recipe().learning_rate, weight_decay=WEIGHT_DECAY, fused=fused or None
    )
    mask = frames["mask"].long()

    def step() -> None:
        with autocast:
            mask_logits, real_logit = forward(image)
        mask_loss = F.cross_entropy(mask_logits.float(), mask)
        class_loss = F.binary_cross_entropy_with_logits(real_logit.float(), frames["is_real"])
        optimizer.zero_grad()
        (0.5 * mask_loss + 0.5 * class_loss).backward()
        optimizer.step()
        wait(mask_loss=mask_loss.detach(), class_loss=class_loss.detach())

    return Contender(step, result)


def _model(subject: Subject, dtype: str) -> UNet:
    shapes = {key: array.shape for key, array in subject.tensors.items()}
    rules = mapping.match(subject.config, shapes).rules
    return build(subject.config, mapping.to_flax(rules, subject.tensors), dtype=jnp.dtype(dtype))


def _our_inference(subject: Subject, dtype: str) -> Contender:
    forward: Any = compiled(_model(subject, dtype))
    image = jax.device_put(normalised(jnp.asarray(subject.frames["image"])))
    output: Any = None

    def infer() -> None:
        nonlocal output
        output = jax.block_until_ready(forward(image))

    def result() -> dict[str, np.ndarray]:
        outputs = ("mask_logits", "real_probability")
        return {name: np.asarray(getattr(output, name), np.float32) for name in outputs}

    program, params, _ = forward.args
    return Contender(infer, result, _planned(program.lower(params, image)))


def _our_training(subject: Subject, dtype: str) -> Contender:
    devices = jax.local_devices()[:1]
    step, first = training(_model(subject, dtype), devices)
    state, totals = distributed.replicate(first, devices)
    batch = distributed.shard_batch(subject.frames, devices)
    planned = _planned(step.lower(state, totals, batch))

    def train() -> None:
        nonlocal state, totals
        state, totals = jax.block_until_ready(step(state, totals, batch)[:2])

    def result() -> dict[str, np.ndarray]:
        nonlocal totals
        found = distributed.fetch(totals)
        totals = distributed.replicate(zero_totals(), devices)
        losses = {"mask_loss": found.mask_loss, "class_loss": found.class_loss}
        return {name: loss / found.steps for name, loss in losses.items()}

    return Contender(train, result, planned)


def _planned(program: jax.stages.Lowered) -> int:
    memory: Any = program.compile().memory_analysis()
    kinds = ("argument", "output", "temp")
    needed = sum(getattr(memory, f"{kind}_size_in_bytes") for kind in kinds)
    return needed - memory.alias_size_in_bytes
