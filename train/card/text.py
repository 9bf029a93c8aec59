"""The sections of a model card in words: network, origin, use, limits, versions."""

import json
import shlex
from typing import Any

from flax_unet.checkpoint import metadata
from flax_unet.checkpoint.worth import GENERATED, LONGEST, Worth
from flax_unet.nn.config import UNetConfig, shown_size
from flax_unet.nn.decision import DECISION, Calibration
from flax_unet.summary import layers
from train.card.figures import data_name
from train.card.markup import code, entries, line, number
from train.eval.metrics import at

_PACKAGES = ("flax-unet", "jax", "jaxlib", "flax", "orbax-checkpoint", "numpy", "pillow", "torch")
_MEASURES = {"max_abs": "absolute", "max_rel": "relative"}
_SCALES = {"real_logit": "the mean magnitude, or to 1 where that is more"}
_OPTIONS = (  # of training, those that shape the weights
    *("validation", "mask_threshold", "real_label"),
    *("dtype", "batch_size", "optimizer", "learning_rate", "weight_decay", "schedule"),
    *("warmup_steps", "clip_norm", "mask_loss_weight", "class_loss_weight", "class_balance", "ema"),
    *("mask_weight", "class_weight", "class_weights"),  # as runs before called them
    *("freeze_encoder", "flip", "jpeg", "blur", "noise", "colour", "cut_out"),
)


def introduction(name: str, config: UNetConfig, worth: Worth) -> list[str]:
    """What the network does, the polarity of its outputs, and what the weights are worth."""
    does = ["detects forged faces"] * config.has_classifier
    does += ["marks the manipulated pixels of a face"] * config.has_mask_head
    ones = ["the classifier's 1 means **REAL**, its 0 FAKE"] * config.has_classifier
    ones += ["the mask's 1 means **MANIPULATED**, its 0 untouched"] * config.has_mask_head
    return [
        f"# {code(name)}",
        "",
        f"A U-YNet in JAX and Flax NNX that {' and '.join(does)}. The architecture is DeepYNet's, "
        "published in PyTorch in 2022.",
        "",
        f"> **Mind the polarity{', which is opposed' * (len(ones) > 1)}:** {'; '.join(ones)}.",
        "",
        f"> **What these weights are worth:** {code(worth.sentence, LONGEST)}",
    ]


def network(config: UNetConfig) -> list[str]:
    """The architecture and its preprocessing."""
    size, widths = shown_size(config.input_size), config.widths
    rows = list(layers(config, config.input_size))
    parameters, operations = sum(row.parameters for row in rows), sum(row.flops for row in rows)
    lines = [
        "## The network",
        "",
        f"- input: a crop of one face, {size} pixels (height x width), RGB",
        f"- parameters: {parameters:,}, as float32",
        f"- operations: {operations / 1e9:.2f} GFLOP a picture (a multiply-add counts two)",
        f"- encoder: {config.levels} max-pools of 2x2; on each level two 3x3 convolutions "
        f"{'with' if config.conv_bias else 'without'} bias, each with BatchNorm and ReLU; "
        f"{', '.join(map(str, widths))} channels",
    ]
    if config.classifier_widths is not None:
        linear = ", ".join(map(str, (*config.classifier_widths, 1)))
        lines.append(
            f"- classifier: the maximum of each of the deepest {widths[-1]} channels, linear "
            f"layers to {linear}, a sigmoid; {DECISION}"
        )
    if note := config.pooling_note:
        lines.append(f"- {note}")
    if config.has_mask_head:
        lines.append(
            f"- mask head: {config.decoder_levels} levels up ({config.upsampling}), each joined "
            "with the encoder's map of its size; two classes for each pixel"
        )
    return [
        *lines,
        "",
        f"Preprocessing is the published one: resize to {size} with PIL's NEAREST (the nearest of "
        "other libraries takes other pixels), divide by 255. No mean, no standard deviation.",
    ]


def origin(
    source: dict[str, Any], progress: dict[str, Any], fingerprint: dict[str, Any]
) -> list[str]:
    """Where the weights come from, as recorded in the checkpoint."""
    if isinstance(source.get("trained"), dict):
        lines = _training(source["trained"], progress)
    elif "sha256" in source:
        lines = _conversion(source)
    else:
        lines = [f"`{metadata.SOURCE}` does not record it."]
    digest = f"SHA-256 of the weights as tensors: {code(fingerprint['weights_sha256'])}"
    return ["## Where the weights come from", "", *lines, "", digest]


def _conversion(source: dict[str, Any]) -> list[str]:
    count, unused = (len(source.get(name) or ()) for name in ("entries", "unused"))
    silent = ", which does not record its training data" * (Worth.of(source).trained_on is None)
    lines = [
        f"Converted from a PyTorch checkpoint{silent}.",
        "",
        f"- file: {code(source.get('file'))}, {number(source.get('size_bytes'), ',')} bytes",
        f"- SHA-256: {code(source.get('sha256'))}",
        f"- layout: {code(source.get('layout'))}",
        f"- entries: {count}, of which the network does not use {unused}",
        "",
    ]
    parity = source.get("parity")
    if not isinstance(parity, dict):
        return [*lines, "It was **not** compared with PyTorch when it was converted."]
    images, pixels = (number(parity.get(name), ",") for name in ("images", "pixels"))
    lines += [f"Compared with PyTorch when it was converted, on {images} pictures:", ""]
    for output in entries(parity.get("differences")):
        absolute, relative = (number(at(output, name), ".1e") for name in ("max_abs", "max_rel"))
        verdict = "within" if at(output, "within") is True else "**not within**"
        tolerance = number(at(output, "tolerance"), ".0e")
        measure = _MEASURES.get(line(at(output, "measure")), "of an unknown measure")
        scale = _SCALES.get(line(at(output, "output")), "the mean magnitude")
        lines.append(
            f"- {code(at(output, 'output'))}: largest difference {absolute} absolute, {relative} "
            f"relative to {scale}; {verdict} the tolerance, {tolerance} {measure}"
        )
    for name, total in (("decisions", images), ("pixels", pixels)):
        if (equal := parity.get(f"{name}_equal")) is not None:
            lines.append(f"- {name} that agree: {number(equal, ',')} of {total}")
    return lines


def _training(trained: dict[str, Any], progress: dict[str, Any]) -> list[str]:
    data, start = data_name(trained.get("data")), trained.get("init_from", "")
    split = trained.get("split")
    lines = [
        "Trained by this project's `train.fit`.",
        "",
        f"- data set: {code(data)}, {'its own split' if split is None else f'split {code(split)}'}",
        f"- fingerprint of the data: {code(trained.get('data_fingerprint'))}",
        f"- from: {'scratch' if start is None else code(data_name(start))}",
        f"- steps: {number(trained.get('step'), ',')}; seed: {number(trained.get('seed'), '')}",
    ]
    options = {name: at(progress, "configuration", name) for name in _OPTIONS}
    if shown := [code(f"{name} {line(of)}") for name, of in options.items() if of is not None]:
        lines.append(f"- options: {', '.join(shown)}")
    if isinstance(best := progress.get("best"), dict):
        lines.append(
            f"- best validation figure of the run: {code(best.get('metric'))} "
            f"{number(best.get('value'), '.4f')}, at step {number(best.get('step'), ',')}"
        )
    if data.startswith(GENERATED) and start is None:
        warning = "is generated; these weights have not seen other deepfakes"
        lines += ["", f"**`{data.partition(':')[0]}` {warning}.**"]
    return lines


def use(name: str, config: UNetConfig) -> list[str]:
    """Commands and Python code to run beside the checkpoint."""
    in_shell, in_python = shlex.quote(name), json.dumps(name, ensure_ascii=False)
    height, width = config.input_size
    verdict = ["print(verdict.real_probability)  # in [0, 1], that the face is REAL"]
    mask = ["print(verdict.is_manipulated)  # (height, width): which pixels are MANIPULATED"]
    return [
        "## How to use it",
        "",
        f"With `flax_unet` installed, in the folder that holds {code(name)}:",
        "",
        "```bash",
        f"python -m flax_unet.predict {in_shell} face.png --out results",
        f"python -m train.eval --checkpoint {in_shell} --data FOLDER --out evaluation",
        f"python -m convert.to_torch {in_shell} back.pth",
        "```",
        "",
        "```python",
        "import flax_unet",
        "",
        f"detector = flax_unet.Detector.from_checkpoint({in_python})",
        '(verdict,) = detector(["face.png"])  # each a crop of one face',
        *(verdict * config.has_classifier + mask * config.has_mask_head),
        "",
        f"network = flax_unet.load({in_python})  # for (B, {height}, {width}, 3) in [0, 1]",
        "```",
    ]


def limits(config: UNetConfig, calibration: Calibration | None) -> list[str]:
    """What the network cannot be trusted with."""
    lines = [
        "## Limits",
        "",
        "- Its output alone is not evidence, only a reason to look closer.",
        "- It finds forgeries like those in its training data. The published networks learnt from "
        "face swaps (DFDC) and may miss other forgeries, such as wholly generated faces.",
        "- The network judges a crop of one face. In whole pictures `flax_unet.predict` finds the "
        "faces first; the output for a crop without a face, or with several, means little.",
        "- Compression, resizing, blur and screenshots remove the traces that it looks for, or "
        "leave traces of their own.",
        "- Errors may be more frequent for some groups of people. Overall figures do not show it.",
    ]
    if config.has_classifier:
        lines.append(
            "- Its probabilities are not calibrated for data unlike its training data, and 0.5 may "
            "be the wrong threshold there. Where fakes are rare, most alarms are false."
            if calibration is None
            else "- `predict` and `Detector` divide its logit by a temperature of "
            f"{calibration.temperature:.4g} and call a face FAKE from a calibrated probability of "
            f"{calibration.threshold:.4g} on, which may be wrong for faces unlike those that both "
            "were fitted to. Where fakes are rare, most alarms are false."
        )
    if config.has_mask_head:
        lines.append(
            "- A mask marks pixels that look manipulated, not how they were changed. The mask of a "
            "real face may be non-empty."
        )
    return [*lines, "", "## Licence", "", "Not stated here; the owner of the weights must add it."]


def versions(source: dict[str, Any], report: dict[str, Any]) -> list[str]:
    """The software that made the weights and the figures."""
    made = {"weights": source.get("made_by"), "evaluation": report.get("made_by")}
    lines = []
    for what, by in made.items():
        if isinstance(by, dict):
            versions = {name: at(by, "versions", name) for name in _PACKAGES}
            known = {"Python": by.get("python")} | {k: v for k, v in versions.items() if v}
            shown = ", ".join(f"{name} {code(version)}" for name, version in known.items())
            digest = f"SHA-256 of the code {code(by.get('code_sha256'))}"
            lines.append(f"- {what}: {shown}; {digest}; {code(by.get('created'))}")
    return ["## Versions", "", *lines] if lines else []
