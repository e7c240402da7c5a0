"""The Python client's uploads that resume: by themselves after cuts, and in a later run by the note that the first one left."""

import asyncio
import hashlib
import itertools
import json
import os
from pathlib import Path

import pytest

from mediacdn.client import LARGE, Client
from mediacdn.errors import DigestMismatch, MediaError, Unavailable, Unprocessable
from tests.services.command import run
from tests.services.scissors import scissors
from tests.uploads.conftest import Speaker

pytestmark = pytest.mark.anyio


async def test_cut_again_and_again(speaker: Speaker, tmp_path: Path) -> None:
    file = tmp_path / "film.bin"
    file.write_bytes(b"\x00" + os.urandom(4_000_000))
    seen: list[int] = []
    with scissors(int(speaker.server.url.rpartition(":")[2]), [600_000, 700_000, 800_000], upwards=True) as relay:
        async with Client(f"http://127.0.0.1:{relay.port}", speaker.server.token()) as media:
            record = await media.resume(file, title="Cut", tags=["a"], progress=lambda done, _: seen.append(done))
            assert not record.duplicate
            again = await media.resume(file)
    assert relay.cut >= 2
    assert seen[-1] == file.stat().st_size
    assert (again.id, again.duplicate) == (record.id, True)
    assert speaker.media(record.id) == file.read_bytes()
    assert not (tmp_path / "film.bin.upload").exists()


async def test_a_large_file_goes_on_by_itself(speaker: Speaker, tmp_path: Path) -> None:
    """`upload` alone: reset within requests, it asks how far it came, and sends no byte that the server has; nothing is left beside the file."""
    file = tmp_path / "film.bin"
    file.write_bytes(b"\x00" + os.urandom(6_000_000))
    seen: list[int] = []
    with scissors(int(speaker.server.url.rpartition(":")[2]), [1_500_000, 2_000_000, 1_000_000], upwards=True) as relay:
        async with Client(f"http://127.0.0.1:{relay.port}", speaker.server.token(), attempts=2, large=1_000_000) as media:
            record = await media.upload(file, title="Cut ü", metadata={"a": 1}, expires_in=3600, progress=lambda done, _: seen.append(done))
            assert (record.duplicate, record.title, record.metadata, record.filename) == (False, "Cut ü", {"a": 1}, "film.bin")
            again = await media.upload(file, title="Other")
            with pytest.raises(DigestMismatch):
                await media.upload(file, public=True, digest="0" * 64)
    assert relay.cut >= 2
    assert any(after < before for before, after in itertools.pairwise(seen)), "the bar goes back to where the server stands"
    assert seen[-1] == file.stat().st_size
    assert (again.id, again.duplicate, again.ignored) == (record.id, True, ("title", "expires_at"))
    assert speaker.media(record.id) == file.read_bytes()
    assert os.listdir(tmp_path) == ["film.bin"]


async def test_a_large_file_that_changes_meanwhile_is_not_stored(speaker: Speaker, tmp_path: Path) -> None:
    file = tmp_path / "film.bin"
    file.write_bytes(b"\x00" + os.urandom(4_000_000))

    def disturb(done: int, total: int | None) -> None:
        if done == 1 << 20:
            os.utime(file, (1, 1))

    async with Client(speaker.server.url, speaker.server.token("changing"), large=1_000_000) as media:
        with pytest.raises(Unprocessable, match="while it was being sent"):
            await media.upload(file, progress=disturb)
        assert [each async for each in media.list(owner="changing")] == []


async def test_a_large_file_whose_server_is_gone(speaker: Speaker, tmp_path: Path) -> None:
    """It fails when nothing gets through any more, and not before."""
    file = tmp_path / "film.bin"
    file.write_bytes(b"\x00" + os.urandom(4_000_000))
    cuts = [1_500_000, *[1] * 100]
    with scissors(int(speaker.server.url.rpartition(":")[2]), cuts, upwards=True) as relay:
        async with Client(f"http://127.0.0.1:{relay.port}", speaker.server.token(), attempts=1, large=1_000_000) as media:
            media._transport.pause = lambda failures: 0.0
            with pytest.raises(Unavailable):
                await media.upload(file)
    assert relay.cut >= 4


async def test_a_later_run_goes_on(speaker: Speaker, tmp_path: Path) -> None:
    file, note = tmp_path / "film.bin", tmp_path / "film.bin.upload"
    file.write_bytes(b"\x00" + os.urandom(4_000_000))
    with scissors(int(speaker.server.url.rpartition(":")[2]), [2_000_000, *[1] * 100], upwards=True) as relay:
        async with Client(f"http://127.0.0.1:{relay.port}", speaker.server.token(), attempts=1) as media:
            with pytest.raises(MediaError) as failed:
                await media.resume(file)
            assert isinstance(failed.value, Unavailable)
        begun = json.loads(note.read_text())
        assert int(speaker.head(begun["path"]).headers["upload-offset"]) > 0
        relay.cuts.clear()
        command = ["put", "--resume", file, "--url", f"http://127.0.0.1:{relay.port}", "--json", "--token", speaker.server.token()]
        done = await asyncio.to_thread(run, *command)
    assert done.returncode == 0, done.stderr
    assert begun["path"].rpartition("/")[2].startswith(json.loads(done.stdout)[0]["id"])
    assert not note.exists()


def test_the_command_sends_large_files_so(speaker: Speaker, tmp_path: Path) -> None:
    file = tmp_path / "large.bin"
    file.write_bytes(b"\x00" + os.urandom(LARGE))
    with scissors(int(speaker.server.url.rpartition(":")[2]), [10_000_000, 20_000_000, 20_000_000], upwards=True) as relay:
        command = ["put", file, "--url", f"http://127.0.0.1:{relay.port}", "--json", "--token", speaker.server.token()]
        done = run(*command, timeout=120)
        assert (
            relay.cut >= 2
        )  # on a busy machine a connection may end for another reason before it is cut: the offset is asked while the last bytes are written
    assert done.returncode == 0, done.stderr
    [outcome] = json.loads(done.stdout)
    assert outcome["record"]["digest"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert os.listdir(tmp_path) == ["large.bin"]


async def test_a_refusal_is_final(speaker: Speaker, tmp_path: Path) -> None:
    file = tmp_path / "film.bin"
    file.write_bytes(b"\x00" * 1000)
    async with Client(speaker.server.url, speaker.server.token()) as media:
        with pytest.raises(MediaError) as refused:
            await media.resume(file, media_type="image/png")
        assert refused.value.code == "type_mismatch"
        assert not isinstance(refused.value, DigestMismatch)
    assert not (tmp_path / "film.bin.upload").exists()
