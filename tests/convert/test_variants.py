"""Checkpoints as people have them: what surrounds a network, and its relatives."""

import argparse
import collections
import copy
import dataclasses
import datetime
import enum
import fractions
import functools
import importlib
import json
import logging
import pathlib
import pickle
import random
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import nn
from torch.nn.utils import parametrizations, prune

from convert import from_torch
from convert.from_torch import Conversion, convert
from convert.to_torch import to_torch
from convert.torch_unet import ReferenceUNet
from flax_unet import Detector, UNetConfig, load
from flax_unet.checkpoint.store import abstract_weights, flat, load_weights
from flax_unet.nn.inference import compiled
from flax_unet.nn.shapes import weight_shapes
from tests.conftest import SMALL, images, small_tensors
from tests.tolerances import NETWORK, assert_same_tensors

Tensors = dict[str, torch.Tensor]
Fails = Callable[..., str]
SIZE = (32, 32)
NET = small_tensors("ynet-slim")
OTHER = small_tensors("ynet-slim", seed=1)


def prefixed(prefix: str, tensors: Tensors = NET) -> Tensors:
    return {prefix + key: tensor for key, tensor in tensors.items()}


def converted(
    content: Any, folder: Path, *, verify: bool = False, key: str | None = None
) -> tuple[Conversion, Tensors]:
    """What a file converts to, and what comes back."""
    torch.save(content, folder / "ckpt.pth")
    path, out = folder / "ckpt.pth", folder / "out"
    conversion = convert(path, out, size=SIZE, verify=verify, key=key)
    assert conversion.parity is None or conversion.parity.holds
    to_torch(folder / "out", folder / "back.pth")
    return conversion, torch.load(folder / "back.pth", weights_only=True)


def refused(content: Any, folder: Path, fails: Fails, *options: str) -> str:
    path = folder / "ckpt.pth"
    torch.save(content, path)
    return fails(from_torch.main, path, "--dry-run", *options)


# What surrounds a network


@pytest.mark.parametrize("prefix", ["backbone.", "model.unet.", "module.net.encoder.", "0."])
def test_any_prefix_is_found_and_comes_back(prefix: str, tmp_path: Path) -> None:
    content = prefixed(prefix)
    conversion, back = converted({"state_dict": content}, tmp_path)
    assert conversion.source["prefix"] == prefix
    assert conversion.layout.startswith("ynet-slim")
    assert_same_tensors(back, content)


@pytest.mark.parametrize(
    ("block", "wrapper"),
    [
        ("up2.", "_fsdp_wrapped_module."),
        ("down3.maxpool_conv.", "_orig_mod._checkpoint_wrapped_module."),
        ("linear_1.", "module."),
        ("inc.double_conv.", "_module."),
    ],
)
def test_wrappers_come_out_anywhere(block: str, wrapper: str, tmp_path: Path) -> None:
    content = {key.replace(block, block + wrapper): tensor for key, tensor in NET.items()}
    conversion, back = converted(content, tmp_path)
    assert conversion.layout.startswith("ynet-slim")
    assert_same_tensors(back, content)


COMPANY: dict[str, torch.Tensor] = {
    "epoch": torch.tensor(9),
    "criterion.pos_weight": torch.tensor([float("nan"), float("inf")]),
    "discriminator.0.weight": torch.randn(3, 3, 4, 4, generator=torch.Generator().manual_seed(0)),
    "confusion": torch.arange(4).reshape(2, 2).t(),
    "seen": torch.tensor([True, False]),
    "levels": torch.arange(5, dtype=torch.uint8),
    "spectrum": torch.tensor([1 + 2j]),
    "small": torch.tensor([0.5, 2.0]).to(torch.float8_e4m3fn),
    "half": torch.tensor(0.1, dtype=torch.bfloat16),
    "exact": torch.tensor([2.0**24 + 1], dtype=torch.float64),
}


@pytest.mark.parametrize("prefix", ["", "model."])
def test_company_comes_back_exactly(prefix: str, tmp_path: Path) -> None:
    profiled = {
        f"{prefix}down2.total_params": COMPANY["exact"],
        f"{prefix}total_ops": torch.ones(1),
    }
    content = {**prefixed(prefix), **profiled, **COMPANY}
    conversion, back = converted(content, tmp_path)
    assert {*profiled, *COMPANY} <= conversion.source["unused"].keys()
    assert list(back) == list(content)
    for key, tensor in content.items():
        assert back[key].dtype == tensor.dtype, key
        assert back[key].shape == tensor.shape, key
        raw = [of.contiguous().reshape(-1).view(torch.uint8) for of in (back[key], tensor)]
        assert torch.equal(*raw), key


EMPTY: dict[str, Tensors] = {
    "alone": {"loss.cache": torch.zeros(0)},
    "of a type": {"loss.cache": torch.zeros(0, 3, 2, dtype=torch.bfloat16)},
    "beside others": {"a": torch.zeros(0), "b": torch.ones(2), "c": torch.zeros(4, 0).bool()},
    "in the network": {"inc.double_conv.1.num_batches_tracked": torch.zeros(0)},
}


@pytest.mark.parametrize("case", EMPTY)
def test_empty_tensors_come_back(case: str, tmp_path: Path) -> None:
    content = {**NET, **EMPTY[case]}
    _, back = converted(content, tmp_path)
    assert_same_tensors(back, content)


WITHOUT_VALUES: dict[str, tuple[Callable[[], torch.Tensor], str]] = {
    "sparse": (lambda: torch.eye(3).to_sparse(), "is a sparse tensor"),
    "meta": (lambda: torch.zeros(2, device="meta"), "holds no values"),
    "quantised": (
        lambda: torch.quantize_per_tensor(torch.ones(2), 1.0, 0, torch.qint8),
        "torch.qint8",
    ),
    "quantised to 4 bits": (
        lambda: torch.quantize_per_channel(
            torch.ones(2, 2), torch.ones(2), torch.zeros(2), 0, torch.quint4x2
        ),
        "torch.quint4x2",
    ),
    "exponents": (
        lambda: torch.ones(2, dtype=torch.uint8).view(torch.float8_e8m0fnu),
        "torch.float8_e8m0fnu",
    ),
}


@pytest.mark.filterwarnings("ignore:.*quantize:UserWarning")
@pytest.mark.filterwarnings("ignore:.*TypedStorage:UserWarning")
@pytest.mark.parametrize("case", WITHOUT_VALUES)
def test_company_that_cannot_be_kept_is_left_out_and_listed(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, what = WITHOUT_VALUES[case]
    torch.save({**NET, "loss.x": make(), "loss.y": torch.ones(1)}, tmp_path / "ckpt.pth")
    out = tmp_path / "out"
    from_torch.main([str(tmp_path / "ckpt.pth"), "--out", str(out), "--no-verify"])
    (line,) = (of for of in capsys.readouterr().out.splitlines() if of.startswith("left out"))
    assert "loss.x" in line
    assert what in line
    to_torch(out, tmp_path / "back.pth")
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    assert_same_tensors(back, {**NET, "loss.y": torch.ones(1)})


def test_types_that_safetensors_alone_names(tmp_path: Path) -> None:
    """The first tensor has no such type in NumPy, and six bits a value; the second has one."""
    content = safetensors.torch.save(NET)
    length = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    for entry in header.values():
        entry["data_offsets"] = [at + 5 for at in entry["data_offsets"]]
    header["loss.six"] = {"dtype": "F6_E3M2", "shape": [4], "data_offsets": [0, 3]}
    header["loss.fnuz"] = {"dtype": "F8_E4M3FNUZ", "shape": [2], "data_offsets": [3, 5]}
    text = json.dumps(header).encode()
    path = tmp_path / "ckpt.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"\1\2\3\x40\x48" + data)
    conversion = convert(path, tmp_path / "out", verify=False)
    assert conversion.source["left_out"].keys() == {"loss.six"}
    to_torch(tmp_path / "out", tmp_path / "back.pth")
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    fnuz = torch.tensor([1.0, 2.0]).to(torch.float8_e4m3fnuz)  # 0x40, 0x48
    assert torch.equal(back.pop("loss.fnuz").view(torch.uint8), fnuz.view(torch.uint8))
    assert_same_tensors({key: back[key] for key in NET}, NET)


class Made:
    """Is pickled as a call of a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def of_device(key: str, form: str) -> Made:
    """A tensor of a TPU as PyTorch pickles it: from one of the CPU, or a NumPy array before."""
    values = NET[key].numpy() if form == "numpy" else NET[key]
    build = getattr(importlib.import_module("torch._utils"), f"_rebuild_device_tensor_from_{form}")
    return Made(build, values, NET[key].dtype, "xla:0", False)


def test_tensors_of_tpus(tmp_path: Path) -> None:
    _, back = converted({key: of_device(key, "cpu_tensor") for key in NET}, tmp_path)
    assert_same_tensors(back, NET)


ARRAYS: dict[str, Callable[[], Any]] = {
    "arrays": lambda: {key: of.numpy() for key, of in NET.items()},
    "arrays below": lambda: {"state_dict": {key: of.numpy() for key, of in NET.items()}},
    "of a TPU": lambda: {key: of_device(key, "numpy") for key in NET},
}


@pytest.mark.parametrize("case", ARRAYS)
def test_values_that_are_not_tensors_are_named(case: str, tmp_path: Path, fails: Fails) -> None:
    message = refused(ARRAYS[case](), tmp_path, fails)
    what = "an object (torch._utils._rebuild_device" if case == "of a TPU" else "a NumPy array"
    assert f"inc.double_conv.0.weight is {what}" in message
    assert "torch.as_tensor(value)" in message


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_layers_quantised_on_the_fly_are_named(tmp_path: Path, fails: Fails) -> None:
    layer = nn.Sequential(collections.OrderedDict(linear_1=nn.Linear(3, 3)))
    quantised = torch.ao.quantization.quantize_dynamic(layer, {nn.Linear}, dtype=torch.qint8)
    network = {key: of for key, of in NET.items() if not key.startswith("linear_1.")}
    message = refused({**network, **quantised.state_dict()}, tmp_path, fails)
    assert "linear_1._packed_params.dtype is of a quantised layer" in message
    assert "before they are quantised" in message


def test_counters_of_any_shape_come_back(tmp_path: Path) -> None:
    content = {
        key: of.reshape(1) if key.endswith("num_batches_tracked") else of for key, of in NET.items()
    }
    _, back = converted(content, tmp_path)
    assert_same_tensors(back, content)


def test_plain_value_in_company_comes_back(tmp_path: Path) -> None:
    _, back = converted({**NET, "epoch": 3, "name": "best"}, tmp_path)
    assert (back.pop("epoch"), back.pop("name")) == (3, "best")
    assert_same_tensors(back, NET)


@pytest.mark.parametrize("key", ["down9.weird", "inc.double_conv.0.extra", "outc.attention.weight"])
def test_tensor_that_no_rule_names_inside_a_block_is_refused(
    key: str, tmp_path: Path, fails: Fails
) -> None:
    message = refused({**NET, key: torch.ones(2), "other.x": torch.ones(1)}, tmp_path, fails)
    assert f"unexpected {key}" in message


SHARING: dict[str, Tensors] = {
    "a module under two names": prefixed("model.") | prefixed("net."),
    "a tensor under three names": NET | dict.fromkeys(("a.x", "b.x"), NET["linear_1.weight"]),
    "one value, repeated": NET | {"mask": torch.ones(1).expand(1000, 1000)},
    "a tensor of the network": NET | {"outc.conv.bias": torch.ones(1).expand(2)},
}


@pytest.mark.parametrize("case", SHARING)
def test_tensors_that_share_values_come_back(case: str, tmp_path: Path) -> None:
    content = SHARING[case]
    key = "model" if "model.inc.double_conv.0.weight" in content else None
    _, back = converted(content, tmp_path, key=key)
    assert_same_tensors(back, content)


@pytest.mark.parametrize("form", [{}, {"_use_new_zipfile_serialization": False}])
def test_signs_that_pytorch_has_not_applied_yet(form: Any, tmp_path: Path) -> None:
    """PyTorch negates and conjugates lazily, and saves the values as they were."""
    spectrum = torch.tensor([1 + 2j, 3 - 1j])
    bias = NET["outc.conv.bias"]
    content = {
        **NET,
        "outc.conv.bias": torch.complex(bias, bias).conj().imag,  # the negative of the bias
        "loss.conj": spectrum.conj(),
        "loss.imag": spectrum.clone().conj().imag,
    }
    torch.save(content, tmp_path / "ckpt.pth", **form)
    convert(tmp_path / "ckpt.pth", tmp_path / "out", verify=False)
    to_torch(tmp_path / "out", tmp_path / "back.pth")
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    for key, tensor in content.items():
        assert torch.equal(back[key], tensor.resolve_conj().resolve_neg()), key


SETS: dict[str, tuple[Any, tuple[str, str]]] = {
    "EMA beside": (
        {"state_dict": NET, "state_dict_ema": OTHER},
        ("state_dict", "state_dict_ema"),
    ),
    "nested": ({"model": NET, "ema": {"module": OTHER}}, ("model", "ema.module")),
    "in one mapping": (
        {"state_dict": prefixed("student.") | prefixed("teacher.", OTHER)},
        ("state_dict.student", "state_dict.teacher"),
    ),
    "bare beside a prefix": (NET | prefixed("ema.", OTHER), (".", "ema")),
    "in a list": ({"models": [NET, OTHER]}, ("models.0", "models.1")),
    "in a callback": (
        {"state_dict": NET, "callbacks": {"EMA": {"ema_state_dict": OTHER}}},
        ("state_dict", "callbacks.EMA.ema_state_dict"),
    ),
}


@pytest.mark.parametrize("case", SETS)
def test_several_networks_are_refused_until_one_is_chosen(
    case: str, tmp_path: Path, fails: Fails
) -> None:
    content, names = SETS[case]
    message = refused(content, tmp_path, fails)
    assert f"({', '.join(names)})" in message
    assert f"convert.from_torch {tmp_path / 'ckpt.pth'} --key {names[0]}" in message
    assert "does not name one" in refused(content, tmp_path, fails, "--key", "nonsense")
    for name, tensors in zip(names, (NET, OTHER), strict=True):
        out = tmp_path / f"out {name}"
        conversion = convert(tmp_path / "ckpt.pth", out, verify=False, key=name)
        assert conversion.layout.startswith("ynet-slim")
        weights = flat(load_weights(out))
        assert np.array_equal(weights["outc/bias"], tensors["outc.conv.bias"].numpy())


def test_part_of_a_name_chooses_too(tmp_path: Path) -> None:
    torch.save(SETS["in one mapping"][0], tmp_path / "ckpt.pth")
    conversion = convert(tmp_path / "ckpt.pth", None, verify=False, key="teacher")
    assert conversion.source["prefix"] == "teacher."


def test_set_that_stands_twice_is_one(tmp_path: Path) -> None:
    converted({"model": NET, "best_model": NET}, tmp_path)


PARAMETERS = dict(ReferenceUNet(SMALL["ynet-slim"]).named_parameters()).keys()
AVERAGE = {key: OTHER[key] for key in PARAMETERS}
COPIES: dict[str, tuple[Any, str, str, Tensors]] = {  # names of both, and what the copy holds
    "torch_ema": (
        {"model": NET, "ema": {"decay": 0.9, "shadow_params": [*AVERAGE.values()]}},
        *("model", "ema.shadow_params"),
        NET | AVERAGE,
    ),
    "an optimizer's tuple": (
        {"state_dict": prefixed("model."), "optimizer_states": [{"ema": (*OTHER.values(),)}]},
        *("state_dict.model", "optimizer_states.0.ema"),
        OTHER,
    ),
    "LitEma": (
        {
            "state_dict": prefixed("model.")
            | {f"model_ema.{key.replace('.', '')}": of for key, of in AVERAGE.items()}
            | {"model_ema.decay": torch.tensor(0.9), "model_ema.num_updates": torch.tensor(3)}
        },
        *("state_dict.model", "state_dict.model_ema"),
        NET | AVERAGE,
    ),
    "LitEma with a frozen layer, alone in a mapping": (
        {
            "net": NET,
            "ema": {k.replace(".", ""): of for k, of in AVERAGE.items() if "inc." not in k},
        },
        *("net", "ema"),
        NET | {k: of for k, of in AVERAGE.items() if "inc." not in k},
    ),
}


def test_copy_in_the_mapping_of_a_bare_network_can_be_chosen(tmp_path: Path, fails: Fails) -> None:
    content = {**NET, "shadow": [*AVERAGE.values()], "epoch": 3}
    assert "(., shadow)" in refused(content, tmp_path, fails)
    _, back = converted(content, tmp_path, key="shadow")
    assert_same_tensors(back, NET | AVERAGE)


@pytest.mark.parametrize("case", COPIES)
def test_copy_without_names_is_refused_until_one_is_chosen(
    case: str, tmp_path: Path, fails: Fails
) -> None:
    content, raw, copied, tensors = COPIES[case]
    message = refused(content, tmp_path, fails)
    assert f"({raw}, {copied})" in message
    assert f"convert.from_torch {tmp_path / 'ckpt.pth'} --key {raw}" in message
    _, back = converted(content, tmp_path, key=copied)
    assert_same_tensors(back, tensors)
    convert(tmp_path / "ckpt.pth", tmp_path / "raw", verify=False, key=raw)
    weights = flat(load_weights(tmp_path / "raw"))
    assert np.array_equal(weights["outc/bias"], NET["outc.conv.bias"].numpy())


class Average:
    """As objects that average weights are, not modules themselves."""

    def __init__(self, module: nn.Module) -> None:
        self.module, self.decay = module, 0.9


CLOSED: dict[str, tuple[Callable[[], Any], str]] = {  # sets that cannot be chosen, and why
    "a pickled model": (lambda: slim(OTHER), "torch_unet.ReferenceUNet"),
    "a wrapped model": (lambda: nn.DataParallel(slim(OTHER)), "DataParallel"),
    "another class": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3)), "Sequential"),
    "an object with a model": (lambda: Average(slim(OTHER)), "ema.module"),
    "some parameters in a list": (
        lambda: [*AVERAGE.values()][2:],
        f"{len(AVERAGE) - 2} tensors without names",
    ),
}


def slim(tensors: Tensors) -> ReferenceUNet:
    return twin(tensors, SMALL["ynet-slim"])


@pytest.mark.parametrize("case", CLOSED)
def test_set_that_cannot_be_read_must_be_declined(case: str, tmp_path: Path, fails: Fails) -> None:
    make, named = CLOSED[case]
    content = {"ema": make(), "model": NET}
    message = refused(content, tmp_path, fails)
    assert "several sets of tensors (model, ema" in message
    assert named in message
    assert message.rstrip().endswith("--key model")
    assert named in refused(content, tmp_path, fails, "--key", "ema")
    _, back = converted(content, tmp_path, key="model")
    assert_same_tensors(back, NET)


def test_objects_that_share_the_networks_tensors_are_not_other_sets(tmp_path: Path) -> None:
    model = slim(NET)
    adam = torch.optim.Adam(model.parameters())
    content = {"model": model, "optimizer": adam, "state_dict": model.state_dict()}
    content |= {"loss": nn.CrossEntropyLoss(weight=torch.ones(2)), "sizes": [torch.ones(3)]}
    _, back = converted(content, tmp_path)
    assert_same_tensors(back, NET)


def test_tensors_of_another_network_are_counted_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = prefixed("student.") | prefixed("teacher.", OTHER) | {"loss.weight": torch.ones(1)}
    torch.save(content, tmp_path / "ckpt.pth")
    out = tmp_path / "out"
    options = ["--key", "teacher", "--size", "32x32", "--no-verify", "--out", str(out)]
    from_torch.main([str(tmp_path / "ckpt.pth"), *options])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("not used")]
    assert [line.split(maxsplit=2)[2] for line in lines] == [
        f"{len(NET)} tensors of another network, student",
        "loss.weight (not of the network)",
    ]
    to_torch(out, tmp_path / "back.pth")
    assert_same_tensors(torch.load(tmp_path / "back.pth", weights_only=True), content)


# Things that are not tensors


class Colour(enum.Enum):
    RED = 1


class AttributeDict(dict[str, Any]):
    """As Lightning's hyperparameters are."""


class Config:
    """As the objects of configuration libraries are."""

    def __init__(self) -> None:
        self._content = {"lr": [1e-3], "where": pathlib.Path("runs")}
        self.kind: Any = Any


def optimizer() -> torch.optim.Optimizer:
    layer = nn.Linear(2, 2)
    adam = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 2)).sum().backward()
    adam.step()
    return adam


OBJECTS: dict[str, Callable[[], Any]] = {
    "RandomState": lambda: np.random.RandomState(0),
    "Generator": lambda: np.random.default_rng(0),
    "states": lambda: {"numpy": np.random.get_state(), "python": random.getstate()},  # noqa: NPY002
    "arrays": lambda: [np.ones((2, 3)), np.array(["a"]), np.float32(1), np.zeros(0, bool)],
    "structured array": lambda: np.zeros(2, [("a", "f4"), ("b", "i8")]),
    "Namespace": lambda: argparse.Namespace(lr=1, root=pathlib.PureWindowsPath("a")),
    "enum": lambda: Colour.RED,
    "AttributeDict": lambda: AttributeDict(lr=1e-3),
    "configuration": Config,
    "optimizer": optimizer,
    "scheduler": lambda: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer(), 10),
    "deque": lambda: collections.deque([1, 2], maxlen=3),
    "defaultdict": lambda: collections.defaultdict(list, a=[1]),
    "Counter": lambda: collections.Counter("ab"),
    "dates": lambda: [datetime.datetime.now(datetime.UTC), datetime.timedelta(1)],
    "fraction": lambda: fractions.Fraction(1, 3),
    "bytes and more": lambda: [b"\x00\xff", {1, (2, 3)}, frozenset("a"), 1j, range(3), 2**90],
    "partial": lambda: functools.partial(nn.functional.relu, inplace=True),
    "generator": lambda: torch.Generator().get_state(),
    "dtype and device": lambda: [torch.float32, torch.device("cpu"), torch.Size([1])],
    "namespace": lambda: types.SimpleNamespace(lr=1, log=logging.getLogger("train")),
    "classes": lambda: [nn.ReLU, dict, ValueError],
}


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("legacy", [False, True])
def test_objects_beside_a_network_are_inert(
    protocol: int, legacy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = {**{name: make() for name, make in OBJECTS.items()}, "model": NET}
    torch.save(
        content,
        tmp_path / "ckpt.pth",
        pickle_protocol=protocol,
        _use_new_zipfile_serialization=not legacy,
    )

    def forbidden(*_: Any) -> None:
        raise AssertionError("something was unpickled")

    for name in ("load", "loads", "Unpickler", "_Unpickler"):
        monkeypatch.setattr(pickle, name, forbidden)
    conversion = convert(tmp_path / "ckpt.pth", tmp_path / "out", verify=False)
    assert conversion.source["container"] == "model"
    monkeypatch.undo()
    to_torch(tmp_path / "out", tmp_path / "back.pth")
    assert_same_tensors(torch.load(tmp_path / "back.pth", weights_only=True), NET)


@pytest.mark.parametrize("name", OBJECTS)
def test_each_object_alone(name: str, tmp_path: Path) -> None:
    torch.save({"model": NET, "other": OBJECTS[name]()}, tmp_path / "ckpt.pth")
    assert from_torch.recognise(tmp_path / "ckpt.pth").layout.startswith("ynet-slim")


# Relatives


def older(key: str) -> str:
    """A key as the parent project's first versions spelt it."""
    for new, old in (
        ("inc.double_conv.", "inc.conv.conv."),
        (".maxpool_conv.1.double_conv.", ".mpconv.1.conv."),
        (".conv.double_conv.", ".conv.conv."),
    ):
        key = key.replace(new, old)
    return key


@pytest.mark.parametrize("upsampling", ["bilinear", "transposed"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_older_names_and_narrow_decoder(upsampling: str, prefix: str, tmp_path: Path) -> None:
    tensors = small_tensors("segmenter-224", upsampling=upsampling, narrow_decoder=True)
    assert tensors["up1.conv.double_conv.0.weight"].shape == (16, 64, 3, 3)
    assert tensors["up1.conv.double_conv.3.weight"].shape == (16, 16, 3, 3)
    content = {prefix + older(k): v for k, v in tensors.items() if "num_batches" not in k}
    conversion, back = converted(content, tmp_path, verify=True)
    assert conversion.config.narrow_decoder
    assert "narrow decoder" in conversion.layout
    assert_same_tensors(back, content)


def outputs(directory: Path, pictures: np.ndarray) -> np.ndarray:
    """The mask logits of a converted network, NHWC."""
    logits = compiled(load(directory))(pictures).mask_logits
    assert logits is not None
    return np.asarray(logits)


def twin(tensors: Tensors, config: UNetConfig, classes: int = 2) -> ReferenceUNet:
    model = ReferenceUNet(config)
    if classes == 1:
        model.outc.conv = nn.Conv2d(config.widths[0], 1, 1)
    model.load_state_dict(tensors, strict=True)
    return model.eval()


@torch.inference_mode()
def expected(model: ReferenceUNet, pictures: np.ndarray) -> np.ndarray:
    logits = model(torch.from_numpy(pictures).permute(0, 3, 1, 2))[0]
    assert logits is not None
    return logits.permute(0, 2, 3, 1).numpy()


def assert_close(found: np.ndarray, wanted: np.ndarray) -> None:
    assert np.abs(found - wanted).max() <= NETWORK * np.abs(wanted).mean()


@pytest.mark.parametrize("layout", ["segmenter-bilinear", "ynet-320"])
def test_one_class_is_a_pair_of_logits(layout: str, tmp_path: Path) -> None:
    content = small_tensors(layout)
    for leaf in ("weight", "bias"):
        content[f"outc.conv.{leaf}"] = content[f"outc.conv.{leaf}"][1:].clone()
    side = 2 * SMALL[layout].stride
    torch.save(content, tmp_path / "ckpt.pth")
    conversion = convert(tmp_path / "ckpt.pth", tmp_path / "out", size=(side, side))
    assert conversion.source["computed"].keys() == {"outc.conv.weight", "outc.conv.bias"}
    to_torch(tmp_path / "out", tmp_path / "back.pth")
    assert_same_tensors(torch.load(tmp_path / "back.pth", weights_only=True), content)
    pictures = images(2, side)
    logit = expected(twin(content, SMALL[layout], classes=1), pictures)
    found = outputs(tmp_path / "out", pictures)
    assert not found[..., 0].any()
    assert_close(found[..., 1:], logit)


@pytest.mark.parametrize("layout", ["ynet-slim", "segmenter-bilinear"])
def test_network_for_grey_pictures(layout: str, tmp_path: Path) -> None:
    content = small_tensors(layout, in_channels=1)
    assert content["inc.double_conv.0.weight"].shape == (4, 1, 3, 3)
    conversion, back = converted(content, tmp_path, verify=True)
    assert "grey pictures" in conversion.layout
    assert_same_tensors(back, content)
    pixels = (images(1, 32)[0] * 255).astype(np.uint8)
    grey = np.asarray(Image.fromarray(pixels).convert("L"))[None, ..., None] / np.float32(255)
    wanted = expected(twin(content, conversion.config), grey)
    # In colour, as a person's picture is, or grey already: PIL's conversion is what was trained on.
    assert_close(outputs(tmp_path / "out", pixels[None] / np.float32(255)), wanted)
    assert_close(outputs(tmp_path / "out", grey), wanted)
    detector = Detector.from_checkpoint(tmp_path / "out", keep_logits=True)
    (verdict,) = detector([pixels])
    assert verdict.mask_logits is not None
    assert_close(verdict.mask_logits, wanted[0])


def test_any_picture_of_a_verification_turns_grey(tmp_path: Path) -> None:
    torch.save(small_tensors("segmenter-224", in_channels=1), tmp_path / "ckpt.pth")
    Image.fromarray((images(1, 40)[0] * 255).astype(np.uint8)).save(tmp_path / "face.png")
    conversion = convert(tmp_path / "ckpt.pth", None, size=SIZE, images=[tmp_path / "face.png"])
    assert conversion.parity is not None
    assert conversion.parity.images == 3


def test_pruned_tensors_are_multiplied(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = SMALL["segmenter-224"]
    model = twin(small_tensors("segmenter-224"), config)
    for name in ("inc.double_conv.3", "up2.up", "outc.conv"):
        prune.l1_unstructured(model.get_submodule(name), "weight", amount=0.5)
    prune.random_unstructured(model.get_submodule("outc.conv"), "bias", amount=1)
    content = model.state_dict()
    torch.save({"state_dict": prefixed("net.", content)}, tmp_path / "ckpt.pth")
    out = tmp_path / "out"
    from_torch.main([str(tmp_path / "ckpt.pth"), "--out", str(out), "--size", "32x32"])
    printed = capsys.readouterr().out
    assert "up2.up.weight: up2.up.weight_orig times up2.up.weight_mask (pruning)" in printed
    to_torch(out, tmp_path / "back.pth")
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    assert_same_tensors(back, content)
    assert (content["up2.up.weight_orig"] * content["up2.up.weight_mask"] == 0).any()
    pictures = images(2, 32)
    assert_close(outputs(out, pictures), expected(model, pictures))


def pruned(tensors: Tensors, layer: str, mask: torch.Tensor) -> Tensors:
    """A state dict in which the kernel of a layer is pruned by a mask."""
    content = {key: of for key, of in tensors.items() if key != f"{layer}.weight"}
    return content | {
        f"{layer}.weight_orig": tensors[f"{layer}.weight"],
        f"{layer}.weight_mask": mask,
    }


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float16])
@pytest.mark.parametrize("shape", [(4, 4, 3, 3), (4, 1, 1, 1), (1, 4, 1, 1), ()])
@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16])
def test_masks_of_any_type_are_broadcast(
    dtype: torch.dtype, shape: tuple[int, ...], weights: torch.dtype, tmp_path: Path
) -> None:
    mask = (torch.arange(np.prod(shape, dtype=int)).reshape(shape) % 3 > 0).to(dtype)
    layer = "inc.double_conv.3"
    tensors = small_tensors("segmenter-224")
    tensors[f"{layer}.weight"] = tensors[f"{layer}.weight"].to(weights)
    _, back = converted(pruned(tensors, layer, mask), tmp_path)
    assert_same_tensors(back, pruned(tensors, layer, mask))
    wanted = (tensors[f"{layer}.weight"] * mask.to(weights)).float().permute(2, 3, 1, 0)
    kernel = flat(load_weights(tmp_path / "out"))["inc/conv2/kernel"]
    assert np.array_equal(kernel, wanted.numpy())


@pytest.mark.parametrize("shape", [(3, 1, 1, 1), (2, 4, 4, 3, 3)])
def test_mask_of_another_shape_is_refused(
    shape: tuple[int, ...], tmp_path: Path, fails: Fails
) -> None:
    content = pruned(small_tensors("segmenter-224"), "inc.double_conv.3", torch.ones(shape))
    assert "inc.double_conv.3.weight" in refused(content, tmp_path, fails)


def test_boolean_weights_are_not_called_quantised(tmp_path: Path, fails: Fails) -> None:
    content = {**NET, "outc.conv.bias": torch.tensor([True, False])}
    message = refused(content, tmp_path, fails)
    assert "outc.conv.bias" in message
    assert "torch.bool" in message
    assert "uantised" not in message


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("prefix", ["", "model.unet."])
@pytest.mark.parametrize("kind", ["pruned", "normalised", "formerly normalised"])
def test_one_class_in_two_parts(kind: str, prefix: str, tmp_path: Path) -> None:
    layout = "segmenter-bilinear"
    tensors = small_tensors(layout, in_channels=1)
    for leaf in ("weight", "bias"):
        tensors[f"outc.conv.{leaf}"] = tensors[f"outc.conv.{leaf}"][1:].clone()
    config = dataclasses.replace(SMALL[layout], in_channels=1)
    model = twin(tensors, config, classes=1)
    last, first = model.get_submodule("outc.conv"), model.get_submodule("inc.double_conv.0")
    for layer in (last, first):
        if kind == "pruned":
            prune.random_unstructured(layer, "weight", amount=0.5)
        elif kind == "normalised":
            parametrizations.weight_norm(layer)
        else:
            nn.utils.weight_norm(layer)
    content = prefixed(prefix, model.state_dict())
    _, back = converted({"state_dict": content}, tmp_path, verify=True)
    assert_same_tensors(back, content)
    pictures = images(2, 32)[..., :1]
    found = outputs(tmp_path / "out", pictures)
    assert not found[..., 0].any()
    assert_close(found[..., 1:], expected(model, pictures))


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("old", [False, True])
def test_weight_normalisation_is_computed(old: bool, tmp_path: Path) -> None:
    model = twin(small_tensors("segmenter-224"), SMALL["segmenter-224"])
    norm = nn.utils.weight_norm if old else parametrizations.weight_norm
    for name in ("inc.double_conv.0", "up1.up", "outc.conv"):
        norm(model.get_submodule(name))
    content = model.state_dict()
    _, back = converted(content, tmp_path, verify=True)
    assert_same_tensors(back, dict(content))
    pictures = images(2, 32)
    assert_close(outputs(tmp_path / "out", pictures), expected(model, pictures))


@pytest.mark.parametrize("old", [False, True])
def test_spectral_normalisation_is_named(old: bool, tmp_path: Path, fails: Fails) -> None:
    model = twin(small_tensors("segmenter-224"), SMALL["segmenter-224"])
    norm = nn.utils.spectral_norm if old else parametrizations.spectral_norm
    norm(model.get_submodule("inc.double_conv.0"))
    message = refused(model.state_dict(), tmp_path, fails)
    assert ("remove_spectral_norm" if old else "remove_parametrizations") in message


@pytest.mark.parametrize("widths", [(), (8, 8, 8), (4,) * 20])
def test_any_number_of_classifier_layers(widths: tuple[int, ...], tmp_path: Path) -> None:
    content = small_tensors("ynet-slim", classifier_widths=widths)
    conversion, back = converted(content, tmp_path, verify=True)
    assert conversion.config.classifier_widths == widths
    assert_same_tensors(back, content)


def test_several_kinds_at_once(tmp_path: Path) -> None:
    tensors = small_tensors("segmenter-bilinear", in_channels=1, narrow_decoder=True)
    kernel = tensors.pop("down1.maxpool_conv.1.double_conv.0.weight")
    content: Tensors = {"loss.weight": torch.ones(3)}
    for key, tensor in tensors.items():
        if "num_batches" not in key:
            content["net.module." + older(key)] = tensor[:1].clone() if "outc" in key else tensor
    layer = "net.module.down1.mpconv.1.conv.0."
    content |= {f"{layer}weight_orig": kernel, f"{layer}weight_mask": (kernel > 0).float()}
    state = {"ema": OTHER, "args": argparse.Namespace(), "state_dict": content}
    conversion, back = converted(
        copy.copy(state), tmp_path, verify=True, key="state_dict.net.module"
    )
    assert conversion.layout == "segmenter-bilinear, base width 4, grey pictures, narrow decoder"
    assert_same_tensors(back, content)


CONFIGS = [
    *SMALL.values(),
    UNetConfig(base_width=2, conv_bias=False, classifier_widths=()),
    UNetConfig(base_width=2, levels=5, decoder_levels=3, upsampling="bilinear", image_size=64),
    UNetConfig(base_width=2, narrow_decoder=True, in_channels=1),
    UNetConfig(
        base_width=4, levels=1, decoder_levels=1, upsampling="bilinear", narrow_decoder=True
    ),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_shapes_without_jax_are_the_networks(config: UNetConfig) -> None:
    leaves = flat(abstract_weights(config))
    assert weight_shapes(config) == {path: leaf.shape for path, leaf in leaves.items()}
