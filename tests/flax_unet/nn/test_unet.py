"""The network against its PyTorch twin, and what it says of inputs that it cannot take."""

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from convert import mapping, parity
from convert.torch_unet import ReferenceUNet
from flax_unet import PUBLISHED, UNet, UNetConfig, UNetOutput
from flax_unet.checkpoint.store import abstract_weights, build, flat
from flax_unet.nn import layers
from flax_unet.nn.inference import compiled
from tests.conftest import SMALL, images
from tests.flax_unet.samples import both, run
from tests.published import LAYOUTS
from tests.rounding import Rounded, assert_rounded, running, through
from tests.tolerances import NETWORK, PROBABILITY, assert_close

RELATIVES = {
    "bias-free": dataclasses.replace(SMALL["segmenter-224"], conv_bias=False),
    "bias-free bilinear": dataclasses.replace(SMALL["segmenter-bilinear"], conv_bias=False),
    "bilinear dual head": dataclasses.replace(SMALL["ynet-slim"], upsampling="bilinear"),
    "three levels, width 5": UNetConfig(base_width=5, levels=3, decoder_levels=3, image_size=32),
    "no hidden layer": dataclasses.replace(SMALL["classifier-224"], classifier_widths=()),
    "decoder from the second level": UNetConfig(base_width=4, decoder_levels=2, image_size=32),
}


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("config", [*SMALL.values(), *RELATIVES.values()], ids=[*SMALL, *RELATIVES])
def test_output_is_the_twins(config: UNetConfig, seed: int) -> None:
    model, twin = both(config, seed)
    x = images(2, config.input_size[0], seed)[:, : config.stride]  # not square
    found, expected = compiled(model)(x), parity.twin_output(twin, x)
    assert (found.mask_logits is not None) == config.has_mask_head
    assert (found.real_logit is not None) == config.has_classifier
    exact = through(twin, torch.from_numpy(x).permute(0, 3, 1, 2))
    if config.has_classifier:
        assert_close(found.real_probability, expected.real_probability, PROBABILITY)
        assert found.real_logit is not None
        assert found.real_logit.shape == (2,)
        assert_rounded(found.real_logit, exact[1])
    if config.has_mask_head:
        assert_close(found.mask_logits, expected.mask_logits, NETWORK)
        assert_rounded(found.mask_logits, exact[0].channels_last())


@pytest.mark.parametrize(
    ("rows", "columns", "reads"),
    [
        *((14, 14, None), (20, 14, "first 14 rows and 14 columns"), (27, 14, "first 14 rows")),
        *((28, 14, "maximum of the whole map"), (13, 20, "maximum of the whole map")),
        *((3, 3, "maximum of the whole map"), (2, 3, "maximum of the whole map")),
    ],
)
def test_classifier_pools_as_published(rows: int, columns: int, reads: str | None) -> None:
    """The published pools of 2 and 7 where they leave one value, else the whole map's maximum."""
    config = UNetConfig(2, 1, 0, (4,), image_size=(2 * rows, 2 * columns))
    model, twin = both(config, seed=1)
    x = np.zeros((3, *config.input_size, 3), np.float32)
    height, width = x[:, :16, :16].shape[1:3]
    x[:, :height, :width] = images(3, 16)[:, :height, :width]
    x[1, -2:, -2:], x[2, 26:28, 24:] = 40, 30  # in the corner; at the last row that is read
    found, expected = run(model, x), parity.twin_output(twin, x)
    assert_close(found.real_probability, expected.real_probability, PROBABILITY)
    layer = twin.get_submodule
    deepest = layer("down1")(twin.inc(torch.from_numpy(x).permute(0, 3, 1, 2)))
    pooled = torch.nn.functional.max_pool2d(deepest, 2)
    fits = min(pooled.shape[2:]) >= 7
    pooled = torch.nn.functional.max_pool2d(pooled, 7) if fits else pooled
    if fits and pooled.shape[2:] == (1, 1):  # as the published class flattens it
        hidden = torch.relu(layer("linear_1")(pooled.flatten(1)))
        published = torch.sigmoid(layer("linear_2")(hidden))[:, 0].detach().numpy()
        assert_close(found.real_probability, published, PROBABILITY)
    note = config.pooling_note
    assert note is None if reads is None else reads in str(note)


def test_sizes_have_one_form() -> None:
    square, tall = UNetConfig(image_size=(224, 224)), UNetConfig(image_size=(320, 224))
    assert square == UNetConfig()
    assert square.to_json()["image_size"] == 224
    assert tall.to_json()["image_size"] == [320, 224]
    assert tall.input_size == (320, 224)
    assert UNetConfig.from_json(tall.to_json()) == tall
    assert UNetConfig.from_json(square.to_json()).input_size == (224, 224)


@pytest.mark.parametrize("layout", ["ynet-320", "segmenter-bilinear"])
def test_every_layer_is_the_twins(layout: str) -> None:
    """Each block gets the twin's input and must give the twin's output, to its own rounding."""
    model, twin = both(dataclasses.replace(SMALL[layout], base_width=8), seed=3)
    seen: dict[str, tuple[torch.Tensor, ...]] = {}

    def record(name: str) -> Callable[..., None]:
        def hook(_: object, inputs: tuple[torch.Tensor, ...], __: object) -> None:
            seen[name] = tuple(x.clone() for x in inputs)

        return hook

    blocks = dict(twin.named_children())
    hooks = [block.register_forward_hook(record(name)) for name, block in blocks.items()]
    parity.twin_output(twin, images(2, 64))
    for hook in hooks:
        hook.remove()
    assert seen.keys() == blocks.keys()

    @nnx.jit
    def run_blocks(model: UNet, inputs: dict[str, list[jax.Array]]) -> dict[str, jax.Array]:
        found = {}
        for name, arrays in inputs.items():
            if name.startswith("linear"):
                found[name] = getattr(model.classifier, name.replace("_", ""))(*arrays)
            else:
                maps = [x.transpose(0, 2, 3, 1) for x in arrays]
                maps = [layers.max_pool(maps[0])] if name.startswith("down") else maps
                found[name] = getattr(model, name)(*maps).transpose(0, 3, 1, 2)
        return found

    outputs = run_blocks(
        model, {name: [jnp.asarray(x.numpy()) for x in of] for name, of in seen.items()}
    )
    for name, inputs in seen.items():
        found = outputs[name]
        assert_rounded(found, through(blocks[name], *inputs), name)
        for path, kernel in list(blocks[name].named_parameters()):
            if kernel.ndim > 1:
                off = with_element_off(blocks[name], path, inputs)
                with pytest.raises(AssertionError, match="rounding allows"):
                    assert_rounded(found, through(off, *inputs), f"{name}, {path}")


def with_element_off(
    block: torch.nn.Module, path: str, inputs: tuple[torch.Tensor, ...]
) -> torch.nn.Module:
    """The block with 1e-3 more in one element of a kernel.

    Many elements have no effect, since what they read or what reads them is 0 by a ReLU. Of the
    others it is the one in the middle, by how much it changes the output.
    """
    off = copy.deepcopy(block).double()
    kernel = off.get_parameter(path)
    off(*(x.clone().double() for x in inputs)).square().sum().backward()
    assert kernel.grad is not None
    effect = kernel.grad.abs().flatten()
    order = effect.argsort()[(effect == 0).sum() :]
    with torch.no_grad():
        kernel.view(-1)[order[len(order) // 2]] += 1e-3
    return off


@pytest.mark.parametrize("config", [SMALL["ynet-320"], SMALL["segmenter-bilinear"]])
def test_training_forward_is_the_twins(config: UNetConfig) -> None:
    """Normalisation with the batch's own statistics, and the running ones that remain."""
    model, twin = both(config, seed=4)
    model.train()
    twin.train()
    x = images(3, config.stride * 2)
    exact = copy.deepcopy(twin).double()
    expected: dict[str, Rounded] = {}

    def record(name: str) -> Callable[..., None]:
        def hook(norm: Any, inputs: tuple[Rounded], _: object) -> None:
            before = Rounded.exact(norm.running_mean), Rounded.exact(norm.running_var)
            mean, var = running(before, inputs[0], norm.momentum)
            expected.update({f"{name}.running_mean": mean, f"{name}.running_var": var})

        return hook

    for name, module in exact.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.register_forward_hook(record(name))
    logits = through(exact, torch.from_numpy(x).permute(0, 3, 1, 2))[0]
    # The twin's output in training; inference_mode does not matter to the statistics.
    outputs = run(model, x), parity.twin_output(twin, x)
    theirs = {key: value.numpy() for key, value in twin.state_dict().items()}
    rules = mapping.match(config, {key: value.shape for key, value in theirs.items()}).rules
    ours = mapping.to_torch(rules, nnx.to_pure_dict(nnx.state(model)))
    for output, tensors in zip(outputs, (ours, theirs), strict=True):
        if config.has_mask_head:
            assert_rounded(output.mask_logits, logits.channels_last())
        for key, statistic in expected.items():
            assert_rounded(tensors[key], statistic, key)
    assert expected
    for key in rules.keys() - expected.keys():  # weights stay
        np.testing.assert_array_equal(ours[key], theirs[key], err_msg=key)


def test_initial_values_are_distributed_as_pytorchs() -> None:
    """Uniform within PyTorch's bounds, which PyTorch's own initial values fill too."""
    config = UNetConfig(base_width=8, levels=1, decoder_levels=1, classifier_widths=(64,))
    initialise = nnx.jit(lambda: UNet(config, rngs=nnx.Rngs(0)))
    leaves = flat(nnx.to_pure_dict(nnx.state(initialise())))
    torch.manual_seed(0)
    twin = ReferenceUNet(config).state_dict()
    for rule in mapping.expand(config):
        ours, theirs = np.asarray(leaves[rule.target]), twin[rule.source].numpy()
        kernel = twin[rule.source.rpartition(".")[0] + ".weight"]
        if kernel.ndim == 1:  # BatchNorm
            np.testing.assert_array_equal(ours, theirs, err_msg=rule.source)
            continue
        fan_in, _ = torch.nn.init._calculate_fan_in_and_fan_out(kernel)
        for values in (ours, theirs):
            assert np.abs(values).max() <= fan_in**-0.5, rule.source
            if values.size > 500:
                expected = (3 * fan_in) ** -0.5
                np.testing.assert_allclose(values.std(), expected, rtol=0.1, err_msg=rule.source)


def test_bfloat16_is_as_close_to_float32_as_pytorchs() -> None:
    config = SMALL["ynet-slim"]
    model, twin = both(config, seed=5)
    narrow = build(config, nnx.to_pure_dict(nnx.state(model)), dtype=jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(narrow))} == {jnp.dtype("float32")}
    x = images(2, 32)
    found, expected = compiled(narrow)(x), parity.twin_output(twin, x)
    assert found.mask_logits is not None
    assert found.real_logit is not None
    assert found.mask_logits.dtype == found.real_logit.dtype == jnp.float32
    of_inc = jax.eval_shape(narrow.inc, jax.ShapeDtypeStruct(x.shape, jnp.bfloat16))
    assert of_inc.dtype == jnp.bfloat16
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        logits = twin(torch.from_numpy(x).permute(0, 3, 1, 2))[0]
    errors = [
        np.abs(np.asarray(side, np.float32) - np.asarray(expected.mask_logits)).mean()
        for side in (found.mask_logits, logits.float().permute(0, 2, 3, 1).numpy())
    ]
    assert 0 < errors[0] <= 1.25 * errors[1]


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((1, 225, 300, 3), "float32", "225x300.*divisible by 16.*224x288, 240x304"),
        ((1, 8, 224, 3), "float32", "8x224.*work: 16x224$"),
        ((224, 224, 3), "float32", r"expected \(B, H, W, 3\)"),
        ((1, 3, 224, 224), "float32", r"expected \(B, H, W, 3\)"),
        ((1, 224, 224, 3), "uint8", "uint8.*divide by 255"),
    ],
)
def test_input_that_does_not_work(shape: tuple[int, ...], dtype: str, message: str) -> None:
    model, _ = both(SMALL["ynet-slim"], seed=0)
    with pytest.raises(ValueError, match=message):
        model(np.zeros(shape, dtype))


def test_decisions_round_half_to_even() -> None:
    """The published `round(sigmoid)` calls exactly 0.5 FAKE; equal mask logits are untouched."""
    output = UNetOutput(
        mask_logits=jnp.asarray([[[[0.0, 0.0], [0.0, 1e-6], [1.0, 0.5]]]]),
        real_logit=jnp.asarray([0.0, 1e-9, 1e-3, -1e-3]),
    )
    assert output.is_real is not None
    assert output.is_manipulated is not None
    assert output.is_real.tolist() == [False, False, True, False]
    assert output.is_manipulated.tolist() == [[[False, True, False]]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base_width": 0}, "base_width is 0"),
        ({"base_width": 10**300}, "base_width is 1000.*1 to 4096"),
        ({"levels": 60}, "levels is 60"),
        ({"image_size": 2**40}, "image_size is"),
        ({"image_size": (224, 0)}, r"image_size is \(224, 0\); .* or \(height, width\)"),
        ({"image_size": (16, 16, 16)}, r"image_size is \(16, 16, 16\)"),
        ({"image_size": [224]}, r"image_size is \(224,\)"),
        ({"image_size": "224"}, "image_size is '224'"),
        ({"image_size": (320, 230)}, r"image_size is \(320, 230\).*divisible by"),
        ({"classifier_widths": (8,) * 2000}, "has 2000 layers"),
        ({"levels": 2.0}, "levels is 2.0"),
        ({"decoder_levels": 5}, "decoder_levels is 5"),
        ({"classifier_widths": (512, -1)}, r"classifier_widths\[1\] is -1"),
        ({"upsampling": "nearest"}, "upsampling is 'nearest'"),
        ({"conv_bias": 1}, "conv_bias is 1"),
        ({"classifier_widths": None, "decoder_levels": 3}, "no head reads level 4"),
        ({"classifier_widths": None, "decoder_levels": 0}, "no head reads level 4"),
        ({"image_size": 230}, "image_size is 230.*divisible by"),
    ],
)
def test_configurations_that_make_no_network(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(UNetConfig(), **changes)


def test_published_parameter_counts() -> None:
    """Of the table of layouts, less the level that ynet-224 stores and never uses."""
    for name, layout in LAYOUTS.items():
        leaves = flat(abstract_weights(PUBLISHED[name]))
        count = sum(x.size for path, x in leaves.items() if not path.endswith(("mean", "var")))
        assert count == layout["parameters"] - 56_635_392 * (name == "ynet-224"), name
