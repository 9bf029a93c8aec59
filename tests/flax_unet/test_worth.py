"""What weights are worth: the sentence of each kind, and records that nobody should trust."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from convert.from_torch import convert
from flax_unet.checkpoint.worth import DAMAGED, LONGEST, RANDOM, UNKNOWN, Worth, without_folders

CHECKPOINTS = Path(__file__).parent.parent.parent / "checkpoints"
AVATARS = "forged_portraits:avatars"
SYNTHETIC = f"Trained on 210 synthetic people ({AVATARS}) only"
CAVEAT = "real faces may be called FAKE wrongly, and real face swaps REAL"


def synthetic() -> Worth:
    return Worth.trained(AVATARS, frames=2310, people=210)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (AVATARS, f"{SYNTHETIC}; no measurement is recorded; {CAVEAT}."),
        (
            "self_blended",
            "Trained on 210 drawn faces (self_blended) only; no measurement is recorded; "
            f"{CAVEAT}.",
        ),
        (
            "self_blended:/home/me/Our faces/",
            "Trained on 210 faces in photos (self_blended:Our faces), with forgeries made by "
            "blending; no measurement is recorded.",
        ),
        ("/home/me/dfdc", "Trained on 2,310 frames of dfdc; no measurement is recorded."),
        ("C:\\me\\dfdc", "Trained on 2,310 frames of C:dfdc; no measurement is recorded."),
    ],
)
def test_sentence_of_trained_weights(data: str, sentence: str) -> None:
    assert Worth.trained(data, frames=2310, people=210).sentence == sentence


def test_sentence_of_weights_that_learnt_from_fresh_forgeries() -> None:
    assert Worth.trained("/home/me/mine", frames=400, is_blended=True).sentence == (
        "Trained on 400 frames of mine, with forgeries made by blending; no measurement is "
        "recorded."
    )


def test_measurement_is_part_of_the_sentence() -> None:
    measured = synthetic().measured("330 frames of dfdc, split test: AUC 0.970")
    assert measured.sentence == (
        f"{SYNTHETIC}; measured on 330 frames of dfdc, split test: AUC 0.970; {CAVEAT}."
    )
    assert measured.measured(None) == synthetic()
    assert UNKNOWN.measured("dfdc: AUC 0.970").sentence == (
        "Of unknown origin: what these weights were trained on is not recorded; measured on dfdc: "
        "AUC 0.970."
    )
    assert RANDOM.measured("dfdc: AUC 0.501").sentence == "Random weights: verdicts mean nothing."


@pytest.mark.parametrize(
    ("worth", "said"),
    [
        (RANDOM, "learnt nothing"),
        (UNKNOWN, "nobody knows what this model has learnt from"),
        (DAMAGED, "nobody knows what this model has learnt from"),
        (synthetic(), "people who do not exist"),
        (synthetic().measured("330 frames of dfdc, split test: AUC 0.970"), "who do not exist"),
        (Worth.trained("dfdc"), "nobody has recorded how often this model is wrong"),
        (
            Worth.trained("dfdc").measured("330 frames of dfdc, split test: AUC 0.970"),
            "As one hint of several: this model was tested, and",
        ),
        (
            Worth.trained("dfdc").measured("52 frames of self_blended:ours, split test: AUC 0.970"),
            "Only as a first hint: this model was tested on forgeries that this program made",
        ),
    ],
)
def test_in_short_it_needs_no_knowledge_of_the_method(worth: Worth, said: str) -> None:
    assert said in worth.in_short
    assert not re.search(r"AUC|Dice|dfdc|_|:.*:|\d|FAKE|REAL", worth.in_short)


@pytest.mark.parametrize("caveat", ["not for pictures of children", "Not for court."])
def test_any_caveat_makes_it_a_first_hint(caveat: str) -> None:
    measured = Worth.trained("dfdc").measured("330 frames of dfdc, split test: AUC 0.970")
    said = dataclasses.replace(measured, caveat=caveat).in_short
    assert said == f"Only as a first hint: {caveat.rstrip('.')}."


def test_shipped_checkpoints_are_a_first_hint(tmp_path: Path) -> None:
    for name, said in (("demo", "people who do not exist"), ("drawn", "most real faces are")):
        convert(CHECKPOINTS / f"{name}.pth", tmp_path / name, verify=False)
        in_short = Worth.of_checkpoint(tmp_path / name).in_short
        assert in_short.startswith("Only as a first hint: ")
        assert said in in_short


def test_where_training_started_from_is_part_of_it() -> None:
    later = Worth.trained("mine", frames=400, before=synthetic().measured("dfdc: AUC 0.970"))
    assert later.sentence == (
        f"Trained on 210 synthetic people ({AVATARS}), then on 400 frames of mine; no measurement "
        "is recorded."
    )
    assert Worth.trained("mine", frames=400, before=later) == later
    assert Worth.trained(AVATARS, people=210, before=synthetic()) == synthetic()
    fewer = Worth.trained(AVATARS, people=10, before=synthetic())
    assert fewer.trained_on == (
        f"210 synthetic people ({AVATARS}), then on 10 synthetic people ({AVATARS})"
    )
    assert Worth.trained(AVATARS, people=210, before=RANDOM) == synthetic()
    after_unknown = Worth.trained(AVATARS, people=210, before=UNKNOWN)
    assert after_unknown.sentence.startswith(
        "Trained on data that is not recorded, then on 210 synthetic people"
    )
    assert CAVEAT not in after_unknown.sentence  # the data before may have been real


def test_sentences_stay_short_and_printable() -> None:
    worth = UNKNOWN
    for number in range(50):
        name = f"{number}\x1b[31m\u202e\ud800\n{'x' * 1000}"
        worth = Worth.trained(name, frames=10**9, before=worth).measured(name * 100)
        worth.sentence.encode()
    worth = worth.measured(None)
    assert worth.sentence.isprintable()
    assert Worth.of({"worth": worth.to_json()}) == worth
    longest = Worth(*["x" * LONGEST] * 4).measured("dfdc: AUC 0.970")
    assert Worth.of({"worth": longest.to_json()}) == longest


def test_checkpoints_from_before_there_were_records() -> None:
    trained = {"data": "/home/me/forged_portraits", "init_from": None}
    assert Worth.of({"trained": trained}).sentence.startswith("Trained on forged_portraits;")
    trained = {"data": "forged_portraits", "init_from": None}
    assert Worth.of({"trained": trained}).caveat == CAVEAT
    trained = {"data": "dfdc", "init_from": "/home/me/first"}
    assert Worth.of({"trained": trained}).sentence.startswith(
        "Trained on data that is not recorded, then on dfdc;"
    )
    assert Worth.of({"file": "ckpt.pth", "layout": "ynet-224"}) == UNKNOWN
    for damaged in ({"trained": {"data": 5}}, {"trained": []}, {}):
        assert Worth.of(damaged) == UNKNOWN


@pytest.mark.parametrize(
    "record",
    [
        *(None, "text", [], 5, {}, {"sentence": ""}, {"sentence": 5}, {"sentence": ["a"]}),
        {"sentence": "two\nlines"},
        {"sentence": "red \x1b[31m"},
        {"sentence": "from right to left \u202e"},
        {"sentence": "half a letter \ud800"},
        {"sentence": "x" * (LONGEST + 1)},
        {"sentence": "x" * 2**20},
        {"sentence": "good", "trained_on": {"a": 1}},
        {"sentence": "good", "measured_on": "x" * 2**20},
        {"sentence": "good", "caveat": "\x07"},
    ],
    ids=lambda record: repr(record)[:30],
)
def test_record_that_is_not_one(record: Any, tmp_path: Path) -> None:
    (tmp_path / "source.json").write_text(json.dumps({"worth": record}))
    assert Worth.of_checkpoint(tmp_path) == DAMAGED


def test_source_that_cannot_be_read(tmp_path: Path) -> None:
    """The network is used all the same, as it always was."""
    assert Worth.of_checkpoint(tmp_path) == UNKNOWN
    (tmp_path / "source.json").write_text("{")
    assert Worth.of_checkpoint(tmp_path) == DAMAGED


def test_sentence_may_be_written_by_hand(tmp_path: Path) -> None:
    own = "Trained on 210 drawn people; <b>not</b> for court."
    (tmp_path / "source.json").write_text(json.dumps({"worth": {"sentence": own, "more": 1}}))
    assert Worth.of_checkpoint(tmp_path) == Worth(own)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("dfdc", "dfdc"),
        ("/a/b/c/", "c"),
        ("self_blended:/a/b", "self_blended:b"),
        ("x" * 2**20, "x" * 2**20),
    ],
    ids=["name", "path", "source", "long"],
)
def test_folders_are_private(data: str, name: str) -> None:
    assert without_folders(data) == name
