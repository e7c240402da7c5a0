"""The calls that make caches in front forget: jobs of kind "purge", planned with the change that needs them, done here until they are answered well.

What is told is always "forget": late, twice or out of order it costs a copy and no truth.
"""

import json
from collections.abc import Iterator, Sequence
from ipaddress import ip_network
from urllib.parse import quote, urlsplit

import structlog
from msgspec import Struct

from mediacdn.config import Purge, PurgeCall
from mediacdn.errors import Conflict, MediaError, Unavailable
from mediacdn.fetch import FetchRules, fetch
from mediacdn.jobs.runner import Running

LARGEST = 65_536
"""Bytes of an answer that are read; nothing in it counts but its status."""

log = structlog.get_logger("mediacdn.purge")


class Request(Struct, frozen=True):
    """One request of a purge, its placeholders filled in."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes | None


class Purging:
    """The work of such jobs, for the configured caches."""

    def __init__(self, purges: Sequence[Purge]) -> None:
        self._purges = {each.name: each for each in purges}
        self._rules = {each.name: _rules(each) for each in purges}

    async def __call__(self, running: Running) -> None:
        """Tell one cache. Raises: Unavailable, for another attempt; Conflict where the configuration knows no way to purge everything."""
        job = running.job
        purge = self._purges.get(job.code or "")
        if purge is None:
            log.warning("a cache in front is configured no more and is not told", cache=job.code, job=job.id)
            return
        ids = job.arguments.get("ids")
        if ids is None and purge.everything is None:
            raise Conflict(f"No request is configured that makes {purge.name} forget everything (purge.everything)")
        wanted = list(requests(purge, ids))
        for number, each in enumerate(wanted, 1):
            await self._send(purge, each)
            running.progress(number / len(wanted))

    async def _send(self, purge: Purge, request: Request) -> None:
        try:
            found = await fetch(
                request.url,
                rules=self._rules[purge.name],
                max_size=LARGEST,
                headers=request.headers,
                method=request.method,
                body=request.body,
            )
        except MediaError as error:
            # Also a refused destination is tried again: whoever mends the configuration has the call made by the next attempt.
            raise Unavailable(f"{purge.name} was not told: {error.detail}") from error
        if not 200 <= found.status < 300 and found.status not in purge.accept:
            raise Unavailable(f"{purge.name} answered {found.status} to a purge")


def requests(purge: Purge, ids: Sequence[str] | None) -> Iterator[Request]:
    """What is to be sent so that these media, or without `ids` everything, are forgotten."""
    if ids is None:
        if purge.everything is not None:
            yield _request(purge, purge.everything, ())
        return
    each_alone = any("{id}" in text for text in (purge.url, purge.body, *purge.headers.values()))
    size = 1 if each_alone else purge.batch
    for at in range(0, len(ids), size):
        yield _request(purge, purge, ids[at : at + size])


def _request(purge: Purge, call: PurgeCall, ids: Sequence[str]) -> Request:
    joined, listed, first = purge.separator.join(ids), json.dumps(list(ids)), ids[0] if ids else ""

    def filled(text: str) -> str:
        return text.replace("{ids_json}", listed).replace("{ids}", joined).replace("{id}", first)

    headers = {name: filled(value) for name, value in call.headers.items()}
    if purge.token:
        headers[purge.token_header] = purge.token
    url = call.url.replace("{ids_json}", quote(listed, safe="")).replace("{ids}", quote(joined, safe=",")).replace("{id}", first)
    return Request(call.method, url, headers, filled(call.body).encode() if call.body else None)


def _rules(purge: Purge) -> FetchRules:
    calls = [purge] if purge.everything is None else [purge, purge.everything]
    ports = {port for each in calls if (port := urlsplit(each.url).port) is not None}
    return FetchRules(
        ports=frozenset({80, 443, *ports}),
        allow=tuple(ip_network(each, strict=False) for each in purge.allow),
        redirects=0,
        total=purge.timeout,
        connect=purge.timeout,
        read=purge.timeout,
    )
