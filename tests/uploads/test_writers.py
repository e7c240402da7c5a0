"""Two writers at once, in one process and in several; connections that hang; what a killed process left to be done; sessions that expire; where there is no room."""

import hashlib
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from benchmarks.resume import run
from mediacdn.catalog.database import Catalog
from mediacdn.catalog.uploads import Step
from tests.services import bucket
from tests.services.command import within
from tests.services.served import served
from tests.services.workshop import Bench
from tests.uploads.conftest import LIMITS, OFFSET, Speaker

SIZE = 3_000_000


def hanging(speaker: Speaker, url: str, size: int, body: bytes) -> socket.socket:
    """A PATCH of `size` bytes at 0 that has sent `body` and stays."""
    raw = socket.create_connection(("127.0.0.1", int(speaker.server.url.rpartition(":")[2])), timeout=20)
    head = f"PATCH {url} HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\nContent-Type: {OFFSET}\r\nContent-Length: {size}\r\n\r\n"
    raw.sendall(head.encode() + body)
    return raw


def test_a_new_request_takes_over_from_one_that_hangs(speaker: Speaker) -> None:
    """A client comes back before the server has noticed anything: it is not locked out (tus: 423), and the old request's bytes are nobody's."""
    body, other = os.urandom(SIZE), os.urandom(SIZE)
    url = speaker.url(speaker.begin(SIZE))
    with hanging(speaker, url, SIZE, other[:500_000]) as old:
        time.sleep(0.2)
        answer = speaker.patch(url, 0, body)
        assert answer.status_code == 204, answer.text
        heard = old.recv(65536)
        assert heard.startswith(b"HTTP/1.1 409 ") or heard == b""
        assert b"taken_over" in heard or heard == b""
    assert speaker.media(answer.headers["upload-media-id"]) == body


def test_a_request_elsewhere_does_not_take_over(speaker: Speaker) -> None:
    """Only who knows how far the upload is may go on with it: a wrong offset disturbs nobody, and reading does not either."""
    body = os.urandom(SIZE)
    url = speaker.url(speaker.begin(SIZE))
    with hanging(speaker, url, SIZE, body[:1_500_000]) as raw:
        time.sleep(0.2)
        assert speaker.patch(url, 1_234_567, b"x").status_code == 409
        assert speaker.head(url).status_code == 200
        raw.sendall(body[1_500_000:])
        assert raw.recv(65536).startswith(b"HTTP/1.1 204 ")
    assert speaker.media(speaker.head(url).headers["upload-media-id"]) == body


def test_many_writers_in_several_processes(tmp_path: Path) -> None:
    """Whoever gets through, the media is one writer's and nobody else's."""
    with served(tmp_path, LIMITS, arguments=("--no-worker", "--workers", "2")) as server:
        speaker = Speaker(server)
        for _ in range(3):
            bodies = [os.urandom(SIZE) for _ in range(6)]
            url = speaker.url(speaker.begin(SIZE))

            def send(body: bytes, url: str = url) -> int:
                with httpx.Client(base_url=server.url, timeout=30) as client:
                    headers = {**speaker.tus, "Upload-Offset": "0", "Content-Type": OFFSET}
                    try:
                        return client.patch(url, content=body, headers=headers).status_code
                    except httpx.TransportError:
                        return 0

            with ThreadPoolExecutor(len(bodies)) as pool:
                codes = list(pool.map(send, bodies))
            assert codes.count(204) == 1, codes
            assert set(codes) <= {204, 409, 0, 400}
            media = speaker.media(speaker.head(url).headers["upload-media-id"])
            assert hashlib.sha256(media).digest() == hashlib.sha256(bodies[codes.index(204)]).digest()


def test_what_arrived_before_the_end_of_a_connection_is_kept(speaker: Speaker) -> None:
    body = os.urandom(SIZE)
    url = speaker.url(speaker.begin(SIZE))
    hanging(speaker, url, SIZE, body[:2_000_000]).close()
    for _ in range(100):
        offset = int(speaker.head(url).headers["upload-offset"])
        if offset == 2_000_000:
            break
        time.sleep(0.05)
    assert offset == 2_000_000
    answer = speaker.patch(url, offset, body[offset:])
    assert speaker.media(answer.headers["upload-media-id"]) == body


@pytest.mark.parametrize("asked", [True, False])
def test_an_upload_whose_process_died_before_its_end(tmp_path: Path, asked: bool) -> None:
    """All bytes are told of, and no media was recorded: who asks has it done, or a worker comes round."""
    body = os.urandom(SIZE)
    with served(tmp_path, LIMITS) as server:
        headers = {**server.auth(), "Upload-Complete": "?0", "Upload-Length": str(SIZE)}
        url = server.client.post("/v1/uploads", content=body, headers=headers).headers["location"]
        server.kill()
    name = urlsplit(url).path.rpartition("/")[2].partition(".")[0]

    async def complete(catalog: Catalog) -> None:
        found = await catalog.uploads.take(name, SIZE)
        assert found is not None
        row = found[1]
        assert await catalog.uploads.advance(name, row.fence, Step(received=SIZE, complete=True, last=True), expires_at=row.expires_at)

    Bench(tmp_path).do(complete)
    with served(tmp_path, LIMITS, arguments=("--no-worker",) if asked else ()) as server:
        speaker = Speaker(server)
        if asked:
            media = speaker.head(url).headers["upload-media-id"]
        else:
            for _ in range(200):
                found = server.client.get("/v1/media", headers=server.auth()).json()["items"]
                if found:
                    break
                time.sleep(0.05)
            media = found[0]["id"]
        assert media == name
        assert speaker.media(media) == body
        assert not speaker.left(url)


@pytest.mark.parametrize("kind", ["files", "parts"])
def test_a_duplicate_whose_process_died_with_its_bytes(tmp_path: Path, kind: str) -> None:
    """The twin's bytes serve both, and the upload is over before its own are removed: who dies there need not be sent anything again."""
    environ = {**bucket.install(tmp_path / "plugin"), "MORTAL_MARK": str(tmp_path / "mark")}
    bucket.make_mortal(tmp_path / "plugin")
    where = bucket.storage("default", tmp_path / "bucket") if kind == "parts" else '[storage.default]\ndriver = "local"\n'
    toml = bucket.PLUGINS + LIMITS + where + "[lifecycle]\nsweep_every = 0.2\n"
    body = b"\x00" + os.urandom(SIZE)
    with served(tmp_path / "data", toml, environ=environ) as server:
        speaker = Speaker(server)
        first = server.upload(body)["id"]
        url = speaker.url(speaker.begin(SIZE + 1))
        assert speaker.patch(url, 0, body[:1_000_000]).status_code == 204
        (tmp_path / "mark").touch()
        with pytest.raises(httpx.TransportError):
            speaker.patch(url, 1_000_000, body[1_000_000:])
        server.process.wait(10)
        assert not (tmp_path / "mark").exists()
    with served(tmp_path / "data", toml, environ=environ, arguments=()) as server:
        speaker = Speaker(server)
        head = speaker.head(url)
        assert (head.status_code, head.headers["upload-media-id"]) == (200, first)
        assert speaker.patch(url, SIZE + 1, b"").headers["upload-media-id"] == first
        assert speaker.media(first) == body
        within(5, lambda: not speaker.staged(url))


def test_sessions_of_one_owner_are_counted(tmp_path: Path) -> None:
    with served(tmp_path, "[uploads]\nper_owner = 2\n") as server:
        speaker = Speaker(server)
        urls = [speaker.url(speaker.begin(10)) for _ in range(2)]
        answer = speaker.begin(10)
        assert (answer.status_code, answer.json()["code"]) == (429, "too_many_requests")
        assert speaker.begin(10, sub="bob").status_code == 201
        assert speaker.patch(urls[0], 0, b"0123456789").status_code == 204
        assert speaker.begin(10).status_code == 201


def test_cut_and_killed_by_the_dozen(tmp_path: Path) -> None:
    """The gate of the long run in benchmarks/resume.py; the browser's client has its own."""
    report = run(tmp_path, cuts=25, size=2_500_000)
    assert report.cuts + report.kills >= 25
    assert report.kills >= 2
    assert report.clean, report


@pytest.mark.parametrize("crashed", [False, True])
def test_a_node_without_the_files_refuses_at_once(tmp_path: Path, crashed: bool) -> None:
    """A node that does not share the folder says 410 before it takes a byte, and its log says why; also when it were to begin a file of its own."""
    body = b"\x00" + os.urandom(SIZE)
    with served(tmp_path, LIMITS) as server:
        speaker = Speaker(server)
        url = speaker.url(speaker.begin(len(body)))
        assert speaker.patch(url, 0, body[:1_000_000]).status_code == 204
        (tmp_path / "uploads").rename(tmp_path / "elsewhere")
        if crashed:
            server.kill()

            async def crash(catalog: Catalog) -> None:
                assert await catalog.uploads.take(url.rpartition("/")[2].partition(".")[0], 1_000_000) is not None

            Bench(tmp_path).do(crash)
            server.start()
        answer = speaker.patch(url, 1_000_000, body[1_000_000:])
        assert (answer.status_code, answer.json()["code"]) == (410, "upload_gone")
        within(5, lambda: any("uploads.directory" in line for line in list(server.log)))
        assert speaker.head(url).status_code == 410, "a client begins another"
        assert not list((tmp_path / "uploads").iterdir())
