"""deploy/Caddyfile with Caddy: one journey through it."""

import hashlib
import json
from pathlib import Path

import httpx
import pytest

from tests.services.command import within
from tests.services.proxy import NAME, caddy
from tests.services.samples import text
from tests.services.served import served

TOML = """
[server]
uds = "{uds}"
public_url = "https://cdn.example.org"
trusted_proxies = ["unix"]
allowed_hosts = ["cdn.example.org"]
accel = {{default = "/_media/default/"}}
"""


def test_a_journey(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder: Path = tmp_path_factory.mktemp("c")
    uds = folder / "http.sock"
    body = text(3_000_000)
    with (
        served(folder / "data", TOML.format(uds=uds)) as server,
        caddy(folder / "caddy", uds) as proxy,
        httpx.Client(base_url=f"https://{NAME}", trust_env=False) as client,
    ):
        token = f"Authorization: Bearer {server.token()}"
        file = folder / "body"
        file.write_bytes(body)
        record = json.loads(proxy.curl("/v1/media", "--http2", "-H", token, "-X", "POST", "-T", str(file)))
        media = record["id"]
        assert record["digest"] == hashlib.sha256(body).hexdigest()
        signed = json.loads(proxy.curl(f"/v1/media/{media}/sign", "-H", token, "-H", "Content-Type: application/json", "-d", "{}"))
        target = str(client.build_request("GET", signed["url"]).url.raw_path, "ascii")
        forged = ("-H", "X-Forwarded-For: 203.0.113.7", "-H", "X-Sendfile-Type: X-Accel-Redirect", "--interface", "127.0.0.9")
        assert proxy.curl(target, "--http2", *forged) == body, "it sends no files, so it does not ask for it in a client's stead"
        assert proxy.curl(target, "-r", "100-199", *forged) == body[100:200]
        assert proxy.curl(target, *forged, write="%{http_version} %{http_code}") == b"2 200"
        assert proxy.curl(target.replace("sig=", "sig=A"), write="%{http_code}") == b"403"
        shown = within(5, lambda: [line for line in server.log if media in line and "sig=***" in line and "127.0.0.9" in line])
        assert "203.0.113.7" not in "".join(shown)
        within(5, lambda: proxy.log.exists() and media in proxy.log.read_text())
        logged = proxy.log.read_text()
        assert "sig=***" in logged
        assert target.partition("sig=")[2] not in logged
        assert server.token() not in logged

        cut = proxy.connect()
        head = f"POST /v1/media HTTP/1.1\r\nHost: {NAME}\r\n{token}\r\nContent-Length: 8000000\r\n\r\n"
        cut.sendall(head.encode() + text(2_000_000, b"cut"))
        staging = server.data / "objects" / "staging"
        within(10, lambda: [each for each in staging.iterdir() if each.stat().st_size >= 1_000_000])
        cut.close()
        within(10, lambda: not list(staging.iterdir()))
