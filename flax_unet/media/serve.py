"""The process that `worker` starts: performs tasks with FFmpeg, and reports to the parent.

Requests come on standard input and replies go to standard output, each as a line of JSON, which
the pixels of a frame follow.
"""

import contextlib
import gc
import json
import os
import queue
import sys
import threading
import time
from pathlib import Path

from flax_unet.media import decoder, sound
from flax_unet.media.worker import AGAIN, Reply
from flax_unet.utils.errors import InputError

_MEMORY = 6 * 2**30  # bytes of address space; decoding 8K video takes about half of it
_TASKS = {"read": decoder.read, "add_sound": sound.add}
_OFTEN = 0.1  # seconds


class _Sender:
    """Sends replies to the parent; steps without a report are gathered."""

    def __init__(self) -> None:
        self._file = os.fdopen(os.dup(1), "wb")
        os.dup2(2, 1)  # what a library prints must not come between
        self._steps, self._sent = 0, 0.0

    def __call__(self, reply: Reply | None) -> None:
        if reply is None:
            self._steps += 1
            if time.monotonic() - self._sent < _OFTEN:
                return
        if self._steps:
            self._write({"steps": self._steps})
            self._steps = 0
        if reply is not None:
            self._write(reply.values)
            if reply.pixels is not None:
                self._file.write(reply.pixels.data)
        self._file.flush()
        self._sent = time.monotonic()

    def _write(self, values: dict[str, object]) -> None:
        self._file.write(json.dumps(values).encode() + b"\n")


def _limit_memory() -> None:
    """Bounds what a file can take; where the system is short of memory, this process goes first."""
    with contextlib.suppress(ImportError, OSError, ValueError):  # Windows; a lower limit is set
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):  # not Linux
        Path("/proc/self/oom_score_adj").write_text("1000")


def _main() -> None:
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def listen() -> None:
        for line in sys.stdin.buffer:
            requests.put(line)
        os._exit(0)  # the parent is gone, whatever the decoder is doing

    _limit_memory()
    gc.freeze()  # what was imported need not be looked through each time
    send = _Sender()
    threading.Thread(target=listen, daemon=True).start()
    while True:
        request = json.loads(requests.get())
        try:
            for reply in _TASKS[request.pop("task")](**request):
                send(reply)
        except InputError as error:
            send(Reply({"problem": str(error)}))
        except MemoryError:
            problem = f"needs more than {_MEMORY >> 30} GiB of memory; make it smaller"
            send(Reply({"problem": problem}))
        except BrokenPipeError:
            os._exit(0)  # the parent is gone
        except Exception as error:  # PyAV raises whatever the damage leads to
            problem = f"cannot be decoded: {error!r}; {AGAIN}"
            send(Reply({"problem": problem}))
        gc.collect()  # PyAV's objects refer to each other, and decoders hold many frames


if __name__ == "__main__":
    _main()
