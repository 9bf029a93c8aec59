"""The verdict in words that need no knowledge of the method."""

from typing import NamedTuple

from flax_unet.app.judge import Report
from flax_unet.nn.decision import Decision, per_cent
from flax_unet.predict.results import VideoResult

# The least share of the way from the threshold to certainty, in words.
_SURE = ((0.9, "Very sure"), (0.6, "Fairly sure"), (0.2, "Not very sure"), (0.0, "Undecided"))
LOOKS = {"REAL": "looks real", "FAKE": "looks forged"}
HINT = "A hint, not a proof: check where it comes from, too."


class Summary(NamedTuple):
    """A verdict in words."""

    kind: str  # real, fake, open (too close to call), none (no verdict) or failed
    headline: str  # a sentence
    sure: str = ""  # how sure the program is, such as "Very sure"
    chance: str = ""  # its estimate, in per cent, that it is forged


def summary(report: Report) -> Summary:
    """The verdict on a file."""
    result, decision = report.result, report.result.decision
    if result.problem is not None and report.frame is None:
        return Summary("failed", "This file could not be judged.")
    if decision.verdict is None:
        found = bool(report.faces_found)
        return Summary("none", "No verdict." if found else "No verdict: no face was found.")
    is_video = isinstance(result, VideoResult)
    counted = (
        [one.decision for one in result.people if one.seen_in_enough_frames]
        if is_video
        else [face.decision for face in result.faces]
    )
    kind, sure = kind_of(decision), sureness(decision)
    where = "video" if is_video else "picture"
    headline = (
        "Too close to call."
        if kind == "open"
        else _sentence(counted, "person" if is_video else "face", where)
    )
    if kind == "open":
        sure += f", leaning towards {'forged' if decision.verdict == 'FAKE' else 'real'}"
    return Summary(kind, headline, sure, chance(decision))


def kind_of(decision: Decision) -> str:
    """The verdict as the page's colours have it: real, fake, open or none."""
    if decision.verdict is None:
        return "none"
    return "open" if sureness(decision) == _SURE[-1][1] else decision.verdict.lower()


def sureness(decision: Decision) -> str:
    """How sure the program is of its verdict, in words: by the distance from the threshold."""
    fake, threshold = decision.fake_probability or 0.0, decision.threshold
    certain = 1.0 if fake >= threshold else 0.0
    share = abs(fake - threshold) / abs(certain - threshold)
    return next(words for least, words in _SURE if share >= least)


def chance(decision: Decision) -> str:
    """The program's estimate that it is forged, in per cent."""
    fake = decision.fake_probability
    return "" if fake is None else per_cent(fake).replace("> ", "over ").replace("< ", "under ")


def in_short(decision: Decision) -> str:
    """The verdict in a few words."""
    kind = kind_of(decision)
    if kind == "none":
        return "no verdict"
    return "too close to call" if kind == "open" else LOOKS[str(decision.verdict)]


def _sentence(decisions: list[Decision], noun: str, where: str) -> str:
    fakes, count = sum(one.verdict == "FAKE" for one in decisions), len(decisions)
    looks = LOOKS["FAKE" if fakes else "REAL"]
    plain = looks.replace("looks", "look")
    if count == 1:
        return f"The face in this {where} {looks}."
    nouns = "people" if noun == "person" else "faces"
    if fakes in (0, count):
        return f"{'Both' if count == 2 else f'All {count}'} {nouns} {plain}."
    return f"{fakes} of {count} {nouns} {looks if fakes == 1 else plain}."
