"""Videos of several people: each keeps their number, and the verdict is that of the right one."""

import csv
import json
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from flax_unet.app import html
from flax_unet.app.judge import Judge
from flax_unet.media import tracks
from flax_unet.media.discover import LeftOut, items
from flax_unet.media.faces import Box, Face, FaceFinder, find
from flax_unet.media.tracks import Tracker
from flax_unet.media.videos import Sampling, VideoReader
from flax_unet.nn.config import UNetConfig
from flax_unet.predict import writer
from flax_unet.predict.meaning import meaning
from flax_unet.predict.pipeline import Options, inspect, lots
from flax_unet.predict.predictions import (
    JSON,
    TABLE,
    head_of,
    longest_suspicious,
    write_predictions,
)
from flax_unet.predict.results import Decision, FaceResult, FrameResult, VideoResult
from flax_unet.predict.summary import Summary, outcome
from flax_unet.verdict import Verdict
from tests.flax_unet.samples import CLIP, encode, needs_shared, photo, small_checkpoint

OTHER = Path(html.__file__).parent / "examples" / "1_real.jpg"
SCENE = (760, 400)
PLACES = {"left": (30, 60), "right": (430, 60)}
POSTER = (340, 5)


@pytest.fixture(scope="module")
def finder() -> FaceFinder:
    return FaceFinder()


@pytest.fixture(scope="module")
def portraits() -> dict[str, Image.Image]:
    """Two people whose faces fill 260 x 300 pixels each."""
    other = Image.open(OTHER).convert("RGB").crop((95, 30, 245, 203))
    faces = {"anna": photo().crop((106, 30, 426, 400)), "berta": other}
    return {name: face.resize((260, 300)) for name, face in faces.items()}


def scene(people: dict[str, Image.Image], step: int, poster: Image.Image | None) -> Image.Image:
    """The people at their places, who move a little; a patch of colour below says who is where."""
    canvas = Image.new("RGB", SCENE, (120, 140, 120))
    for place, portrait in people.items():
        left, top = PLACES[place]
        canvas.paste(portrait, (left + 3 * (step % 5), top + step % 3))
    if poster is not None:
        canvas.paste(poster.resize((78, 90)), POSTER)
    return canvas


class Oracle:
    """In the place of a detector: it knows the forged face by its pixels."""

    batch_size, at_once = 4, 1
    threshold, mask_threshold, keep_logits, dtype = 0.5, None, False, "float32"
    calibration = None
    config = UNetConfig()

    def __init__(self, forged: Sequence[Image.Image]) -> None:
        self._forged = [_small(face) for face in forged]

    def __call__(self, images: Sequence[Image.Image], boxes: Sequence[Box]) -> list[Verdict]:
        found = []
        for image, box in zip(images, boxes, strict=True):
            if box.width < 100:  # the poster, of which the network makes nothing
                found.append(Verdict(image.size, box, 0.01))
                continue
            small = _small(image.crop(box))
            alike = max(np.corrcoef(small, other)[0, 1] for other in self._forged)
            found.append(Verdict(image.size, box, 0.2 if alike > 0.75 else 0.9))
        return found


def _small(face: Image.Image) -> np.ndarray:
    return np.asarray(face.convert("L").resize((12, 12), Image.Resampling.BOX), float).ravel()


def judged(
    path: Path, oracle: Oracle, finder: FaceFinder, sampling: Sampling, out: Path | None = None
) -> VideoResult:
    options = Options("auto", finder, sampling)
    inspected = inspect(oracle, lots(items([path]), 1), options)  # pyright: ignore[reportArgumentType]
    (result,) = writer.file_results(inspected, out)
    assert isinstance(result, VideoResult)
    return result


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(frames=9)])
def test_people_swap_places_at_a_cut(
    sampling: Sampling, portraits: dict[str, Image.Image], finder: FaceFinder, tmp_path: Path
) -> None:
    anna, berta = portraits["anna"], portraits["berta"]
    one, other = {"left": anna, "right": berta}, {"left": berta, "right": anna}
    pictures = [scene(one if step < 12 else other, step, None) for step in range(24)]
    film = encode(tmp_path / "film.mp4", pictures)
    forged = [crop(pictures[0], finder, is_left=True), crop(pictures[23], finder, is_left=False)]
    result = judged(film, Oracle(forged), finder, sampling)
    assert len(result.people) == 2
    first = {on_the_left(face.box): face.person for face in result.frames[0].faces}
    for frame in result.frames:
        assert len(frame.faces) == 2
        for face in frame.faces:
            is_left = on_the_left(face.box)
            is_anna = is_left == ((frame.index or 0) < 12)
            assert face.person == first[is_anna]
    assert result.person == first[True]
    assert result.decision.verdict == "FAKE"
    assert result.decision.fake_probability == pytest.approx(0.8)
    honest = result.people[2 - (result.person or 1)]
    assert honest.decision.verdict == "REAL"
    assert honest.frames == len(result.frames)
    assert (honest.first_seconds, honest.last_seconds) == (
        result.frames[0].seconds,
        result.frames[-1].seconds,
    )


def on_the_left(box: Box) -> bool:
    return (box.left + box.right) / 2 < SCENE[0] / 2


def crop(picture: Image.Image, finder: FaceFinder, *, is_left: bool) -> Image.Image:
    boxes = find(finder, picture, "auto", of_video=True).boxes
    (box,) = (box for box in boxes if on_the_left(box) == is_left and box.width > 100)
    return picture.crop(box)


def test_a_box_on_a_poster_flips_nothing(
    portraits: dict[str, Image.Image], finder: FaceFinder, tmp_path: Path
) -> None:
    """It is seen in two frames of thirty, where the network calls it FAKE."""
    anna, berta = portraits["anna"], portraits["berta"]
    people = {"left": anna, "right": berta}
    pictures = [scene(people, step, berta if step in (10, 11) else None) for step in range(30)]
    film = encode(tmp_path / "film.mp4", pictures)
    out = tmp_path / "out"
    out.mkdir()
    honest = Image.new("RGB", (50, 50))
    ImageDraw.Draw(honest).rectangle((0, 0, 25, 50), "white")
    result = judged(film, Oracle([honest]), finder, Sampling(), out)
    few = [one for one in result.people if not one.seen_in_enough_frames]
    assert sum(one.frames for one in few) == 2
    assert {one.decision.verdict for one in few} == {"FAKE"}
    assert result.decision.verdict == "REAL"
    assert len(result.people) == 2 + len(few)
    assert any("too few frames for the verdict" in note for note in result.notes)
    # The same in the files.
    options, left_out = Options("auto", finder), LeftOut()
    checkpoint = small_checkpoint(tmp_path)
    entry = result.to_json()
    summary = Summary.of(Counter([outcome(entry)]), left_out)
    head = head_of(checkpoint, Oracle([honest]), options)  # pyright: ignore[reportArgumentType]
    write_predictions(out, [entry], head, summary.to_json(), left_out.to_json())
    (written,) = json.loads((out / JSON).read_text())["files"]
    assert written["verdict"] == "REAL"
    assert written["people"] == [one.to_json() for one in result.people]
    assert written["person"] == result.person
    with (out / TABLE).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    persons = [row for row in rows if row["level"] == "person"]
    assert [row["person"] for row in persons] == [str(one.person) for one in result.people]
    assert [int(row["frames"]) for row in persons] == [one.frames for one in result.people]
    of_person = [row for row in rows if row["level"] == "face" and row["person"] == "1"]
    mean = np.mean([float(row["real_probability"]) for row in of_person])
    assert float(persons[0]["real_probability"]) == pytest.approx(mean)
    assert f"person {result.person} of {len(result.people)}, mean of 30 frames" in str(result)


@needs_shared
@pytest.mark.parametrize("with_poster", [False, True])
def test_the_clip_beside_a_real_face(
    with_poster: bool, portraits: dict[str, Image.Image], finder: FaceFinder, tmp_path: Path
) -> None:
    """The face-swap clip on the right; the forged person is named, whatever hangs between them."""
    clip = [frame.image for frame in VideoReader(CLIP, Sampling(frames=16)).frames() if frame]
    poster = portraits["berta"] if with_poster else None
    pictures = [
        scene({"left": portraits["anna"], "right": image.resize((260, 260))}, step, poster)
        for step, image in enumerate(clip)
    ]
    film = encode(tmp_path / "film.mp4", pictures)
    forged = [crop(picture, finder, is_left=False) for picture in pictures]

    class Knows(Oracle):
        def __call__(self, images: Sequence[Image.Image], boxes: Sequence[Box]) -> list[Verdict]:
            found = super().__call__(images, boxes)
            return [  # the poster is an honest picture
                Verdict(v.size, v.box, 0.8) if v.box.width < 100 else v for v in found
            ]

    result = judged(film, Knows(forged), finder, Sampling())
    named = [face for face in result.faces if face.person == result.person]
    assert len(named) == len(pictures)
    assert not any(on_the_left(face.box) for face in named)
    assert result.decision.verdict == "FAKE"
    others = [one for one in result.people if one.person != result.person]
    assert {one.decision.verdict for one in others} == {"REAL"}


def test_who_leaves_and_comes_back(portraits: dict[str, Image.Image], finder: FaceFinder) -> None:
    tracker = Tracker()
    numbers = []
    for step, names in enumerate(["anna", "", "berta", "", "anna", "berta"]):
        people = {"left" if step < 3 else "right": portraits[names]} if names else {}
        picture = scene(people, step, None)
        numbers += tracker(picture, find(finder, picture, "auto", of_video=True).faces)
    assert numbers == [1, 2, 1, 2]


def test_what_recognises_people_is_kept_for_the_next_video(
    portraits: dict[str, Image.Image], finder: FaceFinder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each video is read by a new thread; to load SFace takes a tenth of a second."""
    loaded: list[object] = []

    class Counted(tracks._Recognizer):
        def __init__(self) -> None:
            super().__init__()
            loaded.append(self)

    monkeypatch.setattr(tracks, "_Recognizer", Counted)
    monkeypatch.setattr(tracks, "_idle", [])
    picture = scene({"left": portraits["anna"], "right": portraits["berta"]}, 0, None)
    faces = find(finder, picture, "auto").faces
    for _ in range(3):
        thread = threading.Thread(target=lambda: Tracker()(picture, faces))
        thread.start()
        thread.join()
    assert len(faces) == 2
    assert len(loaded) == 1


def test_a_file_has_the_longest_stretch_of_anyone() -> None:
    stretches = [(1.0, 2.0), (None, None), (4.0, 6.5), (0.0, 2.0)]
    people = [{"suspicious_from": begin, "suspicious_to": end} for begin, end in stretches]
    assert longest_suspicious(people) == {"suspicious_from": 4.0, "suspicious_to": 6.5}
    assert longest_suspicious(people[1:2]) == longest_suspicious([]) == {}


def test_whole_pictures_are_one_person() -> None:
    tracker, generator = Tracker(), np.random.default_rng(0)
    for _ in range(3):
        picture = Image.fromarray(generator.integers(0, 256, (40, 40, 3), np.uint8))
        assert tracker(picture, [Face(Box(0, 0, 40, 40))]) == [1]


def frames_of(*seen: Sequence[tuple[int, float]]) -> Iterator[FrameResult]:
    for index, faces in enumerate(seen):
        results = [
            FaceResult(Box(0, 0, 9, 9), Decision(real), None, 0.9, (), person)
            for person, real in faces
        ]
        yield FrameResult(results, [], index, index / 10)


@pytest.mark.parametrize(
    ("seen", "person", "real"),
    [
        ([[(1, 0.9)]] * 2, 1, 0.9),  # a short video has no three frames
        ([[(1, 0.9)]] * 29 + [[(1, 0.9), (2, 0.1)]], 1, 0.9),
        ([[(1, 0.9)]] * 27 + [[(1, 0.9), (2, 0.1)]] * 3, 2, 0.1),
        ([[(1, 0.9)]] * 90 + [[(2, 0.2)]] * 9, 1, 0.9),
        ([[(1, 0.9)]] * 90 + [[(2, 0.2)]] * 10, 2, 0.2),
        ([[(1, 0.6)], [(1, 0.2)], [(1, 0.4)], []], 1, 0.4),
        ([[]], None, None),
    ],
)
def test_whose_verdict_it_is(seen: Any, person: int | None, real: float | None) -> None:
    result = VideoResult("x.mp4", "video", frames=list(frames_of(*seen)))
    result.conclude()
    assert result.person == person
    found = result.decision.real_probability
    assert found == (None if real is None else pytest.approx(real))


def test_a_forged_stretch_is_in_print_and_in_the_files(tmp_path: Path) -> None:
    """Of a REAL person: from 1.2 to 3.5 s, apart from a frame. The verdict stays the mean's."""
    seen = [[(1, 0.3 if 12 <= at <= 35 and at != 20 else 0.8), (2, 0.9)] for at in range(60)]
    result = VideoResult("x.mp4", "video", size=(9, 9), frames=list(frames_of(*seen)))
    result.conclude()
    assert (result.decision.verdict, result.person) == ("REAL", 1)
    first, *lines = str(result).splitlines()
    assert "but FAKE from 1.2 to 3.5 s" in first
    assert "but FAKE from 1.2 to 3.5 s" in lines[0]
    assert "but FAKE" not in lines[1]
    one, other = result.to_json()["people"]
    assert (one["suspicious_from"], one["suspicious_to"]) == (1.2, 3.5)
    assert (other["suspicious_from"], other["suspicious_to"]) == (None, None)
    assert "suspicious_from, suspicious_to" in meaning()
    entry, left_out = result.to_json(), LeftOut()
    summary = Summary.of(Counter([outcome(entry)]), left_out)
    checkpoint, oracle = small_checkpoint(tmp_path), Oracle([])
    options = Options()
    head = head_of(checkpoint, oracle, options)  # pyright: ignore[reportArgumentType]
    write_predictions(tmp_path, [entry], head, summary.to_json(), left_out.to_json())
    with (tmp_path / TABLE).open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["level"] == "person"]
    found = [(row["suspicious_from"], row["suspicious_to"]) for row in rows]
    assert found == [("1.2", "3.5"), ("", "")]


def test_a_forged_stretch_of_a_fake_person_is_no_exception() -> None:
    """It is in the JSON, but not printed beside the verdict."""
    result = VideoResult("x.mp4", "video", size=(9, 9), frames=list(frames_of(*[[(1, 0.2)]] * 20)))
    result.conclude()
    assert "but" not in str(result)
    (one,) = result.to_json()["people"]
    assert (one["suspicious_from"], one["suspicious_to"]) == (0.0, 1.9)


def test_a_crowd_is_printed_in_a_few_lines() -> None:
    seen = [[(person, 0.9) for person in range(1, 13)]] * 2 + [[(3, 0.9), (12, 0.1)]] * 30
    result = VideoResult("x.mp4", "video", frames=list(frames_of(*seen)))
    result.conclude()
    lines = str(result).splitlines()
    assert "person 12 of 12, mean of 32 frames" in lines[0]
    assert [line.split(",")[0].strip() for line in lines[1:9]] == [
        *(f"person {n}" for n in range(1, 8)),
        "person 12",
    ]
    assert lines[9:] == [
        "  4 more people, seen in fewer frames",
        "  note: 10 people are seen in too few frames for the verdict",
    ]


def test_the_page_names_people(portraits: dict[str, Image.Image], tmp_path: Path) -> None:
    people = {"left": portraits["anna"], "right": portraits["berta"]}
    film = encode(tmp_path / "film.mp4", (scene(people, step, None) for step in range(4)))
    (tmp_path / "out").mkdir()
    report = Judge(small_checkpoint(tmp_path))(film, tmp_path / "out", sampling=Sampling())
    assert isinstance(report.result, VideoResult)
    assert len(report.result.people) == 2
    page = html.verdict(report)
    assert f"It is that of person {report.result.person}" in page
    assert page.count("<td>4</td>") == 2
    cards = html.faces(report)
    assert cards.count("person 1") == cards.count("person 2") == 4
    assert "found with " in cards
