"""Plots of results, one look for all; they land in benchmarks/plots."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

PLOTS = Path(__file__).parent / "plots"
DARK, LIGHT, MARK = "#1b6ca8", "#e08e45", "#444444"


def bars(name: str, rows: Sequence[tuple[str, list[float], list[float], float | None]], label: str) -> Path:
    """Draw two bars a row on a logarithmic axis, medians with lowest and highest: ratios of rates and ratios per core; a tick where a row has a goal."""
    figure, axes, pyplot = _figure(len(rows))
    for number, (_, rates, per_core, least) in enumerate(rows):
        for values, shift, colour in ((rates, -0.2, DARK), (per_core, 0.2, LIGHT)):
            middle = sorted(values)[len(values) // 2]
            spread = [[middle - min(values)], [max(values) - middle]]
            axes.barh(
                number + shift, middle - 0.01, left=0.01, height=0.36, color=colour, xerr=spread, error_kw={"ecolor": MARK, "capsize": 2}
            )
        if least is not None:
            axes.plot([least, least], [number - 0.45, number + 0.45], color="black", linewidth=2)
    axes.set_yticks(range(len(rows)), [row[0] for row in rows])
    axes.set_xscale("log")
    axes.axvline(1, color=MARK, linewidth=0.8)
    axes.set_xlabel(label)
    axes.invert_yaxis()
    handles = [pyplot.Rectangle((0, 0), 1, 1, color=colour) for colour in (DARK, LIGHT)]
    figure.legend(
        [*handles, pyplot.Line2D([], [], color="black", linewidth=2)],
        ["rate", "per core", "to reach"],
        loc="outside lower center",
        ncols=3,
        frameon=False,
    )
    return _saved(figure, pyplot, name)


def spread(name: str, series: dict[str, Sequence[float]], label: str) -> Path:
    """Draw how many answers took at most so long, a line a series, milliseconds on a logarithmic axis."""
    figure, axes, pyplot = _figure(7)
    for (what, values), colour in zip(series.items(), (DARK, LIGHT, "#5b8c5a", "#7d5ba6"), strict=False):
        ordered = sorted(values)
        axes.plot(ordered, [number / len(ordered) * 100 for number in range(1, len(ordered) + 1)], color=colour, linewidth=1.8, label=what)
    axes.set_xscale("log")
    axes.set_xlabel(label)
    axes.set_ylabel("percent of answers")
    axes.legend(frameon=False)
    return _saved(figure, pyplot, name)


def _figure(rows: int) -> tuple[Any, Any, Any]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 1.2 + 0.5 * rows), layout="constrained")
    axes.grid(axis="x", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes, pyplot


def _saved(figure: Any, pyplot: Any, name: str) -> Path:
    file = PLOTS / f"{name}.png"
    figure.savefig(file, dpi=140)
    pyplot.close(figure)
    return file
