"""Trains U-YNet on every device; the defaults are the published recipe of its heads."""

import argparse
import difflib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flax_unet.utils.arguments import program_name
from flax_unet.utils.errors import InputError, command
from train.fit.config import CHANGEABLE, GROUPS, FitConfig, options, read_file
from train.fit.options import UNSET, flag, parse, valid

_EPILOG = """\
Without --data it trains a demonstration: a small network on forged portraits that are made on
this machine, in a few minutes on a laptop's CPU.

The same command again goes on where the work directory's newest checkpoint stands, whatever ended
the run before. SIGTERM and Ctrl-C save and end it (exit status 143 or 130); a second one ends it
at once. `none` takes an option's value away: --steps none. The classifier's 1 is REAL, the mask's
1 is MANIPULATED.
"""


class _Parser(argparse.ArgumentParser):
    """Tells of an unknown option which one is near."""

    def error(self, message: str) -> Any:
        raise InputError(message)

    def parse(self, argv: Sequence[str] | None) -> argparse.Namespace:
        found, unknown = self.parse_known_args(argv)
        if unknown:
            known = [name for action in self._actions for name in action.option_strings]
            near = difflib.get_close_matches(unknown[0].partition("=")[0], known, n=1)
            hint = f"; did you mean {near[0]}?" if near else "; see --help"
            raise InputError(f"{unknown[0]} is no option{hint}")
        return found


def _parser() -> _Parser:
    parser = _Parser(
        prog=program_name("train.fit"),
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="YAML or JSON file of options by name"
    )
    for group in GROUPS:
        section = parser.add_argument_group(group.__name__.lower(), group.__doc__)
        for name, field in options().items():
            if group.__dataclass_fields__.get(name) is not field:
                continue
            text = field.metadata["help"]
            if field.type is bool:
                action: Any = argparse.BooleanOptionalAction
                section.add_argument(flag(name), action=action, default=None, help=text)
                continue
            if field.default is not None:
                text += f" (default: {field.default})"
            choices = field.metadata["choices"] or None
            if choices and field.default is None:
                choices = (*choices, UNSET)
            metavar = None if choices else name.upper()
            text = text.replace("%", "%%")
            section.add_argument(flag(name), choices=choices, metavar=metavar, help=text)
    return parser


def read_options(argv: Sequence[str] | None) -> dict[str, Any]:
    """The options of a command line, and of the file that it names.

    Raises:
        InputError: an option is unknown, or a value is none.
    """
    given = {k: v for k, v in vars(_parser().parse(argv)).items() if v is not None}
    file = given.pop("config", None)
    known = options()
    parsed = {k: parse(known[k], v) if isinstance(v, str) else v for k, v in given.items()}
    if parsed.get("steps") is not None and "epochs" in parsed:
        raise InputError("--steps and --epochs both say when training ends; give one")
    return _later(read_file(file) if file else {}, parsed)


def _later(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Options and those that come after them; epochs take the place of steps."""
    lifted = {"steps": None} if "epochs" in now else {}
    return {**before, **lifted, **now}


def resolve(given: dict[str, Any]) -> FitConfig:
    """The configuration of a run: its own, where the work directory has one, and what is given.

    Raises:
        InputError: there is nothing to resume, the work directory belongs to something else, or
            what is given contradicts the run's own configuration.
    """
    from train.fit.workdir import has_checkpoints, is_run, is_untouched, load_options

    option = options()["workdir"]
    workdir = valid(option, given.get("workdir", option.default))
    if not is_run(workdir):
        if given.get("resume"):
            raise InputError(f"--resume: there is no training in {workdir}; see --workdir")
        if not is_untouched(workdir):
            raise InputError(
                f"{workdir} exists and holds no training; name a new directory by --workdir"
            )
        return FitConfig.from_options(given)
    # Runs from before there were recipes have the losses of this one.
    saved = {"recipe": "combined", **load_options(workdir)}
    config = FitConfig.from_options(_later(saved, given))
    now = config.options()
    for name, value in saved.items() if has_checkpoints(workdir) else ():
        if name not in CHANGEABLE and now[name] != value:
            raise InputError(
                f"{workdir} was trained with {flag(name)} {value}, not {now[name]}; leave it out "
                "to go on, or name a new directory by --workdir"
            )
    return config


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    given = read_options(argv)
    config = resolve(given)

    from train import cluster
    from train.fit.workdir import is_run

    cluster.join(config.machines)  # before anything else uses JAX
    from train.fit.setup import run

    is_demonstration = given.get("data") is None and not is_run(config.start.workdir)
    if received := run(config, is_demonstration=is_demonstration):
        sys.exit(128 + received)


if __name__ == "__main__":
    main()
