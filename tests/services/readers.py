"""Readers in a loop: every answer is whole, the right bytes and no error, or it is remembered."""

import hashlib
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import httpx

PAUSE = 0.005
"""Seconds between two reads: what is looked at is to have some of the machine too."""


class Readers:
    """What the readers met: `wrong` answers, told in words, and how many were right."""

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self.right = 0
        self._lock = threading.Lock()

    def note(self, wrong: str | None) -> None:
        with self._lock:
            if wrong is None:
                self.right += 1
            else:
                self.wrong.append(wrong)


@contextmanager
def reading(url: str, headers: Mapping[str, str], digests: Mapping[str, str], threads: int = 2) -> Iterator[Readers]:
    """Read these ids again and again until the context is left; `digests` maps them to the SHA-256 that they must have."""
    readers, ending = Readers(), threading.Event()

    def run(first: int) -> None:
        with httpx.Client(base_url=url, headers=headers, timeout=30, trust_env=False) as client:
            while not ending.is_set():
                for media, digest in list(digests.items())[first:] + list(digests.items())[:first]:
                    try:
                        answer = client.get(f"/v1/media/{media}")
                        found = hashlib.sha256(answer.content).hexdigest()
                        right = answer.status_code == 200 and found == digest
                        readers.note(None if right else f"{media}: {answer.status_code} {answer.text[:200] if answer.is_error else found}")
                    except httpx.HTTPError as error:
                        readers.note(f"{media}: {error!r}")
                    if ending.wait(PAUSE):
                        return

    running = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
    for each in running:
        each.start()
    try:
        yield readers
    finally:
        ending.set()
        for each in running:
            each.join(40)
