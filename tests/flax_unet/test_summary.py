"""The layer table against torchsummary's, recorded from the PyTorch twin."""

from collections import Counter
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch
from flax import nnx
from torch.utils.flop_counter import FlopCounterMode

from convert.from_torch import convert
from convert.torch_unet import ReferenceUNet
from flax_unet import PUBLISHED, UNet, summary
from flax_unet.nn import layers
from flax_unet.nn.unet import Classifier, Up

MODULES: dict[Any, str] = {  # by PyTorch's name
    layers.Conv: "Conv2d",
    layers.ConvTranspose: "ConvTranspose2d",
    layers.BatchNorm: "BatchNorm2d",
    layers.DoubleConv: "DoubleConv",
    nnx.Linear: "Linear",
    Up: "Up",
}
CONTAINERS = ("DoubleConv", "Up")
GOLDEN = Path(__file__).parent.parent / "golden"


@pytest.mark.parametrize("layout", ["ynet-320", "segmenter-bilinear", "classifier-224"])
def test_table_is_torchsummarys(layout: str, capsys: pytest.CaptureFixture[str]) -> None:
    summary.main(["--layout", layout])
    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    expected = (GOLDEN / f"summary_{layout}.txt").read_text().splitlines()
    assert printed[: len(expected)] == expected
    assert printed[len(expected)].startswith("Operations per image")


def test_published_table() -> None:
    """The figures of the published layer table of ynet-320."""
    rows = list(summary.layers(PUBLISHED["ynet-320"], (320, 320)))
    text = summary.table(rows, (320, 320))
    assert len(rows) == 93
    for part in (
        *("Conv2d-1 ", "OutConv-93 ", "Total params: 90,302,467", "Input size (MB): 1.17"),
        *("pass size (MB): 1608.61", "Params size (MB): 344.48", "Total Size (MB): 1954.25"),
    ):
        assert part in text


@pytest.mark.parametrize("layout", PUBLISHED)
def test_operations_are_what_pytorch_counts(layout: str) -> None:
    config = PUBLISHED[layout]
    with torch.device("meta"):
        twin = ReferenceUNet(config).eval()
        image = torch.zeros(1, 3, *config.input_size)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        twin(image)
    rows = summary.layers(config, config.input_size)
    assert sum(row.flops for row in rows) == counter.get_total_flops()


@pytest.mark.parametrize("layout", PUBLISHED)
def test_table_lists_the_networks_modules(layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order in which they compute, with their parameters and the shapes of their outputs."""
    config = PUBLISHED[layout]
    model = nnx.eval_shape(lambda: UNet(config, rngs=nnx.Rngs(0)))
    model.eval()
    calls: list[summary.Layer] = []
    for kind, name in MODULES.items():

        def record(self: Any, *inputs: Any, call: Any = kind.__call__, name: str = name) -> Any:
            output = call(self, *inputs)
            own = () if name in CONTAINERS else jax.tree.leaves(nnx.state(self, nnx.Param))
            shape = (output.shape[-1], *output.shape[1:-1])
            calls.append(summary.Layer(name, shape, sum(leaf.size for leaf in own)))
            return output

        monkeypatch.setattr(kind, "__call__", record)
    graphdef, state = nnx.split(model)
    image = jax.ShapeDtypeStruct((1, *config.input_size, 3), np.float32)
    jax.eval_shape(lambda state, image: nnx.merge(graphdef, state)(image), state, image)
    rows = [row._replace(flops=0) for row in summary.layers(config, config.input_size)]
    assert calls == [row for row in rows if row.type in MODULES.values()]
    assert not any(row.parameters for row in rows if row.type not in MODULES.values())
    found = Counter(type(module) for _, module in nnx.iter_modules(model))
    assert found.keys() - MODULES.keys() <= {UNet, Classifier}
    assert Counter(MODULES.get(kind) for kind in found.elements() if kind in MODULES) == Counter(
        call.type for call in calls
    )


def test_layout_that_stores_an_unused_level(capsys: pytest.CaptureFixture[str]) -> None:
    summary.main([])
    printed = capsys.readouterr().out
    assert "Total params: 31,568,899" in printed
    assert "also store 56,635,392 parameters that nothing uses (down5)" in printed


def test_checkpoint(small_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    convert(small_file, tmp_path / "out", verify=False)
    summary.main(["--checkpoint", str(tmp_path / "out"), "--size", "48"])
    printed = capsys.readouterr().out
    assert "[-1, 4, 48, 48]" in printed
    assert "unused: 32 tensors" in printed


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ("225", "size is 225x225; both sides must be divisible by 16, such as 224x224 or 240x240"),
        ("0", "size is 0x0; both sides must be divisible by 16"),
        ("320x225", "size is 320x225; both sides must be divisible by 16"),
        ("-16", "expected height x width in pixels, such as 320x224, or one number, got -16"),
        ("320x", "got 320x"),
    ],
)
def test_size_that_does_not_work(
    size: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        summary.main(["--size", size])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_pictures_that_are_not_square(capsys: pytest.CaptureFixture[str]) -> None:
    summary.main(["--size", "320x224"])
    printed = capsys.readouterr().out
    assert "[-1, 64, 320, 224]" in printed
    assert "[-1, 1024, 20, 14]" in printed
    assert "reads the first 14 rows and 14 columns of its deepest map of 20x14" in printed
