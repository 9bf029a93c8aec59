"""What a start costs: nothing is imported that is not used, and nothing compiled twice."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import flax_unet
from flax_unet import cli
from flax_unet.cli import COMMANDS
from tests.flax_unet.samples import noise, small_checkpoint

MODULES = tuple(module.removesuffix(".__main__") for module in COMMANDS.values())
HEAVY = {
    *("jax", "flax", "optax"),
    *("torch", "orbax", "sklearn", "scipy", "matplotlib", "pandas", "tensorboardX", "wandb"),
    *(
        "tensorflow_datasets",
        "grain",
        "array_record",
        "av",
        "cv2",
        "starlette",
        "uvicorn",
        "skimage",
        "ray",
    ),
}
HELP = """
import json, runpy, sys
sys.argv = [sys.argv[1], "--help"]
try:
    runpy.run_module(sys.argv[0], run_name="__main__")
    sys.exit()
except SystemExit:
    print(json.dumps(sorted(sys.modules)))
"""
PREDICT = """
import json, sys
import jax
from flax_unet.predict import __main__ as predict
found = {"cache_hits": 0, "cache_misses": 0}

def note(event, **_):
    name = event.rpartition("/")[2]
    if name in found:
        found[name] += 1

jax.monitoring.register_event_listener(note)
predict.main(sys.argv[1:])
print(json.dumps(found))
"""


def last_line(code: str, *arguments: object, **environment: str) -> Any:
    """What a process prints last, started as a user does, who sets nothing for JAX."""
    users = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    ended = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=users | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(ended.stdout.splitlines()[-1])


def test_package_imports_nothing_heavy_before_it_is_used() -> None:
    program = """if True:
        import json, sys, flax_unet
        before, names = sorted(sys.modules), dir(flax_unet)
        kinds = [type(getattr(flax_unet, name)).__name__ for name in flax_unet.__all__]
        print(json.dumps([before, names, kinds, hasattr(flax_unet, "nothing_of_this_name")]))
    """
    before, names, kinds, has_others = last_line(program)
    assert not HEAVY & set(before)
    assert set(flax_unet.__all__) <= set(names)
    assert "module" not in kinds  # each is what it names
    assert not has_others


@pytest.mark.parametrize("module", [*MODULES, "flax_unet.cli"])
def test_help_imports_nothing_heavy(module: str) -> None:
    assert not HEAVY & set(last_line(HELP, module))


def test_short_form(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(COMMANDS) == {
        *("predict", "app", "summary", "convert", "to-torch", "fit", "eval", "card", "audit"),
        *("export", "prepare", "join"),
    }
    cli.main(["--help"])
    lines = capsys.readouterr().out.splitlines()
    for word in COMMANDS:
        (line,) = (line for line in lines if line.split()[:1] == [word])
        assert len(line.split()) > 4  # says what the command does
    cli.main(["summary", "--layout", "classifier-224"])
    assert "Total params" in capsys.readouterr().out


@pytest.mark.parametrize(("word", "near"), [("predit", "predict"), ("to_torch", "to-torch")])
def test_unknown_word(word: str, near: str, fails: Callable[..., str]) -> None:
    assert f"{word} is not a command; did you mean {near}?" in fails(cli.main, word)


def test_command_that_moved() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "flax_unet.card", "checkpoints/x"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr == "flax_unet.card has moved: python -m train.card\n"


def test_second_start_compiles_nothing(tmp_path: Path) -> None:
    model = small_checkpoint(tmp_path)
    noise().save(tmp_path / "face.png")
    arguments = (model, tmp_path / "face.png", "--faces", "none")
    cache = str(tmp_path / "cache")
    found = [last_line(PREDICT, *arguments, XDG_CACHE_HOME=cache) for _ in range(2)]
    assert found[0]["cache_misses"] > 0
    assert found[1]["cache_misses"] == 0
    assert found[1]["cache_hits"] > 0
