"""Health, metrics, cross-origin access, proxies, hosts, logs and the description of the API."""

import json
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

from tests.services.samples import text
from tests.services.served import Served, served

PAGE = "https://chat.example"


def test_health(server: Served) -> None:
    assert server.client.get("/healthz").json() == {"status": "ok"}
    ready = server.client.get("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    assert set(ready.json()["checks"].values()) == {"ok"}


def test_metrics_are_for_operators(server: Served) -> None:
    answer = server.client.get("/metrics")
    assert answer.status_code == 200
    assert "mediacdn_requests_total" in answer.text
    assert not re.search(r'route="[^"]*01[0-9A-Z]{24}', answer.text)  # ids never become labels
    proxied = {"X-Forwarded-For": "127.0.0.1"}
    assert server.client.get("/metrics", headers=proxied).status_code == 401
    assert server.client.get("/metrics", headers={**proxied, **server.auth("root", "admin")}).status_code == 200
    assert "checks" not in server.client.get("/readyz", headers=proxied).json()
    for name in ("X-Real-IP", "X-Forwarded-Proto", "Via", "Forwarded"):  # proxies that leave X-Forwarded-For out
        assert server.client.get("/metrics", headers={name: "1.1 proxy"}).status_code == 401, name


def test_well_known(server: Served) -> None:
    known = server.client.get("/.well-known").json()
    assert {"base_uri": "/v1/media", "auth_required": True, "max_upload_size": 10_000_000, "storage_mode": "local"}.items() <= known.items()


def test_media_are_open_to_any_origin(server: Served) -> None:
    media = server.upload(text(10, b"cors"), public="true")["id"]
    answer = server.client.get(f"/v1/media/{media}", headers={"Origin": PAGE})
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in answer.headers
    asked = {"Origin": PAGE, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "range,authorization"}
    preflight = server.client.options(f"/v1/media/{media}", headers=asked)
    assert preflight.status_code == 204
    assert "Range" in preflight.headers["access-control-allow-headers"]


@pytest.mark.parametrize("path", ["record", "record/", "/record", "record//", "//record", "download/", "explain/", "sign/"])
def test_acts_are_not_open_to_any_origin_however_their_path_is_spelled(server: Served, path: str) -> None:
    media = server.upload(text(10, b"acts"))["id"]
    asked = {"Origin": PAGE, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
    preflight = server.client.options(f"/v1/media/{media}/{path}", headers=asked)
    assert "access-control-allow-origin" not in preflight.headers


def test_the_api_is_open_to_listed_origins_only(tmp_path: Path) -> None:
    with served(tmp_path, f'[cors]\norigins = ["{PAGE}"]\n[server]\nallowed_hosts = ["127.0.0.1", "*.example"]\n') as own:
        listed = own.client.get("/v1/media", headers={"Origin": PAGE})
        assert (listed.headers["access-control-allow-origin"], listed.headers["access-control-allow-credentials"]) == (PAGE, "true")
        assert "Origin" in listed.headers["vary"]
        assert "access-control-allow-origin" not in own.client.get("/v1/media", headers={"Origin": "https://evil.example"}).headers
        asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
        assert "access-control-allow-origin" not in own.client.options("/v1/media", headers=asked).headers
        answer = own.client.get("/healthz", headers={"Host": "elsewhere.test"})
        assert (answer.status_code, answer.json()["code"]) == (400, "host_not_allowed")
        assert own.client.get("/healthz", headers={"Host": "cdn.example"}).status_code == 200


def test_trusted_proxies(tmp_path: Path) -> None:
    with served(tmp_path, '[server]\ntrusted_proxies = ["127.0.0.1"]\n') as own:
        media = own.upload(text(11))["id"]
        link = own.client.post(f"/v1/media/{media}/sign", json={"ip": "203.0.113.7"}, headers=own.auth()).json()["url"]
        assert own.client.get(link).status_code == 403
        assert own.client.get(link, headers={"X-Forwarded-For": "203.0.113.7"}).status_code == 200
        assert own.client.get(link, headers={"X-Forwarded-For": "203.0.113.7, 198.51.100.1"}).status_code == 403
        assert (
            own.client.get("/healthz", headers={"X-Request-Id": "from-the-proxy", "X-Forwarded-For": "203.0.113.7"}).headers["x-request-id"]
            == "from-the-proxy"
        )


def test_forwarded_fields_of_strangers_count_for_nothing(server: Served) -> None:
    media = server.upload(text(12, b"xff"))["id"]
    link = server.client.post(f"/v1/media/{media}/sign", json={"ip": "203.0.113.7"}, headers=server.auth()).json()["url"]
    assert server.client.get(link, headers={"X-Forwarded-For": "203.0.113.7"}).status_code == 403
    assert server.client.get("/healthz", headers={"X-Request-Id": "chosen-by-me"}).headers["x-request-id"] != "chosen-by-me"


def test_the_description_is_served_here(server: Served) -> None:
    spec = server.client.get("/schema/openapi.json").json()
    for path in ("/v1/media", "/v1/media/{media_id}", "/v1/media/{media_id}/record", "/v1/sign", "/healthz"):
        assert path in spec["paths"], path
    for path, method, names in (
        ("/v1/media", "post", {"Idempotency-Key", "Content-Digest", "X-Content-SHA256", "X-Media-Expires-In"}),
        ("/v1/media/{media_id}", "get", {"Range", "If-Range", "If-None-Match"}),
        ("/v1/media/{media_id}/hls/{path}", "get", {"Range", "If-None-Match"}),
        ("/v1/media/{media_id}/record", "patch", {"If-Match"}),
        ("/v1/uploads", "post", {"Upload-Length", "Tus-Resumable"}),
    ):
        assert names <= {each["name"] for each in spec["paths"][path][method]["parameters"] if each["in"] == "header"}, path
    assert "Repr-Digest" in spec["paths"]["/v1/media/{media_id}"]["get"]["responses"]["200"]["headers"]
    page = server.client.get("/schema")
    assert page.headers["content-type"].startswith("text/html")
    assert not re.findall(r"(?:src|href)=['\"]https?:", page.text)


@pytest.mark.parametrize(
    "path", ["/", "/nothing", "/v1", "/v1/media/x/y/z", "/%2e%2e/etc/passwd", "/v1/media//record", "/v1/movies", "/media", "/media-files/x"]
)
def test_unknown_paths_are_problems(server: Served, path: str) -> None:
    answer = server.client.get(path)
    assert answer.status_code in (401, 404)
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert {"type", "title", "status", "detail", "code", "request_id"} <= problem.keys()


def test_bad_json_is_a_problem(server: Served) -> None:
    for body in (b"{", b"[]", b'{"items": "x"}', b"\xff"):
        answer = server.client.post("/v1/sign", content=body, headers={**server.auth(), "Content-Type": "application/json"})
        assert answer.status_code == 400, body
        assert answer.json()["code"] in ("invalid_parameter", "bad_request")


def test_the_log_tells_requests_and_no_secret(tmp_path: Path) -> None:
    with served(tmp_path) as own:
        media = own.upload(text(13))["id"]
        token = own.token()
        urls = [
            own.client.post(f"/v1/media/{media}/sign", json={"prefix": prefix}, headers=own.auth()).json()["url"]
            for prefix in (False, True)
        ]
        for url in urls:
            own.client.get(url).raise_for_status()
        own.client.get(f"/v1/media/{media}", headers={"Authorization": f"Bearer {token}x"})
        own.client.get(f"/v1/media/{media}?sig=whatever&exp=1")
        own.stop()
        log = "".join(own.log)
    for secret in (token, urls[0].rpartition("sig=")[2], urls[1].split("/")[2], "sig=whatever"):
        assert secret not in log
    requests = [json.loads(line) for line in own.log if '"event":"request"' in line]
    assert {200, 201, 401, 403} <= {each["status"] for each in requests}
    assert all({"request_id", "method", "path", "status", "bytes", "ms", "client"} <= each.keys() for each in requests)


def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    command = [sys.executable, "-m", "mediacdn", "serve", "--uds", str(path), "--data", str(tmp_path / "d"), "--json", "--no-worker"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as client:
            assert client.get("http://localhost/healthz").status_code == 200
    finally:
        process.terminate()
        assert process.wait(30) == 0
        process.stdout.close()  # type: ignore[union-attr]


def test_readiness_turns_before_the_end(tmp_path: Path) -> None:
    """dangers.md 1.25: /readyz is 503 first, while all else is still served."""
    with served(tmp_path, "[server]\ndrain_delay = 1.5\n") as own:
        own.process.send_signal(signal.SIGTERM)
        threading.Event().wait(0.3)
        answer = own.client.get("/readyz")
        assert (answer.status_code, answer.json()["status"]) == (503, "draining")
        assert own.client.get("/healthz").status_code == 200
        assert own.process.wait(20) == 0


def test_the_worker_retires_what_expired(tmp_path: Path) -> None:
    """Retention: the bytes go, the answer stays 410."""
    with served(tmp_path, "[lifecycle]\nsweep_every = 0.5\n", arguments=()) as own:
        media = own.upload(text(2000), public="true", expires_in="1")["id"]
        for _ in range(150):
            threading.Event().wait(0.1)
            if not any(each.name.endswith(f"{media}.txt") for each in (own.data / "objects").rglob("*")):
                break
        assert not any(each.name.endswith(f"{media}.txt") for each in (own.data / "objects").rglob("*"))
        answer = own.client.get(f"/v1/media/{media}")
        assert (answer.status_code, answer.json()["code"]) == (410, "media_expired")
