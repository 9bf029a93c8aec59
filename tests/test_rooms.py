"""Imports run one way, and every module is worth a file."""

import ast
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("flax_unet", "convert", "train", "benchmarks")
# Modules below the first may import of this project only those below the others.
ALLOWED: dict[str, tuple[str, ...]] = {
    "flax_unet": ("flax_unet",),
    "flax_unet.nn": ("flax_unet.nn", "flax_unet.utils.errors"),
    "flax_unet.utils": ("flax_unet.utils",),
    "flax_unet.checkpoint": ("flax_unet.checkpoint", "flax_unet.nn", "flax_unet.utils"),
    "flax_unet.media": ("flax_unet.media", "flax_unet.nn.config", "flax_unet.utils"),
    "convert": ("convert", "flax_unet"),
    "train": ("train", "flax_unet"),
    "flax_unet.predict": (
        *("flax_unet.predict", "flax_unet.media", "flax_unet.nn", "flax_unet.checkpoint"),
        *("flax_unet.detector", "flax_unet.face_network", "flax_unet.judge", "flax_unet.verdict"),
        "flax_unet.utils",
    ),
    "train.data": ("train.data", "train.distributed", "train.options", "flax_unet"),
    "train.eval": ("train.eval", "train.data", "train.distributed", "flax_unet"),
    "train.fit": (
        *("train.fit", "train.eval", "train.data", "train.distributed", "train.options"),
        "flax_unet",
    ),
    "train.prepare": ("train.prepare", "train.data", "flax_unet"),
    "train.card": ("train.card", "train.eval", "train.data", "flax_unet"),
    "benchmarks": ("benchmarks", "train", "convert", "flax_unet"),
}
LEAST_LINES = 30  # of a module with one importer


def modules() -> dict[str, Path]:
    """The files of all packages by the name to import them by."""
    found = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(part for part in parts if part != "__init__")] = path
    return found


MODULES = modules()


def imported(path: Path) -> set[str]:
    """The modules of this project that a file names in an import, wherever that stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else str(node.module) for name in whole}
    return {name for name in found if name.partition(".")[0] in (*PACKAGES, "tests")}


IMPORTS = {module: imported(path) for module, path in MODULES.items()}


def is_below(module: str, room: str) -> bool:
    return module == room or module.startswith(f"{room}.")


@pytest.mark.parametrize("room", ALLOWED)
def test_imports_run_one_way(room: str) -> None:
    wrong = [
        f"{module} imports {name}"
        for module, names in IMPORTS.items()
        for name in sorted(names)
        if is_below(module, room) and not any(is_below(name, other) for other in ALLOWED[room])
    ]
    assert not wrong


def test_table_names_rooms_that_exist() -> None:
    assert {*ALLOWED, *(name for names in ALLOWED.values() for name in names)} <= MODULES.keys()


def test_commands_are_imported_by_benchmarks_alone() -> None:
    wrong = [
        f"{module} imports {name}"
        for module, names in IMPORTS.items()
        for name in names
        if name.endswith(".__main__") and not is_below(module, "benchmarks")
    ]
    assert not wrong


def test_modules_of_one_importer_are_not_small() -> None:
    importers = Counter(name for names in IMPORTS.values() for name in names)
    small = {
        module: lines
        for module, path in MODULES.items()
        if importers[module] == 1
        and path.name not in ("__init__.py", "__main__.py")
        and '__name__ == "__main__"' not in (source := path.read_text(encoding="utf-8"))
        and (lines := len(source.splitlines())) < LEAST_LINES
    }
    assert not small
