"""Commands run in processes of their own, which have as many (pretended) devices as wanted."""

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

from train.fit.tracking import read

_PROGRAM = """
{prelude}
from {module}.__main__ import main
for line in {calls!r}:
    main(line)
"""


def start(
    module: str,
    calls: list[list[str]],
    devices: int,
    *,
    prelude: str = "",
    cache: str | None = None,
) -> subprocess.Popen[str]:
    """Starts a process that runs a command with each of the lines.

    Args:
        module: whose `main` it is.
        calls: its command lines.
        devices: of the process.
        prelude: statements to run first.
        cache: directory of JAX's compilation cache, if not the tests' own.
    """
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": str(devices)}
    if cache is not None:
        environment["JAX_COMPILATION_CACHE_DIR"] = cache
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM.format(prelude=prelude, module=module, calls=calls)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
    )


def together(module: str, calls: list[list[str]]) -> list[subprocess.Popen[str]]:
    """Starts two processes of two devices that make the same calls of a command."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        address = "{}:{}".format(*listening.getsockname())
    joined = ["--coordinator", address, "--num-processes", "2", "--process-id"]
    lines = [[[*call, *joined, str(number)] for call in calls] for number in range(2)]
    return [start(module, each, devices=2) for each in lines]


def finish(process: subprocess.Popen[str]) -> str:
    """What a process printed, once it is seen to have succeeded."""
    try:
        printed, errors = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    return printed


def await_steps(process: subprocess.Popen[str], log: Path, more_than: int = 0) -> None:
    """Waits until a run has more lines in its log than that or has ended, 5 minutes at most."""
    for _ in range(3000):
        if len(read(log)) > more_than:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.1)
            return
