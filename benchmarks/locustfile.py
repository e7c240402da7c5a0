"""Loads for a running mediacdn as its users would make them, for locust (https://locust.io). Loopback only, and always bounded by --run-time.

    mediacdn serve --data var
    locust -f benchmarks/locustfile.py --headless --host http://127.0.0.1:8400 --data var --users 50 --spawn-rate 50 --run-time 60s Chat

Kinds of users; name those that a load is to be mixed of (mixes.py lists the mixes that are measured), or none for all of them at once. No pauses unless told:

- `Chat`, members of a chat: 80 % small pictures by signed links, 15 % ranges of a film (a player that seeks), 5 % HEAD of pictures.
- `HotReader`, small pictures by signed links, the popular ones far more often than the others (Zipf).
- `ColdReader`, pictures that no cache holds: each of them once, then everything is purged.
- `Seeker`, ranges of a film.
- `Revalidator`, a browser that has every picture and asks whether it is still right.
- `Purger`, always two of them: one picture after the other is purged, a tenth of a second between, now and then a tag, and now and then everything.
- `Uploader`, somebody who uploads a picture of 2 to 200 KB that nobody has uploaded before, then another. The default of `limits.uploads_per_second` bounds
  them; a 429 is told as a failure.

Variants have no users yet: there are none.

Tokens come from `mediacdn token` with the server's data directory (--data; and --server-config where the server has one). Pictures and the film are uploaded
before the load begins, the first time; later runs find them by their tag. Without --headless locust opens its page at http://localhost:8089.
"""

import logging
import os
import random
import subprocess
import sys
import time
from itertools import accumulate
from typing import Any
from urllib.parse import urlsplit

import httpx
from locust import FastHttpUser, constant, events, task
from locust.env import Environment

PICTURES = 200
PICTURE = 10_240
FILM = 20_000_000
SPAN = 262_144
TAG = "load"
MP4 = b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isommp42" + (FILM - 24).to_bytes(4, "big") + b"mdat"
"""How a film begins (ISO/IEC 14496-12): a ftyp box, then one mdat to the end."""


class Shelf:
    """What the users of this process read: signed links to pictures, their ids and entity tags, and the film's; and an uploader's and an admin's token.

    `popularity` are the pictures' cumulative weights, `cold` is how many reads of cold pictures there were.
    """

    pictures: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    popularity: tuple[float, ...] = ()
    film: str = ""
    token: str = ""
    admin: str = ""
    cold: int = 0


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def _options(parser: Any) -> None:
    parser.add_argument("--data", default="var", help="The server's data directory, whose key signs the tokens.")
    parser.add_argument("--server-config", default="", help="The server's configuration file.")


@events.init.add_listener  # type: ignore[untyped-decorator]
def _prepare(environment: Environment, **_: Any) -> None:
    """Keep to the bounds, then fill: before the run, whose time is the load's alone."""
    options = environment.parsed_options
    assert options is not None
    if urlsplit(options.host or "").hostname not in ("127.0.0.1", "::1", "localhost"):
        raise SystemExit("--host: this load is for a server on this machine, such as http://127.0.0.1:8400")
    if options.headless and not options.run_time:
        raise SystemExit("--run-time: say when this load ends, such as 60s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        _fill(options)
    except (httpx.HTTPError, subprocess.CalledProcessError) as error:
        raise SystemExit(f"the server could not be filled: {error}") from error  # any other exception locust would log and pass over


def _fill(options: Any) -> None:
    """Upload what the users read where it is not there yet, and have links made that outlive the run."""
    Shelf.token = _token(options, "uploader", "write")
    Shelf.admin = _token(options, "librarian", "admin")
    headers = {"Authorization": f"Bearer {Shelf.admin}"}
    with httpx.Client(base_url=options.host, headers=headers, timeout=60, trust_env=False) as client:
        pictures = _listed(client, "application/octet-stream")
        for _ in range(PICTURES - len(pictures)):
            pictures.append(_stored(client, b"\x00\x01" + os.urandom(PICTURE - 2)))
        films = _listed(client, "video/mp4") or [_stored(client, MP4 + os.urandom(FILM - len(MP4)))]
        wishes = [{"id": each, "expires": 86400} for each in [films[0], *pictures[:PICTURES]]]
        answer = client.post("/v1/sign", json={"items": wishes})
        answer.raise_for_status()
        Shelf.film, *links = (httpx.URL(each["url"]).raw_path.decode() for each in answer.json()["items"])
        Shelf.pictures, Shelf.ids = tuple(links), tuple(pictures[:PICTURES])
        Shelf.tags = tuple(client.head(each, headers={"Authorization": ""}).headers["etag"] for each in links)
        Shelf.popularity = tuple(accumulate(1 / rank for rank in range(1, len(links) + 1)))


def _token(options: Any, subject: str, scope: str) -> str:
    command = [sys.executable, "-m", "mediacdn", "token", "--data", options.data, "--scope", scope, "--sub", subject, "--expires", "12h"]
    command += ["--config", options.server_config] if options.server_config else []
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _listed(client: httpx.Client, media_type: str) -> list[str]:
    answer = client.get("/v1/media", params={"tag": TAG, "type": media_type, "limit": 200})
    answer.raise_for_status()
    return [each["id"] for each in answer.json()["items"]]


def _stored(client: httpx.Client, body: bytes) -> str:
    while True:
        answer = client.post("/v1/media", params={"tags": TAG}, content=body)
        if answer.status_code != 429:
            answer.raise_for_status()
            return str(answer.json()["id"])
        time.sleep(float(answer.headers["Retry-After"]))


class Chat(FastHttpUser):
    """A member of a chat who scrolls through its pictures and plays its film."""

    weight = 10

    @task(80)
    def picture(self) -> None:
        self.client.get(random.choice(Shelf.pictures), name="picture")

    @task(15)
    def seek(self) -> None:
        _seek(self)

    @task(5)
    def look(self) -> None:
        self.client.head(random.choice(Shelf.pictures), name="HEAD of a picture")


class HotReader(FastHttpUser):
    """Somebody who reads what everybody reads."""

    weight = 10

    @task
    def picture(self) -> None:
        self.client.get(random.choices(Shelf.pictures, cum_weights=Shelf.popularity)[0], name="hot picture")


class ColdReader(FastHttpUser):
    """Somebody who reads what nobody has read since it left the caches."""

    weight = 10

    @task
    def picture(self) -> None:
        which, Shelf.cold = Shelf.cold % len(Shelf.pictures), Shelf.cold + 1
        if not which:
            self.client.post("/v1/admin/purge", json={"all": True}, headers={"Authorization": f"Bearer {Shelf.admin}"}, name="purge of all")
        self.client.get(Shelf.pictures[which], name="cold picture")


class Seeker(FastHttpUser):
    """Somebody who seeks in a film."""

    weight = 10

    @task
    def seek(self) -> None:
        _seek(self)


class Revalidator(FastHttpUser):
    """A browser with a full cache."""

    weight = 10

    @task
    def picture(self) -> None:
        which = random.randrange(len(Shelf.pictures))
        with self.client.get(
            Shelf.pictures[which], headers={"If-None-Match": Shelf.tags[which]}, name="revalidation", catch_response=True
        ) as answer:
            if answer.status_code == 304:
                answer.success()
            else:
                answer.failure(f"{answer.status_code}")


class Purger(FastHttpUser):
    """Somebody who purges all the time."""

    fixed_count = 2
    wait_time = constant(0.1)

    @task(200)
    def picture(self) -> None:
        self._purge({"media": [random.choice(Shelf.ids)]}, "purge of one")

    @task(10)
    def tag(self) -> None:
        self._purge({"tags": [TAG]}, "purge of a tag")

    @task(2)
    def everything(self) -> None:
        self._purge({"all": True}, "purge of all")

    def _purge(self, what: dict[str, Any], name: str) -> None:
        self.client.post("/v1/admin/purge", json=what, headers={"Authorization": f"Bearer {Shelf.admin}"}, name=name)


def _seek(user: FastHttpUser) -> None:
    start = random.randrange(FILM - SPAN)
    headers = {"Range": f"bytes={start}-{start + SPAN - 1}"}
    with user.client.get(Shelf.film, headers=headers, name="range of the film", catch_response=True) as answer:
        if answer.status_code != 206 or len(answer.content or b"") != SPAN:
            answer.failure(f"{answer.status_code} with {len(answer.content or b'')} bytes")


class Uploader(FastHttpUser):
    """Somebody with new pictures."""

    weight = 1

    @task
    def upload(self) -> None:
        body = b"\x00\x01" + os.urandom(random.randrange(2_000, 200_000))
        headers = {"Authorization": f"Bearer {Shelf.token}"}
        with self.client.post("/v1/media", data=body, headers=headers, name="upload", catch_response=True) as answer:  # type: ignore[arg-type]
            if answer.status_code != 201:
                answer.failure(f"{answer.status_code}")
