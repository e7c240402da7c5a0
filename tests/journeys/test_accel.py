"""Files that a proxy sends: to whom they are handed over, and that both doors hand over alike."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mediacdn.accel import Accel
from mediacdn.config import Config, Cors, Limits, Server
from mediacdn.errors import ConfigError
from mediacdn.http.fields import joined
from mediacdn.http.peers import parse_networks, peer_trusted
from mediacdn.testing.memory import MemoryStorage
from tests.services.doors import Doors, doors, request
from tests.services.samples import text

pytestmark = [
    pytest.mark.filterwarnings("ignore:Deprecated 'query' parameter:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::litestar.exceptions.base_exceptions.LitestarDeprecationWarning"),
]
ASKS = ("X-Sendfile-Type", "X-Accel-Redirect")
BODY = text(3_000_000)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    settings = Server(data=str(tmp_path_factory.mktemp("accel")), trusted_proxies=("127.0.0.0/8",), accel={"default": "/_media/"})
    with doors(Config(server=settings, limits=Limits(uploads_per_second=0), cors=Cors(media_origins=("https://a.example",)))) as opened:
        yield opened


@pytest.fixture(scope="module")
def media(pair: Doors) -> str:
    return pair.upload(BODY, filename="a.txt")


@pytest.mark.parametrize(
    ("fields", "status", "handed"),
    [
        ((), 200, True),
        ((("Range", "bytes=5-9"),), 200, True),
        ((("Range", "bytes=5-9"), ("If-Range", '"x"')), 200, True),
        ((("Range", "bytes=5-9,20-29"),), 206, False),
        ((("Range", "bytes=9-5"),), 200, False),
        ((("If-None-Match", '"x"'),), 200, False),
        ((("Origin", "https://a.example"),), 200, True),
    ],
    ids=str,
)
def test_both_doors_hand_over_alike(pair: Doors, media: str, fields: tuple[tuple[str, str], ...], status: int, handed: bool) -> None:
    target = pair.signed(media)
    pair.ask(request(target))  # the file is open by now
    said = pair.ask(request(target, ASKS, *fields))
    assert said.status == status
    if handed:
        assert said.lane == said.route
        assert said.by_lane == 1
        head, _, rest = said.lane.partition(b"\r\n\r\n")
        assert b"\r\nx-accel-redirect: /_media/" in head
        assert b"\r\ncontent-length: 0" in head
        assert head.count(b"\r\nvary: ") == 1
        assert b"content-range" not in head
        assert BODY[:100] not in rest
    else:
        assert b"x-accel-redirect" not in said.lane + said.route


@pytest.mark.parametrize(
    "fields",
    [(), (("X-Sendfile-Type", "X-Sendfile"),), (("X-Sendfile-Type", ""),), (("X-Accel-Redirect", "/_media/x"),)],
    ids=str,
)
def test_who_does_not_ask_gets_bytes(pair: Doors, media: str, fields: tuple[tuple[str, str], ...]) -> None:
    said = pair.ask(request(pair.signed(media), ("Range", "bytes=0-99"), *fields))
    assert b"x-accel-redirect" not in said.lane + said.route
    assert BODY[:100] in said.lane


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_refusals_are_the_same(pair: Doors, media: str, method: str) -> None:
    for target in (f"/v1/media/{media}", pair.signed(media).replace("sig=", "sig=A"), pair.signed(media, lifetime=10, ago=20)):
        said = pair.ask(request(target, ASKS, method=method))
        assert said.status in (401, 403, 410)
        assert b"x-accel-redirect" not in said.lane + said.route
    said = pair.ask(request(pair.signed(media), ASKS, method="HEAD"))
    assert b"x-accel-redirect" not in said.lane + said.route
    assert b"content-length: 3000000" in said.lane


def test_small_ones_are_sent_from_memory(pair: Doors) -> None:
    small = pair.upload(text(1000))
    said = pair.ask(request(pair.signed(small), ASKS))
    assert b"x-accel-redirect" not in said.lane + said.route


def test_nobody_else_is_handed_anything(tmp_path: Path) -> None:
    settings = Server(data=str(tmp_path), trusted_proxies=("192.0.2.1", "unix"), accel={"default": "/_media/"})
    with doors(Config(server=settings, limits=Limits(uploads_per_second=0))) as opened:
        media = opened.upload(BODY)
        for _ in range(2):
            said = opened.ask(request(opened.signed(media), ASKS, ("X-Forwarded-For", "192.0.2.1"), ("Range", "bytes=0-9")))
            assert b"x-accel-redirect" not in said.lane + said.route
            assert BODY[:10] in said.lane


@pytest.mark.parametrize(
    ("peer", "trusted", "is_one"),
    [
        (None, ("unix",), True),
        (None, ("127.0.0.0/8",), False),
        ("127.0.0.1", ("127.0.0.0/8",), True),
        ("::ffff:127.0.0.1", ("127.0.0.0/8",), True),
        ("10.0.0.1", ("127.0.0.0/8", "unix"), False),
        ("fe80::1%eth0", ("fe80::/10",), True),
        ("nonsense", ("0.0.0.0/0", "::/0"), False),
        ("10.0.0.1", (), False),
    ],
)
def test_who_is_a_trusted_proxy(peer: str | None, trusted: tuple[str, ...], is_one: bool) -> None:
    assert peer_trusted(peer, parse_networks(trusted)) == is_one


def test_a_storage_without_files_refuses_the_start() -> None:
    with pytest.raises(ConfigError, match=r"storage\.bucket"):
        Accel({"bucket": "/_media/"}, {"bucket": MemoryStorage()})


def test_joined_fields() -> None:
    assert joined([(b"vary", b"a"), (b"x", b"1"), (b"vary", b"b")]) == [(b"vary", b"a, b"), (b"x", b"1")]
