"""Which training picture comes when, and what augmentation does to it."""

import numpy as np
import pytest

from tests.train.folders import write_folder
from train.data.augment import Augmentation, augment
from train.data.dataset import Dataset, open_dataset
from train.data.sampler import Sampler

EVERY_CHANGE = Augmentation(*[0.5] * 6)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """14 frames: batches of 4 leave 2 over."""
    folder = write_folder(tmp_path_factory.mktemp("data") / "data", videos=7, frames=2)
    return open_dataset(str(folder), None)


def test_an_epoch_shows_no_frame_twice(data: Dataset) -> None:
    stream = Sampler(data, batch_size=4, seed=0)
    assert stream.steps_per_epoch == 3
    rows = [stream.row(sample) for sample in range(48)]
    assert [epoch for epoch, _ in rows] == [i // 12 for i in range(48)]
    orders = [tuple(row for of, row in rows if of == epoch) for epoch in range(4)]
    assert all(len(set(order)) == 12 for order in orders)
    assert len(set(orders)) == 4
    left_over = [set(range(14)) - set(order) for order in orders]
    assert len(set(map(tuple, map(sorted, left_over)))) > 1  # not always the same
    assert rows != [Sampler(data, 4, seed=1).row(sample) for sample in range(48)]


@pytest.mark.parametrize("processes", [1, 2])
def test_last_batch_is_kept_on_request(data: Dataset, processes: int) -> None:
    """14 frames in batches of 4: three whole ones, and one of 2."""
    streams = [Sampler(data, 4, seed=0, keep_last_batch=True) for _ in range(processes)]
    assert streams[0].steps_per_epoch == 4
    assert [streams[0].size(step) for step in range(8)] == [4, 4, 4, 2] * 2
    assert [streams[0].samples(steps) for steps in (0, 3, 4, 5, 8)] == [0, 12, 14, 18, 28]
    shares = [
        list(
            stream.batches(
                (16, 16), Augmentation(), first=1, last=9, process=process, processes=processes
            )
        )
        for process, stream in enumerate(streams)
    ]
    found = [np.concatenate([share[step].position for share in shares]) for step in range(8)]
    assert [len(rows) for rows in found] == [4, 4, 2, 4, 4, 4, 2, 4]
    every = [streams[0].row(sample)[1] for sample in range(4, 32)]
    np.testing.assert_array_equal(np.concatenate(found), every)
    assert sorted(every[10:24]) == list(range(14))  # the second epoch
    assert every[10:24] != sorted(every[10:24])


def test_one_small_batch_is_an_epoch(data: Dataset) -> None:
    stream = Sampler(data, 64, seed=0, keep_last_batch=True)
    assert (stream.steps_per_epoch, stream.size(3), stream.samples(3)) == (1, 14, 42)


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_every_start_and_number_of_processes_sees_the_same(data: Dataset, processes: int) -> None:
    stream = Sampler(data, batch_size=4, seed=3)
    whole = list(stream.batches((16, 16), EVERY_CHANGE, first=0, last=7))
    assert len(whole) == 7
    shares = [
        list(
            Sampler(data, batch_size=4, seed=3).batches(
                (16, 16), EVERY_CHANGE, first=2, last=7, process=process, processes=processes
            )
        )
        for process in range(processes)
    ]
    for number, expected in enumerate(whole[2:]):
        for field in expected._fields:
            found = np.concatenate([getattr(share[number], field) for share in shares])
            np.testing.assert_array_equal(found, getattr(expected, field))


def change(
    shares: Augmentation, seed: int = 0, side: int = 32, columns: int | None = None
) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(100)
    columns = columns or side
    image = rng.integers(0, 256, (side, columns, 3), np.uint8)
    mask = (np.arange(side * columns).reshape(side, columns) % 3 == 0).astype(np.uint8)
    return image, mask, *augment(image, mask, shares, np.random.default_rng(seed))


def test_nothing_changes_unless_asked() -> None:
    image, mask, found, marked = change(Augmentation())
    np.testing.assert_array_equal(found, image)
    np.testing.assert_array_equal(marked, mask)


def test_flip_turns_picture_and_mask() -> None:
    image, mask, found, marked = change(Augmentation(flip=1))
    np.testing.assert_array_equal(found, image[:, ::-1])
    np.testing.assert_array_equal(marked, mask[:, ::-1])


@pytest.mark.parametrize("name", ["jpeg", "blur", "noise", "colour"])
def test_changes_of_pixels_leave_the_mask(name: str) -> None:
    image, mask, found, marked = change(Augmentation(**{name: 1.0}))
    assert found.shape == image.shape
    assert found.dtype == np.uint8
    difference = np.abs(found.astype(int) - image).mean()
    assert 0.2 < difference < 90
    np.testing.assert_array_equal(marked, mask)


@pytest.mark.parametrize(("side", "columns"), [(32, 32), (16, 48), (48, 16)])
def test_cut_out_pixels_are_untouched(side: int, columns: int) -> None:
    image, mask, found, marked = change(Augmentation(cut_out=1), side=side, columns=columns)
    cut = (found == 127).all(-1) & ~(image == 127).all(-1)
    assert 0 < cut.mean() <= 0.25
    assert not marked[cut].any()
    np.testing.assert_array_equal(marked[~cut], mask[~cut])


def test_share_of_changed_pictures() -> None:
    pairs = (change(Augmentation(flip=0.25), seed, side=8) for seed in range(400))
    flipped = sum(not np.array_equal(image, found) for image, _, found, _ in pairs)
    assert 70 < flipped < 130  # 100 ± 3.5 standard deviations
