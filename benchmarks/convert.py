"""The time and the peak memory of `convert.from_torch`, on a full-size stand-in of ynet-224.

Each conversion is a process of its own, as a user starts it: Python's start is in the figures.
"""

import tempfile
from pathlib import Path

from benchmarks.machine import benchmark, report, run_module

_MIB = 2**20
_OPTIONS = {  # of the conversion, by its name in the result
    "without comparing": ["--no-verify"],
    "compared with PyTorch": [],
    "compared again, with what the first one compiled": [],
}


@benchmark()
def main() -> None:
    """Runs the command line."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "ckpt.pth"
        # In a process of its own: the peak of this one is the least that a child's can be.
        run_module("convert.stand_in", "ynet-224", str(file))
        conversions = {}
        for name, chosen in _OPTIONS.items():
            words = ["convert.from_torch", str(file), "--out", f"{folder}/out", "--overwrite"]
            seconds, peak = run_module(*words, *chosen, cache=f"{folder}/cache")
            conversions[name] = {
                "seconds": round(seconds, 1),
                "peak_memory_mib": round(peak / _MIB),
            }
        size = round(file.stat().st_size / _MIB, 1)
    report({"file_mib": size, "conversions": conversions})


if __name__ == "__main__":
    main()
