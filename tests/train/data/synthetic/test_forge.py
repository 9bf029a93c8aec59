"""Forgeries: changed where the label says, and nowhere else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from flax_unet.utils.errors import InputError
from train.data.synthetic.forge import MIN_AREA, forge
from train.data.synthetic.scene import ProceduralPortraits

PORTRAITS = [np.asarray(ProceduralPortraits(6, seed=3)[i][1]) for i in range(6)]


def noise(height: int, width: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@settings(max_examples=40, deadline=None)
@given(
    portrait=st.sampled_from(PORTRAITS),
    donor=st.sampled_from([None, *PORTRAITS]),
    seed=st.integers(0, 2**32),
)
def test_label_is_where_the_picture_changed(
    portrait: np.ndarray, donor: np.ndarray | None, seed: int
) -> None:
    before = portrait.copy()
    forged, label = forge(portrait, np.random.default_rng(seed), donor)
    np.testing.assert_array_equal(portrait, before)
    assert forged.dtype == label.dtype == np.uint8
    assert forged.shape == portrait.shape
    assert label.shape == portrait.shape[:2]
    assert set(np.unique(label)) == {0, 1}
    assert MIN_AREA <= label.mean() < 0.5

    change = np.abs(forged.astype(int) - portrait).max(-1)
    inside, outside = label == 1, label == 0
    assert change[inside].mean() > 2
    assert change[inside].mean() > 3 * change[outside].mean()
    # The edge of the blend fades out beside the label; away from it, not one pixel differs.
    far = np.asarray(ndimage.distance_transform_edt(outside)) > portrait.shape[0] / 8
    assert far.any()
    assert (change[far] == 0).mean() > 0.995

    # One solid region: no speckle, no holes.
    regions = np.zeros(label.shape, np.int32)
    assert ndimage.label(label, output=regions) == 1
    np.testing.assert_array_equal(ndimage.binary_fill_holes(label), inside)


@settings(max_examples=25, deadline=None)
@given(height=st.integers(32, 90), width=st.integers(32, 90), seed=st.integers(0, 2**32))
def test_any_size_and_content(height: int, width: int, seed: int) -> None:
    portrait = noise(height, width, seed)
    forged, label = forge(portrait, np.random.default_rng(seed))
    assert forged.shape == (height, width, 3)
    assert label.shape == (height, width)
    assert label.mean() >= MIN_AREA


def test_the_generator_decides_everything() -> None:
    first = forge(PORTRAITS[0], np.random.default_rng(7), PORTRAITS[1])
    again = forge(PORTRAITS[0], np.random.default_rng(7), PORTRAITS[1])
    other = forge(PORTRAITS[0], np.random.default_rng(8), PORTRAITS[1])
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert (first[1] != other[1]).any()


def test_a_donor_shows() -> None:
    own, _ = forge(PORTRAITS[0], np.random.default_rng(11))
    donated, label = forge(PORTRAITS[0], np.random.default_rng(11), PORTRAITS[1])
    assert (own != donated)[label == 1].mean() > 0.5


def test_attempts_that_change_nothing_are_not_taken() -> None:
    """Black cannot get darker, so many a forgery of it would be no forgery."""
    black = np.zeros((64, 64, 3), np.uint8)
    for seed in range(20):
        forged, label = forge(black, np.random.default_rng(seed))
        assert forged.max(-1)[label == 1].mean() > 1


def test_nothing_to_forge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.data.synthetic.forge.MIN_CHANGE", 256)
    with pytest.raises(InputError, match="64x64"):
        forge(noise(64, 64, 0), np.random.default_rng(0))
