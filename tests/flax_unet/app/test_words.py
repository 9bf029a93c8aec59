"""The verdict in words, and the timeline in the film's own time."""

from pathlib import Path

import av
import pytest
from PIL import Image

from flax_unet.app import html, words
from flax_unet.app.judge import Judge, Report
from flax_unet.app.timeline import film_times, lanes
from flax_unet.media.faces import Box
from flax_unet.media.videos import Sampling
from flax_unet.predict.results import (
    Decision,
    FaceResult,
    FileResult,
    FrameResult,
    PersonResult,
    VideoResult,
)
from flax_unet.predict.stretch import Stretch
from tests.flax_unet.app.screenshots import EXAMPLES
from tests.flax_unet.samples import encode, small_checkpoint


@pytest.mark.parametrize(
    ("fake", "threshold", "said"),
    [
        (0.99, 0.5, "Very sure"),
        (0.94, 0.5, "Fairly sure"),
        (0.7, 0.5, "Not very sure"),
        (0.55, 0.5, "Undecided"),
        (0.5, 0.5, "Undecided"),
        (0.45, 0.5, "Undecided"),
        (0.3, 0.5, "Not very sure"),
        (0.01, 0.5, "Very sure"),
        (0.95, 0.9, "Not very sure"),  # half of the way from 0.9 to 1
        (0.6, 0.9, "Not very sure"),  # a third of the way from 0.9 to 0
        (0.05, 0.9, "Very sure"),
    ],
)
def test_how_sure(fake: float, threshold: float, said: str) -> None:
    assert words.sureness(Decision(1 - fake, threshold)) == said


@pytest.mark.parametrize(
    ("fake", "said"), [(1.0, "over 99%"), (0.0, "under 1%"), (0.724, "72%"), (None, "")]
)
def test_the_chance_is_never_certain(fake: float | None, said: str) -> None:
    assert Decision(None if fake is None else 1 - fake).chance == said


def of_faces(*fakes: float) -> FileResult:
    """The result of a picture with such faces."""
    faces = [FaceResult(Box(0, 0, 9, 9), Decision(1 - fake), None) for fake in fakes]
    result = FileResult("a.jpg", "picture", frames=[FrameResult(faces, [], None, None)])
    result.conclude()
    return result


def of_people(*fakes: float) -> FileResult:
    """The result of a video with such people."""
    frames = [
        FrameResult(
            [
                FaceResult(Box(0, 0, 9, 9), Decision(1 - fake), None, person=person)
                for person, fake in enumerate(fakes, start=1)
            ],
            [],
            index,
            index / 10,
        )
        for index in range(5)
    ]
    result = VideoResult("a.mp4", "video", frames=frames)
    result.conclude()
    return result


@pytest.mark.parametrize(
    ("result", "kind", "headline"),
    [
        (of_faces(0.9), "fake", "The face in this picture looks forged."),
        (of_faces(0.1), "real", "The face in this picture looks real."),
        (of_faces(0.9, 0.8), "fake", "Both faces look forged."),
        (of_faces(0.1, 0.2, 0.3), "real", "All 3 faces look real."),
        (of_faces(0.1, 0.9, 0.3), "fake", "1 of 3 faces looks forged."),
        (of_faces(0.1, 0.9, 0.8), "fake", "2 of 3 faces look forged."),
        (of_faces(0.45, 0.1), "open", "Too close to call."),
        (of_people(0.9), "fake", "The face in this video looks forged."),
        (of_people(0.1, 0.2), "real", "Both people look real."),
        (of_people(0.1, 0.9), "fake", "1 of 2 people looks forged."),
        (of_faces(), "none", "No verdict: no face was found."),
    ],
)
def test_sentences(result: FileResult, kind: str, headline: str) -> None:
    report = Report(result, None, [], len(result.faces), {}, None, {})
    summary = words.summary(report)
    assert (summary.kind, summary.headline) == (kind, headline)


@pytest.mark.parametrize(
    ("fake", "threshold", "said"),
    [
        (0.7, 0.5, "The program puts the chance of a forgery at <b>70%</b>."),
        (0.7, 0.9, "The estimate, <b>70%</b>, lies below the threshold, 90%."),
        (0.95, 0.9, "The estimate, <b>95%</b>, lies above the threshold, 90%."),
        (0.3, 0.1, "The estimate, <b>30%</b>, lies above the threshold, 10%."),
    ],
)
def test_the_estimate_does_not_contradict_the_verdict(
    fake: float, threshold: float, said: str
) -> None:
    """With a threshold of its own, the side is said. The threshold is named in any case."""
    face = FaceResult(Box(0, 0, 9, 9), Decision(1 - fake, threshold), None)
    result = FileResult("a.jpg", "picture", frames=[FrameResult([face], [], None, None)])
    result.conclude()
    told, details = html.verdict(Report(result, None, [], 1, {}, None, {})).split("<details>")
    assert said in told
    assert ("chance of a forgery" in told) == (threshold == 0.5)
    mark = f"alled forged from {threshold:.0%} on"
    assert f'aria-label="Chance of a forgery: {fake:.0%}. C{mark}."' in told
    assert f'<span class="threshold">c{mark}</span>' in told
    assert f"--from: {threshold:.2%}" in told
    assert f"{fake:.2f}" in details


@pytest.mark.parametrize(
    ("fake", "share", "disagree"),
    [(0.9, 0.0, True), (0.1, 0.2, True), (0.9, 0.2, False), (0.1, 0.0, False), (0.9, None, False)],
)
def test_heads_that_disagree(fake: float, share: float | None, disagree: bool) -> None:
    """The page says so of a picture and of a video."""
    faces = [FaceResult(Box(0, 0, 9, 9), Decision(1 - fake), share, person=1)]
    frames = [FrameResult(faces, [], index, index / 10) for index in range(5)]
    picture = FileResult("a.jpg", "picture", frames=frames[:1])
    for result in (picture, VideoResult("a.mp4", "video", frames=frames)):
        result.conclude()
        told = html.verdict(Report(result, None, [], 1, {}, None, {}))
        assert ("The two estimates disagree" in told) == disagree


FORGED = range(32, 72)  # frames of 96 in 12 seconds: from 0:04 to 0:08, its last frame at 8.875 s


def of_stretches(*people: tuple[float, float]) -> FileResult:
    """The result of a video of people with a probability while forged, and another otherwise."""
    frames = []
    for index in range(96):
        faces = [
            FaceResult(Box(0, 0, 9, 9), Decision(1 - of[index not in FORGED]), None, person=person)
            for person, of in enumerate(people, start=1)
        ]
        frames.append(FrameResult(faces, [], index, index / 8))
    result = VideoResult("a.mp4", "video", frames=frames)
    result.conclude()
    return result


@pytest.mark.parametrize(
    ("result", "kind", "headline"),
    [
        (
            of_stretches((0.55, 0.05)),
            "part",
            "Looks real on average, but from 0:04 to 0:08 it looks forged.",
        ),
        (
            of_stretches((0.9, 0.1)),
            "part",
            "Too close to call on average, but from 0:04 to 0:08 it looks forged.",
        ),
        (
            of_stretches((0.6, 0.4)),
            "part",
            "Too close to call on average, but from 0:04 to 0:08 it looks forged.",
        ),
        (of_stretches((0.55, 0.55)), "open", "Too close to call."),  # all of it, not a part
        (of_stretches((0.99, 0.45)), "fake", "The face in this video looks forged."),
        (of_stretches((0.45, 0.05)), "real", "The face in this video looks real."),
        (
            of_stretches((0.2, 0.2), (0.7, 0.1)),
            "part",
            "Both people look real on average, but from 0:04 to 0:08 person 2 looks forged.",
        ),
        (
            of_stretches((0.9, 0.9), (0.7, 0.1)),
            "fake",
            "1 of 2 people looks forged, and from 0:04 to 0:08 person 2 looks forged.",
        ),
    ],
)
def test_a_forged_stretch_is_in_the_headline(result: FileResult, kind: str, headline: str) -> None:
    report = Report(result, None, [], len(result.faces), {}, None, {})
    summary = words.summary(report)
    assert (summary.kind, summary.headline) == (kind, headline)
    assert (summary.sure == "Mixed") == (kind == "part")
    told = html.verdict(report)
    assert headline in told
    assert f'<section class="verdict {kind}"' in told


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        (0.05, "looks real on average, but forged from 0:04 to 0:08"),
        (0.35, "too close to call on average, but forged from 0:04 to 0:08"),
        (0.7, "looks forged"),
    ],
)
def test_a_forged_stretch_is_said_of_each_person(rest: float, said: str) -> None:
    result = of_stretches((0.6, rest))
    assert isinstance(result, VideoResult)
    assert words.in_short(result.people[0]) == said
    rows = lanes(result, {1: ""}, 8.0, can_seek=True)
    assert said in rows
    assert "from the line on, at 50%, it counts as forged" in rows
    assert "lick" not in rows  # nor would "tap" do: a row is for fingers, mice and keys


@pytest.mark.parametrize(
    ("high", "low", "kind", "said"),
    [
        (0.70, 0.02, "part", "looks real on average, but {forged}"),
        (0.99, 0.02, "part", "too close to call on average, but {forged}"),  # 0.60: REAL
        (0.99, 0.18, "open", "too close to call"),  # 0.67: FAKE
        (0.99, 0.60, "fake", "looks forged"),
    ],
)
def test_a_forged_stretch_may_be_the_whole_video(
    high: float, low: float, kind: str, said: str
) -> None:
    """Three frames of five are forged all along: a mean of REAL does not hide them."""
    frames = [
        FrameResult(
            [FaceResult(Box(0, 0, 9, 9), Decision(1 - fake, 0.647), None, person=1)],
            [],
            index,
            index / 25,
        )
        for index, fake in enumerate([high, low, high, low, high] * 60)
    ]
    result = VideoResult("a.mp4", "video", frames=frames)
    result.conclude()
    (person,) = result.people
    assert person.suspicious == Stretch(0.0, 299 / 25)
    summary = words.summary(Report(result, None, [], 300, {}, None, {}))
    assert (summary.kind, words.kind_of_person(person)) == (kind, kind)
    assert words.in_short(person) == said.format(forged="forged most of the time")
    if kind == "part":
        begun = said.format(forged="most of the time it looks forged").capitalize()
        assert summary.headline == f"{begun}."


@pytest.mark.parametrize(
    ("result", "headline"),
    [
        (of_people(0.1), "The face in this video looks real."),
        (of_people(0.45, 0.1), "Too close to call."),
        (VideoResult("a.mp4", "video"), "No verdict: no face was found."),
    ],
)
def test_a_video_that_was_judged_in_part(result: FileResult, headline: str) -> None:
    report = Report(result, None, [], len(result.faces), {}, None, {}, end=321.4)
    rest = "Only the first 5:21 of the video were judged."
    assert words.summary(report).headline == f"{headline} {rest}"


def test_times_are_those_of_players() -> None:
    assert words.when(Stretch(4.9, 65.0)) == "from 0:04 to 1:05"
    assert words.when(Stretch(3599.9, 3723.5)) == "from 59:59 to 1:02:03"


def test_nobody_is_counted_who_is_seen_for_a_moment() -> None:
    """A person seen in too few frames for the verdict is not in the sentence either."""
    result = of_people(0.1, 0.2)
    assert isinstance(result, VideoResult)
    moment = PersonResult(3, Decision(0.01), None, None, 1, 0.0, 0.0, seen_in_enough_frames=False)
    result.people.append(moment)
    report = Report(result, None, [], 11, {}, None, {})
    assert words.summary(report).headline == "Both people look real."


@pytest.mark.parametrize(
    ("rate", "times", "sampling"),
    [
        (10, None, Sampling(frames=4)),
        (10, [20, 21, 25, 26, 40], Sampling()),  # begins late, with frames of different lengths
        (10, [0, 40, 80, 120], Sampling()),  # a frame in four seconds
    ],
)
def test_times_in_the_film(
    rate: int, times: list[int] | None, sampling: Sampling, tmp_path: Path
) -> None:
    """Those at which the overlay video shows the frames, as PyAV reads it."""
    face = Image.open(EXAMPLES / "1_real.jpg").convert("RGB").resize((256, 256))
    pictures = [face] * (len(times) if times else 12)
    film = encode(tmp_path / "film.mkv", pictures, rate=rate, times=times)
    (tmp_path / "out").mkdir()
    report = Judge(small_checkpoint(tmp_path))(film, tmp_path / "out", "none", sampling)
    assert isinstance(report.result, VideoResult)
    with av.open(str(report.files["overlay"])) as overlay:
        expected = [frame.time for frame in overlay.decode(video=0)]
    found = list(film_times(report.result, report.frames_a_second))
    assert found == pytest.approx(expected, abs=0.01)
