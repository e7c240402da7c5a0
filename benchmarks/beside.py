"""Reads beside the peers: nginx, Varnish, Caddy, Starlette and Litestar serve the same bytes, each pinned to the core that ours runs on in its turn.

A comparison is a pair of neighbours in time, taken in turns of changing order; wrk has the other core. Every side writes its access log to a file on the same file system and keeps
its counters; heads are filled to equal size; the list of links and the order of the requests are the same for all. Errors and wrong bytes end the run.
"""

import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from benchmarks import cores, reader, wrk
from benchmarks.browser import HEADERS, Ask, Checker, Client, compare, head_sizes, zipf
from benchmarks.corpus import FILM, LINKS, PICTURES, Corpus
from benchmarks.logs import Logs
from benchmarks.machine import progress
from benchmarks.peers.caddy import Caddy
from benchmarks.peers.nginx import Nginx
from benchmarks.peers.process import Peer
from benchmarks.peers.uvicorn import BareLoop, Uvicorn
from benchmarks.peers.varnish import Varnish
from benchmarks.plots import bars
from benchmarks.results import table
from benchmarks.server import Mediacdn

TITLE = "Beside its peers"
SPAN = 65_536
SPANS = 10_000
CHECKED = 1000
"""One answer of so many is compared byte by byte."""
STEP = 200_003
"""How far in the order each round begins after the one before."""
SLACK = 24
"""Bytes by which heads may differ: numbers in them have changing lengths."""


class Pair(Struct, frozen=True):
    """A comparison: our form of the request and a peer's, and the ratio of requests per second and core to reach and aimed at."""

    name: str
    ours: str
    peer: str
    theirs: str
    least: float | None = None
    aim: float | None = None
    connections: int = 32
    discards: bool = False
    """Read by a client that leaves the bytes in the kernel, instead of wrk, which copies each: on long answers wrk itself is the limit."""


PAIRS = (
    Pair("10 KB signed : nginx secure_link", "signed", "nginx", "signed", 0.6, 1.0),
    Pair("10 KB signed : Varnish hit", "signed", "varnish", "public", 1.0, 1.5),
    Pair("10 KB signed : Caddy file_server", "signed", "caddy", "public", 2.5, 4.0),
    Pair("10 KB signed : Litestar route", "signed", "litestar", "route", 4.0, 6.0),
    Pair("10 KB signed : Litestar File", "signed", "litestar", "file"),
    Pair("10 KB signed : Starlette FileResponse", "signed", "starlette", "public", 4.0, 6.0),
    Pair("10 KB signed : uvloop and llhttp alone", "signed", "loop", "public"),
    Pair("304 signed : nginx secure_link", "revalidated", "nginx", "revalidated", 0.6, 1.0),
    Pair("206 of 64 KB : nginx", "range", "nginx", "range", 0.7, 1.0, 16),
    Pair("1 MB public : nginx sendfile", "large", "nginx", "large", 0.8, 1.0, 16),
    Pair("1 MB public, discarded : nginx sendfile", "large", "nginx", "large", 0.8, 1.0, 16, discards=True),
    Pair("10 KB public : nginx sendfile", "public", "nginx", "public"),
    Pair("10 KB public : nginx proxy_cache", "public", "proxy", "proxied"),
    Pair("10 KB public : Varnish hit", "public", "varnish", "public"),
    Pair("10 KB public : Caddy file_server", "public", "caddy", "public"),
)
IN_TURN = ("range", "large")
"""Forms whose list is itself at random, or short: asked for in turn instead of by Zipf's law."""


class Turn(Struct, frozen=True):
    """One side's part of one round: requests a second, processor seconds of the server a second and microseconds a request, the slowest hundredth in microseconds, answers compared."""

    rate: float
    busy: float
    cost: float
    p99: float
    compared: int


class Side:
    """A running server with its lists of requests, one a form."""

    def __init__(self, name: str, url: str, pids: Sequence[int], folder: Path, logs: Sequence[Path]) -> None:
        self.name, self.url, self._logs = name, url, logs
        self._pids = list(pids)
        self._folder = folder
        self._asks: dict[str, list[Ask]] = {}
        self._rates: dict[str, float] = {}

    def add(self, form: str, asks: list[Ask]) -> None:
        """Take a list of requests, once its first and last are answered as they should be."""
        client = Client(self.url)
        for each in (asks[0], asks[-1]):
            compare(client, each)
        client.close()
        self._asks[form] = asks
        self._file(form).write_text("\n".join(each.line() for each in asks) + "\n")

    def warm(self, form: str) -> None:
        """Ask for everything once: what is measured afterwards are hits."""
        client, seen, logs = Client(self.url), set(), Logs(self._logs)
        try:
            for each in self._asks[form]:
                if (about := each.path.partition("?")[0] + each.header) not in seen:
                    seen.add(about)
                    compare(client, each)
        except RuntimeError as exc:
            raise RuntimeError(f"{self.name}, {form}: {exc}\n{logs.since()}") from exc
        client.close()

    def turn(self, form: str, order: "Order", start: int, seconds: float, connections: int, *, discards: bool = False) -> Turn:
        """Load one form for so long. Raises: RuntimeError for a failed request or a wrong answer, with what the server's logs say of them."""
        numbers, file = ([], None) if form in IN_TURN else (order.numbers, order.file)
        checker = Checker(self.url, self._asks[form], numbers, start, CHECKED / self._rates.get(form, 10_000.0))
        logs, meter, began = Logs(self._logs), cores.Meter(self._pids), time.perf_counter()
        try:
            try:
                if discards:
                    answers, _, took = reader.read(self.url, [each.path for each in self._asks[form]], seconds, connections)
                    load = wrk.Load(answers, took, 0, 0, 0.0, 0.0)
                else:
                    load = wrk.play(self.url, self._file(form), order.headers, file, start, seconds, connections)
            finally:
                compared = checker.done()
        except RuntimeError as exc:
            raise RuntimeError(f"{self.name}, {form}: {exc}\n{logs.since()}") from exc
        used = meter.used()
        rate = self._rates[form] = load.requests / load.seconds
        return Turn(rate, used / (time.perf_counter() - began), used / load.requests * 1e6, load.p99, compared)

    def _file(self, form: str) -> Path:
        return self._folder / f"{self.name}-{form}.requests"


class Order(Struct, frozen=True):
    """The drawn order, in memory and as a file, and the file of the browser's headers."""

    numbers: list[int]
    file: Path
    headers: Path


class Ring:
    """All servers of a comparison, running; `sides` by name. Closing it stops them."""

    def __init__(self, corpus: Corpus, folder: Path, core: int, names: set[str], links: int) -> None:
        self.corpus, self._folder, self._core = corpus, folder, core
        self._stops: list[Callable[[], None]] = []
        self.sides: dict[str, Side] = {}
        try:
            with cores.pinned(core):
                ours = Mediacdn(corpus.data, log=folder / "mediacdn.log")
            self._stops.append(ours.stop)
            private, public = corpus.stored(ours)
            self._ours(ours, private, public, links)
            fills = {form: head_sizes(ours.url, self.asks["mediacdn", form][0]) for form in ("signed", "revalidated", "public", "range")}
            self._peers(names, fills, links)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        while self._stops:
            self._stops.pop()()

    def _ours(self, server: Mediacdn, private: dict[str, str], public: dict[str, str], links: int) -> None:
        paths = {name: f"/v1/media/{media}" for name, media in public.items()}
        self.asks: dict[tuple[str, str], list[Ask]] = {}
        signed, logs = self.corpus.links(private, links), [self._folder / "mediacdn.log"]
        self._side(Side("mediacdn", server.url, [server.pid], self._folder, logs), signed, lambda name: paths[name], {"public"})

    def _side(self, side: Side, signed: list[tuple[str, str]], plain: Callable[[str], str], forms: set[str]) -> None:
        """Make a side: the forms over `signed` where there are links, those over plain paths where `public` is among the forms, and others named by their prefix."""
        corpus, name, url = self.corpus, side.name, side.url
        lists: dict[str, list[Ask]] = {}
        if signed:
            lists["signed"] = [Ask(path, 200, corpus.body(file)) for file, path in signed]
            client, tags = Client(url), {}
            for file, path in signed[: len(corpus.pictures)]:
                tags[file] = client.ask(path, method="HEAD").header("etag")
            client.close()
            lists["revalidated"] = [Ask(path, 304, bytes, f"If-None-Match: {tags[file]}") for file, path in signed]
        if "public" in forms:
            names = [corpus.pictures[number % len(corpus.pictures)] for number in range(LINKS)]
            lists["public"] = [Ask(plain(file), 200, corpus.body(file)) for file in names]
            lists["large"] = [Ask(plain(file), 200, corpus.body(file)) for file in corpus.large] if name in ("mediacdn", "nginx") else []
            chance = random.Random(2)
            starts = [chance.randrange(FILM - SPAN) for _ in range(SPANS)] if name in ("mediacdn", "nginx") else []
            film = plain(corpus.film)
            lists["range"] = [
                Ask(film, 206, corpus.body(corpus.film, start, start + SPAN), f"Range: bytes={start}-{start + SPAN - 1}")
                for start in starts
            ]
        for form in forms - {"public"}:
            lists[form] = [
                Ask(
                    f"/{form}/{corpus.pictures[number % len(corpus.pictures)]}",
                    200,
                    corpus.body(corpus.pictures[number % len(corpus.pictures)]),
                )
                for number in range(LINKS)
            ]
        for form, asks in lists.items():
            if asks:
                side.add(form, asks)
                self.asks[name, form] = asks
        self.sides[name] = side

    def _peers(self, names: set[str], wanted: dict[str, int], links: int) -> None:
        """Start each peer twice: as it is, to see the sizes of its heads, and filled up to ours."""
        if names & {"nginx", "proxy", "varnish"}:
            self._peer("nginx", wanted, links, lambda fills: self._nginx("nginx", fills), {"public"})
        origin = self.sides["nginx"].url if "nginx" in self.sides else ""
        if "proxy" in names:
            self._peer("proxy", wanted, 0, lambda fills: self._nginx("proxy", fills, origin), {"proxied"})
        files, folder = self.corpus.files, self._folder
        if "varnish" in names:
            self._peer(
                "varnish",
                wanted,
                0,
                lambda fills: Varnish(folder, folder / "varnish-access.log", origin, fill=fills.get("public", "")),
                {"public"},
            )
        if "caddy" in names:
            self._peer(
                "caddy",
                wanted,
                0,
                lambda fills: Caddy(folder, folder / "caddy-access.log", files, fill=fills.get("public", "-")),
                {"public"},
            )
        if "loop" in names:
            self._peer("loop", wanted, 0, lambda fills: BareLoop(folder / "loop.log", files, fills.get("public", "-")), {"public"})
        if "starlette" in names:
            log = folder / "starlette-access.log"
            self._peer(
                "starlette", wanted, 0, lambda fills: Uvicorn("starlette_files", log, files, fill=fills.get("public", "-")), {"public"}
            )
        if "litestar" in names:
            log = folder / "litestar-access.log"
            self._peer(
                "litestar", wanted, 0, lambda fills: Uvicorn("litestar_routes", log, files, fill=fills.get("route", "-")), {"route", "file"}
            )

    def _nginx(self, name: str, fills: dict[str, str], origin: str = "") -> Nginx:
        log = f"{self._folder}/{name}-access.log combined buffer=64k flush=1s"
        return Nginx(self._folder / name, log, files=self.corpus.files, fills=fills, origin=origin)

    def _peer(self, name: str, wanted: dict[str, int], links: int, start: Callable[[dict[str, str]], Peer], forms: set[str]) -> None:
        measured = [
            form for form in ("signed", "revalidated", "public", "range", "route", "proxied") if form in forms or (links and form in wanted)
        ]
        probes = dict.fromkeys(measured, "-")
        for attempt in range(2):
            with cores.pinned(self._core):
                peer = start(probes)
            self._stops.append(peer.stop)
            expires = int(time.time()) + 2 * 86_400
            signed = (
                [(file, peer.signed(file, expires + number)) for number, file in self._linked(links)] if isinstance(peer, Nginx) else []
            )
            side = Side(name, peer.url, peer.pids, self._folder, peer.logs)
            self._side(side, signed if attempt else signed[:1], lambda file: f"/{file}", forms)
            sizes = {form: head_sizes(peer.url, self.asks[name, form][0]) for form in measured}
            if not attempt:
                probes = {form: "-" * max(1, wanted.get(form, wanted["public"]) - size + 1) for form, size in sizes.items()}
                self._stops.pop()()
        for form, size in sizes.items():
            if abs(size - wanted.get(form, wanted["public"])) > SLACK:
                raise RuntimeError(f"{name} {form}: a head of {size} bytes, ours has {wanted.get(form, wanted['public'])}")

    def _linked(self, links: int) -> list[tuple[int, str]]:
        pictures = self.corpus.pictures
        return [(number, pictures[number % len(pictures)]) for number in range(links)]


def measure(*, full: bool) -> dict[str, Any]:
    """The run of `python -m benchmarks peers`."""
    if full:
        return run(PAIRS, rounds=5, seconds=3.0)
    return run(PAIRS, rounds=2, seconds=1.0, pictures=500, links=5_000)


def run(pairs: Sequence[Pair], *, rounds: int, seconds: float, pictures: int = PICTURES, links: int = LINKS) -> dict[str, Any]:
    """Run the pairs so many rounds, after one that is not counted."""
    served, load = cores.pair()
    corpus = Corpus(pictures)
    with tempfile.TemporaryDirectory(prefix="run-", dir=corpus.root) as name:
        folder = Path(name)
        order = Order(zipf(links, folder / "order"), folder / "order", folder / "headers")
        order.headers.write_text(HEADERS)
        ring = Ring(corpus, folder, served, {pair.peer for pair in pairs}, links)
        try:
            with cores.pinned(load):
                for side, form in sorted({("mediacdn", pair.ours) for pair in pairs} | {(pair.peer, pair.theirs) for pair in pairs}):
                    began = time.monotonic()
                    ring.sides[side].warm(form)
                    progress(f"{side}, {form}: everything asked for once in {time.monotonic() - began:.1f} s")
                measured: dict[str, list[tuple[Turn, Turn]]] = {pair.name: [] for pair in pairs}
                for number in range(rounds + 1):
                    for pair in pairs:
                        _round(pair, ring, order, number, seconds if number else 1.0, measured[pair.name])
                    progress(f"round {number} of {rounds}")
        finally:
            ring.close()
        sizes = _logged(folder)
    return {
        "rounds": rounds,
        "seconds": seconds,
        "pictures": pictures,
        "links": links,
        "logs": sizes,
        "results": [_told(pair, measured[pair.name]) for pair in pairs],
    }


def _round(pair: Pair, ring: Ring, order: Order, number: int, seconds: float, into: list[tuple[Turn, Turn]]) -> None:
    sides = [(ring.sides["mediacdn"], pair.ours), (ring.sides[pair.peer], pair.theirs)]
    turns = [
        side.turn(form, order, number * STEP, seconds, pair.connections, discards=pair.discards)
        for side, form in (sides if number % 2 else sides[::-1])
    ]
    ours, theirs = turns if number % 2 else turns[::-1]
    if number:
        into.append((ours, theirs))
        progress(
            f"round {number}, {pair.name}: {ours.rate:,.0f}/s {ours.cost:.1f} us, {theirs.rate:,.0f}/s {theirs.cost:.1f} us, {ours.rate / theirs.rate:.2f}"
        )


def _logged(folder: Path) -> dict[str, int]:
    """Bytes of every access log: none is empty, or somebody was spared the work. Raises: RuntimeError."""
    sizes = {file.name: file.stat().st_size for file in [folder / "mediacdn.log", *folder.glob("*-access.log")]}
    if empty := [name for name, size in sizes.items() if not size]:
        raise RuntimeError(f"no access log was written: {', '.join(empty)}")
    return sizes


def _told(pair: Pair, measured: list[tuple[Turn, Turn]]) -> dict[str, Any]:
    def middle(of: Callable[[Turn], float]) -> tuple[float, float]:
        return statistics.median(of(ours) for ours, _ in measured), statistics.median(of(theirs) for _, theirs in measured)

    rates = sorted(ours.rate / theirs.rate for ours, theirs in measured)
    costs = sorted(theirs.cost / ours.cost for ours, theirs in measured)
    return {
        "name": pair.name,
        "least": pair.least,
        "aim": pair.aim,
        "connections": pair.connections,
        "ratio": statistics.median(rates),
        "ratios": rates,
        "per_core": statistics.median(costs),
        "per_core_ratios": costs,
        "rate": middle(lambda each: each.rate),
        "busy": middle(lambda each: each.busy),
        "cost": middle(lambda each: each.cost),
        "p99": middle(lambda each: each.p99),
        "compared": sum(ours.compared + theirs.compared for ours, theirs in measured),
    }


def section(outcome: dict[str, Any]) -> str:
    """The outcome for RESULTS.md, with its plot."""
    results = outcome["results"]
    rows = [
        (
            each["name"],
            *(f"{rate:,.0f}/s" for rate in each["rate"]),
            f"**{each['ratio']:.2f}** ({each['ratios'][0]:.2f} to {each['ratios'][-1]:.2f})",
            *(f"{cost:.1f} us" for cost in each["cost"]),
            f"**{each['per_core']:.2f}** ({each['per_core_ratios'][0]:.2f} to {each['per_core_ratios'][-1]:.2f})",
            "" if each["least"] is None else f"{each['least']:g} (aim {each['aim']:g})",
            " / ".join(f"{busy:.0%}" for busy in each["busy"]),
            " / ".join(f"{p99 / 1000:.1f}" for p99 in each["p99"]) if all(each["p99"]) else "",
            f"{each['compared']:,}",
        )
        for each in results
    ]
    heads = ("ours : peer", "ours", "peer", "ratio", "our CPU", "peer CPU", "ratio per core", "to reach", "core busy", "p99 ms", "compared")
    plot = ""
    if outcome["rounds"] >= 5:
        bars(
            "peers",
            [(each["name"], each["ratios"], each["per_core_ratios"], each["least"]) for each in results],
            "requests a second, ours : peer",
        )
        plot = "\n\n![Ratios to the peers](plots/peers.png)"
    return f"""{table(heads, rows)}{plot}

Medians of {outcome["rounds"]} rounds of {outcome["seconds"]:.0f} s a side; a ratio is the median of the rounds' ratios, lowest and highest in brackets. "CPU" is user and system time of all the server's
processes a request, and the ratio per core is that of requests per second of processor time: it survives a noisy machine and a load generator that is the limit (core busy far below
100 %). wrk keeps 32 connections alive (16 for the large ones), each request with eight headers of a browser. {outcome["links"]:,} links over {outcome["pictures"]:,} private pictures of 10 KB are drawn by
Zipf's law (s = 1), the same draws for everyone; nginx has as many secure_link links (MD5) over the same files; proxy_cache is a second nginx before the first. "Discarded" is read by a
client that leaves the bytes in the kernel, because wrk, which copies each, is slower than nginx there. Ranges are {SPANS:,} spans at random of a public file of 256 MB. One answer in
{CHECKED:,} is compared byte by byte by a second client; the last column counts them. All write an access log to a file on the same disk (nginx buffered, Varnish by varnishncsa, whose processor time is
counted) and keep counters. An X-Fill header brings the peers' heads to the size of ours, to {SLACK} bytes. Varnish, Caddy, Litestar and Starlette check no signature; uvloop and llhttp alone keep no log and no count either, and show what is left to win in Python. Their settings are in
`benchmarks/peers/`. thumbor makes variants and is compared when there are variants."""
