"""What the page says of the model: in words that everyone knows, and as recorded."""

import re

import pytest

from flax_unet import PUBLISHED
from flax_unet.app import templates
from flax_unet.app.record import description, record
from flax_unet.checkpoint.worth import RANDOM, UNKNOWN, Worth
from tests.flax_unet.app.test_queue import StandIn
from train.card.figures import measurement

REPORT = {
    "configuration": {"frames": 52, "data": "forged_portraits:avatars", "split": "test"},
    "frames": {
        "auc": 0.978,
        "recall": 0.885,
        "n_real": 26,
        "confusion": {"real_called_fake": 2},
    },
    "pixels": {"fake_frames": {"dice": 0.777}},
}


def plain(worth: Worth) -> str:
    """What is said before the record."""
    return record(worth).partition("<p><b>As recorded:</b>")[0]


def terms(worth: Worth) -> list[str]:
    return re.findall("<dt>(.*?)</dt>", record(worth))


def test_plain_words_of_a_measurement() -> None:
    """As `train.card` writes it: no name of a data set, no figure that needs explaining."""
    trained = Worth.trained("self_blended:avatars", people=210)
    worth = trained.measured(measurement(REPORT, PUBLISHED["ynet-224"]))
    assert plain(worth) == (
        "<p>It learnt from 210 synthetic people. In its test it called 7.7 % of the real faces "
        "forged by mistake, and found 88.5 % of the forged ones.</p>"
    )
    assert worth.sentence in record(worth)
    assert terms(worth) == [
        *("self_blended", "forged_portraits", "avatars", "frames", "split", "FAKE", "AUC", "Dice")
    ]


@pytest.mark.parametrize(
    ("worth", "said"),
    [
        (RANDOM, ""),
        (UNKNOWN, ""),
        (Worth.trained("/me/dfdc"), "<p>It learnt from dfdc. Nobody has recorded a test.</p>"),
        (
            UNKNOWN.measured("dfdc, split test: AUC 0.970"),
            "<p>Nobody has recorded what it learnt from. It was tested: the figures are below.</p>",
        ),
    ],
)
def test_plain_words_of_parts(worth: Worth, said: str) -> None:
    assert plain(worth) == said
    assert worth.sentence in record(worth)
    assert all(term in worth.sentence for term in terms(worth))


def test_a_model_without_a_card_is_described_by_its_record() -> None:
    judge = StandIn()
    judge.worth = Worth.trained("/me/dfdc", frames=400).measured("dfdc, split test: AUC 0.970")
    assert judge.card is None
    page = templates.card(judge, "")
    assert judge.worth.sentence in page
    assert "It learnt from 400 frames of dfdc." in page
    assert "<pre>" not in page


def test_records_are_text() -> None:
    hostile = "<script>alert(1)</script> & more"
    found = record(Worth(hostile, hostile, hostile, hostile)) + description(hostile)
    assert "<script>" not in found
    assert found.count("&lt;script&gt;alert(1)&lt;/script&gt; &amp; more") == 3


@pytest.mark.parametrize(
    ("card", "shown"),
    [
        ('---\nlibrary_name: "flax-unet"\ntags:\n  - "jax"\n---\n\n# Card\n---\n', "# Card\n---\n"),
        ("# Card\n---\na: b\n---\n", "# Card\n---\na: b\n---\n"),
        ("---\nno end", "---\nno end"),
    ],
)
def test_front_matter_is_left_out(card: str, shown: str) -> None:
    assert f"<pre>{shown}</pre>" in description(card)
