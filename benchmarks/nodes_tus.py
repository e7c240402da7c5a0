"""Uploads by tus through nginx while parts are taken away: slow enough to be cut in the middle, gone on with at whatever node answers, compared byte by byte at the end."""

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from http.client import HTTPException

from benchmarks.machine import progress
from benchmarks.nodes_load import Answer, Client, nobody, who
from tests.services.nodes import Nodes

SIZE = 7_000_000
"""More than a part, and less than two: both ways of waiting are in it."""
PIECE = 100_000
PAUSE = 0.02
AGAIN = 0.1
ENDING = 30.0
"""Seconds for an upload to come to its end when the load is over."""
TUS = {"Tus-Resumable": "1.0.0"}


class Uploader(threading.Thread):
    """One upload after another until `ending`. `answers` are those of requests with bytes, `lost` counts offsets taken back, uploads given up and media of other bytes."""

    def __init__(self, nodes: Nodes, ending: threading.Event) -> None:
        super().__init__(daemon=True)
        self.answers: list[Answer] = []
        self.media: dict[str, str] = {}
        self.lost = 0
        self.failure: BaseException | None = None
        self._nodes = nodes
        self._client = Client(nodes.port)
        self._over = ending

    def run(self) -> None:
        try:
            while not self._over.is_set():
                self._upload(b"\x00" + os.urandom(SIZE - 1))
        except BaseException as error:
            self.failure = error
        self._client.close()

    def check(self) -> int:
        """Read what was acknowledged; gives what was lost in all."""
        for media, digest in self.media.items():
            answer = self._nodes.client.get(f"/v1/media/{media}", headers=self._nodes.auth("uploader"))
            self.lost += answer.status_code != 200 or hashlib.sha256(answer.content).hexdigest() != digest
        return self.lost

    def _upload(self, body: bytes) -> None:
        path = self._begun()
        if path is None:
            return
        acknowledged, offset, until = 0, 0, float("inf")
        while True:
            if self._over.is_set():
                until = min(until, time.monotonic() + ENDING)
            if time.monotonic() > until:
                raise RuntimeError(f"an upload does not end: {self.answers[-1].what}")
            status, fields = self._sent(path, body, offset)
            if status == 204:
                acknowledged = offset = int(fields["upload-offset"])
            if "upload-media-id" in fields:
                self.media[fields["upload-media-id"]] = hashlib.sha256(body).hexdigest()
                return
            if status != 204:
                time.sleep(AGAIN)
                found = self._offset(path)
                if found == -1:
                    progress(f"lost: the upload {path} is gone at {acknowledged} of {SIZE}")
                    self.lost += 1
                    return
                offset = acknowledged if found is None else found
                self.lost += offset < acknowledged
                acknowledged = max(acknowledged, offset)

    def _begun(self) -> str | None:
        headers = {**self._nodes.auth("uploader"), **TUS, "Upload-Length": str(SIZE)}
        while True:
            try:
                status, fields, _ = self._client.ask("POST", "/v1/uploads", b"", headers)
                if status == 201:
                    return fields["location"]
            except (OSError, HTTPException):
                pass
            if self._over.is_set():
                return None
            time.sleep(AGAIN)

    def _sent(self, path: str, body: bytes, offset: int) -> tuple[int, dict[str, str]]:
        began = time.monotonic()
        headers = {**TUS, "Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
        headers["Content-Length"] = str(SIZE - offset)
        try:
            status, fields, found = self._client.ask("PATCH", path, _slowly(body, offset), headers)
        except (OSError, HTTPException) as error:
            self.answers.append(Answer(began, time.monotonic(), nobody(error)))
            return 0, {}
        self.answers.append(Answer(began, time.monotonic(), "ok" if status == 204 else who(status, fields, found), "retry-after" in fields))
        return status, dict(fields)

    def _offset(self, path: str) -> int | None:
        """How far it has come, None when nobody can tell, -1 when it is gone. A connection of its own: nginx closes the one on which it gave an answer before the body was there."""
        self._client.close()
        try:
            status, fields, _ = self._client.ask("HEAD", path, b"", TUS)
        except (OSError, HTTPException):
            return None
        return int(fields["upload-offset"]) if status == 200 else -1 if status in (404, 410) else None


def _slowly(body: bytes, offset: int) -> Iterator[bytes]:
    for at in range(offset, len(body), PIECE):
        time.sleep(PAUSE)
        yield body[at : at + PIECE]
