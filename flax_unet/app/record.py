"""What is recorded about a model, for people who do not know the method."""

import re
from html import escape

from flax_unet.checkpoint.worth import Worth

_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n\s*", re.DOTALL)  # of model cards, for programs
_NAMES = re.compile(r" \([^()]*\)")  # of data sets, behind what they are
_WRONG = re.compile(r"([\d.]+) % of real and ([\d.]+) % of fake frames called FAKE")
_TERMS = {  # in records
    "self_blended": "pictures, and a forgery of each: its own face, changed, is laid over it",
    "forged_portraits": "portraits, and forgeries that a program made of them",
    "avatars": "pictures of people who do not exist, made by a computer",
    "frames": "pictures, also those that a video consists of",
    "split": "a part of the pictures; tests should use another one than the learning",
    "FAKE": "forged, by the model's verdict",
    "AUC": "how well the model tells forged faces from real ones: 1 is always, 0.5 is guessing",
    "Dice": "how well the marked area fits what was forged: 1 is exactly, 0 is not at all",
}


def record(worth: Worth) -> str:
    """What the model learnt from and how it was tested, as HTML; then the record and its terms."""
    terms = "".join(
        f"<dt>{term}</dt><dd>{meaning}</dd>"
        for term, meaning in _TERMS.items()
        if term in worth.sentence
    )
    return (
        f"{_in_plain_words(worth)}<p><b>As recorded:</b> {escape(worth.sentence)}</p>"
        f"{terms and f'<dl>{terms}</dl>'}"
    )


def _in_plain_words(worth: Worth) -> str:
    """The same as a paragraph; empty if neither is recorded, as the short sentence says then."""
    if worth.trained_on is None and worth.measured_on is None:
        return ""
    learnt, tested = "Nobody has recorded what it learnt from.", "Nobody has recorded a test."
    if worth.trained_on is not None:
        learnt = f"It learnt from {escape(_NAMES.sub('', worth.trained_on))}."
    if worth.measured_on is not None:
        tested = "It was tested: the figures are below."
        if match := _WRONG.search(worth.measured_on):
            real, fake = match.groups()
            tested = (
                f"In its test it called {real} % of the real faces forged by mistake, and found "
                f"{fake} % of the forged ones."
            )
    return f"<p>{learnt} {tested}</p>"


def description(card: str | None) -> str:
    """The model card as text in HTML, without what is for programs; empty without one."""
    if card is None:
        return ""
    text = escape(_FRONT_MATTER.sub("", card))
    return (
        '<section><h2>Description</h2><p class="fine">By the people who made it, for engineers.'
        f"</p><pre>{text}</pre></section>"
    )
