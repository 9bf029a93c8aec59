"""What the first device does at most, by matrix products and by copies, and what is installed."""

from pathlib import Path

from benchmarks.machine import FILE, benchmark, ceilings, report
from flax_unet.checkpoint.provenance import made_by


@benchmark(out=(None, "JSON file to write", FILE))
def main(*, out: Path | None) -> None:
    """Runs the command line."""
    report({**ceilings(), "made_by": made_by()}, out)


if __name__ == "__main__":
    main()
