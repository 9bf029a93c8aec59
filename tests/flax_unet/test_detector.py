"""Verdicts: those of `train.eval`, however many pictures of whatever size come at once."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from PIL import Image

from flax_unet import Detector, InputError, UNetConfig, Verdict, load
from flax_unet.detector import faces_at_once
from flax_unet.media.faces import Box
from flax_unet.media.images import to_input
from flax_unet.nn.inference import compiled, program
from flax_unet.predict import __main__ as predict
from tests.conftest import listing
from tests.flax_unet.samples import SIDE, both, noise, small_checkpoint
from tests.tolerances import NETWORK, PROBABILITY, assert_close
from tests.train.folders import write_folder
from train.data.dataset import open_dataset
from train.eval.scoring import score

BATCH = 8


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def detector(model: Path) -> Detector:
    return Detector.from_checkpoint(model)


def assert_same(found: Verdict, expected: Verdict) -> None:
    assert (found.size, found.box) == (expected.size, expected.box)
    for name in ("real_probability", "mask_probability"):
        pair = [getattr(verdict, name) for verdict in (found, expected)]
        np.testing.assert_allclose(*pair, rtol=0, atol=PROBABILITY, err_msg=name)
    assert found.mask is not None
    assert expected.mask is not None
    unsure = np.abs(np.asarray(expected.mask_probability) - 0.5) < PROBABILITY
    assert (unsure | (found.mask == expected.mask)).all()


def test_gives_what_the_network_gives(model: Path, detector: Detector) -> None:
    (verdict,) = detector([noise()])
    output = compiled(load(model))(to_input(noise(), (SIDE, SIDE))[None])
    assert output.mask_logits is not None
    assert output.real_logit is not None
    real = 1 / (1 + np.exp(-float(output.real_logit[0])))
    assert verdict.real_probability == pytest.approx(real, abs=PROBABILITY)
    assert verdict.fake_probability == pytest.approx(1 - real, abs=PROBABILITY)
    assert verdict.is_real == (real > 0.5)
    probability = np.asarray(jax.nn.softmax(output.mask_logits[0])[..., 1])
    expected = Verdict((100, 80), Box(0, 0, 100, 80), real, probability > 0.5, probability)
    assert_same(verdict, expected)
    assert verdict.manipulated_share == np.mean(np.asarray(verdict.mask))


def test_network_of_pictures_that_are_not_square() -> None:
    config = UNetConfig(2, 2, 2, (4,), image_size=(16, 24))
    network, _ = both(config, seed=0)
    (verdict,) = Detector(network)([noise()])
    grid = noise().resize((24, 16), Image.Resampling.NEAREST)
    output = compiled(network)(np.asarray(grid, np.float32)[None] / 255)
    assert output.mask_logits is not None
    expected = np.asarray(jax.nn.softmax(output.mask_logits[0])[..., 1])
    assert verdict.mask_probability is not None
    np.testing.assert_allclose(verdict.mask_probability, expected, rtol=0, atol=PROBABILITY)
    assert verdict.is_manipulated is not None
    assert verdict.is_manipulated.shape == (80, 100)


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in the published layout, of pictures of several sizes."""
    folder = write_folder(tmp_path_factory.mktemp("data"), videos=8, frames=3, side=50)
    for number, path in enumerate(sorted((folder / "crops").iterdir())):
        size = (40 + number, 90 - number)
        with Image.open(path) as image:
            image.resize(size).save(path)
        mask = folder / "masks" / f"{path.stem}.gif"
        with Image.open(mask) as image:
            image.resize(size).save(mask)
    return folder


def test_same_as_evaluation_and_as_predict(
    model: Path, crops: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exactly, where the batches are equal: one preprocessing, one network."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data = open_dataset(str(crops), None)
    scored, _ = score(load(model), data, jax.local_devices()[:1], BATCH)
    assert scored.real_probability is not None
    assert scored.manipulated_pixels is not None
    expected = scored.real_probability.tolist()
    is_real = [real > 0.5 for real in expected]
    assert set(is_real) == {True, False}  # or the test would show little
    paths = [crops / file for file in data.table.file]
    verdicts = Detector.from_checkpoint(model, devices=jax.local_devices()[:1])(paths)
    assert len(verdicts) == len(data) == 24
    assert [v.is_real for v in verdicts] == is_real
    assert [v.real_probability for v in verdicts] == expected
    marked = [np.asarray(v.mask).sum() for v in verdicts]
    assert marked == scored.manipulated_pixels.tolist()

    predict.main([str(model), *map(str, paths), "--faces", "none", "--out", str(tmp_path / "out")])
    predicted = json.loads((tmp_path / "out" / "predictions.json").read_text())["files"]
    assert [result["real_probability"] for result in predicted] == expected
    assert [result["verdict"] == "REAL" for result in predicted] == is_real
    assert [result["faces"][0]["manipulated_share"] for result in predicted] == [
        v.manipulated_share for v in verdicts
    ]


def test_arrays_pictures_and_files_are_the_same(detector: Detector, tmp_path: Path) -> None:
    pictures = [noise(40 + number, 70 - number, seed=number) for number in range(5)]
    for number, picture in enumerate(pictures):
        picture.save(tmp_path / f"{number}.png")
    expected = detector(pictures)
    paths = [tmp_path / f"{number}.png" for number in range(5)]
    for same in ([np.asarray(p) for p in pictures], paths, [str(path) for path in paths]):
        for found, verdict in zip(detector(same), expected, strict=True):
            assert_same(found, verdict)
    mixed = [np.asarray(pictures[0]), pictures[1], paths[2]]
    for found, verdict in zip(detector(mixed), expected, strict=False):
        assert_same(found, verdict)
    stack = np.stack([np.asarray(noise(seed=seed)) for seed in range(3)])
    assert len(detector(list(stack))) == len(detector(stack)) == 3  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 8, 9, 17])
def test_any_number_at_once(count: int, detector: Detector) -> None:
    pictures = [noise(seed=number) for number in range(count)]
    together = detector(pictures)
    assert len(together) == count
    for picture, verdict in zip(pictures, together, strict=True):
        assert_same(verdict, detector([picture])[0])


@pytest.fixture
def compilations() -> Iterator[list[str]]:
    """The computations that are compiled, or taken from the cache of compiled ones."""
    found: list[str] = []

    def listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
        del duration_secs
        if event == "/jax/core/compile/backend_compile_duration":
            found.append(str(kwargs.get("fun_name")))

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield found
    jax.monitoring.unregister_event_duration_listener(listen)


def test_compiled_once_for_each_padded_size(model: Path, compilations: list[str]) -> None:
    program.cache_clear()  # of the other tests' detectors
    detector = Detector.from_checkpoint(model, devices=jax.local_devices()[:1])
    compilations.clear()
    for count in [3, 4, 1, 2, 5, 6, 7, 8, 3, 25, 13, 1]:
        detector([noise(30 + count, 50 - count)] * count)
    assert detector.batch_size == BATCH
    assert len([name for name in compilations if "forward" in name]) == 4  # for 1, 2, 4, 8
    assert len(compilations) == 4


SPREAD = """
import json, sys
import jax, numpy as np
from flax_unet import Detector

def noise(seed):
    return np.random.default_rng(seed).integers(0, 256, (80, 100, 3), np.uint8)

detector = Detector.from_checkpoint(sys.argv[1])
found = {"batch_size": detector.batch_size}
for count in (3, 30):
    verdicts = detector([noise(number) for number in range(count)])
    found[str(count)] = [v.real_probability for v in verdicts]
one = Detector.from_checkpoint(sys.argv[1], devices=jax.local_devices()[2:3])
two = Detector.from_checkpoint(sys.argv[1], devices=jax.local_devices()[1:3])
for few in (one, two):
    of_few = few([noise(number) for number in range(30)])
    assert [v.real_probability for v in of_few] == found["30"]
    assert all((v.mask_probability == w.mask_probability).all() for v, w in zip(of_few, verdicts))
masks = np.stack([v.mask_probability for v in verdicts])
np.save(sys.argv[2], masks)
print(json.dumps(found))
"""


def test_spread_over_devices(model: Path, detector: Detector, tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", SPREAD, str(model), str(tmp_path / "masks.npy")],
        env={**os.environ, "JAX_NUM_CPU_DEVICES": "4"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(ended.stdout)
    assert found.pop("batch_size") == BATCH
    expected = detector([noise(seed=number) for number in range(30)])
    reals = [verdict.real_probability for verdict in expected]
    # XLA computes otherwise in a process that has several devices.
    for count, probabilities in found.items():
        assert probabilities == pytest.approx(reals[: int(count)], abs=PROBABILITY)
    masks = np.stack([np.asarray(verdict.mask_probability) for verdict in expected])
    np.testing.assert_allclose(np.load(tmp_path / "masks.npy"), masks, rtol=0, atol=PROBABILITY)


@pytest.mark.parametrize(
    ("width", "side", "count"),
    [(64, 224, 8), (24, 224, 2), (16, 224, 2), (8, 224, 4), (15, 128, 8)],
)
def test_faces_at_once(width: int, side: int, count: int) -> None:
    """On a CPU by the size of maps, 8 MiB at most: of one picture 4 x width x side^2 bytes."""
    config = UNetConfig(base_width=width, image_size=side)
    assert faces_at_once("cpu", config) == count
    assert faces_at_once("gpu", config) == faces_at_once("tpu", config) == 64


def test_boxes_are_the_same_as_crops(detector: Detector) -> None:
    picture = noise(200, 150)
    boxes = [Box(0, 0, 200, 150), Box(10, 20, 100, 90), Box(199, 149, 200, 150), None]
    found = detector([picture] * 4, boxes)
    expected = detector([picture.crop(box) if box else picture for box in boxes])
    for verdict, crop, box in zip(found, expected, boxes, strict=True):
        assert verdict.size == (200, 150)
        assert verdict.box == (box or (0, 0, 200, 150))
        assert verdict.real_probability == pytest.approx(crop.real_probability, abs=PROBABILITY)


@pytest.mark.parametrize("box", [Box(0, 0, 100, 80), Box(7, 11, 96, 43), Box(90, 70, 93, 71)])
def test_maps_lie_on_the_picture(box: Box, detector: Detector) -> None:
    """Each pixel of the box has the value of the cell that it lies in, by NEAREST."""
    (verdict,) = detector([noise()], [box])
    found = {"mask": verdict.is_manipulated, "mask_probability": verdict.manipulated_probability}
    for name, whole in found.items():
        grid = getattr(verdict, name)
        assert whole is not None
        assert whole.shape == (80, 100)
        assert whole.dtype == grid.dtype
        outside = np.ones((80, 100), bool)
        outside[box.top : box.bottom, box.left : box.right] = False
        assert not whole[outside].any()
        rows, columns = ((np.arange(side) + 0.5) * SIDE / side for side in (box.height, box.width))
        inner = np.ix_(rows % 1 != 0, columns % 1 != 0)  # the others lie between two cells
        inside = whole[box.top : box.bottom, box.left : box.right]
        expected = grid[np.ix_(rows.astype(int), columns.astype(int))]
        np.testing.assert_array_equal(inside[inner], expected[inner])


def test_detectors_share_programs(model: Path, detector: Detector) -> None:
    detector([noise()])
    before = program.cache_info()
    Detector.from_checkpoint(model)([noise()])
    assert program.cache_info() == before._replace(hits=before.hits + 1)


@pytest.mark.parametrize(
    ("layout", "has_mask"), [("classifier-224", False), ("segmenter-224", True)]
)
def test_heads_that_a_network_lacks(layout: str, has_mask: bool, tmp_path: Path) -> None:
    (verdict,) = Detector.from_checkpoint(small_checkpoint(tmp_path, layout))([noise()])
    of_mask = [
        *(verdict.mask, verdict.mask_probability, verdict.manipulated_share),
        *(verdict.is_manipulated, verdict.manipulated_probability),
        *(verdict.mask_probability_8bit, verdict.notebook_mask),
    ]
    of_class = [verdict.real_probability, verdict.fake_probability, verdict.is_real]
    assert {value is None for value in of_mask} == {not has_mask}
    assert {value is None for value in of_class} == {has_mask}


@pytest.mark.parametrize("threshold", [0.25, 0.5, 0.75])
def test_threshold_of_the_mask(threshold: float, model: Path, detector: Detector) -> None:
    strict = Detector.from_checkpoint(model, mask_threshold=threshold)
    (found,), (published,) = strict([noise()]), detector([noise()])
    assert found.mask is not None
    assert found.mask_probability is not None
    np.testing.assert_array_equal(found.mask, found.mask_probability > threshold)
    assert 0 < found.mask.mean() < 1  # or the test would show little
    assert found.manipulated_share == found.mask.mean()
    np.testing.assert_array_equal(found.mask_probability, published.mask_probability)
    assert found.real_probability == published.real_probability
    if threshold != 0.5:
        assert (found.mask != published.mask).any()


def test_logits_when_they_are_kept(model: Path, detector: Detector) -> None:
    assert detector([noise()])[0].mask_logits is None
    keeping = Detector.from_checkpoint(model, keep_logits=True)
    pictures = [noise(seed=seed) for seed in range(BATCH + 3)]
    output = compiled(load(model))(
        np.stack([to_input(picture, (SIDE, SIDE)) for picture in pictures])
    )
    assert output.mask_logits is not None
    for verdict, expected in zip(keeping(pictures), output.mask_logits, strict=True):
        assert verdict.mask_logits is not None
        assert verdict.mask_logits.dtype == np.float32
        assert_close(verdict.mask_logits, expected, NETWORK)
        marked = verdict.mask_logits[..., 1] > verdict.mask_logits[..., 0]
        np.testing.assert_array_equal(verdict.mask, marked)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"mask_threshold": 0.0}, "mask_threshold is 0.0; expected one between 0 and 1"),
        ({"mask_threshold": 1}, "mask_threshold is 1"),
        ({"mask_threshold": float("nan")}, "mask_threshold is nan"),
    ],
)
def test_thresholds_out_of_range(options: Any, reason: str, model: Path) -> None:
    with pytest.raises(ValueError, match=reason):
        Detector(load(model), **options)


def test_options_of_a_mask_head_that_is_not_there(tmp_path: Path) -> None:
    classifier = load(small_checkpoint(tmp_path, "classifier-224"))
    wrong: list[dict[str, Any]] = [{"mask_threshold": 0.5}, {"keep_logits": True}]
    for options in wrong:
        with pytest.raises(ValueError, match="the network has no mask head"):
            Detector(classifier, **options)


def test_mask_of_the_notebook() -> None:
    """Against PyTorch: softmax, times 255 to 8 bits, the greater one, ties to class 0."""
    rng = np.random.default_rng(0)
    height, width = 600, 700
    scale = rng.choice([0.01, 1, 10], (height, width, 1))  # pixels at 0.5, in between and sure
    logits = (scale * rng.normal(size=(height, width, 2))).astype(np.float32)
    logits[0] = 0  # neither class is the likelier
    chances = torch.softmax(torch.from_numpy(logits).permute(2, 0, 1)[None], dim=1)[0]
    untouched, manipulated = in_8_bits = chances.mul(255).byte().numpy()
    expected = in_8_bits.argmax(0) == 1  # the first of equal ones

    probability = np.asarray(jax.nn.softmax(logits)[..., 1])
    box = Box(0, 0, width, height)
    verdict = Verdict((width, height), box, None, probability > 0.5, probability)
    assert verdict.mask is not None
    found, mask = verdict.mask_probability_8bit, verdict.notebook_mask
    assert found is not None
    assert found.dtype == np.uint8
    assert mask is not None
    # Two float32 softmaxes differ by a few roundings, which decide at a step of the 8 bits.
    scaled = 255 * chances[1].numpy().astype(np.float64)
    at_a_step = np.abs(scaled - scaled.round()) < 1e-4
    np.testing.assert_array_equal(found[~at_a_step], manipulated[~at_a_step])
    assert np.abs(found.astype(int) - manipulated).max() <= 1
    far = np.abs(scaled - 128) > 1e-4
    np.testing.assert_array_equal(mask[far], expected[far])
    # The pixels that only the plain mask marks are those of a tie.
    only_plain = (untouched == manipulated) & (logits[..., 1] > logits[..., 0])
    assert only_plain.mean() > 0.05
    np.testing.assert_array_equal(verdict.mask & ~mask, only_plain)
    assert not (mask & ~verdict.mask).any()


def test_bfloat16(model: Path, detector: Detector) -> None:
    low = Detector.from_checkpoint(model, dtype=jnp.bfloat16)
    (found,), (expected,) = low([noise()]), detector([noise()])
    assert found.real_probability == pytest.approx(expected.real_probability, abs=0.02)
    assert found.real_probability != expected.real_probability
    assert found.mask_probability is not None
    assert found.mask_probability.dtype == np.float32


WRONG = {
    "grey": (np.zeros((8, 8), np.uint8), r"uint8 of shape \(8, 8\); expected \(height, width, 3\)"),
    "alpha": (np.zeros((8, 8, 4), np.uint8), r"of shape \(8, 8, 4\)"),
    "floats": (np.zeros((8, 8, 3), np.float32), "the picture is float32"),
    "empty": (np.zeros((0, 8, 3), np.uint8), r"\(0, 0, 8, 0\) is not a part of a picture"),
    "batch": (np.zeros((2, 8, 8, 3), np.uint8), r"of shape \(2, 8, 8, 3\)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arrays(name: str, detector: Detector) -> None:
    array, reason = WRONG[name]
    with pytest.raises(ValueError, match=reason):
        detector([array])


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ((0, 0, 101, 80), r"\(0, 0, 101, 80\) is not a part of a picture of \(100, 80\) pixels"),
        ((-1, 0, 10, 10), "is not a part of"),
        ((10, 10, 10, 20), "is not a part of"),
        ((20, 10, 10, 20), "is not a part of"),
        ((0.0, 0.0, 10.0, 10.0), "is not a box of whole pixels: left, top, right, bottom"),
        ((0, 0, 10), "is not a box of whole pixels"),
        (5, "is not a box of whole pixels"),
    ],
)
def test_wrong_boxes(box: object, reason: str, detector: Detector) -> None:
    with pytest.raises(ValueError, match=reason):
        detector([noise()], [box])  # pyright: ignore[reportArgumentType]


def test_boxes_of_plain_numbers(detector: Detector) -> None:
    for box in ((1, 2, 30, 40), [1, 2, 30, 40], np.array([1, 2, 30, 40])):
        (verdict,) = detector([noise()], [box])  # pyright: ignore[reportArgumentType]
        assert verdict.box == Box(1, 2, 30, 40)


def test_one_picture_is_no_list(detector: Detector) -> None:
    for picture in ("face.png", Path("face.png"), noise(), np.asarray(noise())):
        with pytest.raises(ValueError, match="pass a list of pictures"):
            detector(picture)  # pyright: ignore[reportArgumentType]


def test_more_boxes_than_pictures(detector: Detector) -> None:
    for count in (8, 9):
        with pytest.raises(ValueError, match=f"there are 8 pictures and {count + 1} boxes"):
            detector([noise()] * 8, [None] * (count + 1))


def test_missing_files(detector: Detector, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.png does not exist"):
        detector([tmp_path / "none.png"])


def test_damaged_weights(model: Path) -> None:
    network = load(model)
    network.classifier.linear1.bias[...] = jnp.nan  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(InputError, match="real_probability is not finite"):
        Detector(network)([noise()])


def test_no_checkpoint(tmp_path: Path) -> None:
    before = listing(tmp_path)
    with pytest.raises(InputError, match="none"):
        Detector.from_checkpoint(tmp_path / "none")
    assert listing(tmp_path) == before
