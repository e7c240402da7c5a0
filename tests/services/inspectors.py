"""A plugin of an inspector that goes by words in the content, and of a translator that goes by a dictionary; installed beside a served test."""

from pathlib import Path

from tests.services import distribution

PLUGIN = """
import asyncio, os
from contextlib import asynccontextmanager
from msgspec import Struct
from mediacdn import Argument, Driver, Made, Unavailable, Verdict, hookimpl

WORDS = {"de": {"good": "guten", "day": "Tag"}, "pt-br": {"good": "bom", "day": "dia"}}


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    marker: str = "!"


class Words:
    def __init__(self, marker):
        self.marker = marker.encode()

    async def check(self):
        if self.marker == b"ill":
            raise Unavailable("the engine is away")

    async def inspect(self, upload, chunks):
        tail, found = b"", None
        async for chunk in chunks:
            text = tail + chunk
            for word in (b"reject", b"withhold", b"crash", b"hang"):
                if word + self.marker in text:
                    found = word
            tail = text[-20:]
        if found == b"crash":
            raise RuntimeError("the engine is gone")
        if found == b"hang":
            await asyncio.sleep(60)
        kind = {b"reject": "reject", b"withhold": "quarantine"}.get(found, "accept")
        return Verdict(kind, f"{kind} {upload.media_type} of {upload.owner}")


class Dictionary:
    arguments = (Argument(name="lang", required=True),)
    accepts = ("text/plain",)

    async def check(self):
        pass

    async def run(self, source, spec, sink):
        async with source.file() as file:
            text = os.pread(file, 1 << 20, 0).decode()
        words = WORDS[spec["lang"]]
        os.write(sink.file(), " ".join(words.get(each, each) for each in text.split(" ")).encode())
        return Made(media_type="text/plain", facts={"lang": spec["lang"]})


@asynccontextmanager
async def words(config, kit):
    yield Words(config.marker)


@asynccontextmanager
async def dictionary(config, kit):
    yield Dictionary()


@hookimpl
def mediacdn_drivers():
    return [
        Driver("inspector", "words", Settings, words),
        Driver("inspector", "others", Settings, words),
        Driver("action", "translate", Settings, dictionary),
    ]
"""


def install(folder: Path) -> dict[str, str]:
    """Put the plugin `clerk` into `folder`; the environment in which a server finds it."""
    return distribution.install(folder, "clerk", PLUGIN)
