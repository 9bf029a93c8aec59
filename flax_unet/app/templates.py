"""The page before any file is judged, and the page about the model."""

import string
from html import escape
from pathlib import Path

from flax_unet.app import record
from flax_unet.app.judge import Judge
from flax_unet.app.limits import megabytes
from flax_unet.app.queue import AWAY, KEPT
from flax_unet.utils.filenames import shown

STATIC, EXAMPLES = (Path(__file__).parent / name for name in ("static", "examples"))
_CAPTIONS = {
    "1_real": "A real photograph: an astronaut",
    "2_forged": "A forgery: another face was put over this officer's",
    "3_both": "Both in one picture",
}


def page(judge: Judge, most: int, root_path: str) -> str:
    """The page, which takes files of `most` bytes."""
    examples = "".join(
        f'<li><button type="button" data-example="examples/{path.name}">'
        f'<img src="examples/{path.name}" alt=""><span>{escape(_CAPTIONS[path.stem])}</span>'
        "</button></li>"
        for path in sorted(EXAMPLES.glob("*.jpg"))
    )
    return _filled(
        "page.html",
        root_path,
        judge,
        examples=examples,
        most=str(most),
        most_words=megabytes(most),
        minutes=f"{AWAY / 60:g}",
        hours=f"{KEPT / 3600:g}",
    )


def card(judge: Judge, root_path: str) -> str:
    """The page about the model: what is recorded about it, and its card as text."""
    return _filled("card.html", root_path, judge, description=record.description(judge.card))


def _filled(name: str, root_path: str, judge: Judge, **parts: str) -> str:
    """A page of `static`, with what is the same in all and its own parts of HTML."""
    template = string.Template((STATIC / name).read_text(encoding="utf-8"))
    model = shown(judge.checkpoint.resolve().name)
    common = {"root": root_path, "model": model, "worth": judge.worth.in_short}
    parts["record"] = record.record(judge.worth)
    return template.substitute({key: escape(text) for key, text in common.items()} | parts)
