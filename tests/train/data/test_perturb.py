"""Perturbations against closed forms, and their dependence on nothing but what they should."""

import io
import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flax_unet.media.faces import opencv
from tests.train.folders import write_folder
from train.data import perturb
from train.data.dataset import Dataset, open_dataset
from train.data.loader import batches
from train.data.perturb import KINDS, SEVERITIES, Kind, every_kind, perturbed

BY_NAME = {kind.name: kind for kind in KINDS}
SEVERITY = range(1, SEVERITIES + 1)


def portrait(height: int = 128, width: int = 128) -> np.ndarray:
    """Smooth colours with fine detail, like a face."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
    image = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), float)
    return (image + rng.normal(0, 4, image.shape)).round().clip(0, 255).astype(np.uint8)


def apply(name: str, severity: int, image: np.ndarray, seed: int = 0) -> np.ndarray:
    return perturbed(image, BY_NAME[name], severity, "a.png", seed)


def psnr(image: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((image.astype(float) - other) ** 2)))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_each_severity_is_worse(kind: Kind) -> None:
    image = portrait()
    before = image.copy()
    damaged = [perturbed(image, kind, severity, "a.png", 0) for severity in SEVERITY]
    np.testing.assert_array_equal(image, before)
    assert all(each.shape == image.shape and each.dtype == np.uint8 for each in damaged)
    quality = [psnr(image, each) for each in damaged]
    assert all(a > b for a, b in itertools.pairwise(quality)), quality
    assert quality[0] > 12  # still a picture


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_it_depends_on_name_seed_kind_and_severity_alone(kind: Kind) -> None:
    image = portrait(65, 47)  # odd sides
    first = perturbed(image, kind, 3, "a.png", 1)
    assert first.shape == image.shape
    np.testing.assert_array_equal(first, perturbed(image.copy(), kind, 3, "a.png", 1))
    is_random = kind.name in ("noise", "blocks")
    for other in (("b.png", 1), ("a.png", 2), ("\udcff.png", 1)):
        assert (first != perturbed(image, kind, 3, *other)).any() == is_random


def test_jpeg_has_the_tables_of_its_quality() -> None:
    image = portrait()
    for severity, quality in enumerate((90, 70, 50, 30, 10), start=1):
        cv2 = opencv()
        _, encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        with Image.open(io.BytesIO(encoded.tobytes())) as other:
            np.testing.assert_allclose(apply("jpeg", severity, image), np.asarray(other), atol=2)


def test_blur_of_a_point_is_a_gaussian() -> None:
    """As OpenCV's kernel of that size, which DeeperForensics uses."""
    image = np.zeros((41, 41, 3), np.uint8)
    image[20, 20] = 255
    for severity, kernel in enumerate((7, 9, 13, 17, 21), start=1):
        away = np.arange(kernel) - kernel // 2
        line = np.exp(-0.5 * (away / (kernel / 6)) ** 2)
        expected = 255 * np.outer(line, line) / line.sum() ** 2
        drawn = apply("blur", severity, image)
        inside = slice(20 - kernel // 2, 21 + kernel // 2)
        np.testing.assert_allclose(drawn[inside, inside, 1], expected, atol=0.51)
        outside = drawn.copy()
        outside[inside, inside] = 0
        assert not outside.any()
    flat = np.full((41, 41, 3), 77, np.uint8)
    np.testing.assert_array_equal(apply("blur", 5, flat), flat)


def test_noise_has_its_deviation() -> None:
    image = np.full((200, 200, 3), 128, np.uint8)
    for severity, variance in enumerate((0.001, 0.002, 0.005, 0.01), start=1):
        noise = apply("noise", severity, image).astype(float) - 128
        # 120,000 values: the estimate's own deviation is 0.2 %.
        assert noise.std() == pytest.approx(255 * variance**0.5, rel=0.015)
        assert abs(noise.mean()) < 0.3
        assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.02


def test_blocks_are_grey_and_more_with_severity() -> None:
    image = np.full((256, 256, 3), 10, np.uint8)
    before = np.zeros((256, 256), bool)
    for severity, count in enumerate((16, 32, 48, 64, 80), start=1):
        drawn = apply("blocks", severity, image)
        grey = (drawn == 128).all(-1)
        assert (drawn[~grey] == 10).all()
        assert count * 64 * 0.7 < grey.sum() <= count * 64  # some overlap
        assert (grey | ~before).all()  # those of the lower severity, and others
        before = grey
    half = apply("blocks", 5, image[:128, :128])
    assert (half == 128).all(-1).mean() == pytest.approx(before.mean(), rel=0.2)


def test_saturation_and_contrast() -> None:
    image = portrait()
    grey = apply("saturation", 5, image)  # a factor of 0
    assert (grey[..., 0] == grey[..., 1]).all()
    assert (grey[..., 0] == grey[..., 2]).all()
    luma = np.asarray(Image.fromarray(image).convert("L"), int)  # BT.601 too
    np.testing.assert_allclose(grey[..., 0], luma, atol=1)
    ycc = np.asarray(Image.fromarray(image).convert("YCbCr"), float)
    less = np.asarray(Image.fromarray(apply("saturation", 1, image)).convert("YCbCr"), float)
    np.testing.assert_allclose(less[..., 1:] - 128, 0.4 * (ycc[..., 1:] - 128), atol=1.5)
    for severity, factor in enumerate((0.85, 0.725, 0.6, 0.475, 0.35), start=1):
        np.testing.assert_allclose(apply("contrast", severity, image), factor * image, atol=0.51)


def test_downscaling_of_flat_squares() -> None:
    """Detail under the divisor is gone, and what is larger stays."""
    fine = np.tile(np.array([[0, 240], [240, 0]], np.uint8), (60, 60))[..., None].repeat(3, -1)
    assert np.ptp(apply("downscaling", 1, fine)[20:-20, 20:-20].astype(int)) < 3
    large = np.zeros((120, 120, 3), np.uint8)
    large[:, 60:] = 240
    drawn = apply("downscaling", 5, large)
    np.testing.assert_array_equal(drawn[:, :45], 0)
    np.testing.assert_array_equal(drawn[:, 75:], 240)


def test_h264_is_that_of_the_crf() -> None:
    """A flat picture survives; what is lost rises with the CRF, not with the size's parity."""
    flat = np.full((51, 49, 3), 128, np.uint8)
    assert np.abs(apply("h264", 5, flat).astype(int) - 128).max() <= 3
    image = portrait(65, 47)
    even = np.pad(image, [(0, 1), (0, 1), (0, 0)], "edge")
    for severity in SEVERITY:
        cut = apply("h264", severity, even)[:65, :47]
        np.testing.assert_array_equal(cut, apply("h264", severity, image))


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    return open_dataset(str(write_folder(tmp_path / "data", videos=4, frames=2)), None)


def test_a_data_set_with_every_kind(data: Dataset) -> None:
    """In the stored resolution, before the network's resize; the same in any batches, processes."""
    kinds = (BY_NAME["noise"], BY_NAME["jpeg"], BY_NAME["blocks"])
    whole = every_kind(data, kinds, 7)
    assert len(whole) == len(kinds) * SEVERITIES * len(data)
    size = (24, 20)
    images = np.concatenate([batch.image for batch in batches(whole, size, 7)])
    for row in (0, 5, 8, 41, 77, len(whole) - 1):
        part, frame = divmod(row, len(data))
        kind, severity = divmod(part, SEVERITIES)
        with Image.open(io.BytesIO(data.record(frame)["image"])) as stored:
            assert stored.size == (40, 40)
            changed = perturbed(
                np.asarray(stored), kinds[kind], severity + 1, str(data.table.file[frame]), 7
            )
        expected = Image.fromarray(changed).resize((20, 24), Image.Resampling.NEAREST)
        np.testing.assert_array_equal(images[row], np.asarray(expected))
        assert whole.table.is_real[row] == data.table.is_real[frame]
        assert whole.record(row)["mask"] == data.record(frame)["mask"]
    for options in ({"batch_size": 64}, {"batch_size": 5, "workers": 2}):
        other = np.concatenate([each.image for each in batches(whole, size, **options)])
        np.testing.assert_array_equal(other[: len(whole)], images[: len(whole)])
    # The same frame among others has the same damage.
    few = every_kind(data.take(np.array([3])), kinds, 7)
    alone = np.concatenate([batch.image for batch in batches(few, size, 1)])
    np.testing.assert_array_equal(alone, images[3 : len(whole) : len(data)])


def test_without_pyav_h264_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert perturb.available() == KINDS
    monkeypatch.setattr(perturb.importlib.util, "find_spec", lambda name: None)
    assert [kind.name for kind in perturb.available()] == [
        name for name in BY_NAME if name != "h264"
    ]
