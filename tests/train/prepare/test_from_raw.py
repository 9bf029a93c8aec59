"""The whole road: raw videos, training, evaluation, in three commands."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.train.fit.conftest import SHALLOW, write_checkpoint
from tests.train.prepare import trees
from train.eval import __main__ as evaluation
from train.fit import __main__ as fit
from train.prepare import __main__ as prepare

FRAMES = (1, 3, 5, 7)  # the middles of four parts of eight frames
DFDC = {  # label and original of what `trees` writes, by key
    f"{10 * 'abcdefgh'[number]}.mp4": ("FAKE", f"{10 * 'abcdefgh'[number - 1]}.mp4")
    if number % 2
    else ("REAL", None)
    for number in range(8)
}
CELEB_DF = {
    **{f"Celeb-real-{name}.mp4": ("REAL", None) for name in ("id0-0000", "id1-0000", "id2-0001")},
    **{f"{name}.mp4": ("REAL", None) for name in ("Celeb-real-id2-0002", "YouTube-real-00000")},
    "Celeb-synthesis-id0-id1-0000.mp4": ("FAKE", "Celeb-real-id0-0000.mp4"),
    "Celeb-synthesis-id1-id2-0000.mp4": ("FAKE", "Celeb-real-id1-0000.mp4"),
    "Celeb-synthesis-id2-id1-0002.mp4": ("FAKE", "Celeb-real-id2-0002.mp4"),
}


@pytest.mark.parametrize(
    ("write", "videos"), [(lambda top: trees.dfdc(top, 4), DFDC), (trees.celeb_df, CELEB_DF)]
)
def test_from_raw_videos_to_figures(
    write: Callable[[Path], Path],
    videos: dict[str, tuple[str, str | None]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(tmp_path / "raw")
    write_checkpoint(tmp_path / "start", SHALLOW)
    made, work, out = (str(tmp_path / name) for name in ("made", "run", "evaluation"))
    options = ("--frames", "4", "--split", "50/25/25", "--workers", "2")
    prepare.main([str(tmp_path / "raw"), "--out", made, *options])
    begin = ("--init-from", str(tmp_path / "start"), "--workdir", work)
    fit.main(["--data", made, *begin, "--batch-size", "4", "--steps", "2", "--validation", "test"])
    evaluation.main(["--checkpoint", f"{work}/last", "--data", made, "--out", out])
    assert "Correct " in capsys.readouterr().out

    entries = json.loads((tmp_path / "made" / "metadata.json").read_text())
    assert {key: (one["label"], one["original"]) for key, one in entries.items()} == videos
    for key, (_, original) in videos.items():
        assert original is None or entries[key]["split"] == entries[original]["split"]
        record = json.loads((tmp_path / "made" / "videos" / f"{key[:-4]}.json").read_text())
        assert tuple(frame["number"] for frame in record["frames"]) == FRAMES
        for frame in record["frames"]:  # around the face, which moves
            left, top, right, bottom = frame["faces"]["1"]
            across, down = (step * frame["number"] for step in trees.STEP)
            middle = (trees.FACE[0] + trees.FACE[2]) / 2, (trees.FACE[1] + trees.FACE[3]) / 2
            assert abs((left + right) / 2 - middle[0] - across) < 20
            assert abs((top + bottom) / 2 - middle[1] - down) < 20
    tested = {key: videos[key][0] for key, entry in entries.items() if entry["split"] == "test"}
    with (tmp_path / "evaluation" / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(FRAMES) * len(tested)
    assert {row["video"]: row["label"] for row in rows} == tested
    assert {*tested.values()} == {"REAL", "FAKE"}
