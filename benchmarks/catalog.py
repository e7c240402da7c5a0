"""The catalog from a thousand records to a million, on both databases: look-ups and pages of the list through its own API, one after the other."""

import asyncio
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.filling import fill_postgresql, fill_sqlite, id_of, owner_of, tag_of
from benchmarks.machine import progress
from benchmarks.results import table
from mediacdn.catalog.database import Catalog, open_catalog
from mediacdn.catalog.migrate import migrate
from mediacdn.config import Database
from mediacdn.drivers import SystemClock
from tests.services.postgres import PostgresServer

TITLE = "Catalog from 10^3 to 10^6 records"
PLOT = Path(__file__).parent / "plots" / "catalog.png"
PAGE = 50
DATABASES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
Work = Callable[[Catalog, int, int], Awaitable[Any]]

WORKS: dict[str, Work] = {
    "card": lambda catalog, number, size: catalog.media.card(id_of(number)),
    "record": lambda catalog, number, size: catalog.media.get(id_of(number)),
    "first page": lambda catalog, number, size: catalog.media.page(limit=PAGE),
    "middle page": lambda catalog, number, size: catalog.media.page(limit=PAGE, after=id_of(size // 4 + number // 2)),
    "page of a tag": lambda catalog, number, size: catalog.media.page(limit=PAGE, tag=tag_of(number)),
    "page of an owner": lambda catalog, number, size: catalog.media.page(limit=PAGE, owner=owner_of(number)),
}
"""What is measured; `number` is a record's, at random, of the `size` that there are."""


Place = tuple[Database, Path]
"""Where a catalog is: its configuration and its data directory."""


def measure(*, full: bool) -> dict[str, Any]:
    """Make a catalog of each size on both databases, measure, and draw the plot. A short run stops at 10^5 and leaves a plot that is there alone."""
    sizes = [10**power for power in range(3, 7 if full else 6)]
    samples = 1000 if full else 200
    with tempfile.TemporaryDirectory(prefix="mediacdn-bench-") as folder:
        measured = {"sqlite": _on_loop(_measure(_sqlite(Path(folder), sizes), samples))}
        server = PostgresServer.create()
        try:
            server.start()
            measured["postgresql"] = _on_loop(_measure(_postgresql(server, Path(folder), sizes), samples))
        finally:
            server.destroy()
    drawn = full or not PLOT.exists()
    if drawn:
        draw(sizes, measured, PLOT)
    return {"sizes": sizes, "samples": samples, "microseconds": measured, "drawn": drawn}


def _sqlite(folder: Path, sizes: list[int]) -> dict[int, Place]:
    """A data directory of each size, each grown from a copy of the one before."""
    places: dict[int, Place] = {}
    for start, stop in zip([0, *sizes], sizes, strict=False):
        began, data = time.monotonic(), folder / str(stop)
        if start:
            shutil.copytree(folder / str(start), data)
        else:
            asyncio.run(migrate(Database(), data))
        fill_sqlite(data, start, stop)
        places[stop] = Database(), data
        progress(f"SQLite, {stop:,} records, the last {stop - start:,} added in {time.monotonic() - began:.1f} s")
    return places


def _postgresql(server: PostgresServer, folder: Path, sizes: list[int]) -> dict[int, Place]:
    """The same as databases of one server."""
    places: dict[int, Place] = {}
    name = server.create_database()
    asyncio.run(migrate(Database(url=server.url(name)), folder))
    for start, stop in zip([0, *sizes], sizes, strict=False):
        began, name = time.monotonic(), server.create_database(name)
        asyncio.run(fill_postgresql(server.url(name), start, stop))
        places[stop] = Database(url=server.url(name)), folder
        progress(f"PostgreSQL, {stop:,} records, the last {stop - start:,} added in {time.monotonic() - began:.1f} s")
    return places


def _on_loop(work: Any) -> Any:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


async def _measure(places: dict[int, Place], samples: int) -> dict[str, dict[str, dict[str, float]]]:
    """Median and slowest hundredth by size and work, in microseconds. Sizes and works take turns, so that a slow minute of the machine is everybody's."""
    chance = random.Random(1)
    took: dict[tuple[int, str], list[float]] = {(size, name): [] for size in places for name in WORKS}
    async with AsyncExitStack() as stack:
        catalogs = {size: await stack.enter_async_context(open_catalog(*place, SystemClock())) for size, place in places.items()}
        turns = list(took)
        for turn in range(samples + samples // 10):
            chance.shuffle(turns)  # in a fixed order, one would always come after the same other and inherit its caches
            for size, name in turns:
                number = chance.randrange(size)
                began = time.perf_counter()
                found = await WORKS[name](catalogs[size], number, size)
                if turn >= samples // 10:  # before, connections open and statements are compiled
                    took[size, name].append((time.perf_counter() - began) * 1e6)
                assert found is not None
                assert not isinstance(found, tuple) or len(found[0]) == PAGE, name
    return {str(size): {name: _figures(took[size, name]) for name in WORKS} for size in places}


def _figures(took: list[float]) -> dict[str, float]:
    return {"p50": statistics.median(took), "p99": statistics.quantiles(took, n=100)[98]}


def draw(sizes: list[int], measured: dict[str, Any], file: Path) -> None:
    """Draw medians over the number of records: a panel a database, a line a work, on one scale."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import FuncFormatter

    figure, panels = pyplot.subplots(1, 2, figsize=(10, 4.6), sharey=True, layout="constrained")
    colours = ("#1b6ca8", "#4ba3c3", "#b3541e", "#e08e45", "#5b8c5a", "#7d5ba6")
    for panel, (database, name) in zip(panels, DATABASES.items(), strict=True):
        for (work, colour), marker in zip(zip(WORKS, colours, strict=True), "osD^vP", strict=True):
            line = [measured[database][str(size)][work]["p50"] / 1000 for size in sizes]
            panel.plot(sizes, line, color=colour, marker=marker, markersize=5, linewidth=1.8, label=work)
        panel.set_title(name, loc="left", fontsize=12)
        panel.set_xscale("log")
        panel.set_xticks(sizes)
        panel.set_xlabel("records")
        panel.grid(axis="y", color="#dddddd", linewidth=0.8)
        panel.spines[["top", "right"]].set_visible(False)
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panels[0].set_ylim(bottom=0)
    panels[0].set_ylabel(f"median, milliseconds (pages of {PAGE})")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9)
    figure.savefig(file, dpi=140)
    pyplot.close(figure)


def section(outcome: dict[str, Any]) -> str:
    """The outcome for RESULTS.md."""
    sizes, measured = [str(size) for size in outcome["sizes"]], outcome["microseconds"]
    rows = []
    for database, name in DATABASES.items():
        for work in WORKS:
            line = [measured[database][size][work] for size in sizes]
            growth = line[-1]["p50"] / line[0]["p50"]
            rows.append((f"{name}, {work}", *(f"{each['p50']:,.0f} / {each['p99']:,.0f}" for each in line), f"**{growth:.2f}**"))
    heads = ("microseconds: median / p99", *(f"{int(size):,} records" for size in sizes), "last median : first")
    plot = f"\n\n![Medians over the number of records](plots/{PLOT.name})" if outcome["drawn"] else ""
    return f"""{table(heads, rows)}{plot}

{outcome["samples"]} calls each through the catalog's own API, one at a time, ids, tags and owners at random, sizes and works taking turns in a random order; "middle page" continues from a
cursor in the middle half of the list. A page has {PAGE} records; of tags and owners there are 20 each, so that every page is full at every size. The card is read from the database here;
a server keeps it in memory. Both databases are on this machine with everything in memory; PostgreSQL runs without fsync, which reads do not notice."""
