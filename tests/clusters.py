"""Commands on a new Ray cluster of this machine."""

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

CODE = Path(__file__).parent.parent


def on_new_cluster(module: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs a command with `--ray auto` and two processes; paths may be relative to `cwd`.

    A note of a cluster that was killed lies there.
    """
    command = [sys.executable, "-m", module, *map(str, arguments), "--ray", "auto"]
    # The paths of its sockets must be short, and it may still write when its run has ended.
    folder = tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True)
    with folder as short, socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        (Path(short) / "ray").mkdir()
        note = Path(short) / "ray" / "ray_current_cluster"
        note.write_text(f"127.0.0.1:{unused.getsockname()[1]}")
        environment = {**os.environ, "PYTHONPATH": str(CODE), "RAY_TMPDIR": short}
        environment.pop("RAY_ADDRESS", None)
        ended = subprocess.run(
            [*command, "--workers", "2"],
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
    assert "Ray: a new cluster of this machine, 2 cores\n" in ended.stderr, ended.stderr
    return ended
