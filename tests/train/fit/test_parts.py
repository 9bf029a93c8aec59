"""Which frames a run trains on, and which it validates on."""

from pathlib import Path

import pytest

from tests.train.folders import write_folder, write_original
from train.data.dataset import Dataset, open_dataset
from train.data.splits import source_of
from train.fit import __main__ as fit
from train.fit.setup import open_parts, unseen


def parts(data: Path, **options: object) -> tuple[Dataset, Dataset | None]:
    return open_parts(fit.resolve({"data": str(data), "workdir": Path("nowhere"), **options}))


@pytest.mark.parametrize("name", ["test", "testing"])
def test_a_split_to_validate_on(name: str, tmp_path: Path) -> None:
    data = write_original(tmp_path / "dfdc")
    train, validation = parts(data)
    assert (len(train), validation) == (12, None)  # as before
    train, validation = parts(data, validation=name)
    assert validation is not None
    assert (train.split, len(train), validation.split, len(validation)) == ("train", 12, "test", 6)


def test_a_folder_to_validate_on_is_the_default(tmp_path: Path) -> None:
    data = write_original(tmp_path / "dfdc")
    write_folder(data / "validation", videos=2, prefix="c")
    _, validation = parts(data)
    assert validation is not None
    assert set(validation.table.video) == {"c000.mp4", "c001.mp4"}
    _, validation = parts(data, validation="test")
    assert validation is not None
    assert set(validation.table.video) == {"b000.mp4", "b001.mp4"}


@pytest.mark.parametrize("folder", ["training", "."])
def test_a_share_of_the_sources_to_validate_on(folder: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_folder(data / folder, videos=20)
    seen = set()
    for seed in range(5):
        train, validation = parts(data, validation="30%", seed=seed)
        assert validation is not None
        assert (train.split, validation.split) == ("train", "validation")
        tables = (train.table, validation.table)
        sources = [set(source_of(list(t.video), list(t.original))) for t in tables]
        assert (len(sources[0]), len(sources[1])) == (7, 3)
        assert not sources[0] & sources[1]
        assert len(train) + len(validation) == 60
        again = parts(data, validation="30%", seed=seed)[1]
        assert again is not None
        assert again.table.file.tolist() == validation.table.file.tolist()
        seen.add(frozenset(sources[1]))
    assert len(seen) > 1


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"split": "60/20/20"}, "test"),
        ({"split": "80/20/0"}, "validation"),
        ({"split": "85/14/1"}, "validation"),  # so few sources that none are of test
        ({"validation": "30%"}, "validation"),
        ({"split": "100/0/0"}, None),
        ({}, None),
    ],
)
def test_frames_to_score_are_not_trained_on(
    options: dict[str, str], part: str | None, tmp_path: Path
) -> None:
    data = str(write_folder(tmp_path / "data", videos=20))
    config = fit.resolve({"data": data, "workdir": Path("nowhere"), "seed": 3, **options})
    words = unseen(config)
    assert (words is None) == (part is None)
    if words is not None:
        chosen = dict(zip(words[::2], words[1::2], strict=True))
        scored = open_dataset(data, chosen["--split"], seed=int(chosen["--seed"]))
        assert scored.split == part
        assert not set(scored.table.video) & set(open_parts(config)[0].table.video)


def test_splits_of_a_folder_are_scored_as_they_are(tmp_path: Path) -> None:
    data = str(write_original(tmp_path / "dfdc"))
    config = fit.resolve({"data": data, "workdir": Path("nowhere"), "validation": "50%"})
    assert unseen(config) == []
    assert open_dataset(data, None).split == "test"


def test_options_for_reading_reach_the_data(tmp_path: Path) -> None:
    data = write_folder(tmp_path / "data", videos=4)
    path = data / "metadata.json"
    path.write_text(path.read_text().replace('"REAL"', "0").replace('"FAKE"', "1"))
    train, validation = parts(data, validation="50%", real_label="0")
    assert validation is not None
    for part in (train, validation):
        assert part.table.is_real.tolist() == [True] * 3 + [False] * 3
