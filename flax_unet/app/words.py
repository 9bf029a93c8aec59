"""The verdict in words that need no knowledge of the method."""

from typing import NamedTuple

from flax_unet.app.judge import Report
from flax_unet.nn.decision import Decision
from flax_unet.predict.results import PersonResult, VideoResult
from flax_unet.predict.stretch import Stretch

# The least share of the way from the threshold to certainty, in words.
_SURE = ((0.9, "Very sure"), (0.6, "Fairly sure"), (0.2, "Not very sure"), (0.0, "Undecided"))
_MOST = 0.9  # of the time in which a person is seen: such a stretch is more than a part of it
_IN_SHORT = {
    "real": "looks real",
    "fake": "looks forged",
    "open": "too close to call",
    "none": "no verdict",
}
HINT = "A hint, not a proof: check where it comes from, too."


class Summary(NamedTuple):
    """A verdict in words."""

    # real, fake, part (forged for a while), open (too close to call), none (no verdict) or failed
    kind: str
    headline: str  # a sentence, or two
    sure: str = ""  # how sure the program is, such as "Very sure"
    chance: str = ""  # its estimate, in per cent, that it is forged


def summary(report: Report) -> Summary:
    """The verdict on a file."""
    result, decision = report.result, report.result.decision
    if result.problem is not None and report.frame is None:
        return Summary("failed", "This file could not be judged.")
    rest = ""
    if report.end is not None:
        rest = f" Only the first {_clock(report.end)} of the video were judged."
    if decision.verdict is None:
        found = bool(report.faces_found)
        headline = "No verdict." if found else "No verdict: no face was found."
        return Summary("none", headline + rest)
    people = []
    if isinstance(result, VideoResult):
        people = [one for one in result.people if one.seen_in_enough_frames]
        headline = _sentence([one.decision for one in people], "person", "video")
    else:
        headline = _sentence([face.decision for face in result.faces], "face", "picture")
    kind, sure = kind_of(decision), sureness(decision)
    if kind == "open":
        headline = _IN_SHORT["open"].capitalize()
        sure += f", leaning towards {'forged' if decision.verdict == 'FAKE' else 'real'}"
    if (part := _longest_part(people)) is not None:
        if len(people) == 1:
            headline = _IN_SHORT[kind].capitalize()
        headline += f"{', and' if kind == 'fake' else ' on average, but'} {part}"
        kind, sure = ("fake", sure) if kind == "fake" else ("part", "Mixed")
    return Summary(kind, f"{headline}.{rest}", sure, decision.chance)


def kind_of(decision: Decision) -> str:
    """The verdict as the page's colours have it: real, fake, open or none."""
    if decision.verdict is None:
        return "none"
    return "open" if sureness(decision) == _SURE[-1][1] else decision.verdict.lower()


def kind_of_person(one: PersonResult) -> str:
    """The same of a person, or part: they look forged for a while, but not on average."""
    kind = kind_of(one.decision)
    if one.suspicious is None or kind == "fake":
        return kind
    leans_to_forged = one.decision.verdict == "FAKE"
    return kind if leans_to_forged and _is_most(one, one.suspicious) else "part"


def sureness(decision: Decision) -> str:
    """How sure the program is of its verdict, in words: by the distance from the threshold."""
    fake, threshold = decision.fake_probability or 0.0, decision.threshold
    certain = 1.0 if fake >= threshold else 0.0
    share = abs(fake - threshold) / abs(certain - threshold)
    return next(words for least, words in _SURE if share >= least)


def in_short(one: PersonResult) -> str:
    """The verdict on a person in a few words."""
    said = _IN_SHORT[kind_of(one.decision)]
    if one.suspicious is None or kind_of_person(one) != "part":
        return said
    return f"{said} on average, but forged {_when(one, one.suspicious)}"


def _longest_part(people: list[PersonResult]) -> str | None:
    """When who looks forged, of those who do not on average; None: nobody does."""
    parts = [
        (one.suspicious, one)
        for one in people
        if one.suspicious is not None and kind_of_person(one) == "part"
    ]
    if not parts:
        return None
    stretch, one = max(parts, key=lambda part: part[0].end - part[0].begin)
    who = f"person {one.person}" if len(people) > 1 else "it"
    return f"{_when(one, stretch)} {who} {_IN_SHORT['fake']}"


def _is_most(one: PersonResult, stretch: Stretch) -> bool:
    """Whether a stretch is more than a part of the time in which a person is seen."""
    return stretch.end - stretch.begin >= _MOST * (one.last_seconds - one.first_seconds)


def _when(one: PersonResult, stretch: Stretch) -> str:
    """When a person looks forged, in words."""
    return "most of the time" if _is_most(one, stretch) else when(stretch)


def when(stretch: Stretch) -> str:
    """When a stretch is, in words."""
    return f"from {_clock(stretch.begin)} to {_clock(stretch.end)}"


def _clock(seconds: float) -> str:
    """A time as players show it, such as 0:04 or 1:02:03."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _sentence(decisions: list[Decision], noun: str, where: str) -> str:
    fakes, count = sum(one.verdict == "FAKE" for one in decisions), len(decisions)
    looks = _IN_SHORT["fake" if fakes else "real"]
    plain = looks.replace("looks", "look")
    if count == 1:
        return f"The face in this {where} {looks}"
    nouns = "people" if noun == "person" else "faces"
    if fakes in (0, count):
        return f"{'Both' if count == 2 else f'All {count}'} {nouns} {plain}"
    return f"{fakes} of {count} {nouns} {looks if fakes == 1 else plain}"
