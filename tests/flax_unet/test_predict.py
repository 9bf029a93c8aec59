"""Pictures in, verdicts and masks out."""

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from convert import parity
from convert.from_torch import convert
from convert.reference import ReferenceUNet
from flax_unet import images, load, predict
from flax_unet.model import compiled
from tests.conftest import listing, small_tensors
from tests.tolerances import PROBABILITY

Fails = Callable[..., str]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model")
    torch.save(small_tensors("ynet-224"), directory / "small.pth")
    convert(directory / "small.pth", directory / "out", verify=False)
    return directory / "out"


def picture(width: int = 100, height: int = 80, seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(values)


def test_results(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["a b.png", "other/a b.png", "gesicht ü.jpg"]
    (tmp_path / "other").mkdir()
    for seed, name in enumerate(names):
        picture(seed=seed).save(tmp_path / name)
    paths = [str(tmp_path / name) for name in names]
    predict.main([str(model), *paths, "--out", str(tmp_path / "out")])

    printed = capsys.readouterr().out
    result = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [image["file"] for image in result["images"]] == paths
    assert "REAL" in result["meaning"]["real_probability"]
    assert "MANIPULATED" in result["meaning"]["mask"]
    assert len({image["mask"] for image in result["images"]}) == 3
    twin = parity.load_twin(
        ReferenceUNet(load(model).config),
        {key: value.numpy() for key, value in small_tensors("ynet-224").items()},
    )
    for path, image in zip(paths, result["images"], strict=True):
        with Image.open(path) as opened:  # the published preprocessing, spelt out
            pixels = np.asarray(opened.convert("RGB").resize((224, 224), Image.Resampling.NEAREST))
        expected = parity.twin_output(twin, pixels[None].astype(np.float32) / 255)
        assert expected.real_probability is not None
        assert expected.is_manipulated is not None
        real = float(expected.real_probability[0])
        assert abs(image["real_probability"] - real) <= PROBABILITY
        assert image["real_probability"] + image["fake_probability"] == 1
        assert image["verdict"] == ("REAL" if real > 0.5 else "FAKE")
        share = float(expected.is_manipulated.mean())
        assert abs(image["manipulated_share"] - share) < 1e-4
        assert f"{path}:  {image['verdict']}" in printed
        with Image.open(tmp_path / "out" / image["mask"]) as mask:
            assert mask.size == (100, 80)
            assert mask.mode == "P"
            assert set(np.unique(np.asarray(mask))) <= {0, 1}
        with Image.open(tmp_path / "out" / image["overlay"]) as overlay:
            assert overlay.size == (100, 80)


def test_mask_and_overlay_lie_on_the_picture() -> None:
    """The upper right quarter is marked: only there is the picture tinted, and red."""
    image = Image.new("RGB", (40, 20), (100, 100, 100))
    marked = np.zeros((8, 8), bool)
    marked[:4, 4:] = True
    mask = images.mask_image(marked, image.size)
    assert np.asarray(mask)[:10, 20:].all()
    assert np.asarray(mask).sum() == 200
    assert mask.convert("L").getextrema() == (0, 255)
    tinted = np.asarray(images.overlay(image, mask)).astype(int)
    assert (tinted[10:] == 100).all()
    assert (tinted[:, :20] == 100).all()
    assert (tinted[:10, 20:, 0] > 150).all()
    assert (tinted[:10, 20:, 1] < 100).all()


def test_heads_that_a_network_lacks_are_left_out(tmp_path: Path, capsys: object) -> None:
    picture().save(tmp_path / "face.png")
    for layout, absent in (("classifier-224", "manipulated"), ("segmenter-224", "REAL")):
        torch.save(small_tensors(layout), tmp_path / f"{layout}.pth")
        convert(tmp_path / f"{layout}.pth", tmp_path / layout, verify=False)
        out = tmp_path / f"{layout}-out"
        predict.main([str(tmp_path / layout), str(tmp_path / "face.png"), "--out", str(out)])
        printed = capsys.readouterr().out  # type: ignore[attr-defined]
        assert absent not in printed.splitlines()[0]
        (result,) = json.loads((out / "predictions.json").read_text())["images"]
        has_mask = layout == "segmenter-224"
        assert (result["verdict"] is None) == has_mask
        assert (result["manipulated_share"] is None) != has_mask
        assert len(list(out.iterdir())) == (3 if has_mask else 1)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "I;16", "I", "F", "CMYK"])
def test_modes_are_converted_as_pil_does(mode: str, model: Path, tmp_path: Path) -> None:
    suffix = "tiff" if mode in ("I", "F", "CMYK") else "png"
    path = tmp_path / f"picture.{suffix}"
    if mode == "I;16":
        values = np.random.default_rng(0).integers(0, 2**16, (30, 40), np.uint16)
        source = Image.fromarray(values)
    else:
        source = picture(40, 30).convert(mode)
    source.save(path)
    read = images.read_image(path)
    with Image.open(path) as opened:
        np.testing.assert_array_equal(np.asarray(read), np.asarray(opened.convert("RGB")))
    assert compiled(load(model))(images.to_input(read, 224)[None]).real_logit is not None


def png_of_size(width: int, height: int) -> bytes:
    """A valid PNG header that claims a size, and nothing behind it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        crc = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows)


BROKEN: dict[str, tuple[bytes, str]] = {
    "empty.png": (b"", "no picture of a known format"),
    "text.jpg": (b"this is no picture", "no picture of a known format"),
    "script.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no picture of a known"),
    "truncated.png": (png_of_size(100, 100), "cannot be decoded"),
    "large.png": (png_of_size(12_000, 12_000), "is 12000x12000, over 100,000,000 pixels"),
    "bomb.png": (png_of_size(100_000, 100_000), "too large"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_picture(name: str, model: Path, tmp_path: Path, fails: Fails) -> None:
    content, reason = BROKEN[name]
    (tmp_path / name).write_bytes(content)
    picture().save(tmp_path / "good.png")
    before = listing(tmp_path)
    message = fails(
        predict.main, model, tmp_path / "good.png", tmp_path / name, "--out", tmp_path / "out"
    )
    assert str(tmp_path / name) in message
    assert reason in message
    assert "good.png" not in message
    assert listing(tmp_path) == before


def test_all_broken_pictures_are_listed(model: Path, tmp_path: Path, fails: Fails) -> None:
    for name, (content, _) in BROKEN.items():
        (tmp_path / name).write_bytes(content)
    message = fails(predict.main, model, *sorted(tmp_path.iterdir()), tmp_path / "none.png")
    for name in [*BROKEN, "none.png"]:
        assert name in message


def test_existing_output_is_kept(model: Path, tmp_path: Path, fails: Fails) -> None:
    picture().save(tmp_path / "face.png")
    (tmp_path / "out").mkdir()
    message = fails(predict.main, model, tmp_path / "face.png", "--out", tmp_path / "out")
    assert f"{tmp_path / 'out'} exists already" in message
    assert list((tmp_path / "out").iterdir()) == []


def test_checkpoint_that_is_none(tmp_path: Path, fails: Fails) -> None:
    picture().save(tmp_path / "face.png")
    assert "convert" in fails(predict.main, tmp_path / "none", tmp_path / "face.png")
