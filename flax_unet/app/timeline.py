"""The timeline of a video: a lane for each person, which also seeks in the overlay video."""

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import NamedTuple

from flax_unet.app import words
from flax_unet.nn.decision import Decision, per_cent
from flax_unet.predict.results import PersonResult, VideoResult
from flax_unet.utils.errors import counted

_MOST_LANES = 8
_WIDTH, _HEIGHT = 1000.0, 100.0  # of the drawing, which is stretched to the lane
_LEAST = 0.06  # of the height, so that a bar of 0 is seen
_OVERLAP = 0.3  # of bars, or thin gaps appear between them
_SLOW = 1.0  # below so many frames a second the overlay video shows one each second


class _Moment(NamedTuple):
    """A frame in which a person was judged."""

    start: float  # in the overlay video, in seconds
    end: float
    seconds: float  # in the video
    decision: Decision


def lanes(
    result: VideoResult,
    crops: Mapping[int, str],
    frames_a_second: float | None,
    *,
    can_seek: bool,
) -> str:
    """A row for each person: their face, verdict, and a lane with a bar for each frame.

    Args:
        result: of a video in which people were judged.
        crops: a picture of each person, as a URL.
        frames_a_second: of the frames that were judged.
        can_seek: whether there is an overlay video.
    """
    times = [*film_times(result, frames_a_second)]
    times.append(times[-1] + 1 / max(frames_a_second or _SLOW, _SLOW))  # the end
    most = sorted(result.people, key=lambda one: (one.person != result.person, -one.frames))
    shown = sorted(most[:_MOST_LANES], key=lambda one: one.person)
    rows = "".join(_row(result, one, crops[one.person], times, can_seek=can_seek) for one in shown)
    count = len(result.people)
    threshold = result.decision.threshold
    title = "1 person" if count == 1 else f"{count} people"
    rest = f"<p>{count - len(shown)} more, seen in fewer frames.</p>" if count > len(shown) else ""
    help_text = (
        "<p class='fine'>Each bar is a frame: the higher, the more it looks forged; from the line "
        f"on, at {escape(per_cent(threshold))}, it counts as forged. Choose a place in a row to go "
        "there in the video, or use the arrow keys.</p>"
        if can_seek
        else ""
    )
    return (
        f'<h3>{title} <small>{times[-1]:.1f} s</small></h3><ol class="people" '
        f'style="--threshold: {threshold:.2%}">{rows}</ol>{rest}{help_text}'
    )


def film_times(result: VideoResult, frames_a_second: float | None) -> Iterator[float]:
    """When the overlay video shows each frame, in seconds from its start; see `VideoWriter`."""
    first = result.frames[0].seconds or 0.0
    for number, frame in enumerate(result.frames):
        is_slow = (frames_a_second or _SLOW) < _SLOW
        yield number / _SLOW if is_slow else (frame.seconds or 0.0) - first


def _row(
    result: VideoResult, one: PersonResult, crop: str, times: list[float], *, can_seek: bool
) -> str:
    moments = [
        _Moment(start, end, frame.seconds or 0.0, face.decision)
        for start, end, frame in zip(times, times[1:], result.frames, strict=False)
        for face in frame.faces
        if (face.person or 1) == one.person
    ]
    forged = sum(moment.decision.verdict == "FAKE" for moment in moments)
    said, chance = words.in_short(one), escape(one.decision.chance)
    in_frames = f"{forged:,} of {counted(one.frames, 'frame')} look forged"
    seen = f"{one.first_seconds:.1f} to {one.last_seconds:.1f} s"
    part = "" if one.seen_in_enough_frames else ", too few for the verdict"
    name, attributes = f"Person {one.person}", ""
    if can_seek:
        points = [
            [round(at.start, 3), f"{at.seconds:.1f} s: forgery {at.decision.chance}"]
            for at in moments
        ]
        attributes = (
            f'role="slider" tabindex="0" aria-label="{name}: place in the video" '
            f'aria-valuemin="0" aria-valuemax="{times[-1]:.3f}" aria-valuenow="0" '
            f'aria-valuetext="0.0 s" data-points="{escape(json.dumps(points))}"'
        )
    return f"""\
<li class="person {words.kind_of_person(one)}">
  <img alt="" src="{crop}">
  <p><b>{name}</b> <span class="said">{said}</span> (forgery {chance})
  <small>{in_frames}, seen from {seen}{part}</small></p>
  <div class="lane" {attributes}>
    <svg viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" preserveAspectRatio="none" aria-hidden="true"
      focusable="false">{_bars(moments, times[-1])}</svg><i class="head"></i>
  </div>
</li>"""


def _bars(moments: list[_Moment], length: float) -> str:
    """A bar for each frame, up to the next one; gaps where the person was not judged."""
    bars = []
    for start, end, _, decision in moments:
        left, width = (_WIDTH * at / length for at in (start, end - start))
        height = _HEIGHT * max(_LEAST, decision.fake_probability or 0.0)
        kind = (decision.verdict or "none").lower()
        bars.append(
            f'<rect class="{kind}" x="{left:.2f}" y="{_HEIGHT - height:.2f}" '
            f'width="{width + _OVERLAP:.2f}" height="{height:.2f}"/>'
        )
    return "".join(bars)
