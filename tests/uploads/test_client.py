"""The Python client's uploads that resume: by themselves after cuts, and in a later run by the note that the first one left."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mediacdn.client import Client
from mediacdn.errors import DigestMismatch, MediaError, Unavailable
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
        command = [sys.executable, "-m", "mediacdn", "put", "--resume", str(file), "--url", f"http://127.0.0.1:{relay.port}", "--json"]
        command += ["--token", speaker.server.token()]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert begun["path"].rpartition("/")[2].startswith(json.loads(done.stdout)[0]["id"])
    assert not note.exists()


async def test_a_refusal_is_final(speaker: Speaker, tmp_path: Path) -> None:
    file = tmp_path / "film.bin"
    file.write_bytes(b"\x00" * 1000)
    async with Client(speaker.server.url, speaker.server.token()) as media:
        with pytest.raises(MediaError) as refused:
            await media.resume(file, media_type="image/png")
        assert refused.value.code == "type_mismatch"
        assert not isinstance(refused.value, DigestMismatch)
    assert not (tmp_path / "film.bin.upload").exists()
