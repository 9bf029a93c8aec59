"""What weights are worth: what they were trained and measured on, and one sentence for people.

The record is `worth` in `source.json`. `convert.to_torch` writes it into the PyTorch file too, so
that it stays with the weights. Whoever passes a file on may have changed it: it is text to show,
not to trust.
"""

import dataclasses
import re
from pathlib import Path
from typing import Any, Self

from flax_unet.checkpoint import metadata
from flax_unet.utils.errors import InputError
from flax_unet.utils.filenames import shown
from flax_unet.utils.files import followed

WORTH = "worth"  # in source.json
LONGEST = 500  # characters of a text in the record; a longer one is refused
GENERATED = ("forged_portraits", "self_blended")  # data sets that are made on this machine
_PEOPLE = {"procedural": "drawn faces", "avatars": "synthetic people"}  # sources of these
_LONGEST_PHRASE, _LONGEST_NAME = 200, 60  # characters of what is composed; longer ones are cut
_THEN = ", then on "
_BLENDED = ", with forgeries made by blending"
_SLASH = re.compile(r"[/\\]")
_OF_GENERATED = re.compile(rf" frames of ({'|'.join(GENERATED)})\b")  # in a measurement

_NOT_RECORDED = "Of unknown origin: what these weights were trained on is not recorded"
_ONLY_SYNTHETIC = "real faces may be called FAKE wrongly, and real face swaps REAL"


@dataclasses.dataclass(frozen=True)
class Worth:
    """What weights are worth.

    Attributes:
        sentence: for people, to be shown wherever the weights are used.
        trained_on: such as `210 synthetic people (forged_portraits:avatars)`; None: not recorded.
        measured_on: such as `330 frames of dfdc, split test: AUC 0.970`; None: not measured.
        caveat: what to mind beyond these, such as that real faces were never seen.
    """

    sentence: str
    trained_on: str | None = None
    measured_on: str | None = None
    caveat: str | None = None

    @classmethod
    def trained(
        cls,
        data: str,
        *,
        frames: int | None = None,
        people: int | None = None,
        is_blended: bool = False,
        before: "Worth | None" = None,
    ) -> Self:
        """That of weights that were trained on a data set, and not measured yet.

        Args:
            data: the data set's name or folder, of which only the last name is kept.
            frames: that were trained on, if that is known.
            people: among them, in generated data sets.
            is_blended: whether forgeries of its real frames were made in training.
            before: what the weights that training started from were worth; None: they were random.
        """
        kind, _, source = data.partition(":")
        name, caveat = _cut(shown(without_folders(data)), _LONGEST_NAME), None
        if kind not in GENERATED:
            trained_on = name if frames is None else f"{frames:,} frames of {name}"
            trained_on += _BLENDED * is_blended
        else:
            count = "" if people is None else f"{people:,} "
            if words := _PEOPLE.get(source or "procedural"):
                trained_on, caveat = f"{count}{words} ({name})", _ONLY_SYNTHETIC
            else:
                trained_on = f"{count}faces in photos ({name}){_BLENDED}"
        if before is not None and before.sentence != RANDOM.sentence:
            first = before.trained_on or "data that is not recorded"
            is_same = f"{_THEN}{first}".endswith(f"{_THEN}{trained_on}")  # training went on
            longer = f"{_cut(first, _LONGEST_PHRASE // 2)}{_THEN}{trained_on}"
            trained_on = first if is_same else longer
            caveat = caveat and before.caveat
        return cls("", _cut(trained_on, _LONGEST_PHRASE), None, caveat)._with_sentence()

    @classmethod
    def of(cls, source: dict[str, Any]) -> "Worth":
        """That of a checkpoint with this `source.json`, which need not hold a record."""
        if WORTH in source:
            return _read(source[WORTH]) or DAMAGED
        trained = metadata.trained(source)
        if not isinstance(data := trained.get("data"), str):
            return UNKNOWN
        return cls.trained(data, before=None if trained.get("init_from") is None else UNKNOWN)

    @classmethod
    def of_checkpoint(cls, path: str | Path) -> "Worth":
        """That of the checkpoint in a directory, whatever the state of its `source.json`."""
        if not (followed(Path(path)) / metadata.SOURCE).exists():
            return UNKNOWN
        try:
            return cls.of(metadata.load_source(path))
        except InputError:
            return DAMAGED

    def measured(self, on: str | None) -> "Worth":
        """The same with another measurement; None: with none."""
        if on == self.measured_on:
            return self
        on = None if on is None else _cut(shown(on), _LONGEST_PHRASE)
        return dataclasses.replace(self, measured_on=on)._with_sentence()

    @property
    def in_short(self) -> str:
        """How far to trust the weights, for people who need no figures or names of data sets."""
        if self.sentence == RANDOM.sentence:
            return "Not at all: this model has learnt nothing, and its verdicts mean nothing."
        if self.caveat == _ONLY_SYNTHETIC:
            return (
                "Only as a first hint: this model has learnt from pictures of people who do not "
                "exist. It may call real faces forged, and forged ones real."
            )
        if self.caveat is not None:
            return f"Only as a first hint: {self.caveat.rstrip('.')}."
        if self.trained_on is None:
            return "Only as a first hint: nobody knows what this model has learnt from."
        if self.measured_on is None:
            return "Only as a first hint: nobody has recorded how often this model is wrong."
        if _OF_GENERATED.search(self.measured_on):
            return (
                "Only as a first hint: this model was tested on forgeries that this program made "
                "itself. It may miss others."
            )
        return (
            "As one hint of several: this model was tested, and made mistakes. It may make more of "
            "them with your files than in the tests."
        )

    def to_json(self) -> dict[str, str | None]:
        """The record."""
        return dataclasses.asdict(self)

    def _with_sentence(self) -> Self:
        if self.sentence == RANDOM.sentence:
            return self
        trained = _NOT_RECORDED
        if self.trained_on is not None:
            only = " only" if self.caveat == _ONLY_SYNTHETIC else ""
            trained = f"Trained on {self.trained_on}{only}"
        measured = "no measurement is recorded"
        if self.measured_on is not None:
            measured = f"measured on {self.measured_on}"
        parts = filter(None, (trained, measured, self.caveat))
        return dataclasses.replace(self, sentence=_cut(f"{'; '.join(parts)}.", LONGEST))


RANDOM = Worth("Random weights: verdicts mean nothing.")
UNKNOWN = Worth(f"{_NOT_RECORDED}, nor how well they do.")
DAMAGED = Worth("Of unknown origin: the record of what these weights were trained on is damaged.")


def without_folders(data: str) -> str:
    """The name of a data set; of a path its last part, since folders are private."""
    return ":".join(_SLASH.split(part)[-1] for part in data.rstrip("/\\").split(":"))


def _read(record: Any) -> Worth | None:
    """The record in JSON; None unless it holds short printable texts."""
    if not isinstance(record, dict):
        return None
    fields: dict[str, Any] = {of.name: record.get(of.name) for of in dataclasses.fields(Worth)}
    texts = [text for text in fields.values() if text is not None]
    is_valid = all(map(_is_printable, texts)) and bool((fields["sentence"] or "").strip())
    return Worth(**fields) if is_valid else None


def _is_printable(text: Any) -> bool:
    return isinstance(text, str) and len(text) <= LONGEST and text.isprintable()


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
