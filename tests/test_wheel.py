"""The wheel, installed into an empty environment, has every command and nothing besides."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from flax_unet.cli import COMMANDS
from tests.test_start import MODULES

ROOT = Path(__file__).parent.parent
HELP = """
import contextlib, io, json, runpy, sys
import convert, flax_unet, train
from flax_unet import cli

def first_line(run):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        run()
    return printed.getvalue().splitlines()[0]

def run_module():
    sys.argv = [module, "--help"]
    runpy.run_module(module, run_name="__main__", alter_sys=True)

words = [first_line(lambda: cli.main([word, "--help"])) for word in cli.COMMANDS]
modules = []
for module in sys.argv[1:]:
    modules.append(first_line(run_module))
print(json.dumps([[room.__file__ for room in (flax_unet, convert, train)], words, modules]))
"""


def run(*command: object) -> str:
    """What a command prints that finds no code of this project but the installed one."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the sources, without the network."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("flax_unet", "convert", "train", "benchmarks", "tests"):
        ignored = shutil.ignore_patterns("__pycache__", "golden")
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    offline = ("--no-deps", "--no-index", "--no-build-isolation", "--quiet", "-w", folder)
    run(sys.executable, "-m", "pip", "wheel", *offline, folder / "source")
    (built,) = folder.glob("*.whl")
    return built


def test_wheel_holds_the_packages_alone(wheel: Path) -> None:
    found = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {
        path.relative_to(ROOT).as_posix()
        for package in ("flax_unet", "convert", "train")
        for pattern in ("*.py", "py.typed", "*.jpg", "app/static/*")
        for path in (ROOT / package).rglob(pattern)
    }
    assert found == expected
    assert len([name for name in found if name.endswith(".jpg")]) == 3


def test_every_command_runs_from_the_wheel(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    venv.create(tmp_path / "empty", symlinks=True)
    programs = tmp_path / "empty" / "bin"
    python = programs / "python"
    packages = Path(
        run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))")[:-1]
    )
    # The dependencies; Python ignores the .pth files beside them, and so the editable install.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = ("install", "--no-deps", "--no-index", "--no-compile", "--ignore-installed", wheel)
    run(sys.executable, "-m", "pip", "--python", python, *install)
    files, words, modules = json.loads(run(python, "-c", HELP, *MODULES))
    assert all(Path(file).is_relative_to(packages) for file in files)
    for found, names in (words, COMMANDS.values()), (modules, MODULES):
        for line, name in zip(found, names, strict=True):
            assert line.startswith(f"usage: python -m {name.removesuffix('.__main__')} ")
    listed = run(programs / "flax-unet", "--help")
    assert all(f"\n  {word} " in listed for word in COMMANDS)
    assert run(programs / "flax-unet", "to-torch", "-h").startswith(
        "usage: flax-unet to-torch [-h]"
    )
