"""deploy/nginx.conf with Debian's nginx: TLS and HTTP/2, uploads that pass straight through, readers of every kind, and files that nginx sends itself."""

import hashlib
import json
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.services.command import within
from tests.services.proxy import NAME, Proxy, nginx
from tests.services.samples import text
from tests.services.scissors import RESET
from tests.services.served import Served, served

BASE = "/cdn"
TOML = """
[server]
uds = "{uds}"
public_url = "https://cdn.example.org"
base_path = "/cdn"
trusted_proxies = ["unix"]
allowed_hosts = ["cdn.example.org"]
accel = {{default = "/_media/default/"}}
[limits]
max_upload_size = 30_000_000
uploads_per_second = 0
[edge]
surrogate_key_header = "Surrogate-Key"
cdn_max_age = 600
[cors]
media_origins = ["https://app.example.org"]
"""
LARGE = text(300_000, b"large")
VARIES = {"date", "server", "connection", "server-timing", "x-request-id", "content-disposition", "keep-alive"}


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Proxy]]:
    folder = tmp_path_factory.mktemp("n")
    uds = folder / "http.sock"
    with (
        served(folder / "data", TOML.format(uds=uds)) as server,
        nginx(folder / "nginx", uds, folder / "data" / "objects") as proxy,
        httpx.Client(
            base_url=f"https://127.0.0.1:{proxy.port}{BASE}", headers={"Host": NAME}, verify=proxy.trust, trust_env=False
        ) as client,
    ):
        server.client = client
        yield server, proxy


@pytest.fixture(scope="module")
def media(behind: tuple[Served, Proxy]) -> str:
    return str(behind[0].upload(LARGE, public="true", tags="one,two", filename="large.txt")["id"])


def direct(server: Served, target: str, **headers: str) -> httpx.Response:
    """What the server says on its own socket to whoever is no proxy that sends files."""
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(server.data.parent / "http.sock")), base_url=f"http://{NAME}") as client:
        return client.get(target, headers=headers)


def last_logged(server: Served, path: str) -> dict[str, object]:
    """The server's own line of the last read of this path, which is written a moment after the answer."""

    def find() -> dict[str, object] | None:
        lines = [json.loads(line) for line in list(server.log) if path in line and line.startswith("{")]
        return next((line for line in reversed(lines) if line.get("method") == "GET"), None)

    found: dict[str, object] = within(5, find)
    return found


def test_tls_http2_and_the_way_to_it(behind: tuple[Served, Proxy]) -> None:
    _, proxy = behind
    assert proxy.curl(f"{BASE}/healthz", "--http2", write="%{http_version} %{http_code}") == b"2 200"
    with socket.socket(socket.AF_UNIX) as plain:  # port 80, as it is called here
        plain.settimeout(10)
        plain.connect(f"{proxy.folder}/plain.sock")
        plain.sendall(f"GET {BASE}/healthz?a=b HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n".encode())
        head = plain.recv(65536).decode()
    assert head.startswith("HTTP/1.1 308 ")
    assert f"Location: https://{NAME}{BASE}/healthz?a=b" in head


@pytest.mark.parametrize(
    ("fields", "status", "handed"),
    [
        ({}, 200, True),
        ({"Range": "bytes=1000-1999"}, 206, True),
        ({"Range": "bytes=299000-"}, 206, True),
        ({"Range": "bytes=0-"}, 206, True),
        ({"Range": "bytes=-500"}, 206, True),
        ({"Range": "bytes=-999999"}, 206, True),
        ({"Range": "bytes=299999-400000"}, 206, True),
        ({"Range": "bytes=0-9,20-29"}, 206, False),
        ({"Range": "bytes=300000-"}, 416, False),
        ({"Range": "bytes=5-1"}, 200, False),
        ({"Range": "bytes=0-99999999999999999999999"}, 206, False),
        ({"Range": "bytes= 0-5"}, 206, False),
        ({"Range": "items=0-5"}, 200, False),
        ({"Range": "bytes=0-99", "If-Range": "ETAG"}, 206, True),
        ({"Range": "bytes=0-99", "If-Range": '"sha256:0"'}, 200, True),
        ({"Range": "bytes=0-99", "If-Range": 'W/"x"'}, 200, False),
        ({"Range": "bytes=0-99", "If-Range": "Wed, 21 Oct 2015 07:28:00 GMT"}, 200, False),
        ({"If-None-Match": "ETAG"}, 304, False),
        ({"If-None-Match": '"other"'}, 200, False),
        ({"If-Match": "ETAG"}, 200, False),
        ({"If-Match": '"other"'}, 412, False),
        ({"If-Modified-Since": "Wed, 21 Oct 2015 07:28:00 GMT"}, 200, False),
        ({"If-Unmodified-Since": "Wed, 21 Oct 2015 07:28:00 GMT"}, 412, False),
        ({"Origin": "https://app.example.org"}, 200, True),
    ],
    ids=str,
)
def test_nginx_sends_what_the_server_would(
    behind: tuple[Served, Proxy], media: str, fields: dict[str, str], status: int, handed: bool
) -> None:
    server, _ = behind
    told = {name: f'"sha256:{hashlib.sha256(LARGE).hexdigest()}"' if value == "ETAG" else value for name, value in fields.items()}
    target = f"{BASE}/v1/media/{media}"
    for _ in range(2):  # by the route, which opens the file, and then by the lane
        here, there = server.client.get(target.removeprefix(BASE), headers=told), direct(server, target, **told)
        assert (here.status_code, there.status_code) == (status, status)
        assert ("x-accel-redirect" in here.headers, "x-accel-redirect" in there.headers) == (False, False)
        if status in (200, 206):
            if "multipart" not in here.headers["content-type"]:
                assert here.content == there.content
            assert _steady(here) == _steady(there)
        if status == 200:
            assert here.content == LARGE
    asked = direct(server, target, **{**told, "X-Sendfile-Type": "X-Accel-Redirect"})
    assert ("x-accel-redirect" in asked.headers, len(asked.content) == 0 and status < 300) == (handed, handed)


def _steady(answer: httpx.Response) -> dict[str, str]:
    steady = {name: value for name, value in answer.headers.items() if name not in VARIES}
    if "multipart" in steady.get("content-type", ""):
        steady["content-type"] = "multipart"
    if answer.status_code == 206:
        steady.pop("accept-ranges", None)  # which nginx says with 200 alone
    steady["vary"] = ",".join(sorted({each.strip() for each in steady.get("vary", "").split(",")}))
    return steady


def test_a_signed_range_and_a_head(behind: tuple[Served, Proxy]) -> None:
    server, proxy = behind
    body = text(200_000, b"signed")
    media = server.upload(body)["id"]
    answer = server.client.post(f"/v1/media/{media}/sign", json={"disposition": "attachment"}, headers=server.auth())
    url = answer.json()["url"]
    assert url.startswith(f"https://{NAME}{BASE}/v1/media/")
    target = url.removeprefix(f"https://{NAME}")
    got = proxy.curl(target, "--http2", "-r", "100000-100099", "-D", f"{proxy.folder}/head")
    head = (proxy.folder / "head").read_text().lower()
    assert got == body[100_000:100_100]
    assert head.startswith("http/2 206")
    for field in (
        "content-range: bytes 100000-100099/200000",
        "referrer-policy: no-referrer",
        "cache-control: private",
        "content-disposition: attachment",
    ):
        assert field in head
    assert len(re.findall(r"^etag:", head, re.M)) == len(re.findall(r"^last-modified:", head, re.M)) == 1
    assert last_logged(server, media)["bytes"] == 0
    bad = target.replace("sig=", "sig=A")
    assert proxy.curl(bad, write="%{http_code}") == b"403"
    assert proxy.curl(f"{BASE}/v1/media/{media}", write="%{http_code}") == b"401"
    assert proxy.curl(target, "-I", write="%{http_code} %header{content-length}") == b"200 200000"
    shown = proxy.log.read_text()
    assert media in shown
    assert "sig=" not in shown


def test_what_is_internal_stays_so(behind: tuple[Served, Proxy], media: str) -> None:
    server, proxy = behind
    asked = direct(server, f"{BASE}/v1/media/{media}", **{"X-Sendfile-Type": "X-Accel-Redirect"})
    location = asked.headers["x-accel-redirect"]
    assert proxy.curl(location, write="%{http_code}") == b"404"
    assert proxy.curl("/_media/default/../keys", "--path-as-is", write="%{http_code}") in (b"404", b"400")


def test_a_missing_file_is_the_servers_own_error(behind: tuple[Served, Proxy]) -> None:
    server, _ = behind
    media = server.upload(text(150_000, b"lost"), public="true")["id"]
    asked = direct(server, f"{BASE}/v1/media/{media}", **{"X-Sendfile-Type": "X-Accel-Redirect"})
    path = asked.headers["x-accel-redirect"].removeprefix("/_media/default/")
    other = server.upload(text(150_000, b"lost too"), public="true")["id"]
    first = next(file for file in (server.data / "objects").rglob("*") if file.is_file() and str(file).endswith(path))
    assert first.stat().st_size == 150_000
    for file in (server.data / "objects").rglob(f"*{other}*"):
        file.unlink()
    answer = server.client.get(f"/v1/media/{other}")
    assert (answer.status_code, answer.json()["code"]) == (500, "object_corrupt")


def test_quarantine_is_at_once(behind: tuple[Served, Proxy]) -> None:
    server, _ = behind
    media = server.upload(text(150_000, b"withheld"), public="true")["id"]
    assert server.client.get(f"/v1/media/{media}").status_code == 200
    assert server.client.post(f"/v1/media/{media}/quarantine", headers=server.auth("root", "admin")).status_code == 200
    assert server.client.get(f"/v1/media/{media}").status_code == 451


def test_uploads_pass_through(behind: tuple[Served, Proxy], tmp_path: Path) -> None:
    """Larger than nginx's own limit of 1 MB, with a length and in chunks of unknown number, over HTTP/1.1 and 2; the server's limits are what counts."""
    server, proxy = behind
    token = ("-H", f"Authorization: Bearer {server.token()}", "-H", "Expect:")
    for number, (version, chunked) in enumerate([("--http1.1", False), ("--http1.1", True), ("--http2", False), ("--http2", True)]):
        file = tmp_path / "body"
        file.write_bytes(text(5_000_000, b"upload%d" % number))
        how = ["-H", "Transfer-Encoding: chunked"] if chunked and version == "--http1.1" else []
        sent = ["-X", "POST", "-T", "-" if chunked else str(file)]
        command = [*token, version, *how, *sent]
        answer = _piped(proxy, command, file) if chunked else proxy.curl(f"{BASE}/v1/media", *command)
        record = json.loads(answer)
        assert (record["size"], record["digest"]) == (5_000_000, hashlib.sha256(file.read_bytes()).hexdigest())
    file.write_bytes(b"x" * 31_000_000)
    assert proxy.curl(f"{BASE}/v1/media", *token, "-X", "POST", "-T", str(file), write="%{http_code}") == b"413"
    assert not [each for each in (proxy.folder / "client_body").rglob("*") if each.is_file()], "nothing is spooled"


def _piped(proxy: Proxy, command: list[str], file: Path) -> bytes:
    whole = [
        "curl",
        "-sS",
        "--cacert",
        str(proxy.certificate),
        "--resolve",
        f"{NAME}:{proxy.port}:127.0.0.1",
        *command,
        f"{proxy.url}{BASE}/v1/media",
    ]
    with file.open("rb") as body:
        done = subprocess.run(whole, stdin=body, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_bytes_of_an_upload_arrive_as_they_are_sent(behind: tuple[Served, Proxy]) -> None:
    """And a cut one leaves nothing: the server sees at once what nginx has seen."""
    server, proxy = behind
    staging = server.data / "objects" / "staging"
    body = text(4_000_000, b"cut")
    connection = proxy.connect()
    head = f"POST {BASE}/v1/media HTTP/1.1\r\nHost: {NAME}\r\nAuthorization: Bearer {server.token()}\r\nContent-Length: 8000000\r\n\r\n"
    connection.sendall(head.encode() + body)
    within(10, lambda: [each for each in staging.iterdir() if each.stat().st_size >= 3_000_000])
    connection.close()
    within(10, lambda: not list(staging.iterdir()))
    answer = server.client.get("/v1/media", headers=server.auth())
    assert hashlib.sha256(body).hexdigest() not in answer.text


def _patched_and_reset(proxy: Proxy, target: str, fields: dict[str, str], size: int, sent: bytes) -> None:
    """A PATCH of `size` bytes whose connection is reset once `sent` has left."""
    head = f"PATCH {target} HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: {size}\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fields.items())
    with proxy.connect() as connection:
        connection.sendall(head.encode() + b"\r\n" + sent)
        time.sleep(0.3)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def _beyond(server: Served, path: str, before: int) -> int:
    """The offset, once it is beyond this one and moves no more; a reset takes with it what nginx had not read yet."""
    head = {"Tus-Resumable": "1.0.0"}
    now = int(server.client.head(path, headers=head).headers["upload-offset"])
    time.sleep(0.2)
    return now if before < now == int(server.client.head(path, headers=head).headers["upload-offset"]) else 0


@pytest.mark.parametrize("protocol", ["tus", "draft"])
def test_an_upload_that_is_cut_goes_on(behind: tuple[Served, Proxy], protocol: str) -> None:
    """What came before a reset is kept, for nginx hands on each byte as it comes; nothing waits in its own files."""
    server, proxy = behind
    body = text(6_000_000, f"resumed {protocol}".encode())
    told = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"}
    begun = {"Tus-Resumable": "1.0.0", "Upload-Length": str(len(body))}
    if protocol == "draft":
        told = {"Upload-Complete": "?1", "Content-Type": "application/partial-upload", "Upload-Draft-Interop-Version": "8"}
        begun = {"Upload-Complete": "?0", "Upload-Length": str(len(body)), "Upload-Draft-Interop-Version": "8"}
    answer = server.client.post("/v1/uploads", headers={**server.auth(), **begun})
    assert answer.status_code == 201, answer.text
    location = str(answer.headers["location"]).removeprefix(f"https://{NAME}")
    path, offset = location.removeprefix(BASE), 0
    for cut in (1_000_000, 2_500_000):
        _patched_and_reset(proxy, location, {**told, "Upload-Offset": str(offset)}, len(body) - offset, body[offset : offset + cut])
        before, offset = offset, within(10, lambda before=offset: _beyond(server, path, before))
        assert before < offset <= before + cut
    answer = server.client.patch(path, content=body[offset:], headers={**told, "Upload-Offset": str(offset)})
    assert answer.status_code == (204 if protocol == "tus" else 201), answer.text
    media = answer.headers["upload-media-id"]
    assert hashlib.sha256(server.client.get(f"/v1/media/{media}", headers=server.auth()).content).digest() == hashlib.sha256(body).digest()
    assert not [each for each in (proxy.folder / "client_body").rglob("*") if each.is_file()], "nothing is spooled"


def test_a_slow_reader_gets_all(behind: tuple[Served, Proxy]) -> None:
    server, proxy = behind
    body = text(3_000_000, b"slow")
    media = server.upload(body, public="true")["id"]
    with proxy.connect(receive_buffer=8192) as connection:
        connection.sendall(f"GET {BASE}/v1/media/{media} HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n".encode())
        got = bytearray()
        for number in range(100_000):
            if number < 20:
                time.sleep(0.02)
            piece = connection.recv(16_384)
            if not piece:
                break
            got += piece
    assert bytes(got).partition(b"\r\n\r\n")[2] == body


def test_the_clients_address_is_the_true_one(behind: tuple[Served, Proxy], media: str) -> None:
    server, proxy = behind
    target = f"{BASE}/v1/media/{media}"
    for accepted in ("--http1.1", "--http2"):
        proxy.curl(
            f"{target}?{accepted[-1]}",
            accepted,
            "--interface",
            "127.0.0.9",
            "-H",
            "X-Forwarded-For: 203.0.113.7",
            "-H",
            "X-Sendfile-Type: none",
        )
        line = last_logged(server, f"{media}?{accepted[-1]}")
        assert "127.0.0.9" in json.dumps(line)
        assert "203.0.113.7" not in json.dumps(line)


def test_other_hosts_are_refused_and_ids_agree(behind: tuple[Served, Proxy], media: str) -> None:
    server, proxy = behind
    assert server.client.get("/healthz", headers={"Host": "evil.example.net"}).status_code == 400
    given = server.client.get(f"/v1/media/{media}").headers["x-request-id"]
    within(5, lambda: given in proxy.log.read_text())
