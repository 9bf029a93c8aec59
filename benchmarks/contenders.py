"""What is compared: one network with one set of weights, run by PyTorch and by this project.

A contender is built for a task (inference, or a step of training), a batch and a dtype. Its call
computes once and waits for the result; its result is what both must agree on: outputs, or after
a few steps the losses, which tell whether the gradients were the same.

Both start from the same float32 weights and float32 pictures that lie on the device. PyTorch
computes bfloat16 by autocast, this project by its `dtype`; float32 is float32 on both, never TF32.
"""

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch.nn import functional as F

from convert import mapping
from convert.parity import load_twin
from convert.torch_unet import ReferenceUNet
from flax_unet import UNetConfig
from flax_unet.checkpoint.store import build
from flax_unet.nn.inference import compiled
from flax_unet.nn.unet import normalised
from train import distributed
from train.fit.config import Recipe
from train.fit.losses import Objective
from train.fit.optimizer import make_optimizer
from train.fit.step import first_state, make_step, split, zero_totals

OURS = "this project"
PYTORCH = {  # by name: memory format, whether torch.compile is used
    "PyTorch, as published": (torch.contiguous_format, False),
    "PyTorch, channels last": (torch.channels_last, False),
    "PyTorch, channels last, compiled": (torch.channels_last, True),
}
CALLS = {"inference": 1, "training": 3}  # the last one's result is compared: steps change weights
_RATE = 1e-5  # of learning, as published
WEIGHT_DECAY = 1e-8  # L2, added to PyTorch's gradient, as published; also the default of `Recipe`


class Subject(NamedTuple):
    """What both compute on."""

    config: UNetConfig
    tensors: dict[str, np.ndarray]  # weights by PyTorch's names
    image: np.ndarray  # (B, S, S, 3) uint8
    mask: np.ndarray  # (B, S, S) uint8, 1 = MANIPULATED
    is_real: np.ndarray  # (B,) float32

    def take(self, count: int) -> "Subject":
        """The same with so many pictures, again and again if there are fewer."""
        at = np.arange(count) % len(self.image)
        return self._replace(image=self.image[at], mask=self.mask[at], is_real=self.is_real[at])


class Contender(NamedTuple):
    """One program."""

    call: Callable[[], None]  # computes once, and waits
    result: Callable[[], dict[str, np.ndarray]]  # of the last of the first CALLS
    planned: int | None = None  # bytes that it takes at most, as its compiler says


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
    image = torch.from_numpy(subject.image).permute(0, 3, 1, 2).to(device).float() / 255
    image = image.contiguous(memory_format=layout)
    autocast = contextlib.nullcontext()
    if dtype == "bfloat16":
        autocast = torch.autocast(device, torch.bfloat16)
    forward = model
    if is_compiled:
        torch._dynamo.reset()  # or it would go on with a program for batches of any size
        forward = torch.compile(model, dynamic=False)
    seen: list[dict[str, np.ndarray]] = []

    def keep(**found: torch.Tensor) -> None:
        if device == "cuda":
            torch.cuda.synchronize()
        if len(seen) < CALLS[task]:
            seen.append({name: of.detach().float().cpu().numpy() for name, of in found.items()})

    def infer() -> None:
        with torch.inference_mode(), autocast:
            mask_logits, real_logit = forward(image)
        keep(mask_logits=mask_logits.permute(0, 2, 3, 1), real_probability=real_logit.sigmoid())

    if task == "inference":
        return Contender(infer, lambda: seen[-1])

    model.train()
    fused = device == "cuda" and layout is torch.channels_last
    optimizer = torch.optim.Adam(
        model.parameters(), _RATE, weight_decay=WEIGHT_DECAY, fused=fused or None
    )
    mask = torch.from_numpy(subject.mask).long().to(device)
    is_real = torch.from_numpy(subject.is_real).to(device)

    def step() -> None:
        with autocast:
            mask_logits, real_logit = forward(image)
        mask_loss = F.cross_entropy(mask_logits.float(), mask)
        class_loss = F.binary_cross_entropy_with_logits(real_logit.float(), is_real)
        optimizer.zero_grad()
        (0.5 * mask_loss + 0.5 * class_loss).backward()
        optimizer.step()
        keep(mask_loss=mask_loss, class_loss=class_loss)

    return Contender(step, lambda: seen[-1])


def _model(subject: Subject, dtype: str) -> Any:
    shapes = {key: array.shape for key, array in subject.tensors.items()}
    rules = mapping.match(subject.config, shapes).rules
    return build(subject.config, mapping.to_flax(rules, subject.tensors), dtype=jnp.dtype(dtype))


def _our_inference(subject: Subject, dtype: str) -> Contender:
    forward: Any = compiled(_model(subject, dtype))
    image = jax.device_put(normalised(jnp.asarray(subject.image)))
    seen: list[Any] = []

    def infer() -> None:
        output = jax.block_until_ready(forward(image))
        if not seen:
            seen.append(output)

    def result() -> dict[str, np.ndarray]:
        output = seen[0]
        found = {"mask_logits": output.mask_logits, "real_probability": output.real_probability}
        return {name: np.asarray(of, np.float32) for name, of in found.items()}

    program, params, _ = forward.args
    return Contender(infer, result, _planned(program.lower(params, image).compile()))


def _our_training(subject: Subject, dtype: str) -> Contender:
    devices = jax.local_devices()[:1]
    graphdef, weights, statistics = split(_model(subject, dtype))
    optimizer = make_optimizer(Recipe(), lambda _: _RATE)
    now = first_state(weights, statistics, optimizer)
    state = distributed.replicate((now, zero_totals()), devices)
    batch = {
        "image": subject.image,
        "mask": subject.mask,
        "labelled": np.ones(len(subject.mask), bool),
        "is_real": subject.is_real,
        "stop": np.zeros(len(subject.mask), np.int32),
    }
    batch = distributed.shard_batch(batch, devices)
    step: Any = distributed.map_step(make_step(graphdef, optimizer, Objective()), devices)
    planned = _planned(step.lower(*state, batch).compile())
    sums = [{"mask_loss": np.float32(0), "class_loss": np.float32(0)}]

    def train() -> None:
        nonlocal state
        state = step(*state, batch)[:2]
        jax.block_until_ready(state)
        if len(sums) <= CALLS["training"]:  # of the losses
            totals = distributed.fetch(state[1])
            sums.append({name: getattr(totals, name) for name in ("mask_loss", "class_loss")})

    def result() -> dict[str, np.ndarray]:
        return {name: np.asarray(of - sums[-2][name]) for name, of in sums[-1].items()}

    return Contender(train, result, planned)


def _planned(program: Any) -> int:
    memory = program.memory_analysis()
    return sum(
        getattr(memory, f"{kind}_size_in_bytes") for kind in ("argument", "output", "temp")
    ) - (memory.alias_size_in_bytes)
