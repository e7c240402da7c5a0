"""The hot lane and the route answer the same bytes to the same bytes, whatever is asked and however it arrives."""

import hashlib
import json
import os
import random
import re
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mediacdn.config import Config, Cors, Edge, Lifecycle, Limits, Server
from tests.services.doors import HOST, RESET, Doors, Said, doors, reordered, request
from tests.services.samples import binary, png, svg, text
from tests.services.served import Served
from tests.services.streams import publish

# The framework's wishes how parameters should be declared; what they are about is not tested here.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Deprecated 'query' parameter:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::litestar.exceptions.base_exceptions.LitestarDeprecationWarning"),
]
QUICK = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], derandomize=False)
MULTI = "bytes=0-99,5000-5099,-100"
UNKNOWN = "0" * 26


class Place:
    """One pair of doors with media of every state behind it; `at` maps a name to a media's path, `body` to its bytes."""

    def __init__(self, pair: Doors) -> None:
        self.pair = pair
        self.ids: dict[str, str] = {}
        self.body: dict[str, bytes] = {}
        for name, body, params in (
            ("small", binary(10_240, b"small"), {}),
            ("public", text(6_000, b"public"), {"public": "true", "tags": "a,b", "filename": "t.txt"}),
            ("picture", png(20, 10, b"picture"), {"public": "true"}),
            ("named", binary(7_000, b"named"), {"filename": "naïve \u2603.bin"}),
            ("active", svg(b"active"), {"public": "true"}),
            ("empty", b"", {"public": "true"}),
            ("file", binary(300_000, b"file"), {"public": "true"}),
            ("private file", binary(200_000, b"private file"), {}),
            ("large", binary(1_200_000, b"large"), {"public": "true"}),
            ("expired", binary(5_000, b"expired"), {"public": "true", "expires_in": "60"}),
            ("ending", binary(5_000, b"ending"), {"public": "true", "expires_in": "9000"}),
            ("revoked", binary(5_000, b"revoked"), {}),
            ("quarantined", binary(5_000, b"quarantined"), {"public": "true"}),
            ("deleted", binary(5_000, b"deleted"), {"public": "true"}),
        ):
            self.ids[name], self.body[name] = pair.upload(body, **params), body
        self.ids["unknown"] = UNKNOWN
        for name in ("public", "small"):
            publish(pair.data, self.ids[name], {"master.m3u8": b"#EXTM3U\n", "segments/0.m4s": binary(90_000, name.encode())})
        time.sleep(1)  # nobody told the server, which finds it in the catalog, and lets go of these cards
        self.warm()
        pair.act("POST", f"/v1/media/{self.ids['quarantined']}/quarantine")
        pair.act("DELETE", f"/v1/media/{self.ids['deleted']}")
        self.before_revocation = pair.signed(self.ids["revoked"], 90_000)
        pair.now += timedelta(hours=1)
        pair.act("POST", f"/v1/media/{self.ids['revoked']}/revoke")
        pair.now += timedelta(hours=1)
        self.warm()
        pair.ask(request(self.at("small"), ("Authorization", pair.bearer("read"))))
        head = pair.ask(self.get("public", method="HEAD")).route.decode("latin-1")
        self.modified = head.partition("last-modified: ")[2].partition("\r\n")[0]

    def warm(self) -> None:
        """Have everything at hand: cards, copies in memory, open files."""
        for _ in range(2):
            for name, media in self.ids.items():
                self.pair.ask(request(self.pair.signed(media)), request(self.at(name)))
            for path in ("master.m3u8", "segments/0.m4s"):
                self.pair.ask(*(request(self.pair.prefixed(self.ids[name], below=f"/hls/{path}")) for name in ("public", "small")))
        wanted = [request(self.at("picture") + "/thumb", ("Accept", each)) for each in (WEBP, "*/*")]
        small = request(self.pair.signed(self.ids["picture"], below=f"/v/{FORM}"))
        self.pair.ask(*wanted, small, request(self.pair.prefixed(self.ids["picture"], below=f"/v/{FORM}", covers=(FORM,))))

    def at(self, name: str) -> str:
        return f"{self.pair.base}/v1/media/{self.ids[name]}"

    def tag(self, name: str) -> str:
        return f'"sha256:{hashlib.sha256(self.body[name]).hexdigest()}"'

    def get(self, name: str, *fields: tuple[str, str | bytes], method: str = "GET") -> bytes:
        return request(self.at(name), *fields, method=method)

    def signed(self, name: str, *fields: tuple[str, str | bytes], method: str = "GET", **more: Any) -> bytes:
        return request(self.pair.signed(self.ids[name], **more), *fields, method=method)

    def prefixed(self, name: str, *fields: tuple[str, str | bytes], method: str = "GET", **more: Any) -> bytes:
        return request(self.pair.prefixed(self.ids[name], **more), *fields, method=method)


def plain(data: Path) -> Config:
    return Config(server=Server(data=str(data)), edge=Edge(sweep_every=0.1), limits=Limits(uploads_per_second=0))


def strict(data: Path) -> Config:
    """Everything that changes what an answer to a read says."""
    return Config(
        server=Server(data=str(data), base_path="/base", allowed_hosts=(HOST, "*.other.example"), trusted_proxies=("127.0.0.0/8",)),
        cors=Cors(media_origins=("https://a.example", "null"), origins=("https://b.example",), resource_policy="same-site"),
        edge=Edge(sweep_every=0.1, cdn_max_age=777, surrogate_key_header="Surrogate-Key", memory_local=150_000, memory_eviction="tinylfu"),
        lifecycle=Lifecycle(tombstone="gone", quarantine_answer="not_found"),
        limits=Limits(uploads_per_second=0),
    )


@pytest.fixture(scope="module", params=[plain, strict], ids=["plain", "strict"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with doors(request.param(tmp_path_factory.mktemp("doors"))) as pair:
        yield Place(pair)


class Kind(NamedTuple):
    """A request, the status it gets, and whether the lane answers it by itself."""

    ask: Callable[[Place], bytes]
    status: int
    by_lane: bool = True


WEBP = "image/avif,image/webp,*/*;q=0.8"
FORM = "w=10,h=5,fit=cover,format=png"
SOON, LONG_AGO = "Fri, 01 Jan 2100 00:00:00 GMT", "Thu, 01 Jan 2015 00:00:00 GMT"
KINDS: dict[str, Kind] = {
    "public": Kind(lambda p: p.get("public"), 200),
    "public, head": Kind(lambda p: p.get("public", method="HEAD"), 200),
    "picture": Kind(lambda p: p.get("picture"), 200),
    "signed": Kind(lambda p: p.signed("small"), 200),
    "signed, head": Kind(lambda p: p.signed("small", method="HEAD"), 200),
    "signed, any order": Kind(lambda p: request(reordered(p.pair.signed(p.ids["small"], sub="a b"))), 200),
    "signed, attachment": Kind(lambda p: p.signed("small", disposition="attachment"), 200),
    "signed for an address": Kind(lambda p: p.signed("small", ip="127.0.0.0/8"), 200),
    "signed for another address": Kind(lambda p: p.signed("small", ip="192.0.2.1"), 403, False),
    "public and signed": Kind(lambda p: p.signed("public"), 200),
    "prefix token": Kind(lambda p: p.prefixed("small"), 200),
    "prefix token, head": Kind(lambda p: p.prefixed("small", method="HEAD"), 200),
    "prefix token that says more": Kind(lambda p: p.prefixed("small", sub="x", covers=("w=10",)), 200),
    "prefix token of another media": Kind(lambda p: request(p.pair.prefixed(p.ids["named"])[:-26] + p.ids["small"]), 403, False),
    "known token": Kind(lambda p: p.get("small", ("Authorization", p.pair.bearer("read"))), 200),
    "token, lower case scheme": Kind(lambda p: p.get("small", ("authorization", p.pair.bearer("read").replace("Bearer", "bearer"))), 200),
    "wrong token": Kind(lambda p: p.get("small", ("Authorization", p.pair.bearer("read")[:-2])), 401, False),
    "other credentials": Kind(lambda p: p.get("small", ("Authorization", "Basic YTpi")), 401, False),
    "no credentials": Kind(lambda p: p.get("small"), 401, False),
    "public, wrong token": Kind(lambda p: p.get("public", ("Authorization", "Bearer nonsense")), 200),
    "thumb": Kind(lambda p: request(p.at("picture") + "/thumb", ("Accept", WEBP)), 200),
    "thumb in another format": Kind(lambda p: request(p.at("picture") + "/thumb"), 200),
    "thumb, two fields of formats": Kind(lambda p: request(p.at("picture") + "/thumb", ("Accept", "text/html"), ("Accept", WEBP)), 200),
    "thumb as a preset": Kind(lambda p: request(p.at("picture") + "/v/thumb", ("Accept", WEBP)), 200),
    "thumb, head": Kind(lambda p: request(p.at("picture") + "/thumb", method="HEAD"), 200),
    "thumb, range": Kind(lambda p: request(p.at("picture") + "/thumb", ("Range", "bytes=3-9")), 206),
    "thumb, not modified": Kind(lambda p: request(p.at("picture") + "/thumb", ("If-None-Match", "*")), 304),
    "thumb, signed": Kind(lambda p: request(p.pair.signed(p.ids["picture"], below="/thumb")), 200),
    "thumb, prefix token": Kind(lambda p: request(p.pair.prefixed(p.ids["picture"], below="/thumb")), 200),
    "thumb, signature of the original": Kind(
        lambda p: request(p.pair.signed(p.ids["picture"]).replace(p.ids["picture"], p.ids["picture"] + "/thumb")), 403, False
    ),
    "thumb of no picture": Kind(lambda p: request(p.at("public") + "/thumb"), 404, False),
    "thumb of what is withheld": Kind(lambda p: request(p.pair.signed(p.ids["quarantined"], below="/thumb")), 0, False),
    "variant": Kind(lambda p: request(p.pair.signed(p.ids["picture"], below=f"/v/{FORM}")), 200),
    "variant, prefix token": Kind(lambda p: request(p.pair.prefixed(p.ids["picture"], below=f"/v/{FORM}", covers=(FORM,))), 200),
    "variant, prefix token without it": Kind(lambda p: request(p.pair.prefixed(p.ids["picture"], below=f"/v/{FORM}")), 403, False),
    "variant without a link": Kind(lambda p: request(p.at("picture") + f"/v/{FORM}"), 403, False),
    "variant not well-formed": Kind(lambda p: request(p.pair.signed(p.ids["picture"], below="/v/w=x")), 422, False),
    "preset unknown": Kind(lambda p: request(p.at("picture") + "/v/thum"), 404, False),
    "below a variant": Kind(lambda p: request(p.at("picture") + "/thumb/thumb"), 404, False),
    "manifest": Kind(lambda p: request(p.at("public") + "/hls/master.m3u8"), 200),
    "manifest, prefix token": Kind(lambda p: request(p.pair.prefixed(p.ids["small"], below="/hls/master.m3u8")), 200),
    "manifest, by a token": Kind(lambda p: request(p.at("small") + "/hls/master.m3u8", ("Authorization", p.pair.bearer("read"))), 200),
    "manifest, token of another media": Kind(
        lambda p: request(p.pair.prefixed(p.ids["public"], below="/hls/master.m3u8").replace(p.ids["public"], p.ids["small"])), 403, False
    ),
    "manifest without a right": Kind(lambda p: request(p.at("small") + "/hls/master.m3u8"), 401, False),
    "manifest, not modified": Kind(lambda p: request(p.at("public") + "/hls/master.m3u8", ("If-None-Match", "*")), 304),
    "segment": Kind(lambda p: request(p.at("public") + "/hls/segments/0.m4s"), 200),
    "segment, head": Kind(lambda p: request(p.at("public") + "/hls/segments/0.m4s", method="HEAD"), 200),
    "segment, prefix token": Kind(lambda p: request(p.pair.prefixed(p.ids["small"], below="/hls/segments/0.m4s")), 200),
    "segment, range": Kind(lambda p: request(p.at("public") + "/hls/segments/0.m4s", ("Range", "bytes=5-70004")), 206),
    "segment, range not satisfiable": Kind(
        lambda p: request(p.at("public") + "/hls/segments/0.m4s", ("Range", "bytes=90000-")), 416, False
    ),
    "segment that is not": Kind(lambda p: request(p.at("public") + "/hls/segments/1.m4s"), 404, False),
    "segment above its folder": Kind(lambda p: request(p.at("public") + "/hls/../hls/master.m3u8"), 404, False),
    "stream of what has none": Kind(lambda p: request(p.at("picture") + "/hls/master.m3u8"), 404, False),
    "poster of what has none": Kind(lambda p: request(p.at("public") + "/poster"), 404, False),
    "with a name": Kind(lambda p: p.signed("named"), 200),
    "active type": Kind(lambda p: p.get("active"), 200),
    "empty": Kind(lambda p: p.get("empty"), 200),
    "empty, head": Kind(lambda p: p.get("empty", method="HEAD"), 200),
    "empty, range": Kind(lambda p: p.get("empty", ("Range", "bytes=0-")), 200),
    "file": Kind(lambda p: p.get("file"), 200),
    "file, head": Kind(lambda p: p.get("file", method="HEAD"), 200),
    "file, range": Kind(lambda p: p.get("file", ("Range", "bytes=100000-200000")), 206),
    "file, signed": Kind(lambda p: p.signed("private file"), 200),
    "file, several ranges": Kind(lambda p: p.get("file", ("Range", MULTI)), 206, False),
    "file, revalidated": Kind(lambda p: p.get("file", ("If-None-Match", p.tag("file"))), 304),
    "larger than the lane sends": Kind(lambda p: p.get("large"), 200, False),
    "range of a large one": Kind(lambda p: p.get("large", ("Range", "bytes=7-65542")), 206),
    "range": Kind(lambda p: p.signed("small", ("Range", "bytes=10-19")), 206),
    "range of one byte": Kind(lambda p: p.get("public", ("Range", "bytes=0-0")), 206),
    "open range": Kind(lambda p: p.get("public", ("Range", "bytes=5990-")), 206),
    "range beyond the end": Kind(lambda p: p.get("public", ("Range", "bytes=5990-999999999999999999999")), 206),
    "suffix range": Kind(lambda p: p.get("public", ("Range", "bytes=-10")), 206),
    "suffix range of more than all": Kind(lambda p: p.get("public", ("Range", "bytes=-99999")), 206),
    "several ranges": Kind(lambda p: p.signed("small", ("Range", MULTI)), 206),
    "ranges that become one": Kind(lambda p: p.signed("small", ("Range", "bytes=0-9,5-19,20-29")), 206),
    "range not well-formed": Kind(lambda p: p.get("public", ("Range", "bytes=9-5")), 200),
    "range of another unit": Kind(lambda p: p.get("public", ("Range", "lines=1-2")), 200),
    "range of head": Kind(lambda p: p.get("public", ("Range", "bytes=0-1"), method="HEAD"), 200),
    "range, if the tag is": Kind(lambda p: p.get("public", ("Range", "bytes=0-1"), ("If-Range", p.tag("public"))), 206),
    "range, if the tag were": Kind(lambda p: p.get("public", ("Range", "bytes=0-1"), ("If-Range", '"other"')), 200),
    "range, if the tag is weak": Kind(lambda p: p.get("public", ("Range", "bytes=0-1"), ("If-Range", "W/" + p.tag("public"))), 200),
    "range, if the date is": Kind(lambda p: p.get("public", ("Range", "bytes=0-1"), ("If-Range", p.modified)), 206),
    "range, if the date were": Kind(lambda p: p.get("public", ("Range", "bytes=0-1"), ("If-Range", LONG_AGO)), 200),
    "not modified by tag": Kind(lambda p: p.get("public", ("If-None-Match", p.tag("public"))), 304),
    "not modified by weak tag": Kind(lambda p: p.get("public", ("If-None-Match", f'"x", W/{p.tag("public")}')), 304),
    "not modified by star": Kind(lambda p: p.get("public", ("If-None-Match", "*")), 304),
    "not modified by two fields": Kind(lambda p: p.get("public", ("If-None-Match", '"x"'), ("If-None-Match", p.tag("public"))), 304),
    "not modified, signed": Kind(lambda p: p.signed("small", ("If-None-Match", p.tag("small"))), 304),
    "not modified, head": Kind(lambda p: p.get("public", ("If-None-Match", p.tag("public")), method="HEAD"), 304),
    "not modified by date": Kind(lambda p: p.get("public", ("If-Modified-Since", p.modified)), 304),
    "modified by date": Kind(lambda p: p.get("public", ("If-Modified-Since", LONG_AGO)), 200),
    "modified by tag": Kind(lambda p: p.get("public", ("If-None-Match", '"x"'), ("If-Modified-Since", p.modified)), 200),
    "matched": Kind(lambda p: p.get("public", ("If-Match", p.tag("public")), ("If-Unmodified-Since", LONG_AGO)), 200),
    "precondition failed by tag": Kind(lambda p: p.get("public", ("If-Match", '"x"')), 412, False),
    "precondition failed by date": Kind(lambda p: p.get("public", ("If-Unmodified-Since", LONG_AGO)), 412, False),
    "precondition met by date": Kind(lambda p: p.get("public", ("If-Unmodified-Since", SOON)), 200),
    "range not satisfiable": Kind(lambda p: p.get("public", ("Range", "bytes=6000-")), 416, False),
    "expired": Kind(lambda p: p.get("expired"), 410, False),
    "ending soon": Kind(lambda p: p.get("ending"), 200),
    "link that ends before the media's freshness": Kind(lambda p: p.signed("small", lifetime=30), 200),
    "revoked": Kind(lambda p: request(p.before_revocation), 403, False),
    "signed after the revocation": Kind(lambda p: p.signed("revoked"), 200),
    "expired link": Kind(lambda p: p.signed("small", lifetime=60, ago=60), 410, False),
    "expired prefix token": Kind(lambda p: p.prefixed("small", lifetime=60, ago=61), 410, False),
    "link from the future": Kind(lambda p: p.signed("small", ago=-100), 403, False),
    "wrong signature": Kind(lambda p: request(p.pair.signed(p.ids["small"])[:-1] + "!"), 403, False),
    "signature of another media": Kind(
        lambda p: request(p.pair.signed(p.ids["small"]).replace(p.ids["small"], p.ids["named"])), 403, False
    ),
    "public, wrong signature": Kind(lambda p: request(p.at("public") + "?sig=x"), 403, False),
    "unknown": Kind(lambda p: p.signed("unknown"), 404, False),
    "unknown, no link": Kind(lambda p: p.get("unknown", ("Authorization", p.pair.bearer("read"))), 404, False),
    "quarantined": Kind(lambda p: p.signed("quarantined"), 0, False),
    "deleted": Kind(lambda p: p.signed("deleted"), 0, False),
    "record": Kind(lambda p: request(p.at("public") + "/record", ("Authorization", p.pair.bearer("read"))), 200, False),
    "another path": Kind(lambda p: request(p.pair.base + "/healthz"), 200, False),
    "no path": Kind(lambda p: request(p.pair.base + "/v2"), 404, False),
    "post": Kind(lambda p: p.get("public", ("Content-Length", "0"), method="POST"), 405, False),
    "options": Kind(lambda p: p.get("public", method="OPTIONS"), 204, False),
    "preflight": Kind(
        lambda p: p.get("public", ("Origin", "https://a.example"), ("Access-Control-Request-Method", "GET"), method="OPTIONS"), 204, False
    ),
    "parameters": Kind(lambda p: request(p.at("public") + "?a=b&c=%41&&=&d"), 200),
    "empty query": Kind(lambda p: request(p.at("public") + "?"), 200),
    "signed with another parameter": Kind(lambda p: request(p.pair.signed(p.ids["small"]) + "&a=b"), 403, False),
    "signed twice": Kind(lambda p: request(p.pair.signed(p.ids["small"]) + "&sig=" + "A" * 43), 403, False),
    "fragment": Kind(lambda p: request(p.at("public") + "#f"), 400, False),
    "fragment after a query": Kind(lambda p: request(p.at("public") + "?a#f"), 400, False),
    "double slash": Kind(lambda p: request(p.at("public").replace("/media/", "//media/")), 200, False),
    "double slash in front": Kind(lambda p: request("/" + p.at("public")), 0, False),
    "last slash": Kind(lambda p: request(p.at("public") + "/"), 200, False),
    "percent-encoded letter": Kind(lambda p: request(p.at("public").replace("/media/", "/m%65dia/")), 200, False),
    "percent-encoded id": Kind(lambda p: request(p.at("public")[:-1] + f"%{ord(p.at('public')[-1]):02x}"), 200, False),
    "percent-encoded slash": Kind(lambda p: request(p.at("public").replace("/media/", "/media%2f")), 0, False),
    "dot segment": Kind(lambda p: request(p.at("public").replace("/media/", "/x/../media/")), 404, False),
    "lower-case id": Kind(lambda p: request(p.at("public").lower()), 404, False),
    "id with a space behind": Kind(lambda p: request(p.at("public") + "%20"), 404, False),
    "absolute form": Kind(lambda p: request(f"http://{HOST}{p.at('public')}"), 200, False),
    "absolute form of another host": Kind(lambda p: request(f"http://elsewhere.example{p.at('public')}"), 0, False),
    "connection close": Kind(lambda p: p.get("public", ("Connection", "close")), 200, False),
    "connection keep-alive": Kind(lambda p: p.get("public", ("Connection", "Keep-Alive")), 200),
    "http/1.0": Kind(lambda p: p.get("public").replace(b"HTTP/1.1", b"HTTP/1.0"), 200, False),
    "http/1.0, kept alive": Kind(lambda p: p.get("public", ("Connection", "keep-alive")).replace(b"HTTP/1.1", b"HTTP/1.0"), 200, False),
    "upgrade": Kind(lambda p: p.get("public", ("Connection", "Upgrade"), ("Upgrade", "websocket")), 200, False),
    "upgrade without connection": Kind(lambda p: p.get("public", ("Upgrade", "h2c")), 200),
    "http/2 settings": Kind(
        lambda p: p.get("public", ("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "")), 200, False
    ),
    "expect": Kind(lambda p: p.get("public", ("Expect", "100-continue")), 200, False),
    "expect with a body": Kind(lambda p: p.get("public", ("Expect", "100-continue"), ("Content-Length", "3")) + b"abc", 200, False),
    "body": Kind(lambda p: p.get("public", ("Content-Length", "5")) + b"GET /", 200, False),
    "body of no bytes": Kind(lambda p: p.get("public", ("Content-Length", "0")), 200),
    "chunked body": Kind(
        lambda p: p.get("public", ("Transfer-Encoding", "chunked")) + b"3\r\nabc\r\n0\r\nRange: bytes=0-1\r\n\r\n", 200, False
    ),
    "chunked body of nothing": Kind(lambda p: p.get("public", ("Transfer-Encoding", "chunked")) + b"0\r\n\r\n", 200, False),
    "two lengths": Kind(lambda p: p.get("public", ("Content-Length", "0"), ("Content-Length", "0")), 400, False),
    "length and chunks": Kind(
        lambda p: p.get("public", ("Content-Length", "0"), ("Transfer-Encoding", "chunked")) + b"0\r\n\r\n", 400, False
    ),
    "no host": Kind(lambda p: request(p.at("public"), host=None), 400, False),
    "host with a space": Kind(lambda p: request(p.at("public"), host=f"{HOST} x"), 400, False),
    "host with a query": Kind(lambda p: request(p.at("public"), host=f"{HOST}?"), 400, False),
    "host with spaces around": Kind(lambda p: request(p.at("public"), host=f" \t{HOST} \t"), 200),
    "host of 8 bits": Kind(lambda p: request(p.at("public"), host=HOST + "\xe9"), 400, False),
    "two hosts": Kind(lambda p: p.get("public", ("Host", HOST)), 400, False),
    "repeated authorization": Kind(lambda p: p.get("small", *[("Authorization", p.pair.bearer("read"))] * 2), 401, False),
    "repeated range": Kind(lambda p: p.get("public", ("Range", "bytes=0-1"), ("Range", "bytes=4-5")), 0, False),
    "repeated origin": Kind(lambda p: p.get("public", ("Origin", "https://a.example"), ("Origin", "https://b.example")), 200, False),
    "repeated request id": Kind(lambda p: p.get("public", ("X-Request-Id", "abcdefgh"), ("X-Request-Id", "ijklmnop")), 200, False),
    "repeated conditional date": Kind(lambda p: p.get("public", *[("If-Modified-Since", p.modified)] * 2), 0, False),
    "repeated and unknown": Kind(lambda p: p.get("public", ("X-A", "1"), ("X-A", "2"), ("Accept", ""), ("Accept", "*/*")), 200),
    "method asked for in a read": Kind(
        lambda p: p.get("public", ("Origin", "https://b.example"), ("Access-Control-Request-Method", "DELETE")), 200
    ),
    "100 fields": Kind(lambda p: p.get("public", *[(f"X-{n}", "v" * n) for n in range(99)]), 200),
    "101 fields": Kind(lambda p: p.get("public", *[(f"X-{n}", "v" * n) for n in range(100)]), 431, False),
    "obs-text": Kind(lambda p: p.get("public", ("If-None-Match", b'"\xff\xfe"'), ("Origin", b"\xe9"), ("Range", b"bytes=\xb2-")), 200),
    "obs-text in the target": Kind(lambda p: request(p.at("public") + "?\xe9"), 0, False),
    "empty values": Kind(lambda p: p.get("public", ("Range", ""), ("If-None-Match", ""), ("Origin", ""), ("Authorization", "")), 200),
    "spaces around values": Kind(lambda p: p.get("public", ("Range", " \t bytes=0-1 \t")), 206),
    "names in mixed case": Kind(lambda p: p.get("public", ("rAnGe", "bytes=0-1"), ("iF-rAnGe", p.tag("public"))), 206),
    "origin of media": Kind(lambda p: p.get("public", ("Origin", "https://a.example")), 200),
    "origin of the interface": Kind(lambda p: p.get("public", ("Origin", "https://b.example")), 200),
    "origin unknown": Kind(lambda p: p.get("public", ("Origin", "https://evil.example")), 200),
    "origin null": Kind(lambda p: p.get("public", ("Origin", "null")), 200),
    "forwarded": Kind(lambda p: p.get("public", ("X-Forwarded-For", "198.51.100.7, 127.0.0.1")), 200),
    "forwarded twice": Kind(lambda p: p.get("public", ("X-Forwarded-For", "198.51.100.7"), ("X-Forwarded-For", "127.0.0.9")), 200),
    "given request id": Kind(lambda p: p.get("public", ("X-Forwarded-For", "198.51.100.7"), ("X-Request-Id", "given-by-the-proxy")), 200),
    "request id of no proxy": Kind(lambda p: p.get("public", ("X-Request-Id", "given-by-the-proxy")), 200),
    "head of another case": Kind(lambda p: p.get("public", method="get"), 400, False),
}


def same(said: Said) -> None:
    assert said.lane == said.route


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_of_request(place: Place, name: str) -> None:
    kind = KINDS[name]
    asked = kind.ask(place)
    for said in (place.pair.ask(asked), place.pair.ask(asked, at_once=True)):
        same(said)
        assert kind.status in (said.status, 0)
        assert said.by_lane == kind.by_lane


def test_a_link_for_an_address_behind_a_proxy(place: Place) -> None:
    """Only a trusted one is believed, at either door."""
    trusted = bool(place.pair.config.server.trusted_proxies)
    for address, good in (("198.51.100.7", trusted), ("127.0.0.1", not trusted)):
        said = place.pair.ask(place.signed("small", ("X-Forwarded-For", "192.0.2.9, 198.51.100.7"), ip=address))
        same(said)
        assert (said.status, said.by_lane) == ((200, 1) if good else (403, 0))


READABLE = ["small", "public", "picture", "named", "active", "empty", "file", "private file", "large", "ending", "revoked"]
OPEN = {"public", "picture", "active", "empty", "file", "large", "ending"}
REFUSED = ["expired", "deleted", "quarantined", "unknown"]
RANGES = st.one_of(
    st.sampled_from(
        ["bytes=0-", "bytes=-1", "bytes=0-0", "bytes=5999-6000", "bytes=9-1", MULTI, "bytes=0-1,-1", "bytes=,", "BYTES=1-2", "x=1", ""]
    ),
    st.lists(st.tuples(st.integers(0, 310_000), st.integers(0, 20_000)).map(lambda p: f"{p[0]}-{p[0] + p[1]}"), min_size=1, max_size=5).map(
        lambda ranges: "bytes=" + ", ".join(ranges)
    ),
    st.text("bytes=0123,- \t", max_size=20),
)
VALUES = st.binary(max_size=12).map(lambda value: bytes(each if each == 9 or 32 <= each != 127 else 46 for each in value))
CHANGES = ["parameters", "escape", "slashes", "lower", "fragment", "absolute", "no query", "cut"]


@st.composite
def asked(draw: st.DrawFn, place: Place) -> bytes:
    """A read of anything in any state, by any right, with fields that matter and some that do not; often a little wrong."""
    seldom = st.sampled_from([False, False, False, False, True])
    name = draw(st.sampled_from(REFUSED if draw(seldom) else READABLE))
    pair, media = place.pair, place.ids[name]
    right = draw(
        st.sampled_from(["expired", "for an address", "plain"] if draw(seldom) else ["signed", "reordered", "attachment", "prefix"])
    )
    if name in OPEN and draw(st.booleans()):
        right = "plain"
    target = {
        "plain": lambda: place.at(name),
        "signed": lambda: pair.signed(media),
        "reordered": lambda: reordered(pair.signed(media, sub="x y", ip="127.0.0.1")),
        "attachment": lambda: pair.signed(media, disposition="attachment"),
        "prefix": lambda: pair.prefixed(media),
        "expired": lambda: pair.signed(media, lifetime=1, ago=1),
        "for an address": lambda: pair.signed(media, ip="198.51.100.0/24"),
    }[right]()
    how, at = draw(st.sampled_from(CHANGES)) if draw(seldom) else "", draw(st.integers(0, len(target) - 1))
    raw = target.encode()
    if how == "parameters":
        raw += (b"&" if b"?" in raw else b"?") + draw(st.text([chr(each) for each in range(33, 127)], max_size=12)).encode()
    elif how == "escape":
        raw = raw[:at] + b"%%%02X" % raw[at] + raw[at + 1 :]
    elif how == "slashes":
        raw = raw[:at].replace(b"/", b"//") + raw[at:]
    elif how == "fragment":
        raw = raw[:at] + b"#" + raw[at:]
    elif how == "lower":
        raw = raw.lower()
    elif how == "absolute":
        raw = b"http://" + draw(st.sampled_from([b"t.example", b"t.example:80", b"evil.example"])) + raw
    elif how == "no query":
        raw = raw.partition(b"?")[0] + b"?"
    elif how == "cut":
        raw = raw[: max(1, at)]
    tag, bearer = place.tag(name) if name in place.body else '"x"', pair.bearer("read")
    tags = st.sampled_from([tag, f"W/{tag}", '"x"', "*", f'"a", {tag}', "", "x"])
    dates = st.sampled_from([place.modified, SOON, LONG_AGO, format_datetime(pair.now, usegmt=True), "yesterday", ""])
    field = st.one_of(
        st.tuples(st.just("Range"), RANGES),
        st.tuples(st.just("If-None-Match"), tags),
        st.tuples(st.just("If-Match"), tags),
        st.tuples(st.just("If-Range"), st.one_of(tags, dates)),
        st.tuples(st.sampled_from(["If-Modified-Since", "If-Unmodified-Since"]), dates),
        st.tuples(st.just("Authorization"), st.sampled_from([bearer, bearer, bearer[:-1], "Bearer", "", "Basic eDp5"])),
        st.tuples(st.just("Origin"), st.sampled_from(["https://a.example", "https://b.example", "https://c.example", "null", ""])),
        st.tuples(st.just("X-Forwarded-For"), st.sampled_from(["198.51.100.7", "10.0.0.1, 198.51.100.7,127.0.0.1", "nobody", "", "::1"])),
        st.tuples(st.just("X-Request-Id"), st.sampled_from(["client-gave-this-one", "short", "no good id", ""])),
        st.tuples(st.just("Connection"), st.sampled_from(["keep-alive", "TE", "", "close", "Upgrade"])),
        st.tuples(
            st.sampled_from(["Upgrade", "Access-Control-Request-Method", "Expect", "TE", "Cookie"]),
            st.sampled_from(["h2c", "PUT", "x", ""]),
        ),
        st.tuples(st.sampled_from(["Accept", "Accept-Encoding", "User-Agent", "Cache-Control", "X-A"]), VALUES),
        st.tuples(st.sampled_from(["Range", "If-Range", "If-None-Match", "Origin", "X-Forwarded-For", "If-Modified-Since"]), VALUES),
    )
    fields = [
        (draw(st.sampled_from([key, key.lower(), key.upper()])), value)
        for key, value in draw(st.lists(field, max_size=draw(st.sampled_from([0, 1, 2, 5]))))
    ]
    hosts = (
        ["T.EXAMPLE.", "a.other.example:8400", "evil.example", "", f" {HOST}\t", f"{HOST}/", f"u@{HOST}", "\xe9", None]
        if draw(seldom)
        else [HOST]
    )
    return request(
        raw,
        *fields,
        method=draw(st.sampled_from(["GET", "GET", "HEAD", "OPTIONS" if draw(seldom) else "GET"])),
        host=draw(st.sampled_from(hosts)),
    )


def test_any_request(place: Place) -> None:
    seen: Counter[str] = Counter()

    @settings(QUICK, max_examples=250)
    @given(asked(place))
    def both(each: bytes) -> None:
        said = place.pair.ask(each)
        same(said)
        seen["lane" if said.by_lane else f"route {said.status}"] += 1

    both()
    assert seen["lane"] > sum(seen.values()) / 3  # or little of the lane was tried
    assert len(seen) > 6


@st.composite
def conversation(draw: st.DrawFn, place: Place, kinds: list[str]) -> list[bytes]:
    """Several requests on one connection, cut in pieces anywhere."""
    chosen = draw(st.lists(st.sampled_from(kinds), min_size=2, max_size=8))
    whole = b"".join(KINDS[each].ask(place) for each in chosen)
    cuts = [] if BODIES & set(chosen) else sorted(draw(st.sets(st.integers(1, len(whole) - 1), max_size=4)))
    return [whole[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(whole)], strict=True)]


# Whether the connection stays open after these depends on whether the rest of the body was there in time, so they are never cut.
BODIES = {"body", "chunked body", "chunked body of nothing", "expect with a body"}
ONGOING = [name for name in KINDS if name not in ("connection close", "http/1.0", "http/1.0, kept alive")]
ANSWERED = [name for name, kind in KINDS.items() if kind.by_lane and kind.status in (200, 206, 304)]
FILES = [
    "file",
    "file, range",
    "file, signed",
    "range of a large one",
    "larger than the lane sends",
    "file, several ranges",
    "public",
    "signed, head",
    "wrong token",
]


@pytest.mark.parametrize(
    ("kinds", "sip", "examples"), [(ANSWERED, 0, 80), (ONGOING, 0, 120), (FILES, 0, 60), (FILES, 50_000, 25), (ANSWERED, 3000, 40)]
)
def test_conversations(place: Place, kinds: list[str], sip: int, examples: int) -> None:
    """Order and framing hold whatever is mixed, also while the reader is slow and writing pauses between the answers."""
    by_lane = 0

    @settings(QUICK, max_examples=examples)
    @given(conversation(place, kinds))
    def both(pieces: list[bytes]) -> None:
        nonlocal by_lane
        said = place.pair.ask(*pieces, at_once=True, sip=sip)
        same(said)
        assert said.lane.endswith(b"}")  # of the last request's 404: nothing was cut off
        by_lane += said.by_lane

    both()
    assert by_lane > examples


@st.composite
def insistent(draw: st.DrawFn, place: Place) -> list[bytes]:
    """A reader who says the same of itself again and again, of one media or several, now with a condition or a range and now without; each in a piece of its own."""
    whole = draw(asked(place))
    fields = whole.partition(b"\r\n")[2]
    line = st.sampled_from(
        [
            b"If-None-Match: *",
            b"if-none-match: " + place.tag("small").encode(),
            b"If-None-Match:\t*",
            b"If-None-Match: " + place.tag("file").encode(),
            b"Range: bytes=3-9",
            b"Range: bytes=9-3",
            b"Range: bytes=4999-250000",
            b"range: bytes=-5 ",
            b"Range: x",
        ]
    )
    told = []
    for _ in range(draw(st.integers(2, 5))):
        name = draw(st.sampled_from(READABLE))
        target = place.pair.signed(place.ids[name]) if draw(st.booleans()) else place.at(name)
        lines = fields.split(b"\r\n")
        if draw(st.booleans()):
            lines.insert(draw(st.integers(0, len(lines) - 2)), draw(line))
        told.append(b"GET %b HTTP/1.1\r\n%b" % (target.encode(), b"\r\n".join(lines)))
    at = draw(st.integers(0, len(told)))
    return [*told[:at], whole, *told[at:]]


def test_a_reader_who_says_the_same_again(place: Place) -> None:
    by_lane = requests = 0

    @settings(QUICK, max_examples=150)
    @given(insistent(place))
    def both(pieces: list[bytes]) -> None:
        nonlocal by_lane, requests
        try:
            said = place.pair.ask(*pieces)
        except (BrokenPipeError, ConnectionResetError):  # the first was refused, and its connection ended before the rest was said
            return
        if b"HTTP/1.1 400 " in said.route:
            return
        same(said)
        by_lane, requests = by_lane + said.by_lane, requests + len(pieces)

    both()
    assert by_lane > requests / 4


KNOWN_THEN = [
    "Range: bytes=0-0",
    "Range: bytes=00-0009",
    "Range: bytes=4999-250000",
    "Range: bytes=9-3",
    "Range: bytes=5000000-5000001",
    "Range: bytes=5-",
    "Range: bytes=0-1,4-5",
    "If-None-Match: {tag}",
    'If-None-Match: "x"',
]


@pytest.mark.parametrize("known", [(), ("If-Range", "{tag}"), ("If-Range", '"x"'), ("If-Match", "{tag}"), ("Origin", "https://a.example")])
@pytest.mark.parametrize("line", KNOWN_THEN)
def test_a_known_reader_adds_a_range_or_a_tag(place: Place, known: tuple[str, str], line: str) -> None:
    """After a request with the same fields but that one, whose answer was the whole; also of copies in memory, of files, of what is too large, and by a link that saves."""
    by_lane = 0
    for name in ("public", "picture", "ending", "file", "private file", "large", "empty", "named"):
        for target in [place.pair.signed(place.ids[name], disposition="attachment"), place.at(name)]:
            fields = [(known[0], known[1].format(tag=place.tag(name)))] if known else []
            field, _, value = line.format(tag=place.tag(name)).partition(": ")
            plain, varied = request(target, *fields), request(target, *fields, (field, value))
            said = place.pair.ask(plain, plain, varied, plain)
            same(said)
            by_lane += said.by_lane
    assert by_lane > 30


SLIPS = [
    b"\r", b"\n", b"\r\n", b"\r\n ", b"\r\n\r\n", b" ", b"\t", b"\0", b":", b"#", b"?", b"%", b"/", b"\xff", b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b"GET ", b"Host: x\r\n",
    b"Range: bytes=0-1\r\n", b"If-None-Match: *\r\n", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"Expect: 100-continue\r\n",
]  # fmt: skip


@st.composite
def slipped(draw: st.DrawFn, place: Place) -> list[bytes]:
    """Requests with the same fields, and among them one in whose bytes something is too much, missing or twice; what comes after it may be its own or nobody's."""
    target = st.sampled_from(
        [place.at("public"), place.at("picture"), place.pair.signed(place.ids["small"]), place.pair.prefixed(place.ids["file"])]
    )
    fields = (("User-Agent", "a"), ("Accept", "*/*"))
    known, odd = (
        request(draw(target), *fields),
        request(draw(target), *fields[: draw(st.integers(0, 2))], ("Range", "bytes=0-9"), *fields[:1]),
    )
    for _ in range(draw(st.integers(1, 3))):
        odd = odd if draw(st.booleans()) else known
        at = draw(
            st.one_of(st.integers(0, len(odd)), st.sampled_from([each.start() for each in re.finditer(rb"\r\n|(?<=\r\n)| HTTP", odd)]))
        )
        odd = odd[:at] + draw(st.sampled_from(SLIPS)) + odd[at + draw(st.sampled_from([0, 0, 0, 1, 2])) :]
    return [known, known, *([odd] * draw(st.integers(1, 2))), known]


def test_a_slip_beside_fields_that_are_known(place: Place) -> None:
    by_lane = 0

    @settings(QUICK, max_examples=80)
    @given(slipped(place))
    def both(pieces: list[bytes]) -> None:
        nonlocal by_lane
        for _ in range(3):  # an odd request may end its connection before or after the next has come, which is not for the doors to say
            try:
                said = place.pair.ask(*pieces, hang_up=True)
            except OSError:  # its connection ended before all was said
                return
            if RESET in (said.lane[-len(RESET) :], said.route[-len(RESET) :]):  # or just then
                return
            if said.lane == said.route:
                break
        same(said)
        by_lane += said.by_lane

    both()
    assert by_lane > 80


@pytest.mark.parametrize("name", ["range, if the tag is", "signed", "file", "prefix token", "wrong signature"])
def test_split_at_every_byte(place: Place, name: str) -> None:
    kind = KINDS[name]
    whole = kind.ask(place)
    expected = place.pair.ask(whole)
    for at in range(1, len(whole)):
        assert place.pair.ask(whole[:at], whole[at:]) == expected
    assert place.pair.ask(*(whole[at : at + 1] for at in range(len(whole)))) == expected
    assert expected.by_lane == kind.by_lane


def test_one_connection_for_all_kinds(place: Place) -> None:
    """Every kind that leaves the connection open, one after another in two orders, in reads of 1,000 bytes."""
    for seed in range(2):
        order = [name for name in ONGOING if KINDS[name].status not in (400, 431) and name not in {"obs-text in the target", *BODIES}]
        random.Random(seed).shuffle(order)
        expected = sum(KINDS[name].by_lane for name in order)
        for _ in range(3):  # on a busy machine the lane may once want for something that it had at hand
            whole = b"".join(KINDS[name].ask(place) for name in order)
            said = place.pair.ask(*(whole[at : at + 1000] for at in range(0, len(whole), 1000)), at_once=True)
            same(said)
            assert said.lane.count(b"HTTP/1.1 ") == len(order) + 1
            if said.by_lane == expected:
                break
            place.warm()
        assert said.by_lane == expected


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("door", ["narrow_lane", "narrow_route"])
@pytest.mark.parametrize("rude", [True, False], ids=["reset", "closed"])
def test_a_reader_that_leaves_costs_no_descriptor(place: Place, door: str, rude: bool) -> None:
    for name in ("file", "small"):
        place.pair.ask(place.signed(name), sip=100_000)
    time.sleep(0.05)
    before = open_files()
    for _ in range(20):
        with getattr(place.pair, door).connect(4096) as client:
            client.sendall(place.signed("file") + place.signed("small") + place.signed("file"))
            assert client.recv(1000).startswith(b"HTTP/1.1 200")
            if rude:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    deadline = time.monotonic() + 5
    while open_files() > before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert open_files() == before
    same(place.pair.ask(place.signed("file")))


@pytest.mark.parametrize("door", ["narrow_lane", "narrow_route"])
def test_a_file_that_is_cut_short_on_its_way(place: Place, door: str) -> None:
    """Its answer has no clean end, and who asks again is told that it is damaged."""
    pair, body = place.pair, binary(260_000, os.urandom(8))
    media = pair.upload(body, public="true")
    target = request(f"{pair.base}/v1/media/{media}")
    for _ in range(2):
        assert pair.ask(target).status == 200
    [stored] = [each for each in pair.data.rglob("*") if each.is_file() and each.stat().st_size == len(body) and each.read_bytes() == body]
    with getattr(pair, door).connect(4096) as client:
        client.sendall(target)
        heard = client.recv(20_000)
        os.truncate(stored, 200_000)
        while piece := client.recv(65_536):
            heard += piece
    head, _, got = heard.partition(b"\r\n\r\n")
    assert b"\r\ncontent-length: 260000\r\n" in head
    assert len(got) <= 200_000
    assert body.startswith(got)
    again = pair.ask(target)
    same(again)
    assert (again.status, again.by_lane) == (500, 0)


def test_both_doors_are_counted_and_logged_alike(server: Served) -> None:
    """Of a real server: what asks for the end of its connection goes past the lane. No signature is ever logged."""

    def link(prefix: bool) -> str:
        answer = server.client.post(
            f"/v1/media/{private}/sign", json={"expires": 600, "sub": "bob", "prefix": prefix}, headers=server.auth()
        )
        return str(answer.json()["url"])

    def counted() -> dict[str, float]:
        lines = [line.rpartition(" ") for line in server.client.get("/metrics").text.splitlines()]
        names = ("mediacdn_requests_total", "mediacdn_request_seconds_count", "mediacdn_sent_bytes_total")
        return {name: float(value) for name, _, value in lines if name.startswith(names) and "/metrics" not in name}

    private, public = server.upload(binary(10_000, b"logged"))["id"], server.upload(binary(300_000, b"logged too"), public="true")["id"]
    query, prefix = link(False), link(True)
    asked: list[tuple[str, str, dict[str, str]]] = [
        ("GET", query, {}),
        ("HEAD", query, {}),
        ("GET", query, {"Range": "bytes=10-19"}),
        ("GET", query, {"Range": "bytes=0-9,5000-5009"}),
        ("GET", prefix, {}),
        ("GET", f"/v1/media/{public}", {}),
        ("GET", f"/v1/media/{public}?Sig=12345678", {"If-None-Match": "*"}),
        ("GET", f"/v1/media/{private}", server.auth()),
        ("GET", query + "x", {}),
    ]
    for method, url, headers in asked:
        server.client.request(method, url, headers=headers)
    tallies, logged = [], []
    for further in ({}, {"Connection": "close"}):
        before = counted()
        ids = [server.client.request(method, url, headers={**headers, **further}).headers["x-request-id"] for method, url, headers in asked]
        after = counted()
        # Not the bytes: those of /metrics itself are among them.
        tallies.append({name: after[name] - before.get(name, 0) for name in after if name != "mediacdn_sent_bytes_total"})
        deadline = time.monotonic() + 5
        while not any(ids[-1] in line for line in server.log) and time.monotonic() < deadline:
            time.sleep(0.05)
        lines = {each["request_id"]: each for each in map(json.loads, server.log) if each["event"] == "request"}
        logged.append([{key: lines[each][key] for key in ("client", "subject", "method", "path", "status", "bytes")} for each in ids])
    assert tallies[0] == tallies[1]
    assert tallies[0]['mediacdn_requests_total{method="GET",route="/v1/media/{media_id}",status="206"}'] == 2
    assert logged[0] == logged[1]
    assert [each["bytes"] for each in logged[0]][:6] == [10_000, 0, 10, logged[0][3]["bytes"], 10_000, 300_000]
    assert [each["subject"] for each in logged[0]] == ["bob"] * 5 + [None, None, "alice", None]
    secrets = [query.partition("sig=")[2], prefix.partition("/v1/")[0].rpartition(".")[2], "12345678"]
    assert not [secret for secret in secrets if any(secret in line for line in server.log)]
    assert all("***" in each["path"] for each in (*logged[0][:5], logged[0][6], logged[0][8]))
