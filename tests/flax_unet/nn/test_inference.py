"""The network with BatchNorm folded away computes what it did."""

import dataclasses
import os
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from convert import mapping, parity, torch_unet
from flax_unet import PUBLISHED, UNet, UNetConfig
from flax_unet.checkpoint.store import flat
from flax_unet.detector import Detector
from flax_unet.nn import inference
from flax_unet.nn.inference import compiled, folded
from flax_unet.nn.layers import BatchNorm, DoubleConv
from tests.flax_unet.samples import both, run
from tests.rounding import assert_rounded, through

SHALLOW = UNetConfig(4, 2, 2, (8,), image_size=32)


def scrambled(model: nnx.Module) -> None:
    """Statistics, scales and shifts of every size and sign, as training leaves them."""
    rng = np.random.default_rng(0)
    for _, module in nnx.iter_modules(model):
        if isinstance(module, BatchNorm):
            size = module.mean.shape
            module.mean[...] = jnp.asarray(rng.normal(size=size), jnp.float32)
            module.var[...] = jnp.asarray(10 ** rng.uniform(-6, 3, size), jnp.float32)
            module.scale[...] = jnp.asarray(
                rng.normal(size=size) * np.sqrt(np.asarray(module.var[...]) + 1e-5), jnp.float32
            )
            module.bias[...] = jnp.asarray(rng.normal(size=size), jnp.float32)


def double_conv(bias: bool) -> DoubleConv:
    """A layer in eval mode with initial values."""
    initialise = nnx.jit(
        lambda: DoubleConv(5, 7, 9, bias=bias, dtype=jnp.float32, rngs=nnx.Rngs(1))
    )
    layer = initialise()
    layer.eval()
    return layer


def in_network(layer: DoubleConv) -> DoubleConv:
    """The layer, folded as one of a network."""
    model, _ = both(SHALLOW, seed=0)
    model.inc = layer
    return folded(model).inc


def to_torch(x: Any) -> torch.Tensor:
    return torch.tensor(np.asarray(x)).permute(0, 3, 1, 2)


def weights(module: nnx.Module) -> dict[str, Any]:
    return nnx.to_pure_dict(nnx.state(module))


def twin_of_layer(layer: DoubleConv) -> torch_unet.DoubleConv:
    """PyTorch's layer with the same weights and statistics."""
    leaves = flat(weights(layer))
    tensors = {
        f"double_conv.{source}": torch.tensor(np.transpose(leaves[target], np.argsort(axes)))
        for source, target, axes in mapping._DOUBLE_CONV
        if target in leaves
    }
    middle, width = (tensors[f"double_conv.{place}.weight"].shape[:2] for place in (0, 3))
    twin = torch_unet.DoubleConv(middle[1], middle[0], width[0], "double_conv.0.bias" in tensors)
    twin.load_state_dict(tensors, strict=False)  # but for counts of batches
    return twin.eval()


def twin_of(model: UNet) -> torch_unet.ReferenceUNet:
    table = {rule.source: rule for rule in mapping.expand(model.config)}
    tensors = mapping.to_torch(table, weights(model))
    return parity.load_twin(torch_unet.ReferenceUNet(model.config), tensors)


@pytest.mark.parametrize("bias", [True, False])
def test_layer(bias: bool) -> None:
    layer = double_conv(bias=bias)
    scrambled(layer)
    x = jnp.asarray(np.random.default_rng(1).normal(size=(2, 16, 16, 5)), jnp.float32)
    before = run(layer, x)
    expected = through(twin_of_layer(layer), to_torch(x)).channels_last()
    assert_rounded(before, expected)
    assert_rounded(run(in_network(layer), x), expected)
    np.testing.assert_array_equal(run(layer, x), before)  # which is still what it was


@pytest.mark.parametrize("layout", ["ynet-224", "segmenter-bilinear"])
def test_network(layout: str) -> None:
    config = dataclasses.replace(PUBLISHED[layout], base_width=4)
    model, _ = both(config, seed=2)
    scrambled(model)
    image = np.random.default_rng(2).random((2, 64, 64, 3), np.float32)
    mask_logits, real_logit = through(twin_of(model), to_torch(image))
    for output in run(model, image), compiled(model)(image):
        assert_rounded(output.mask_logits, mask_logits.channels_last())
        if model.config.has_classifier:
            assert_rounded(output.real_logit, real_logit)
    assert not list(nnx.iter_graph(nnx.state(folded(model), nnx.BatchStat)))[1:]


def test_weights_lie_in_the_order_that_a_platform_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs take them as they lie and compute the same, even where the order is not the best.

    Layers of the classifier may be as small as the windows of kernels.
    """
    config = dataclasses.replace(SHALLOW, classifier_widths=(2, 2))
    model, _ = both(config, seed=0)
    image = np.random.default_rng(2).random((2, 32, 32, 3), np.float32)
    mask_logits, real_logit = through(twin_of(model), to_torch(image))
    wanted = inference._ORDERS["gpu"]
    monkeypatch.setattr(inference, "_ORDERS", {"cpu": wanted})
    forward: Any = compiled(model)
    detector: Any = Detector(model)
    faces = np.zeros((1, *config.input_size, 3), np.uint8)
    for called, batch in ((forward, image), (detector._forward, faces)):
        program, state, _ = called.args
        formats = program.lower(state, batch).compile().input_formats
        taken = {of.layout.major_to_minor for of in jax.tree.leaves(formats)}
        assert taken >= {order.major_to_minor for order in wanted.values()}
    output = forward(image)
    assert_rounded(output.mask_logits, mask_logits.channels_last())
    assert_rounded(output.real_logit, real_logit)


def test_networks_of_one_architecture_share_a_program() -> None:
    config = dataclasses.replace(SHALLOW, base_width=3)
    image = np.random.default_rng(2).integers(0, 256, (2, 32, 32, 3), np.uint8)
    forwards: list[Any] = []
    for seed in range(2):
        model, _ = both(config, seed)
        forwards.append(compiled(model))
        forwards[-1](image)
    program = forwards[0].args[0]
    assert program is forwards[1].args[0]
    assert program._cache_size() == 1


def test_compiled_runs_where_arrays_are_put() -> None:
    """A conversion's proof is on the CPU where there is an accelerator, too."""
    program = """if True:
        import jax, numpy
        from flax import nnx
        from flax_unet import UNet, UNetConfig
        from flax_unet.nn.inference import compiled
        config = UNetConfig(base_width=2, levels=1, decoder_levels=1, image_size=16)
        with jax.default_device(jax.devices()[1]):
            model = UNet(config, rngs=nnx.Rngs(0))
            model.eval()
            output = compiled(model)(numpy.zeros((1, 16, 16, 3)))
        assert output.mask_logits.devices() == {jax.devices()[1]}, output.mask_logits.devices()
    """
    devices = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    subprocess.run([sys.executable, "-c", program], check=True, env=os.environ | devices)


def test_weights_are_rounded_once_in_bfloat16() -> None:
    """The fold itself loses nothing, and no call rounds anything again."""
    layers = {}
    for dtype in (jnp.float32, jnp.bfloat16):
        model, _ = both(SHALLOW, 1, dtype)
        scrambled(model)
        layers[dtype] = nnx.to_pure_dict(nnx.state(folded(model), nnx.Param))
    for wide, narrow in zip(*map(jax.tree.leaves, layers.values()), strict=True):
        np.testing.assert_array_equal(narrow, np.asarray(wide).astype(narrow.dtype))
    levels = {key: of for key, of in layers[jnp.bfloat16].items() if key[:2] in ("in", "do", "up")}
    assert {leaf.dtype for leaf in jax.tree.leaves(levels)} == {jnp.dtype("bfloat16")}


def test_damaged_statistics_show_in_the_outputs_alone() -> None:
    """Not by warnings of NumPy, which tests raise."""
    layer = double_conv(bias=True)
    assert layer.norm1 is not None
    layer.norm1.var[...] = jnp.full(7, -1.0)
    assert np.isnan(run(in_network(layer), jnp.ones((1, 8, 8, 5)))).any()


def test_twice_is_an_error() -> None:
    model, _ = both(SHALLOW, seed=0)
    with pytest.raises(ValueError, match="folded already"):
        folded(folded(model))
