"""A server whose storage is a mirror: killed in the middle of uploads, with a member gone, harmed, and scrubbed."""

import hashlib
import random
import threading
import time
from pathlib import Path

import httpx

from mediacdn.cli.scrub import Place
from tests.services.command import answered, run, within
from tests.services.readers import reading
from tests.services.samples import png, text
from tests.services.served import served

TOML = """
plugins = ["local", "jwt"]
[storage.default]
driver = "mirror"
of = ["one", "two"]
{more}
[storage.one]
path = "one"
fsync = false
reserve = 0
[storage.two]
path = "two"
fsync = false
reserve = 0
[edge]
memory = 0
open_files = 0
[limits]
uploads_per_second = 0.0
max_upload_size = 100000000
[lifecycle]
abandoned_after = 1
moved_grace = 1
"""


def files(folder: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in folder.rglob("*") if each.is_file()}


def test_what_was_acknowledged_is_in_both_after_a_crash(tmp_path: Path) -> None:
    """Uploads run, the server is killed, five times over: every acknowledged one is whole in both members, and nothing else stays."""
    with served(tmp_path / "data", TOML.replace("{more}", "")) as server:
        options: list[object] = ["--data", server.data, "--config", server.data / "mediacdn.toml"]
        acknowledged: dict[str, str] = {}
        noise = random.Random(5)
        auth = server.auth()

        def upload(url: str, number: int) -> None:
            with httpx.Client(base_url=url, timeout=20, trust_env=False) as client:
                while True:
                    body = text(64, str(number).encode()) + noise.randbytes(16) * 60_000
                    try:
                        answer = client.post("/v1/media", content=body, headers=auth)
                    except httpx.HTTPError:
                        return
                    if answer.status_code == 201:
                        acknowledged[answer.json()["id"]] = hashlib.sha256(body).hexdigest()

        for _ in range(4):
            threads = [threading.Thread(target=upload, args=(server.url, number)) for number in range(3)]
            for each in threads:
                each.start()
            had = len(acknowledged)
            within(20, lambda had=had: len(acknowledged) > had)
            time.sleep(noise.uniform(0.02, 0.15))
            server.kill()
            for each in threads:
                each.join(30)
            server.start()
        assert len(acknowledged) > 10
        time.sleep(1.1)
        answered("gc", *options)
        one, two = files(server.data / "one"), files(server.data / "two")
        assert one == two
        found = {hashlib.sha256(body).hexdigest() for body in one.values()}
        assert set(acknowledged.values()) <= found
        assert answered("scrub", "--unknown", *options)["findings"] == []
        for name, digest in list(acknowledged.items())[:10]:
            assert hashlib.sha256(server.client.get(f"/v1/media/{name}", headers=auth).content).hexdigest() == digest


def test_a_member_that_goes_costs_no_reader_anything(tmp_path: Path) -> None:
    with served(tmp_path / "data", TOML.replace("{more}", 'writes = "any"')) as server:
        options: list[object] = ["--data", server.data, "--config", server.data / "mediacdn.toml"]
        media = [server.upload(png(4, 4, bytes([number])) + bytes(200_000)) for number in range(10)]
        digests = {each["id"]: each["digest"] for each in media}
        with reading(server.url, server.auth(), digests, 1) as readers:
            within(20, lambda: readers.right > 10)
            for each in (server.data / "one").rglob("*"):
                if each.is_file():
                    each.unlink()
            seen = readers.right
            within(20, lambda: readers.right > seen + 30)
        assert readers.wrong == []
        within(20, lambda: len(files(server.data / "one")) == 10)
        assert files(server.data / "one") == files(server.data / "two")
        assert 'mediacdn_stored_objects{state="live",storage="default"}' in server.client.get("/metrics").text
        text_of_metrics = server.client.get("/metrics").text
        assert 'mediacdn_mirror_repairs_total{member="one",outcome="repaired",storage="default"}' in text_of_metrics
        assert server.client.get("/readyz").status_code == 200
        assert answered("scrub", *options)["findings"] == []


def test_a_scrub_names_the_harmed_and_mends_what_it_can(tmp_path: Path) -> None:
    with served(tmp_path / "data", TOML.replace("{more}", "")) as server:
        options: list[object] = ["--data", server.data, "--config", server.data / "mediacdn.toml"]
        media = [server.upload(text(3000, bytes([number])))["id"] for number in range(6)]
        server.kill()

        def harm(member: str, number: int, how: str) -> None:
            (path,) = [each for each in (server.data / member).rglob("*") if media[number] in each.name]
            if how == "missing":
                path.unlink()
            else:
                path.write_bytes(path.read_bytes()[:-1] + b"!")

        harm("one", 0, "damaged")
        harm("two", 1, "missing")
        harm("one", 2, "missing")
        harm("two", 2, "damaged")
        expected = {("one", "damaged", media[0]), ("two", "missing", media[1]), ("one", "missing", media[2]), ("two", "damaged", media[2])}
        told = answered("scrub", "--no-mend", *options, code=1)
        assert {(each["member"], each["what"], *each["media"]) for each in told["findings"]} == expected
        assert not any(each["mended"] for each in told["findings"])
        assert told["objects"] == 6
        told = answered("scrub", *options, code=1)
        assert {(each["member"], *each["media"]) for each in told["findings"] if each["mended"]} == {("one", media[0]), ("two", media[1])}
        stray = "originals/STRAY.txt"
        folder = server.data / "two" / hashlib.sha256(stray.encode()).hexdigest()[:3]
        folder.mkdir(exist_ok=True)
        (folder / stray.replace("/", "+")).write_bytes(b"whose?")
        time.sleep(1.1)
        told = answered("scrub", "--unknown", *options, code=1)
        assert {(each["what"], each["key"] == stray, *each["media"]) for each in told["findings"]} == {
            ("unknown", True), ("missing", False, media[2]), ("damaged", False, media[2]),
        }  # fmt: skip
        server.start()


def test_a_scrub_goes_on_where_it_was_killed(tmp_path: Path) -> None:
    with served(tmp_path / "data", TOML.replace("{more}", "")) as server:
        options: list[object] = ["--data", server.data, "--config", server.data / "mediacdn.toml"]
        for number in range(4):
            server.upload(text(3000, bytes([number])))
        keys = sorted(each.replace("+", "/") for each in files(server.data / "one"))
        file = server.data / "scrub.json"
        Place(file, restart=False).reach("default", keys[1])
        assert answered("scrub", *options)["objects"] == 2
        assert not file.exists(), "the next one begins anew"
        Place(file, restart=False).reach("default", keys[1])
        assert answered("scrub", "--restart", "--storage", "default", *options)["objects"] == 4
        assert "There is no storage" in run("scrub", "--storage", "nowhere", *options).stderr


def test_how_far_it_came_is_noted(tmp_path: Path) -> None:
    file = tmp_path / "scrub.json"
    place = Place(file, restart=False)
    assert place.of("a") == ""
    place.reach("a", "k1")
    place.reach("a", "k2")
    assert Place(file, restart=False).of("a") == "k1", "noted every second at most: what was read since is read again"
    place.reach("a", None)
    place.reach("b", "k3")
    again = Place(file, restart=False)
    assert (again.of("a"), again.of("c")) == (None, "")
    assert Place(file, restart=True).of("a") == ""
    for harm in ("", "{", "[1]"):
        file.write_text(harm)
        assert Place(file, restart=False).of("a") == ""
    again.finish()
    again.finish()
    assert not file.exists()
