"""Model cards: what they say is what the checkpoint and its evaluation say."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch
import yaml
from flax import nnx
from markdown_it import MarkdownIt
from PIL import Image

from convert import from_torch, to_torch
from convert.from_torch import convert
from flax_unet import InputError, UNetConfig, load
from flax_unet.checkpoint import metadata, store
from flax_unet.checkpoint.provenance import file_sha256
from flax_unet.checkpoint.worth import DAMAGED, Worth
from flax_unet.predict import __main__ as predict
from tests.conftest import listing, small_tensors
from tests.train.folders import write_folder
from train.card import __main__ as card
from train.eval import __main__ as evaluation
from train.eval import plots

Fails = Callable[..., str]
HOSTILE = (
    '"]\n---\n# owned\n<script>alert(1)</script> [a](http://b.c) `<img src=x>` ```\n| | \\ '
    "https://evil.example \x1b[31m\u202e\ud800 'x' {{y}} &lt; **bold** $x$ : # !!python/object"
)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A converted checkpoint, and what train.eval wrote of it."""
    root = tmp_path_factory.mktemp("card")
    torch.save(small_tensors("ynet-224"), root / "small.pth")
    convert(root / "small.pth", root / "model")
    config = json.loads((root / "model" / "config.json").read_text())
    config["model"]["image_size"] = 32  # so that nothing takes long
    edit(root / "model" / "config.json", **config)
    folder = write_folder(root / "some faces", videos=4, frames=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
        for name in filter(re.compile("write_").match, dir(plots)):  # which take seconds
            patch.setattr(plots, name, lambda *_: None)
        out = root / "evaluation"
        arguments = ["--checkpoint", root / "model", "--data", folder, "--out", out]
        evaluation.main([str(argument) for argument in arguments])
    return root / "model", out


@pytest.fixture
def model(evaluated: tuple[Path, Path], tmp_path: Path) -> Path:
    """A copy that a test may write to."""
    return shutil.copytree(evaluated[0], tmp_path / "model")


@pytest.fixture
def report(evaluated: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copy(evaluated[1] / "report.json", tmp_path))


def small(directory: Path, layout: str) -> Path:
    torch.save(small_tensors(layout), directory / f"{layout}.pth")
    convert(directory / f"{layout}.pth", directory / layout, verify=False)
    return directory / layout


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def write_card(*arguments: object) -> None:
    card.main([str(argument) for argument in arguments])


def parts(path: Path) -> tuple[dict[str, Any], str]:
    """The front matter and the Markdown below it, read as the Hub reads them."""
    text = path.read_text(encoding="utf-8")
    found = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    assert found is not None
    return yaml.safe_load(found[1]), text[found.end() :]


def test_what_it_says_of_a_converted_checkpoint(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_card(model)
    assert str(model / "README.md") in capsys.readouterr().out
    header, text = parts(model / "README.md")
    assert header["pipeline_tag"] == "image-classification"
    assert {"jax", "image-segmentation", "deepfake-detection"} <= set(header["tags"])
    assert not {"license", "license_name", "model-index"} & header.keys()

    source = metadata.load_source(model)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(load(model), nnx.Param)))
    found = {of["output"]: f"{of['max_rel']:.1e}" for of in source["parity"]["differences"]}
    for fact in (
        f"parameters: {parameters:,},",
        *("32x32 pixels", "transposed", "4, 8, 16, 32, 64 channels", "exactly 0.5 is FAKE"),
        *(f"`{source['sha256']}`", "`small.pth`", f"`{source['layout']}`"),
        f"{found['mask_logits']} relative to the mean magnitude; within the tolerance, 1e-04",
        f"{found['real_logit']} relative to the mean magnitude, or to 1 where that is more; within",
        *("decisions that agree: 2 of 2", "NEAREST", "divide by 255"),
        store.fingerprint(model)["weights_sha256"],
        f"jax `{source['made_by']['versions']['jax']}`",
    ):
        assert fact in text, fact
    polarity = next(line for line in text.splitlines() if line.startswith("> **Mind the polarity"))
    assert "classifier's 1 means **REAL**" in polarity
    assert "mask's 1 means **MANIPULATED**" in polarity
    assert "## Evaluation" not in text


def test_what_it_says_of_a_calibrated_checkpoint(model: Path) -> None:
    metadata.store_record(model, metadata.CALIBRATION, {"temperature": 1.75, "threshold": 0.3125})
    write_card(model)
    _, text = parts(model / "README.md")
    assert "its logit by a temperature of 1.75 and call a face FAKE from a calibrated" in text
    assert "probability of 0.3125 on" in text
    assert "0.5 may be the wrong threshold" not in text


def test_figures_are_the_reports(evaluated: tuple[Path, Path], tmp_path: Path) -> None:
    model, out = evaluated
    write_card(model, "--evaluation", out, "--out", tmp_path / "card.md")
    assert not (model / "README.md").exists()
    header, text = parts(tmp_path / "card.md")
    report = json.loads((out / "report.json").read_text())
    (index,) = header["model-index"]
    verdicts, masks = index["results"]
    assert index["name"] == "model"
    assert verdicts["dataset"]["type"] == "some-faces"
    assert verdicts["dataset"]["name"] == "some faces"
    assert verdicts["dataset"]["args"]["fingerprint"] == report["data"]["fingerprint"]
    for result, section, name, metric in (
        (verdicts, report["frames"], "frames: accuracy of both classes", "accuracy"),
        (verdicts, report["videos"], "videos: AUC of FAKE", "auc"),
        (masks, report["pixels"], "all frames: Dice of MANIPULATED, as published", "dice"),
    ):
        (found,) = (entry for entry in result["metrics"] if entry["name"] == name)
        assert found["value"] == pytest.approx(section[metric], abs=5e-5)
    low, high = report["frames"]["intervals"]["accuracy"]
    accuracy = report["frames"]["accuracy"]
    assert f"| accuracy of both classes | {accuracy:.4f} [{low:.4f}, {high:.4f}] |" in text
    for fact in (
        *("positive class is **FAKE**", "positive class is **MANIPULATED**", "`some faces`"),
        *(f"{report['frames']['n']} frames, all of it", "resamples videos", "for this data set"),
        report["data"]["fingerprint"],
    ):
        assert fact in text, fact
    assert str(tmp_path.parent) not in text  # nothing of where it lay
    assert "DFDC, nor" not in text  # of the generated data set alone


def test_measurement_becomes_part_of_the_weights(
    model: Path,
    report: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The card quotes what is recorded, and it travels in the PyTorch file."""
    trained = Worth.trained("forged_portraits:avatars", people=210)
    edit(model / "source.json", worth=trained.to_json())
    write_card(model)
    assert f"`{trained.sentence}`" in (model / "README.md").read_text()
    assert "does not record its training data" not in (model / "README.md").read_text()
    write_card(model, "--evaluation", report, "--overwrite")
    figures = json.loads(report.read_text())
    auc, dice = figures["frames"]["auc"], figures["pixels"]["fake_frames"]["dice"]
    frames, split = figures["configuration"]["frames"], figures["configuration"]["split"]
    counts = figures["frames"]["confusion"]
    called = [
        100 * counts[f"{kind}_called_fake"] / figures["frames"][f"n_{kind}"]
        for kind in ("real", "fake")
    ]
    expected = (
        "Trained on 210 synthetic people (forged_portraits:avatars) only; measured on "
        f"{frames} frames of some faces, split {split}: {called[0]:.1f} % of real and "
        f"{called[1]:.1f} % of fake frames called FAKE, AUC {auc:.3f}, Dice of fake frames "
        f"{dice:.3f}; real faces may be called FAKE wrongly, and real face swaps REAL."
    )
    assert f"`{expected}`" in (model / "README.md").read_text()
    assert Worth.of_checkpoint(model).sentence == expected
    to_torch.main([str(model), str(tmp_path / "there.pth")])
    convert(tmp_path / "there.pth", tmp_path / "again", verify=False)
    assert Worth.of_checkpoint(tmp_path / "again").sentence == expected

    # What the calibration calls FAKE is what its users see.
    figures["calibration"] = {
        "calibrated": {"frames": {"n_real": 8, "false_alarm_rate": 0.125, "recall": 0.5}}
    }
    calibrated = tmp_path / "calibrated.json"
    calibrated.write_text(json.dumps(figures))
    write_card(model, "--evaluation", calibrated, "--overwrite")
    said = "12.5 % of real and 50.0 % of fake frames called FAKE, AUC"
    assert said in Worth.of_checkpoint(model).sentence

    # A second time it is replaced, and a checkpoint that cannot be written to gets a card still.
    write_card(model, "--evaluation", report, "--overwrite")
    assert Worth.of_checkpoint(model).sentence == expected
    capsys.readouterr()

    def full(*_: object) -> None:
        raise InputError("the disk is full")

    monkeypatch.setattr(metadata, "write_json", full)
    write_card(model, "--evaluation", report, "--out", tmp_path / "card.md")
    assert "note: the measurement is not recorded in it: the disk" in capsys.readouterr().err
    assert (tmp_path / "card.md").exists()


def test_record_that_cannot_be_read_is_quoted_as_damaged(model: Path) -> None:
    for number, record in enumerate((5, {"sentence": HOSTILE}, {"sentence": "x" * 2**20})):
        edit(model / "source.json", worth=record)
        write_card(model, "--out", model.parent / f"{number}.md")
        _, text = parts(model.parent / f"{number}.md")
        assert f"`{DAMAGED.sentence}`" in text
    edit(model / "source.json", worth={"sentence": "a `b` <script>alert(1)</script> [c](d) | e"})
    plain, hostile = model.parent / "0.md", model.parent / "hostile.md"
    write_card(model, "--out", hostile)
    assert outline(parts(hostile)[1]) == outline(parts(plain)[1])


def test_report_holds_for_every_conversion_of_the_same_weights(
    evaluated: tuple[Path, Path], tmp_path: Path
) -> None:
    """Orbax's files differ each time."""
    again = tmp_path / "again"
    to_torch.main([str(evaluated[0]), str(tmp_path / "back.pth")])
    convert(tmp_path / "back.pth", again, verify=False)
    shutil.copy(evaluated[0] / "config.json", again)  # for the pictures' size
    assert file_sha256(again / "manifest.json") != file_sha256(evaluated[0] / "manifest.json")
    write_card(again, "--evaluation", evaluated[1])
    assert "## Evaluation" in (again / "README.md").read_text()


def test_embedded_data_set_is_distinguished_from_dfdc(model: Path, report: Path) -> None:
    content = json.loads(report.read_text())
    configuration = content["configuration"] | {"data": "forged_portraits:/home/me/faces"}
    edit(report, configuration=configuration | {"limit": 4})
    write_card(model, "--evaluation", report)
    header, text = parts(model / "README.md")
    assert "do not hold for DFDC" in text
    assert "`forged_portraits:faces`" in text
    assert "drawn at random" in text
    assert header["model-index"][0]["results"][0]["dataset"]["type"] == "forged_portraits-faces"


def test_commands_and_code_of_the_card_work(
    evaluated: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = shutil.copytree(evaluated[0], tmp_path / 'it\'s "1" $HOME 🙂')
    write_card(model)
    _, text = parts(model / "README.md")
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "face.png")
    monkeypatch.chdir(tmp_path)
    blocks = [token for token in MarkdownIt().parse(text) if token.type == "fence"]
    shell, python = (block.content for block in blocks)
    commands = {line[2]: line[3:] for line in map(shlex.split, shell.splitlines())}
    capsys.readouterr()
    predict.main([*commands["flax_unet.predict"], "--faces", "none"])  # there is none in noise
    predicted = re.search(r"real (\d\.\d+)", capsys.readouterr().out)
    to_torch.main(commands["convert.to_torch"])
    assert Path("back.pth").exists()
    assert commands["train.eval"][1] == model.name
    capsys.readouterr()
    exec(python, {})
    assert predicted is not None
    real = float(capsys.readouterr().out.splitlines()[0])
    assert real == pytest.approx(float(predicted[1]), abs=1e-4)  # printed to four digits


def test_trained_checkpoint(model: Path) -> None:
    """What train.fit records."""
    trained = {"data": "/home/me/dfdc", "split": "80/10/10", "init_from": "checkpoints/first"}
    trained |= {"seed": 7, "step": 1200, "data_fingerprint": "ab12"}
    source = {"trained": trained, "made_by": metadata.load_source(model)["made_by"]}
    metadata.write_json(model / "source.json", source)
    best = {"metric": "frames.accuracy", "value": 0.9375, "step": 1000}
    options = {"batch_size": 64, "mask_weight": 0.0, "ema": None, "workdir": "/home/me/work"}
    options |= {"validation": "testing"}
    metadata.write_json(model / "training.json", {"configuration": options, "best": best})
    write_card(model)
    _, text = parts(model / "README.md")
    for fact in (
        *("data set: `dfdc`, split `80/10/10`", "from: `first`", "steps: 1,200; seed: 7", "`ab12`"),
        *(
            "`validation testing`",
            "`batch_size 64`",
            "`mask_weight 0.0`",
            "`frames.accuracy` 0.9375, at step 1,000",
        ),
    ):
        assert fact in text, fact
    assert "/home" not in text
    assert "PyTorch checkpoint" not in text
    assert "not seen other deepfakes" not in text

    metadata.write_json(
        model / "source.json", {"trained": {"data": "forged_portraits", "init_from": None}}
    )
    write_card(model, "--overwrite")
    _, text = parts(model / "README.md")
    assert "these weights have not seen other deepfakes" in text
    assert "from: scratch" in text
    assert "`forged_portraits`, its own split" in text


@pytest.mark.parametrize(
    ("layout", "task", "absent"),
    [
        ("classifier-224", "image-classification", ("mask", "Mask", "MANIPULATED", "Dice")),
        ("segmenter-224", "image-segmentation", ("classifier", "REAL", "probabilit", "Verdicts")),
    ],
)
def test_heads_that_a_checkpoint_lacks_are_left_out(
    layout: str, task: str, absent: tuple[str, ...], report: Path, tmp_path: Path
) -> None:
    model = small(tmp_path, layout)
    fingerprint = store.fingerprint(model)
    configuration = json.loads(report.read_text())["configuration"] | {"image_size": 224}
    # With figures of both heads, more than there are.
    edit(report, checkpoint=fingerprint, configuration=configuration)
    write_card(model, "--evaluation", report)
    header, text = parts(model / "README.md")
    assert header["pipeline_tag"] == task
    assert {"image-classification", "image-segmentation"} & set(header["tags"]) == {task}
    assert [r["task"]["type"] for r in header["model-index"][0]["results"]] == [task]
    assert "opposed" not in text
    assert "**not** compared with PyTorch" in text
    for word in absent:
        assert word not in text.replace("real faces", ""), word


def outline(text: str) -> list[tuple[str, str]]:
    """The structure of Markdown: what blocks and what inline marks there are, without the text."""
    tokens = MarkdownIt("commonmark", {"html": True, "linkify": False}).enable("table").parse(text)
    inline = [child for token in tokens for child in token.children or ()]
    return [(token.type, token.tag) for token in tokens + inline if token.type != "text"]


def test_hostile_strings_stay_strings(model: Path, report: Path, tmp_path: Path) -> None:
    """Text from a checkpoint or a report is shown, and is never Markdown, HTML or YAML."""

    def poisoned(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: poisoned(item) for key, item in value.items()}
        if isinstance(value, list):
            return [poisoned(item) for item in value]
        return HOSTILE if isinstance(value, str) else value

    content = json.loads(report.read_text())
    write_card(model, "--evaluation", report, "--out", tmp_path / "plain.md")
    edit(model / "source.json", **poisoned(metadata.load_source(model)))
    fingerprint = dict.fromkeys(("file", "sha256", "layout"), HOSTILE)
    content |= {name: poisoned(content[name]) for name in ("configuration", "data", "made_by")}
    content["checkpoint"] |= fingerprint
    content["frames"]["meaning"] = poisoned(content["frames"]["meaning"])
    edit(report, **content)
    model = model.rename(tmp_path / "``` <script> *a* \n[b](c)")
    write_card(model, "--evaluation", report, "--out", tmp_path / "hostile.md")

    expected, plain = parts(tmp_path / "plain.md")
    header, text = parts(tmp_path / "hostile.md")
    assert outline(text) == outline(plain)
    assert header.keys() == expected.keys()
    (dataset,) = {json.dumps(r["dataset"]) for r in header["model-index"][0]["results"]}
    assert re.fullmatch(r"[\w.-]+", json.loads(dataset)["type"])
    assert not {"\x1b", "\u202e", "\ud800"} & set((tmp_path / "hostile.md").read_text("utf-8"))
    for line in text.splitlines():
        assert not line.startswith(("---", "# owned", "<script"))


def nonsense(value: Any, depth: int) -> Iterator[Any]:
    """Copies of a JSON value in which a part at most `depth` deep is of another kind or missing."""
    yield from (None, [1, {}], {"": []}, "x", float("nan"))
    if isinstance(value, dict) and depth:
        for key, item in value.items():
            yield {name: other for name, other in value.items() if name != key}
            for other in nonsense(item, depth - 1):
                yield {**value, key: other}


def test_nonsense_raises_no_traceback(
    model: Path, report: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = store.load_weights(model)
    monkeypatch.setattr(store, "load_weights", lambda _: weights)  # not read a thousand times
    source, content = (json.loads(path.read_text()) for path in (model / "source.json", report))
    for section in ("frames", "videos", "pixels"):  # what is not read need not be varied
        content[section]["meaning"] = {"intervals": "resampled"}
    refused = 0

    def text(*evaluation: Path) -> str:
        nonlocal refused
        try:
            return card.card(model, *evaluation)
        except InputError:
            refused += 1
            return ""

    for value in nonsense(content, 3):
        report.write_text(json.dumps(value))
        figures = re.findall(r"\bvalue: (.*)", text(report))
        assert all(0 <= float(figure) < 1e15 for figure in figures)
    for value in nonsense({**source, "entries": {}, "unused": {}}, 2):
        (model / "source.json").write_text(json.dumps(value))
        text()
    (model / "source.json").write_text("{}")
    trained = {"trained": dict.fromkeys(("data", "split", "init_from", "seed", "step"), "x")}
    for value in nonsense(trained, 2):
        (model / "source.json").write_text(json.dumps(value))
        text()
    for value in nonsense({"best": {"value": 1}, "configuration": {"ema": 0.9}}, 2):
        (model / "training.json").write_text(json.dumps(value))
        text()
    assert refused > 20


def test_report_of_another_checkpoint(
    model: Path, report: Path, tmp_path: Path, fails: Fails, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = small(tmp_path, "ynet-slim")
    before = listing(tmp_path)
    message = fails(card.main, other, "--evaluation", report)
    assert f"{report} is of another checkpoint than {other}" in message
    assert "sha256" in message
    assert f"train.eval --checkpoint {other}" in message
    assert listing(tmp_path) == before

    # The same weights at another size; the same source, but other weights beside it.
    right = store.load_weights(model)
    config = json.loads((model / "config.json").read_text())
    edit(model / "config.json", model=config["model"] | {"image_size": 64})
    assert "(by image_size)" in fails(card.main, model, "--evaluation", report)
    edit(model / "config.json", **config)
    monkeypatch.setattr(store, "load_weights", lambda _: jax.tree.map(np.negative, right))
    assert "(by weights_sha256)" in fails(card.main, model, "--evaluation", report)


def test_reports_that_are_no_measurement(model: Path, report: Path, fails: Fails) -> None:
    """Of the frames of training or those that a calibration is of; and over several data sets."""
    fitted = {"temperature": 1.0, "false_alarm_rate": {"wished": 0.05, "reached": 0.0}}
    before = (model / "source.json").read_bytes()
    data = json.loads(report.read_text())["data"]
    edit(report, data=data | {"trained_on": "the weights were trained on this split"})
    message = fails(card.main, model, "--evaluation", report)
    assert "of frames of the training" in message
    edit(report, data=data, calibration=fitted)
    message = fails(card.main, model, "--evaluation", report)
    assert "of the frames that the calibration was fitted to" in message
    report.write_text(json.dumps({"data_sets": [{"folder": "a"}, {"folder": "b"}]}))
    message = fails(card.main, model, "--evaluation", report)
    assert (
        f"name the folder of one of them: {report.parent / 'a'}, {report.parent / 'b'}" in message
    )
    assert (model / "source.json").read_bytes() == before


def test_report_of_another_calibration(model: Path, report: Path, fails: Fails) -> None:
    """What was measured before calibrating, or by another calibration, is of other verdicts."""
    now = {"temperature": 1.75, "threshold": 0.3125}
    write_card(model, "--evaluation", report)
    metadata.store_record(model, metadata.CALIBRATION, now)
    before = (model / "source.json").read_bytes()
    for was in (None, {"temperature": 1.75, "threshold": 0.5}):
        edit(report, calibration=was)
        message = fails(card.main, model, "--evaluation", report, "--overwrite")
        assert f"{report} is of another calibration than {model} has now" in message
        assert f"train.eval --checkpoint {model}" in message
    assert (model / "source.json").read_bytes() == before
    edit(report, calibration=now)
    write_card(model, "--evaluation", report, "--overwrite")
    edit(model / "source.json", calibration=None)
    assert "another calibration" in fails(card.main, model, "--evaluation", report, "--overwrite")


def test_reports_without_figures(model: Path, report: Path, tmp_path: Path, fails: Fails) -> None:
    content = json.loads(report.read_text())
    assert "does not exist" in fails(card.main, model, "--evaluation", tmp_path / "none")
    assert "does not exist" in fails(card.main, model, "--evaluation", model)
    edit(report, frames=content["frames"] | {"positive": "REAL"})
    message = fails(card.main, model, "--evaluation", report)
    assert "the positive class of frames is not FAKE" in message
    report.write_text(json.dumps({name: content[name] for name in ("checkpoint", "configuration")}))
    assert "has no figures" in fails(card.main, model, "--evaluation", report)
    report.write_text("{")
    assert "not JSON" in fails(card.main, model, "--evaluation", report)
    assert not (model / "README.md").exists()


def test_nothing_is_replaced_without_overwrite(model: Path, report: Path, fails: Fails) -> None:
    readme = model / "README.md"
    readme.write_text("my notes")
    message = fails(card.main, model)
    assert f"{readme} exists already; give --overwrite" in message
    assert readme.read_text() == "my notes"
    write_card(model, "--overwrite")
    first = readme.read_text()
    assert "## Evaluation" not in first

    assert "--overwrite" in fails(card.main, model, "--evaluation", report)
    assert readme.read_text() == first
    write_card(model, "--evaluation", report, "--overwrite")
    assert "## Evaluation" in readme.read_text()

    before = readme.read_text()
    report.write_text("{")
    assert "is not JSON" in fails(card.main, model, "--evaluation", report, "--overwrite")
    assert readme.read_text() == before  # a failure leaves the old card


def test_what_cannot_be_written_or_read(model: Path, tmp_path: Path, fails: Fails) -> None:
    assert "is a directory" in fails(card.main, model, "--out", tmp_path)
    assert "does not exist" in fails(card.main, tmp_path / "none")
    (model / "source.json").unlink()
    assert "source.json is missing" in fails(card.main, model)
    assert not (model / "README.md").exists()


def test_card_is_not_part_of_the_model(model: Path, evaluated: tuple[Path, Path]) -> None:
    write_card(model)
    with_card, without = (jax.tree.leaves(nnx.state(load(path))) for path in (model, evaluated[0]))
    for one, other in zip(with_card, without, strict=True):
        np.testing.assert_array_equal(one, other)


def test_checkpoint_with_a_card_is_converted_anew(small_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    convert(small_file, out, verify=False)
    write_card(out)
    from_torch.main([str(small_file), "--out", str(out), "--overwrite", "--no-verify"])
    assert not (out / "README.md").exists()  # it was of the checkpoint before


def test_checkpoint_with_notes_is_not_replaced(
    small_file: Path, tmp_path: Path, fails: Fails
) -> None:
    out = tmp_path / "model"
    convert(small_file, out, verify=False)
    (out / "README.md").write_text("my notes")
    message = fails(from_torch.main, small_file, "--out", out, "--overwrite", "--no-verify")
    assert "holds other files" in message


def test_no_extra_is_needed(model: Path) -> None:
    run = (
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'sklearn', 'scipy', 'grain')))\n"
        f"from train.card import __main__ as card; card.main([{str(model)!r}])"
    )
    subprocess.run([sys.executable, "-c", run], check=True, capture_output=True)
    assert (model / "README.md").exists()


def test_bilinear_and_deep_networks(tmp_path: Path) -> None:
    """Each architecture has its own facts."""
    for config, facts in (
        (
            UNetConfig(base_width=4, classifier_widths=None, upsampling="bilinear", image_size=16),
            ("4 levels up (bilinear)", "4, 8, 16, 32, 32 channels"),
        ),
        (
            UNetConfig(base_width=2, levels=5, classifier_widths=(8, 4), image_size=32),
            ("5 max-pools", "linear layers to 8, 4, 1", "4 levels up"),
        ),
        (
            UNetConfig(base_width=2, conv_bias=False, image_size=16),
            ("without bias", "2, 4, 8, 16, 32 channels"),
        ),
    ):
        path = tmp_path / f"{config.levels}{config.upsampling}{config.conv_bias}"
        path.mkdir()
        zeros = jax.tree.map(
            lambda leaf: np.zeros(leaf.shape, np.float32), store.abstract_weights(config)
        )
        store.write(path, config, {metadata.WEIGHTS: zeros})
        metadata.write_json(path / "source.json", {})
        text = card.card(path)
        for fact in facts:
            assert fact in text, fact
