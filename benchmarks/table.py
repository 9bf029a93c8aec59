"""A comparison for people: a table in Markdown, and a bar chart."""

from pathlib import Path
from typing import Any

from flax_unet import PUBLISHED

_GIB = 2**30


def summary(row: dict[str, Any]) -> str:
    """A row in one line: milliseconds of each contender."""
    times = (f"{name} {_ms(of['median'])} ms" for name, of in row["seconds"].items())
    return f"{row['task']}, {row['dtype']}, batch {row['batch']}: {'; '.join(times)}"


def table(report: dict[str, Any]) -> str:
    """What `benchmarks.compare` found, as Markdown."""
    machine = report["machine"]
    rates = ", ".join(
        f"{of / 1e12:.2f} TFLOP/s {name}" for name, of in machine["product_rates"].items()
    )
    published = PUBLISHED[report["layout"]].base_width
    narrow = "" if report["base_width"] == published else f" (narrow: published is {published})"
    lines = [
        f"{report['layout']}, base width {report['base_width']}{narrow}, on {machine['name']}: "
        f"matrix products {rates}; {machine['bandwidth'] / 1e9:.0f} GB/s; TF32 off",
        "",
        "| | contender | ms a call, median (least to most) | PyTorch's time over ours | TFLOP/s | "
        "of the product rate | peak memory, GiB | made, compiled and first called, s |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in report["rows"]:
        label = f"{row['task']}, {row['dtype']}, batch {row['batch']}"
        for name, times in row["seconds"].items():
            all_of = times["all"]
            ratio = f"{row['ratios'][name]:.2f}" if name in row["ratios"] else ""
            if name == row["pytorch_at_its_best"]:
                ratio = f"**{ratio}**"
            peak = row["peak_memory_bytes"][name]
            cells = [
                label,
                name,
                f"{_ms(times['median'])} ({_ms(min(all_of))} to {_ms(max(all_of))})",
                ratio,
                f"{row['teraflops_a_second'][name]:.2f}",
                f"{row['share_of_matrix_product_rate'][name]:.0%}",
                "" if peak is None else f"{peak / _GIB:.2f}",
                f"{row['first_call_seconds'][name]:.1f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
            label = ""
        floor = row["floor_seconds"]
        lines.append(
            f"| | at least, by operations and bytes | {_ms(max(floor.values()))} "
            f"(operations {_ms(floor['operations'])}, bytes {_ms(floor['bytes'])}) "
            "| | | | | |"
        )
    lines += ["", "| to a first verdict, s | first start | second start |", "| --- | ---: | ---: |"]
    for name, seconds in report["starts"].items():
        cells = ["failed" if of is None else f"{of:.1f}" for of in seconds.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", *(f"Left out: {row}: {why}" for row, why in report["left_out"].items())]
    return "\n".join(lines).rstrip()


def _ms(seconds: float) -> str:
    """Milliseconds to three digits at least: a GPU takes a few for a call, a CPU thousands."""
    value = 1e3 * seconds
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}"


def write_chart(path: Path, report: dict[str, Any]) -> None:
    """A PNG with a bar for each row and way of running PyTorch: its time over ours.

    Raises:
        ModuleNotFoundError: Matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    rows = report["rows"]
    labels = [f"{row['task']}\n{row['dtype']}\nbatch {row['batch']}" for row in rows]
    names = list(rows[0]["ratios"]) if rows else []
    figure = Figure(figsize=(max(5.0, 1.4 * len(rows)), 4), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / max(len(names), 1)
    for number, name in enumerate(names):
        at = [place + number * width for place in range(len(rows))]
        axes.bar(at, [row["ratios"][name] for row in rows], width, label=name)
    axes.axhline(1, color="black", lw=0.8)
    axes.set_xticks([place + 0.4 - width / 2 for place in range(len(rows))], labels, fontsize=8)
    axes.set(ylabel="PyTorch's time over this project's", title=report["machine"]["name"])
    axes.legend(fontsize=8)
    figure.savefig(path, format="png", dpi=110)
