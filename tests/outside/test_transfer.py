"""curl, wget, aria2c, ffmpeg and a client of one's own: transfers that are cut, resumed, split and seeked give the exact bytes, by every way in and out."""

import hashlib
import json
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from tests.services.films import ffmpeg, mp4
from tests.services.samples import binary, text
from tests.services.scissors import scissors
from tests.services.served import Served

SIZE = 24_000_000
PACKAGES = {"curl": "curl", "wget": "wget", "aria2c": "aria2"}


def run(*command: str, expect: int | None = 0, stdin: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a tool of the system; its exit code is `expect`, any where that is None."""
    if shutil.which(command[0]) is None:
        pytest.fail(f"{command[0]} is missing; as root: apt-get install -y {PACKAGES[command[0]]}")
    with (stdin or Path("/dev/null")).open("rb") as source:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=source)
    assert expect is None or done.returncode == expect, f"{done.returncode}: {done.stdout[-500:]} {done.stderr[-2000:]}"
    return done


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Way(NamedTuple):
    """How a download is allowed: its path, and the header it needs."""

    path: str
    header: str | None = None

    def options(self, flag: str) -> list[str]:
        return [] if self.header is None else [flag, self.header]


@pytest.fixture(scope="module")
def digest() -> str:
    return hashlib.sha256(binary(SIZE, b"transfer")).hexdigest()


@pytest.fixture(scope="module")
def ways(server: Served) -> dict[str, Way]:
    """The same bytes behind a public id, a token, a signed query and a prefix link."""
    body = binary(SIZE, b"transfer")
    public, private = server.upload(body, public="true")["id"], server.upload(body)["id"]

    def link(**wish: Any) -> str:
        url: str = server.client.post(f"/v1/media/{private}/sign", json=wish, headers=server.auth()).json()["url"]
        return url

    return {
        "public": Way(f"/v1/media/{public}"),
        "token": Way(f"/v1/media/{private}", f"Authorization: Bearer {server.token('reader', 'read')}"),
        "signed": Way(link(disposition="attachment", sub="reader")),
        "prefix": Way(link(prefix=True)),
    }


@pytest.fixture(params=["public", "token", "signed", "prefix"])
def way(request: pytest.FixtureRequest, ways: dict[str, Way]) -> Way:
    return ways[request.param]


def port(server: Served) -> int:
    return int(server.url.rpartition(":")[2])


def test_curl_resumes(server: Served, way: Way, digest: str, tmp_path: Path) -> None:
    """`curl -C -`, called again until it is through: cut twice, 5 MB and 7 MB further on."""
    target = tmp_path / "copy"
    with scissors(port(server), [5_000_000, 7_000_000]) as relay:
        command = ["curl", "-sS", "--fail", "-C", "-", "-o", str(target), *way.options("-H"), f"http://127.0.0.1:{relay.port}{way.path}"]
        codes = [run(*command, expect=None).returncode for _ in range(3)]
    assert codes[2] == 0, codes
    assert all(code in (18, 56) for code in codes[:2])  # a partial file, a reset
    assert sha256(target) == digest


def test_wget_resumes(server: Served, way: Way, digest: str, tmp_path: Path) -> None:
    """One `wget -c` goes on by itself from where it was cut."""
    target = tmp_path / "copy"
    with scissors(port(server), [3_000_000, 9_000_000]) as relay:
        url = f"http://127.0.0.1:{relay.port}{way.path}"
        run("wget", "-q", "-c", "--tries=6", "--waitretry=0", "-O", str(target), *way.options("--header"), url)
        assert relay.seen >= 3
    assert sha256(target) == digest


def test_aria2_splits(server: Served, way: Way, digest: str, tmp_path: Path) -> None:
    """Eight connections at once, three of them cut on the way."""
    with scissors(port(server), [100_000_000, 1_000_000, 500_000, 70_000]) as relay:
        run(
            "aria2c", "-q", "-x8", "-s8", "-k1M", "--file-allocation=none", "--max-tries=8", "--retry-wait=0", "--no-conf", "-d", str(tmp_path),
            "-o", "copy", *way.options("--header"), f"http://127.0.0.1:{relay.port}{way.path}",
        )  # fmt: skip
        assert relay.seen >= 8
    assert sha256(tmp_path / "copy") == digest


@pytest.mark.parametrize("validator", ["etag", "last-modified"])
def test_a_client_resumes_with_if_range(server: Served, way: Way, digest: str, validator: str) -> None:
    """RFC 9110 section 13.1.5: the rest when nothing changed, all of it when something did."""
    headers = dict([way.header.split(": ", 1)]) if way.header else {}
    got = bytearray()
    with scissors(port(server), [4_000_000]) as relay, httpx.Client(base_url=f"http://127.0.0.1:{relay.port}", trust_env=False) as client:
        with client.stream("GET", way.path, headers=headers) as cut, suppress(httpx.TransportError):
            for chunk in cut.iter_raw():
                got += chunk
        assert 0 < len(got) < SIZE
        rest = client.get(way.path, headers={**headers, "Range": f"bytes={len(got)}-", "If-Range": cut.headers[validator]})
        assert (rest.status_code, rest.headers["content-range"]) == (206, f"bytes {len(got)}-{SIZE - 1}/{SIZE}")
        assert hashlib.sha256(got + rest.content).hexdigest() == digest
        other = '"sha256:0"' if validator == "etag" else "Thu, 01 Jan 2015 00:00:00 GMT"
        whole = client.get(way.path, headers={**headers, "Range": f"bytes={len(got)}-", "If-Range": other})
        assert whole.status_code == 200
        assert hashlib.sha256(whole.content).hexdigest() == digest


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file of 3 MB that no other test uploads."""
    path = tmp_path / "source.bin"
    path.write_bytes(binary(3_000_000, str(tmp_path).encode()))
    return path


def bearer(server: Served) -> list[str]:
    return ["-H", f"Authorization: Bearer {server.token('alice', 'write')}"]


UPLOADS = {
    "file": ["-X", "POST", "-T", "{source}"],
    "stdin": ["-X", "POST", "-T", "-"],  # of unknown length: chunked
    "data": ["--data-binary", "@{source}"],  # claims to be a urlencoded form
    "typed data": ["--data-binary", "@{source}", "-H", "Content-Type: application/octet-stream"],
    "form": ["-F", "file=@{source}"],
    "form with fields": ["-F", "title=Holidays", "-F", "file=@{source};filename=beach.bin", "-F", "tags=sea,sun"],
}


@pytest.mark.parametrize("kind", UPLOADS)
def test_curl_uploads(server: Served, source: Path, kind: str) -> None:
    """Every way in which curl sends a file; it waits for 100 Continue before bodies of more than 1 MB."""
    options = [each.format(source=source) for each in UPLOADS[kind]]
    done = run("curl", "-sSv", "--fail-with-body", *bearer(server), *options, f"{server.url}/v1/media", stdin=source)
    record = json.loads(done.stdout)
    assert (record["digest"], record["size"]) == (sha256(source), 3_000_000)
    assert "> Expect: 100-continue" in done.stderr
    assert "< HTTP/1.1 100 " in done.stderr
    if kind == "form with fields":
        assert (record["title"], record["filename"], record["tags"]) == ("Holidays", "beach.bin", ["sea", "sun"])
    copy = server.client.get(f"/v1/media/{record['id']}", headers=server.auth("reader", "read")).content
    assert hashlib.sha256(copy).hexdigest() == record["digest"]


def test_wget_uploads(server: Served, source: Path) -> None:
    header = f"--header=Authorization: Bearer {server.token('alice', 'write')}"
    done = run("wget", "-qO-", "--method=POST", f"--body-file={source}", header, f"{server.url}/v1/media")
    assert json.loads(done.stdout)["digest"] == sha256(source)


REFUSED = [
    # size of the file, whether a token is sent, status, how much curl may send before it hears so
    (3_000_000, False, 401, 0),
    (33_000_000_000, True, 413, 0),  # over every limit: refused by its Content-Length
    (150_000_000, True, 413, 20_000_000),  # over the limit of its type, which its first bytes tell
]


@pytest.mark.parametrize(("size", "known", "status", "most"), REFUSED)
def test_a_refused_upload_is_not_sent(server: Served, tmp_path: Path, size: int, known: bool, status: int, most: int) -> None:
    """RFC 9110 section 10.1.1: a final status instead of 100 Continue spares the client its body."""
    source = tmp_path / "sparse"
    with source.open("wb") as file:
        file.truncate(size)
    options = bearer(server) if known else []
    answer = tmp_path / "answer"
    done = run(
        "curl", "-sS", "-X", "POST", "-T", str(source), *options, "-o", str(answer), "-w", "%{http_code} %{size_upload}", f"{server.url}/v1/media",
        expect=None,
    )  # fmt: skip
    code, sent = done.stdout.split()
    assert int(code) == status, done.stderr
    assert int(sent) <= most
    assert json.loads(answer.read_bytes())["status"] == status


@pytest.fixture(scope="module")
def film(server: Served, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A film's file, its id, and a signed link to it."""
    path = mp4(tmp_path_factory.mktemp("film") / "film.mp4")
    record = server.upload(path.read_bytes(), filename="film.mp4")
    assert record["media_type"] == "video/mp4"
    link = server.client.post(f"/v1/media/{record['id']}/sign", json={}, headers=server.auth()).json()["url"]
    return path, record["id"], server.url + link


@pytest.mark.parametrize("second", [0, 7.4, 19])
def test_ffmpeg_seeks(server: Served, film: tuple[Path, str, str], second: float) -> None:
    """Frames decoded over HTTP are those of the file, and only ranges were asked for."""
    path, media, url = film
    before = len(statuses(server, media))

    def frames(source: str) -> bytes:
        return ffmpeg("-ss", str(second), "-i", source, "-frames:v", "3", "-map", "0:v", "-f", "framemd5", "-")

    assert frames(url) == frames(str(path))
    asked = statuses(server, media)[before:]
    assert len(asked) >= 2  # the index stands at the end
    assert set(asked) == {206}


def statuses(server: Served, media: str) -> list[int]:
    """Of all requests for a media so far, once the log has come to rest."""
    lines = -1
    while lines != len(server.log):
        lines = len(server.log)
        time.sleep(0.2)
    requests = [json.loads(line) for line in server.log if f"/v1/media/{media}?" in line]
    return [each["status"] for each in requests if each["method"] == "GET"]


def test_ffmpeg_reads_a_film_whole(film: tuple[Path, str, str]) -> None:
    path, _, url = film
    assert ffmpeg("-i", url, "-map", "0", "-c", "copy", "-f", "md5", "-") == ffmpeg(
        "-i", str(path), "-map", "0", "-c", "copy", "-f", "md5", "-"
    )


def test_text_is_not_changed_on_the_way(server: Served, tmp_path: Path) -> None:
    """No tool asks for, and no answer has, a content coding or an end-of-line change."""
    body = text(50_000, b"lines").replace(b"\n", b"\r\n") + b"\r\n\n\r"
    media = server.upload(body, public="true")["id"]
    run("curl", "-sS", "--fail", "--compressed", "-o", str(tmp_path / "copy"), f"{server.url}/v1/media/{media}")
    assert (tmp_path / "copy").read_bytes() == body
