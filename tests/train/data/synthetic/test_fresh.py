"""Faces that are forged anew in each epoch: what a network is shown of them."""

import dataclasses
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from flax_unet.media.faces import FaceFinder
from flax_unet.utils.errors import InputError
from tests.flax_unet.samples import photo
from train.data.augment import Augmentation
from train.data.dataset import SELF_BLENDED, Dataset, open_dataset, open_splits, split_by_source
from train.data.loader import Batch
from train.data.sampler import Sampler
from train.data.synthetic import alter, blend, dataset
from train.data.synthetic.blend import Portrait, frame
from train.data.synthetic.fresh import Pairs, with_forgeries
from train.data.synthetic.photos import portrait_in
from train.data.synthetic.scene import ProceduralPortraits

SOURCE = ProceduralPortraits(12, seed=3)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dataset]:
    """20 faces: 16 to train on, as many forgeries."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setattr("train.data.synthetic.portraits.COUNT", 20)
        yield open_dataset(SELF_BLENDED, "train")


def read(data: Dataset, first: int, last: int, seed: int = 0, **shared: int) -> list[Batch]:
    stream = Sampler(data, 8, seed)
    return list(stream.batches((64, 64), Augmentation(), first=first, last=last, **shared))


def same(one: Batch, other: Batch) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_face_and_its_forgery_are_neighbours(data: Dataset) -> None:
    assert len(data) == 32
    assert data.table.is_real.tolist() == [True, False] * 16
    for batch in read(data, 0, 8):
        real, fake = batch.position[::2], batch.position[1::2]
        assert data.table.is_real[real].all()
        assert data.table.original[fake].tolist() == data.table.video[real].tolist()
        assert batch.has_mask.all()
        assert not batch.mask[::2].any()
        assert (batch.mask[1::2].mean((1, 2)) > 0.005).all()
        # Disturbed alike: what differs is mostly what is labelled.
        for position in range(0, 8, 2):
            pair = batch.image[position : position + 2].astype(int)
            change = np.abs(pair[0] - pair[1]).max(-1)
            inside = np.zeros((64, 64), bool)
            ndimage.binary_dilation(batch.mask[position + 1], iterations=2, output=inside)
            assert change[inside].mean() > 1.5 * change[~inside].mean()


def test_every_epoch_shows_every_face_in_another_way(data: Dataset) -> None:
    batches = read(data, 0, 12)  # three epochs
    seen = [np.concatenate([b.position for b in batches[i : i + 4]]) for i in (0, 4, 8)]
    assert all(sorted(rows) == list(range(32)) for rows in seen)
    shown = [
        {
            row: image
            for b in batches[i : i + 4]
            for row, image in zip(b.position, b.image, strict=True)
        }
        for i in (0, 4, 8)
    ]
    for row in range(32):
        assert len({shown[epoch][row].tobytes() for epoch in range(3)}) == 3


def test_any_start_process_and_worker_shows_the_same(data: Dataset) -> None:
    whole = read(data, 0, 7)
    assert all(map(same, read(data, 3, 7), whole[3:]))
    assert all(map(same, read(data, 3, 7, workers=2), whole[3:]))
    halves = [read(data, 5, 7, process=process, processes=2) for process in (0, 1)]
    for batch, *parts in zip(whole[5:], *halves, strict=True):
        joined = Batch(*(np.concatenate(field) for field in zip(*parts, strict=True)))
        assert same(joined, batch)
    assert not any(map(same, read(data, 0, 7, seed=1), whole))


def test_a_batch_does_not_separate_them(data: Dataset) -> None:
    with pytest.raises(InputError, match=r"--batch-size 7: .*even"):
        Sampler(data, 7, 0)


def test_parts_of_a_split_keep_them_together(data: Dataset) -> None:
    """As `--validation 25%` makes them; a part shows its faces as the whole does."""
    parts = split_by_source(data, (75, 25, 0), seed=0)
    assert [len(parts[name]) for name in ("train", "validation")] == [24, 8]
    part = parts["train"]
    for batch in read(part, 0, 3):
        real, fake = batch.position[::2], batch.position[1::2]
        assert part.table.original[fake].tolist() == part.table.video[real].tolist()
    rows = {name: row for row, name in enumerate(data.table.video)}
    for row, name in enumerate(part.table.video):
        assert part.record(row) == data.record(rows[name])


def test_other_splits_are_fixed(data: Dataset) -> None:
    splits, faults, _ = open_splits(SELF_BLENDED)
    assert not faults
    assert {name: len(found) for name, found in splits.items()} == {
        **{"train": 32, "validation": 32, "test": 32}
    }
    assert len({found.fingerprint for found in splits.values()}) == 3
    for found in splits.values():
        first, again = (found.record(1) for _ in range(2))
        assert first == again
        for name, mode in (("image", "RGB"), ("mask", "L")):
            image = Image.open(io.BytesIO(first[name]))
            assert (image.format, image.mode) == ("PNG", mode)
            assert image.size == Image.open(io.BytesIO(first["image"])).size
    names = [set(found.table.video) for found in splits.values()]
    assert len(set.union(*names)) == sum(map(len, names)) == 40
    # Two people, each as a real and a forged video of eight frames that differ.
    test = splits["test"]
    assert len(set(test.table.file)) == 32
    assert [len(set(test.table.video[start : start + 16])) for start in (0, 16)] == [2, 2]
    assert test.table.original[1::2].tolist() == test.table.video[::2].tolist()
    assert len({test.record(row)["image"] for row in range(32)}) == 32


def test_augmentation_changes_both_alike(data: Dataset) -> None:
    flipped = Sampler(data, 8, 0).batches((64, 64), Augmentation(flip=0.5), first=0, last=4)
    plain = Sampler(data, 8, 0).batches((64, 64), Augmentation(), first=0, last=4)
    turns = [
        not np.array_equal(a, b)
        for one, other in zip(flipped, plain, strict=True)
        for a, b in zip(one.image, other.image, strict=True)
    ]
    assert turns[::2] == turns[1::2]
    assert len(set(turns)) == 2


def stored(index: int) -> tuple[bytes, Portrait]:
    portrait = SOURCE.portrait(index)[1]
    return portrait.to_png(), portrait


def test_generated_portraits_have_their_face_where_they_say() -> None:
    """YuNet, a face finder, finds it there."""
    finder = FaceFinder()
    for index in range(6):
        portrait = SOURCE.portrait(index)[1]
        (face,) = finder(Image.fromarray(portrait.pixels))
        assert np.abs(np.array(face.landmarks) - portrait.landmarks).max() < 14  # of 256 pixels
        assert np.abs(np.array(face.box) - portrait.box).max() < 26


def test_labels_follow_the_rule_and_lie_on_the_face() -> None:
    for index in range(6):
        content, _ = stored(index)
        for draw in range(6):
            view = blend._view(content, (0, draw, index))
            forgery, label = blend._blended(view, np.random.default_rng((0, draw, index, 1)))
            change = np.abs(forgery.astype(int) - view.target).max(-1)
            assert set(np.unique(label)) == {0, 1}
            assert 0.01 <= label.mean() < 0.7
            assert change[label == 1].mean() > 2
            assert change[label == 1].mean() > 3 * change[label == 0].mean()
            # One region without holes.
            assert ndimage.label(label, np.ones((3, 3)))[1] == 1  # pyright: ignore
            np.testing.assert_array_equal(ndimage.binary_fill_holes(label), label == 1)
            # Around the features, inside the box and a little beyond.
            rows, columns = np.nonzero(label)
            middle = np.array([columns.mean(), rows.mean()])
            (left, top, right, bottom), wide = view.box, view.box[2] - view.box[0]
            assert left < middle[0] < right
            assert top < middle[1] < bottom
            assert left - 0.3 * wide < columns.min() <= columns.max() < right + 0.3 * wide


def test_the_region_turns_with_the_face() -> None:
    """A photo on its side, whose landmarks say so."""
    image = photo().resize((256, 300)).crop((0, 0, 256, 256))
    (face,) = FaceFinder()(image)
    upright = Portrait(np.asarray(image), np.array(face.box, float), np.array(face.landmarks))
    left, top, right, bottom = upright.box
    turned = Portrait(
        np.rot90(upright.pixels).copy(),
        np.array([top, 256 - right, bottom, 256 - left]),
        np.stack([upright.landmarks[:, 1], 256 - upright.landmarks[:, 0]], axis=1),
    )
    for draw in range(4):
        regions = []
        for portrait in (upright, turned):
            pixels, box, landmarks = portrait
            view = blend._View(pixels, pixels, False, box, landmarks, 1.0)
            regions.append(blend._outline(view, np.random.default_rng((2, draw))) > 0)
        expected = np.rot90(regions[0])
        overlap = (regions[1] & expected).sum() / (regions[1] | expected).sum()
        assert overlap > 0.5


@pytest.mark.parametrize("levels", [0, 128, 255])
def test_a_picture_of_one_colour_is_forged_visibly(levels: int) -> None:
    portrait = SOURCE.portrait(0)[1]._replace(pixels=np.full((256, 256, 3), levels, np.uint8))
    for draw in range(5):
        view = blend._view(portrait.to_png(), (0, draw))
        forgery, label = blend._blended(view, np.random.default_rng(draw))
        assert label.mean() >= 0.01
        assert np.abs(forgery.astype(int) - view.target)[label == 1].max() >= 2


@pytest.mark.parametrize("size", [(100, 60), (40, 300), (20, 20)])
def test_small_portraits_with_the_face_at_the_edge(size: tuple[int, int]) -> None:
    width, height = size
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    box = np.array([-5.0, -5.0, 0.6 * width, 0.8 * height])
    landmarks = np.array([(5, 9), (12, 8), (9, 12), (6, 15), (11, 15)], float)
    content = Portrait(pixels, box, landmarks).to_png()
    for draw in range(5):
        for is_forged in (False, True):
            found, label = frame(content, (0, draw), is_forged=is_forged)
            assert found.shape == (*label.shape, 3)
            assert 96 <= max(label.shape) <= 352
            assert found.dtype == label.dtype == np.uint8
            assert label.any() == is_forged


@pytest.mark.parametrize("changes", [*alter._ALTERATIONS, *alter._DISTURBANCES])
def test_changes_take_the_same_numbers_for_any_picture(changes: Any) -> None:
    """Otherwise a forgery would be disturbed in another way than its real picture."""
    assert 0 < sum(share for share, _ in changes) <= 1
    pictures = np.random.default_rng(0).integers(0, 256, (2, 32, 96, 3), np.uint8)
    pictures[1] //= 4  # a dark one
    pictures[:, :, :32] = 128  # the same in both
    for _, change in changes:
        rngs = [np.random.default_rng(5), np.random.default_rng(5)]
        found = [change(*of) for of in zip(pictures, rngs, strict=True)]
        assert rngs[0].bit_generator.state == rngs[1].bit_generator.state
        assert {(of.shape, of.dtype) for of in found} == {((32, 96, 3), np.dtype(np.uint8))}
        if changes in alter._DISTURBANCES:  # far from where they differ
            np.testing.assert_array_equal(found[0][:, :8], found[1][:, :8])


def test_blocks_of_a_video_are_quantised() -> None:
    """The coefficients that SciPy computes are multiples of the step."""
    from scipy.fft import dctn

    plane = np.random.default_rng(0).integers(60, 190, (256, 256), np.uint8)
    step = 30.0
    found = alter._quantised(plane, step).astype(float)
    blocks = found.reshape(32, 8, 32, 8).swapaxes(1, 2)
    coefficients = np.asarray(dctn(blocks, axes=(2, 3), norm="ortho")) / step
    assert np.abs(coefficients - coefficients.round()).mean() < 0.02  # pixels are whole numbers
    assert np.abs(found - plane).mean() < step / 2


def test_photos_keep_more_around_the_face(tmp_path: Path) -> None:
    for number in range(10):
        picture = photo() if number < 2 else ProceduralPortraits(10, 1)[number][1]
        picture.save(tmp_path / f"{number}.png")
    splits, _, _ = open_splits(f"{SELF_BLENDED}:{tmp_path}")
    found = {}
    for split in splits.values():
        pairs = split.records
        assert isinstance(pairs, Pairs)
        for name, record in zip(split.table.video[:: 2 * pairs.each], pairs.faces, strict=True):
            found[name] = Portrait.from_png(record["image"])
    portrait = found["0_real"]
    (face,) = FaceFinder()(Image.fromarray(portrait.pixels))
    assert portrait.pixels.shape == (384, 384, 3)
    assert np.abs(np.array(face.box) - portrait.box).max() < 12
    assert np.abs(np.array(face.landmarks) - portrait.landmarks).max() < 6
    longer = (portrait.box[2:] - portrait.box[:2]).max()
    assert 384 / longer == pytest.approx(2.2, rel=0.05)
    assert dataset.KINDS[SELF_BLENDED].size >= 3 * 384**2


def test_a_face_lies_anywhere_in_the_frame_and_its_landmarks_with_it() -> None:
    """Also one that fills its picture, as in a set of portraits: nothing else tells it apart."""
    pixels = np.full((256, 256, 3), 200, np.uint8)
    box, dots = np.array([56.0, 40.0, 200.0, 230.0]), np.empty((5, 2))
    dots[:] = (98, 112), (158, 112), (128, 150), (102, 182), (154, 182)
    for x, y in dots.astype(int):
        pixels[y - 6 : y + 7, x - 6 : x + 7] = 20
    content = Portrait(pixels, box, dots).to_png()
    views = [blend._view(content, (number,)) for number in range(200)]
    for view in views:
        for x, y in view.landmarks.round().astype(int):
            if min(x, y) >= 3 and max(x, y) < blend.SIZE - 3:
                assert view.source[y - 1 : y + 2, x - 1 : x + 2].max() < 110
    middles = np.array([view.landmarks.mean(0) for view in views]) / blend.SIZE
    heights = np.array([np.hypot(*(view.landmarks[3] - view.landmarks[0])) for view in views])
    assert (middles.std(0) > 0.06).all()
    low, high = np.quantile(heights, [0.05, 0.95])
    assert high / low > 1.5


def test_crops_are_as_found_faces_or_square() -> None:
    """A face 60 wide and 90 high makes crops from 1.5 times as high as wide down to squares."""
    pixels = np.full((256, 256, 3), 127, np.uint8)
    box = np.array([98.0, 83.0, 158.0, 173.0])
    landmarks = 98 + np.array([(15, 20), (45, 20), (30, 40), (18, 60), (42, 60)], float)
    content = Portrait(pixels, box, landmarks).to_png()
    ratios = []
    for draw in range(60):
        real, label = frame(content, (0, draw), is_forged=False)
        view = blend._view(content, (0, draw))
        assert real.shape[:2] == label.shape
        height, width = label.shape
        assert height / width == pytest.approx(view.ratio, abs=16 / width)
        ratios.append(view.ratio)
        # The face's middle is near the middle, and its landmarks are in its box.
        middle = (view.box[:2] + view.box[2:]) / 2 / 256
        np.testing.assert_allclose(middle, 0.5, atol=0.2)  # up to 0.15 aside, and leaning
        assert view.landmarks[0, 0] < view.landmarks[1, 0]  # the picture's left first
        assert ((view.landmarks > view.box[:2]) & (view.landmarks < view.box[2:])).all()
    assert 1 <= min(ratios) < 1.05
    assert 1.45 < max(ratios) < 1.53


def test_another_face_is_put_where_the_face_is() -> None:
    """The landmarks meet, in the colours of the picture."""
    view = blend._view(SOURCE.portrait(0)[1].to_png(), (0, 0))
    dots = view.landmarks * (0.7, 0.9) + (40, 10)  # a face of other proportions, elsewhere
    donor = np.full((256, 256, 3), 200, np.uint8)
    for x, y in dots.round().astype(int):
        donor[y - 6 : y + 7, x - 6 : x + 7] = 40
    outline = np.full((256, 256), 255, np.uint8)
    box = np.array([60.0, 60.0, 190.0, 230.0])
    face = blend._swapped(Portrait(donor, box, dots), view, outline)
    places = view.landmarks.round().astype(int)
    distances = np.abs(places[:, None] - places).max(-1)[~np.eye(5, dtype=bool)]
    assert distances.min() > 12
    dark = face.mean(-1) < face.mean() - 20
    assert np.mean([dark[y - 2 : y + 3, x - 2 : x + 3].mean() for x, y in places]) > 0.8
    assert dark.mean() < 0.15
    np.testing.assert_allclose(face.mean((0, 1)), view.source.mean((0, 1)), atol=6)


def test_half_of_the_forgeries_are_of_other_faces(data: Dataset) -> None:
    pairs = data.records
    assert isinstance(pairs, Pairs)
    donors = [pairs._donor((0, epoch, face), face) for epoch in range(100) for face in range(16)]
    others = [(index % 16, donor) for index, donor in enumerate(donors) if donor is not None]
    assert len(others) / len(donors) == pytest.approx(0.5, abs=0.05)
    assert all(face != donor for face, donor in others)
    assert {donor for _, donor in others} == set(range(16))
    halves = dataclasses.replace(pairs, videos=np.arange(16) // 8)
    found = [
        (face, halves._donor((0, epoch, face), face)) for epoch in range(99) for face in range(16)
    ]
    assert all(donor is None or face // 8 != donor // 8 for face, donor in found)
    assert sum(donor is not None for _, donor in found) > 600
    alone = dataclasses.replace(pairs, faces=[pairs.faces[0]])
    assert all(alone._donor((0, epoch, 0), 0) is None for epoch in range(50))
    for index in range(0, 32, 2):  # a real frame does not depend on it
        swapped = next(
            epoch for epoch in range(99) if pairs._donor((0, epoch, index // 2), index // 2)
        )
        content, key = pairs.faces[index // 2]["image"], (0, swapped, index // 2)
        own = frame(content, key, is_forged=True)
        found = Image.open(io.BytesIO(pairs.redrawn(0, swapped - 1)[index + 1]["image"]))
        assert found.size == own[1].shape[::-1]
        assert not np.array_equal(np.asarray(found), own[0])


def labelled(folder: Path, reals: int, fakes: int) -> Dataset:
    """A folder of crops of generated portraits, as `train.prepare` would write them."""
    crops = folder / "crops"
    crops.mkdir(parents=True)
    metadata = {}
    for number in range(reals + fakes):
        name = f"{'real' if number < reals else 'fake'}{number}"
        ProceduralPortraits(20, 5)[number][1].resize((120, 120)).save(crops / f"{name}_0.png")
        metadata[f"{name}.mp4"] = {"label": "REAL" if number < reals else "FAKE"}
    (folder / "metadata.json").write_text(json.dumps(metadata))
    return open_dataset(str(folder), None)


def test_real_frames_of_a_data_set_get_forgeries_beside_them(tmp_path: Path) -> None:
    data = with_forgeries(labelled(tmp_path, 5, 3))
    table = data.table
    assert table.is_real.tolist() == [True, False] * 5 + [False, False]  # the third is left out
    assert table.has_mask.tolist() == [True] * 10 + [False] * 2
    assert table.original[1:10:2].tolist() == table.video[:10:2].tolist()
    assert len(set(table.file)) == 12
    stream = Sampler(data, 12, 0)
    first, again, other = (
        next(stream.batches((64, 64), Augmentation(), first=epoch, last=epoch + 1))
        for epoch in (0, 0, 1)
    )
    assert same(first, again)
    for batch in (first, other):
        for real, forged in zip(batch.position[::2], batch.position[1::2], strict=True):
            assert forged == real + 1
    masks = {
        row: (image, mask)
        for row, image, mask in zip(first.position, first.image, first.mask, strict=True)
    }
    later = {
        row: (image, mask)
        for row, image, mask in zip(other.position, other.image, other.mask, strict=True)
    }
    for row in range(10):
        assert masks[row][1].any() == (row % 2 == 1)
        assert not np.array_equal(masks[row][0], later[row][0])
    for row in (10, 11):  # its own fakes stay as they are
        assert np.array_equal(masks[row][0], later[row][0])
    assert any("fake7" in note for note in data.notes)
    with pytest.raises(InputError, match="is self-blended already"):
        with_forgeries(data)
    fakes = data.take(np.flatnonzero(~table.is_real))
    with pytest.raises(InputError, match="has no REAL frames to forge"):
        with_forgeries(dataclasses.replace(fakes, together=1))


def test_a_crop_in_which_no_face_is_found_is_forged_in_the_middle() -> None:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)).save(
        file, "PNG"
    )
    found = portrait_in(file.getvalue())
    np.testing.assert_allclose(found.box, [24, 18, 96, 72])
    assert ((found.landmarks > found.box[:2]) & (found.landmarks < found.box[2:])).all()
    photo().save(file := io.BytesIO(), "JPEG")
    (face, *_) = FaceFinder()(Image.open(io.BytesIO(file.getvalue())))
    np.testing.assert_allclose(portrait_in(file.getvalue()).box, face.box)
