"""Where the secrets live: made once, private, rotated under a running server, and never lost over a bad edit."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mediacdn.config import Signing
from mediacdn.errors import ConfigError
from mediacdn.keyring import RingFile, _Folder, development_key, open_keyring
from mediacdn.signing import KeyRing, sign_query, verify_query

SECRET = base64.b64encode(bytes(range(32))).decode()
OTHER = base64.b64encode(bytes(range(1, 33))).decode()


class Clock:
    """A monotonic clock that the test turns."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


def _file(data: Path) -> Path:
    return data / "keys" / "signing.json"


def _running(data: Path, clock: Clock, warnings: list[str] | None = None) -> RingFile:
    """A server's view of the ring, with a clock of ours."""
    opened = open_keyring(Signing(), data)
    return RingFile(opened.ring(), _Folder(data), (warnings if warnings is not None else []).append, clock)


def test_first_use_makes_a_private_durable_ring(tmp_path: Path) -> None:
    data = tmp_path / "deep" / "var"
    ring = open_keyring(Signing(), data).ring()
    assert [len(secret) for secret in ring.keys.values()] == [32]
    assert (data / "keys").stat().st_mode & 0o777 == 0o700
    assert _file(data).stat().st_mode & 0o777 == 0o600
    assert open_keyring(Signing(), data).ring().keys == ring.keys
    assert sorted(entry.name for entry in (data / "keys").iterdir()) == ["lock", "signing.json"]


def test_processes_that_start_at_once_agree(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from mediacdn.config import Signing; from mediacdn.keyring import development_key, open_keyring; sys.stdin.read();"
        "data = pathlib.Path(sys.argv[1]); ring = open_keyring(Signing(), data).ring(); print(ring.current, ring.keys[ring.current].hex(), development_key(data).hex())"
    )
    starters = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "var")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for process in starters:
        assert process.stdin is not None
        process.stdin.flush()
    answers = set()
    for process in starters:
        assert process.stdin is not None
        process.stdin.close()
    for process in starters:
        assert process.stdout is not None
        answers.add(process.stdout.read())
        process.stdout.close()
        assert process.wait() == 0
    assert len(answers) == 1


def test_a_killed_writer_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    ring = open_keyring(Signing(), tmp_path)
    (tmp_path / "keys" / "signing.json.new").write_bytes(b"half")
    kid = ring.rotate(1)
    assert ring.ring().current == kid
    assert not (tmp_path / "keys" / "signing.json.new").exists()


def test_rotation_keeps_as_many_older_keys_as_asked(tmp_path: Path) -> None:
    ring = open_keyring(Signing(), tmp_path)
    first = ring.ring().current
    second = ring.rotate(1)
    assert [(key.kid, key.current, key.created_at is not None) for key in ring.list()] == [(first, False, True), (second, True, True)]
    assert ring.lookup(first) is not None
    third = ring.rotate(1)
    assert [key.kid for key in ring.list()] == [second, third]
    assert ring.lookup(first) is None
    fourth = ring.rotate(0)
    assert [key.kid for key in ring.list()] == [fourth]
    assert [key.kid for key in open_keyring(Signing(), tmp_path).list()] == [fourth]


def test_a_running_server_follows_a_rotation(tmp_path: Path) -> None:
    clock = Clock()
    running = _running(tmp_path, clock)
    old = running.ring().current
    kid = open_keyring(Signing(), tmp_path).rotate(1)
    assert running.ring().current == old
    assert running.lookup(kid) is not None, "an unknown kid looks at once"
    assert running.ring().current == kid
    newest = open_keyring(Signing(), tmp_path).rotate(1)
    clock.at += 2.0
    assert running.ring().current == newest, "two seconds later without an unknown kid"
    assert running.lookup(old) is None


def test_unknown_kids_look_once_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    running = _running(tmp_path, clock)
    looks = []
    stat = os.stat
    monkeypatch.setattr(os, "stat", lambda *args, **kwargs: (looks.append(args), stat(*args, **kwargs))[1])
    for turn in range(1000):
        assert running.lookup(f"unknown{turn}") is None
    assert len(looks) == 1
    clock.at += 1.0
    for turn in range(1000):
        running.lookup(f"unknown{turn}")
    assert len(looks) == 2


def _truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:40])


def _open_to_others(file: Path) -> None:
    file.chmod(0o644)


def _short_secret(file: Path) -> None:
    content = json.loads(file.read_bytes())
    content["keys"][0]["secret"] = base64.b64encode(b"short").decode()
    file.write_text(json.dumps(content))


def _link(file: Path) -> None:
    file.rename(file.with_suffix(".moved"))
    file.symlink_to(file.with_suffix(".moved"))


def _folder(file: Path) -> None:
    file.unlink()
    file.mkdir(mode=0o700)


def _pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file, 0o600)


FAULTS = [
    (_truncate, "is not a key ring"),
    (_open_to_others, "chmod 600"),
    (_short_secret, "at least 32 bytes"),
    (_link, "cannot be read"),
    (_folder, "not a regular file"),
    (_pipe, "not a regular file"),
]


@pytest.mark.parametrize(("fault", "says"), FAULTS)
def test_a_ring_that_cannot_be_used_stops_the_start_and_not_a_running_server(tmp_path: Path, fault: object, says: str) -> None:
    clock, warnings = Clock(), list[str]()
    running = _running(tmp_path, clock, warnings)
    before = running.ring()
    assert callable(fault)
    fault(_file(tmp_path))
    for _ in range(3):
        clock.at += 3
        assert running.lookup(before.current) == before.keys[before.current]
    assert len(warnings) == 1
    assert says in warnings[0]
    with pytest.raises(ConfigError, match=says) as refused:
        open_keyring(Signing(), tmp_path)
    for secret in before.keys.values():
        assert base64.b64encode(secret).decode()[:20] not in str(refused.value) + warnings[0]


def test_a_ring_that_vanishes_stays_in_force(tmp_path: Path) -> None:
    clock, warnings = Clock(), list[str]()
    running = _running(tmp_path, clock, warnings)
    kid = running.ring().current
    _file(tmp_path).unlink()
    for _ in range(3):
        clock.at += 3
        assert running.lookup(kid) is not None
    assert len(warnings) == 1
    replaced = open_keyring(Signing(), tmp_path).ring().current
    clock.at += 3
    assert running.ring().current == replaced


def test_a_folder_open_to_others_is_refused(tmp_path: Path) -> None:
    open_keyring(Signing(), tmp_path)
    (tmp_path / "keys").chmod(0o750)
    with pytest.raises(ConfigError, match="chmod 700"):
        open_keyring(Signing(), tmp_path)


def test_a_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "keys").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="cannot be opened as a folder"):
        open_keyring(Signing(), tmp_path)


CONFIGURED = [
    ("one key signs", Signing(keys={"a": SECRET}), "a"),
    ("the named one signs", Signing(keys={"a": SECRET, "b": OTHER}, current="b"), "b"),
    ("a trailing line feed of a secret file", Signing(keys={"a": SECRET + "\n"}), "a"),
]


@pytest.mark.parametrize(("config", "current"), [row[1:] for row in CONFIGURED], ids=[row[0] for row in CONFIGURED])
def test_configured_keys(tmp_path: Path, config: Signing, current: str) -> None:
    ring = open_keyring(config, tmp_path)
    assert ring.ring().current == current
    assert ring.lookup("a") == bytes(range(32))
    assert ring.lookup("c") is None
    assert all(key.created_at is None for key in ring.list())
    assert list(tmp_path.iterdir()) == [], "nothing is written"
    with pytest.raises(ConfigError, match=r"signing\.keys"):
        ring.rotate(1)


REFUSED = [
    ("two keys, none named", Signing(keys={"a": SECRET, "b": OTHER}), r"signing\.current"),
    ("an unknown current", Signing(keys={"a": SECRET}, current="b"), "'b' is not among"),
    ("current without keys", Signing(current="a"), r"signing\.keys is empty"),
    ("a short secret", Signing(keys={"a": base64.b64encode(bytes(31)).decode()}), "at least 32 bytes"),
    ("not base64", Signing(keys={"a": "no base64 at all!"}), r"signing\.keys\.a is not base64"),
    ("not ASCII", Signing(keys={"a": "ä" * 44}), r"signing\.keys\.a is not base64"),
    ("a kid that cannot stand in a URL", Signing(keys={"a b": SECRET}), "a key id is"),
]


@pytest.mark.parametrize(("config", "says"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_configuration_that_is_refused(tmp_path: Path, config: Signing, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as refused:
        open_keyring(config, tmp_path)
    assert SECRET not in str(refused.value)


def test_negative_keep_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="keep"):
        open_keyring(Signing(), tmp_path).rotate(-1)


def test_a_link_outlives_one_rotation_and_not_two(tmp_path: Path) -> None:
    ring = open_keyring(Signing(), tmp_path)
    path, _, query = sign_query(ring.ring(), "/v1/media/x", exp=2000, iat=1000).partition("?")
    ring.rotate(1)
    assert verify_query(ring.lookup, "GET", path, query, 1000).exp == 2000
    ring.rotate(1)
    with pytest.raises(Exception, match="signature"):
        verify_query(ring.lookup, "GET", path, query, 1000)


def test_the_development_key_is_made_once_and_private(tmp_path: Path) -> None:
    pem = development_key(tmp_path)
    assert pem.startswith(b"-----BEGIN PRIVATE KEY-----")
    assert development_key(tmp_path) == pem
    file = tmp_path / "keys" / "development.pem"
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        development_key(tmp_path)


def test_cryptography_is_not_imported_for_the_ring() -> None:
    program = "import sys, mediacdn.keyring; print([name for name in sys.modules if name.startswith('cryptography')])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_ring_never_shows_its_secrets() -> None:
    assert repr(KeyRing({"a": bytes(range(32))}, "a")) == "KeyRing(keys=[a], current=a)"
