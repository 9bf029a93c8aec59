"""The comparison with PyTorch as Markdown, and as a chart."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.machine import GIB, markdown
from benchmarks.subject import FULL_WIDTH

_HEADER = (
    *("", "contender", "ms a call, median (least to most)", "PyTorch's time over ours"),
    *("TFLOP/s", "of the product rate", "peak memory, GiB", "made, compiled and first called, s"),
)


def table(report: dict[str, Any]) -> str:
    """The whole comparison as Markdown."""
    machine, width = report["machine"], report["base_width"]
    rates = ", ".join(f"{of / 1e12:.2f} TFLOP/s {d}" for d, of in machine["product_rates"].items())
    narrow = "" if width == FULL_WIDTH else f" (narrow: published is {FULL_WIDTH})"
    verdicts = [
        [name, *("failed" if of is None else f"{of:.1f}" for of in seconds.values())]
        for name, seconds in report["starts"].items()
    ]
    lines = [
        f"{report['layout']}, base width {width}{narrow}, on {machine['name']}: "
        f"matrix products {rates}; {machine['bandwidth'] / 1e9:.0f} GB/s; TF32 off",
        "",
        *markdown(_HEADER, (cells for row in report["rows"] for cells in _lines(row)), left=2),
        "",
        *markdown(["to a first verdict, s", "first start", "second start"], verdicts),
        "",
        *(f"Left out: {row}: {why}" for row, why in report["left_out"].items()),
    ]
    return "\n".join(lines).rstrip()


def _lines(row: dict[str, Any]) -> Iterator[list[str]]:
    """The cells of each contender, and of what the machine's bounds allow."""
    label = "{task}, {dtype}, batch {batch}".format_map(row)
    for name, times in row["seconds"].items():
        ratio = f"{row['ratios'][name]:.2f}" if name in row["ratios"] else ""
        least, median, most = map(ms, (min(times["all"]), times["median"], max(times["all"])))
        peak = row["peak_memory_bytes"][name]
        yield [
            label,
            name,
            f"{median} ({least} to {most})",
            f"**{ratio}**" if name == row["pytorch_at_its_best"] else ratio,
            f"{row['teraflops_a_second'][name]:.2f}",
            f"{row['share_of_matrix_product_rate'][name]:.0%}",
            "" if peak is None else f"{peak / GIB:.2f}",
            f"{row['first_call_seconds'][name]:.1f}",
        ]
        label = ""
    floor = {name: ms(seconds) for name, seconds in row["floor_seconds"].items()}
    least = ms(max(row["floor_seconds"].values()))
    parts = f"{least} (operations {floor['operations']}, bytes {floor['bytes']})"
    yield ["", "at least, by operations and bytes", parts, *[""] * 5]


def ms(seconds: float) -> str:
    """Milliseconds to three digits at least: a GPU takes a few for a call, a CPU thousands."""
    value = 1e3 * seconds
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}"


def write_chart(path: Path, report: dict[str, Any]) -> None:
    """A PNG with a bar for each row and form of PyTorch: its time over ours.

    Raises:
        ModuleNotFoundError: Matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    rows = report["rows"]
    names = list(rows[0]["ratios"]) if rows else []
    width = 0.8 / max(len(names), 1)
    figure = Figure(figsize=(max(5.0, 1.4 * len(rows)), 4), layout="constrained")
    axes = figure.subplots()
    for number, name in enumerate(names):
        at = [place + number * width for place in range(len(rows))]
        axes.bar(at, [row["ratios"][name] for row in rows], width, label=name)
    axes.axhline(1, color="black", lw=0.8)
    labels = ["{task}\n{dtype}\nbatch {batch}".format_map(row) for row in rows]
    axes.set_xticks([place + 0.4 - width / 2 for place in range(len(rows))], labels, fontsize=8)
    axes.set(ylabel="PyTorch's time over this project's", title=report["machine"]["name"])
    axes.legend(fontsize=8)
    figure.savefig(path, format="png", dpi=110)
