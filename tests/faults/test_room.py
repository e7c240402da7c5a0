"""No room: 507, nothing kept, nothing lost, and all is well again when there is room."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.samples import binary
from tests.services.served import Served, served

SIZE = 24 * 1024 * 1024


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB; mounting needs root, a user has a namespace of their own for it in unshare's care."""
    if os.geteuid() != 0:
        pytest.fail("a small file system needs root: run the suite as root, or in `unshare -rm`")
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0700", "small", str(tmp_path)], check=True)
    try:
        yield tmp_path
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def files(server: Served) -> set[Path]:
    return {each for each in (server.data / "objects").rglob("*") if each.is_file()}


def test_a_full_disk(small: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    data = tmp_path_factory.mktemp("data")
    toml = f'[storage.default]\ndriver = "local"\npath = "{small}/objects"\nreserve = 0\n[limits]\nmax_upload_size = 100000000\n'
    with served(data, toml) as own:
        kept = [own.upload(binary(3_000_000, bytes([n])), public="true") for n in range(6)]
        chunks = (binary(1_000_000, bytes([200 + n])) for n in range(12))
        answer = own.client.post("/v1/media", content=chunks, headers=own.auth())
        assert (answer.status_code, answer.json()["code"]) == (507, "insufficient_storage")
        declared = own.client.post("/v1/media", content=binary(12_000_000), headers=own.auth())
        assert declared.status_code == 507
        objects = {each for each in (small / "objects").rglob("*") if each.is_file()}
        assert len(objects) == 6
        for n, record in enumerate(kept):
            assert own.client.get(f"/v1/media/{record['id']}").content == binary(3_000_000, bytes([n]))
        own.client.delete(f"/v1/media/{kept[0]['id']}", headers=own.auth("root", "admin")).raise_for_status()
        assert own.upload(binary(3_000_000, b"again"))["size"] == 3_000_000
