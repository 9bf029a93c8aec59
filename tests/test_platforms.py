"""What other systems lack stops no import."""

import subprocess
import sys

from tests.test_rooms import MODULES

# What Windows lacks; macOS has these modules, but not all of the functions.
PROGRAM = """
import asyncio, json, multiprocessing, os, signal, subprocess, sys
import cv2, starlette, uvicorn, grain, jax, orbax.checkpoint, tensorflow_datasets, torch  # not ours
for name in ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGKILL", "SIGPIPE", "SIGALRM", "SIGQUIT"):
    delattr(signal, name)
for name in ("fork", "posix_fallocate", "posix_fadvise", "sched_getaffinity", "O_DIRECTORY"):
    delattr(os, name)
for name in ("fcntl", "resource", "grp", "pwd", "termios", "pty"):
    sys.modules[name] = None  # importing it raises a ModuleNotFoundError
import importlib, pathlib
for module in json.loads(sys.argv[1]):
    importlib.import_module(module)
from flax_unet.utils import errors, files
assert [each.name for each in errors.ending_signals()] == ["SIGTERM"]
with files.locked(pathlib.Path(".")) as alone:
    assert alone is None
"""


def test_everything_is_imported_without_what_windows_lacks() -> None:
    import json

    modules = [
        name
        for name in MODULES
        if not name.startswith("benchmarks") and name != "flax_unet.card"  # which only ends
    ]
    subprocess.run([sys.executable, "-c", PROGRAM, json.dumps(modules)], check=True)
