"""What goes in comes out: formats, wrappers, types, order, unused tensors."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from convert.from_torch import convert
from convert.to_torch import to_torch
from convert.torch_unet import ReferenceUNet
from flax_unet import PUBLISHED, UNet, UNetConfig
from flax_unet.checkpoint import metadata, store
from flax_unet.checkpoint.store import abstract_weights
from flax_unet.nn.config import WITH_UNUSED_LEVEL
from tests.conftest import SMALL, Original, small_tensors
from tests.tolerances import assert_same_tensors

Tensors = dict[str, torch.Tensor]

FORMATS: dict[str, Callable[[Any, Path], None]] = {
    "zip.pth": torch.save,
    "legacy.pth": lambda content, path: torch.save(
        content, path, _use_new_zipfile_serialization=False
    ),
    "flat.safetensors": lambda content, path: safetensors.torch.save_file(content, path),
}


SIDE = 32  # of the pictures of a verification


def round_trip(source: Path) -> Tensors:
    directory = source.with_suffix(".orbax")
    convert(source, directory, verify=False)
    return way_back(directory)


def way_back(directory: Path) -> Tensors:
    back = directory.with_suffix(".back.pth")
    to_torch(directory, back)
    return torch.load(back, weights_only=True)


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("layout", PUBLISHED)
def test_round_trip_is_bit_identical(layout: str, file_format: str, tmp_path: Path) -> None:
    """And the original code loads the result strictly."""
    tensors = small_tensors(layout, seed=7)
    path = tmp_path / file_format
    FORMATS[file_format](tensors, path)
    if file_format.endswith(".safetensors"):  # its order is the file's, not the dictionary's
        content = path.read_bytes()
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        tensors = {
            key: tensors[key] for key in sorted(header, key=lambda k: header[k]["data_offsets"])
        }
    back = round_trip(path)
    assert_same_tensors(back, tensors)
    original = Original if layout in WITH_UNUSED_LEVEL else ReferenceUNet
    original(SMALL[layout]).load_state_dict(back, strict=True)


@pytest.mark.parametrize(
    ("wrap", "container", "prefix"),
    [
        (lambda t: {"state_dict": t, "epoch": 33, "optimizer": {"state": {}}}, "state_dict", ""),
        (lambda t: {"model_state_dict": t, "loss": 0.1}, "model_state_dict", ""),
        (lambda t: {"model": {"net": t}, "ema": {"a.b": torch.zeros(1)}}, "model.net", ""),
        (lambda t: {"a": {"b": {"state_dict": t}}}, "a.b.state_dict", ""),
        (lambda t: {"model": t, "best": np.float64(0.5), "step": np.int64(7)}, "model", ""),
        (lambda t: {"unet_weights": t, "optimizer": {0: torch.zeros(3)}}, "unet_weights", ""),
        (lambda t: {f"module.{k}": v for k, v in t.items()}, "", "module."),
        (lambda t: {f"_orig_mod.module.{k}": v for k, v in t.items()}, "", "_orig_mod.module."),
        (
            lambda t: {"state_dict": {f"model.{k}": v for k, v in t.items()}},
            "state_dict",
            "model.",
        ),
        (
            lambda t: {
                f"net.{k}": torch.nn.Parameter(v, v.is_floating_point()) for k, v in t.items()
            },
            "",
            "net.",
        ),
    ],
    ids=[
        "lightning",
        "loss",
        "nested",
        "deep",
        "numpy-numbers",
        "own-name",
        "ddp",
        "compiled-ddp",
        "module",
        "parameters",
    ],
)
def test_wrappers_come_off(
    wrap: Callable[[Tensors], Any], container: str, prefix: str, tmp_path: Path
) -> None:
    tensors = small_tensors("ynet-slim")
    torch.save(wrap(tensors), tmp_path / "ckpt.pth")
    conversion = convert(tmp_path / "ckpt.pth", tmp_path / "out", verify=False)
    assert conversion.layout.startswith("ynet-slim")
    assert (conversion.source["container"], conversion.source["prefix"]) == (container, prefix)
    assert_same_tensors(way_back(tmp_path / "out"), tensors)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("file_format", FORMATS)
def test_half_precision_is_kept(dtype: torch.dtype, file_format: str, tmp_path: Path) -> None:
    tensors = {
        key: tensor.to(dtype) if tensor.is_floating_point() else tensor
        for key, tensor in small_tensors("ynet-224").items()
    }
    FORMATS[file_format](tensors, tmp_path / file_format)
    conversion = convert(tmp_path / file_format, tmp_path / "out", size=(SIDE, SIDE))
    assert conversion.parity is not None
    assert conversion.parity.holds
    leaves = store.flat(store.load_weights(tmp_path / "out")).values()
    assert {leaf.dtype.name for leaf in leaves} == {"float32"}
    back = way_back(tmp_path / "out")
    assert_same_tensors({key: back[key] for key in tensors}, tensors)


def test_parent_projects_mask_values_are_kept(tmp_path: Path) -> None:
    content = small_tensors("segmenter-bilinear", conv_bias=False) | {"mask_values": [0, 255]}
    torch.save(content, tmp_path / "ckpt.pth")
    conversion = convert(tmp_path / "ckpt.pth", tmp_path / "out", size=(SIDE, SIDE))
    assert conversion.config.conv_bias is False
    assert conversion.layout == "segmenter-bilinear, base width 4, convolutions without bias"
    assert_same_tensors(way_back(tmp_path / "out"), content)


@pytest.mark.parametrize("layout", ["ynet-320", "segmenter-bilinear", "classifier-224"])
def test_model_without_a_source_gets_the_published_names(layout: str, tmp_path: Path) -> None:
    """As for a model that was trained here: the way back, then forth, is the same model."""
    config: UNetConfig = SMALL[layout]
    path = tmp_path / "ckpt.pth"
    torch.save(small_tensors(layout), path)
    convert(path, tmp_path / "out", verify=False)
    metadata.write_json(tmp_path / "out" / metadata.SOURCE, {"trained": True})
    to_torch(tmp_path / "out", tmp_path / "trained.pth")
    tensors = torch.load(tmp_path / "trained.pth", weights_only=True)
    ReferenceUNet(config).load_state_dict(tensors, strict=True)
    expected = small_tensors(layout)
    for key in expected:
        if key.endswith("num_batches_tracked"):
            expected[key] = torch.zeros_like(expected[key])
    assert_same_tensors(tensors, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_trained_model_is_float32_whatever_its_source_was(
    dtype: torch.dtype, tmp_path: Path
) -> None:
    source = {k: t.to(dtype) if t.ndim else t for k, t in small_tensors("ynet-224").items()}
    torch.save(source, tmp_path / "ckpt.pth")
    convert(tmp_path / "ckpt.pth", tmp_path / "out", verify=False)
    metadata.write_json(tmp_path / "out" / metadata.SOURCE, {"trained": {"seed": 3}})
    to_torch(tmp_path / "out", tmp_path / "trained.pth")
    tensors = torch.load(tmp_path / "trained.pth", weights_only=True)
    Original(SMALL["ynet-224"]).load_state_dict(tensors, strict=True)
    assert {t.dtype for t in tensors.values()} == {torch.float32, torch.int64}
    for key, tensor in source.items():
        if tensor.ndim:
            assert torch.equal(tensors[key], tensor.float()), key


def test_tensors_from_another_device_are_read_on_the_cpu(tmp_path: Path) -> None:
    """A file saved on a GPU says `cuda:0` of every storage; here its pickle is made to."""
    import zipfile

    path, moved = tmp_path / "cpu.pth", tmp_path / "cuda.pth"
    torch.save(small_tensors("ynet-slim"), path)
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(moved, "w") as target:
        for entry in source.infolist():
            content = source.read(entry)
            if entry.filename.endswith("data.pkl"):
                location = b"X\x03\x00\x00\x00cpu"
                assert content.count(location) == 1  # stored once, then recalled
                content = content.replace(location, b"X\x06\x00\x00\x00cuda:0")
            target.writestr(entry, content)
    assert_same_tensors(round_trip(moved), small_tensors("ynet-slim"))


def test_safetensors_are_known_by_their_content(tmp_path: Path) -> None:
    """Whatever the suffix, and though the header's length may begin as a pickle does."""
    tensors = small_tensors("ynet-slim")
    content = safetensors.torch.save(tensors)
    length = int.from_bytes(content[:8], "little")
    padding = (0x80 - length) % 256
    content = (
        (length + padding).to_bytes(8, "little")
        + content[8 : 8 + length]
        + (b" " * padding + content[8 + length :])
    )
    assert content[0] == 0x80
    (tmp_path / "ckpt.pth").write_bytes(content)
    back = round_trip(tmp_path / "ckpt.pth")
    assert_same_tensors({key: back[key] for key in tensors}, tensors)


def test_unused_zeros_survive(tmp_path: Path) -> None:
    """They compress without bound, which must not make the result look like a bomb."""
    tensors = {
        key: torch.zeros_like(tensor) if key.startswith("down5") else tensor
        for key, tensor in small_tensors("ynet-224", base_width=16).items()
    }
    torch.save(tensors, tmp_path / "ckpt.pth")
    assert_same_tensors(round_trip(tmp_path / "ckpt.pth"), tensors)


def test_conversion_records_its_source(small_file: Path, tmp_path: Path) -> None:
    import hashlib

    conversion = convert(small_file, tmp_path / "out", size=(SIDE, SIDE))
    source = metadata.load_source(tmp_path / "out")
    assert source == conversion.source
    assert source["sha256"] == hashlib.sha256(small_file.read_bytes()).hexdigest()
    assert source["size_bytes"] == small_file.stat().st_size
    assert source["layout"] == "ynet-224, base width 4"
    assert source["parity"]["decisions_equal"] == source["parity"]["images"] == 2
    assert {"jax", "flax", "torch"} <= source["made_by"]["versions"].keys()
    unused = [key for key in source["entries"] if key.startswith("down5.")]
    assert set(unused) <= source["unused"].keys()
    assert len(unused) == 14


def test_loaded_model_is_in_eval_mode(small_file: Path, tmp_path: Path) -> None:
    convert(small_file, tmp_path / "out", verify=False)
    model = store.load(tmp_path / "out")
    assert isinstance(model, UNet)
    assert model.inc.norm1 is not None
    assert model.inc.norm1.use_running_average
    assert store.flat(abstract_weights(model.config)).keys() == (
        store.flat(store.load_weights(tmp_path / "out")).keys()
    )
