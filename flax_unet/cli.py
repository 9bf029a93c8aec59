"""The console script `flax-unet`, which runs this project's commands by one word each."""

import ast
import difflib
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from flax_unet.utils.errors import InputError, command

COMMANDS = {
    "predict": "flax_unet.predict.__main__",
    "join": "flax_unet.predict.join",
    "app": "flax_unet.app.__main__",
    "summary": "flax_unet.summary",
    "convert": "convert.from_torch",
    "to-torch": "convert.to_torch",
    "prepare": "train.prepare.__main__",
    "fit": "train.fit.__main__",
    "eval": "train.eval.__main__",
    "card": "train.card.__main__",
    "audit": "train.data.audit",
    "export": "train.data.export",
}
"""The module of each command, which is imported only when the command is run."""


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command that the first argument names, with the other arguments."""
    word, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if word in ("-h", "--help"):
        print("usage: flax-unet COMMAND ...\n\ncommands:")
        for name, module in COMMANDS.items():
            print(f"  {name:10}{_summary(module)}")
        print("\nflax-unet COMMAND --help lists the options of a command.")
    elif word in COMMANDS:
        importlib.import_module(COMMANDS[word]).main(rest)
    else:
        near = difflib.get_close_matches(word, COMMANDS, n=1, cutoff=0)[0]
        raise InputError(
            f"{word} is not a command; did you mean {near}? flax-unet --help lists all"
        )


def _summary(module: str) -> str:
    """The first line of a module's docstring, read without importing the module."""
    spec = importlib.util.find_spec(module)
    source = Path(str(spec and spec.origin)).read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


if __name__ == "__main__":
    main()
