"""Trains U-YNet. The defaults are the recipe that the network's authors published."""

import io
import sys
from collections.abc import Sequence
from typing import Any

from flax_unet.utils.arguments import program_name
from flax_unet.utils.errors import InputError, command, require
from train.fit.config import CHANGEABLE, DEMONSTRATION, GROUPS, OF_ONE_START, FitConfig
from train.options import OptionParser, fields_of, flag, valid

_EPILOG = """\
Without --data it trains a demonstration: a small network on forged portraits that are made on
this machine, in a few minutes on a laptop's CPU.

The same command again continues from the newest checkpoint of the work directory, however the run
before ended. SIGTERM, SIGUSR1 (which Slurm sends by --signal=USR1@300), SIGHUP (a lost terminal)
and Ctrl-C save a checkpoint and end the run with exit status 143, 138, 129 or 130; a second one
ends it at once.

The value `none` removes an option's value: --steps none. The classifier's 1 is REAL, the mask's 1
is MANIPULATED.
"""


def read_options(argv: Sequence[str] | None) -> dict[str, Any]:
    """The options of a command line, and of the file that it names.

    Raises:
        InputError: an option does not exist or has a bad value.
    """
    settings = {"prog": program_name("train.fit"), "description": __doc__, "epilog": _EPILOG}
    file, given = OptionParser(*GROUPS, **settings).read(argv)
    if given.get("steps") is not None and "epochs" in given:
        raise InputError("--steps and --epochs both say when training ends; give one")
    return _override(file, given)


def _override(before: dict[str, Any], later: dict[str, Any]) -> dict[str, Any]:
    """Options with later ones above them; later epochs also replace steps."""
    return {**before, **({"steps": None} if "epochs" in later else {}), **later}


def resolve(given: dict[str, Any]) -> FitConfig:
    """The configuration of a run: the saved one of its work directory, if any, and what is given.

    What a start saved that left no checkpoint does not shape another run: it counts with --resume,
    or if nothing that is given describes a run.

    Raises:
        InputError: there is nothing to resume, the work directory holds something else, or an
            option contradicts the saved ones.
    """
    from train.fit.checkpoints import Checkpoints, load_options

    fields = fields_of(*GROUPS)
    workdir = valid(fields["workdir"], given.get("workdir", fields["workdir"].default))
    saved, resume = load_options(workdir), given.get("resume")
    is_begun = bool(Checkpoints(workdir, 1).steps())
    if resume is False and is_begun:
        raise InputError(
            f"--no-resume: {workdir} holds a run; name a new directory by --workdir, or "
            "delete this one"
        )
    is_described = not given.keys() <= OF_ONE_START | CHANGEABLE
    if resume is False or (is_described and not resume and not is_begun):
        saved = None
    if saved is None:
        if resume:
            raise InputError(f"--resume: there is no training in {workdir}; see --workdir")
        return FitConfig.from_options(given)
    renamed = {field.metadata["formerly"]: name for name, field in fields.items()}
    # Runs from before there were recipes have the losses of this one.
    saved = {"recipe": "combined"} | {renamed.get(k, k): value for k, value in saved.items()}
    config = FitConfig.from_options(_override(saved, given))
    now = config.options()
    for name, value in saved.items() if is_begun else ():
        if name not in CHANGEABLE and now[name] != value:
            raise InputError(
                f"{workdir} was trained with {flag(name)} {value}, not {now[name]}; leave it out "
                "to continue, or name a new directory by --workdir"
            )
    return config


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a log file is read while training goes on
        sys.stdout.reconfigure(line_buffering=True)
    given = read_options(argv)
    config = resolve(given)
    # What is imported only when hours of work are done, or after the data set is packed.
    require("tensorboardX", "matplotlib", *(["wandb"] if config.logging.wandb else []))

    from train import distributed
    from train.fit.checkpoints import Checkpoints

    machines, workdir = config.machines, config.start.workdir
    # Before anything else uses JAX.
    distributed.join(machines.coordinator, machines.num_processes, machines.process_id)
    from train.fit.setup import train

    is_demonstration = given.get("data") is None and config.data.data == DEMONSTRATION["data"]
    is_begun = bool(Checkpoints(workdir, 1).steps())
    if received := train(config, is_demonstration=is_demonstration and not is_begun):
        sys.exit(128 + received)


if __name__ == "__main__":
    main()
