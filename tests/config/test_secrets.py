"""Secrets: read from where they stand, and shown to nobody."""

import json
import os
from pathlib import Path

import pytest
from msgspec import Struct

from mediacdn.config import Secret, decode_driver, load, masked
from mediacdn.errors import ConfigError

KEY = "c2l4dGVlbiBieXRlcyB0d2ljZSBtYWtlIHRoaXJ0eXR3byE="
URL = "postgresql://media:pass@db/media"


def kept(file: Path, content: str, mode: int = 0o600) -> Path:
    file.write_text(content)
    file.chmod(mode)
    return file


class S3(Struct, frozen=True, forbid_unknown_fields=True):
    secret: str
    retries: int = 1


def test_a_file_beside_the_toml_file_is_read_without_its_last_newline(tmp_path: Path) -> None:
    kept(tmp_path / "url", URL + "\n")
    file = kept(tmp_path / "c.toml", 'database.url = {file = "url"}\n')
    loaded = load(file, {})
    assert loaded.config.database.url == URL
    assert isinstance(loaded.config.database.url, Secret)
    assert loaded.sources["database.url"] == f"{file} (file url)"
    assert loaded.warnings == ()


@pytest.mark.parametrize(("content", "secret"), [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), (" a ", " a ")])
def test_only_the_newline_at_the_end_is_not_the_secret(tmp_path: Path, content: str, secret: str) -> None:
    (tmp_path / "secret").write_bytes(content.encode())
    (tmp_path / "secret").chmod(0o600)
    file = kept(tmp_path / "c.toml", '[storage.cold]\ndriver = "s3"\nsecret = {file = "secret"}\n')
    assert load(file, {}).config.storage["cold"]["secret"] == secret


def test_a_variable_may_hold_the_secret_or_name_its_file(tmp_path: Path) -> None:
    kept(tmp_path / "url", URL)
    file = kept(
        tmp_path / "c.toml", 'database.url = {env = "PG"}\n[storage.cold]\ndriver = "s3"\nsecret = {env = "S3"}\nretries = {env = "N"}\n'
    )
    loaded = load(file, {"PG": URL, "S3": "s", "N": "4"})
    assert loaded.config.database.url == URL
    assert decode_driver(S3, loaded.config.storage["cold"], "storage.cold") == S3("s", 4)
    assert load(None, {"MEDIACDN_DATABASE__URL__FILE": str(tmp_path / "url")}).config.database.url == URL
    over = load(file, {"MEDIACDN_DATABASE__URL__FILE": str(tmp_path / "url"), "PG": "postgresql://x", "S3": "s", "N": "4"})
    assert over.config.database.url == URL


def test_a_whole_table_of_keys_may_be_a_secret(tmp_path: Path) -> None:
    kept(tmp_path / "keys", json.dumps({"k1": KEY}))
    loaded = load(kept(tmp_path / "c.toml", 'signing.keys = {file = "keys"}\n'), {})
    assert loaded.config.signing.keys == {"k1": KEY}
    assert KEY not in repr(loaded.config)


def test_a_drivers_own_key_named_file_is_no_secret(tmp_path: Path) -> None:
    file = kept(tmp_path / "c.toml", '[storage.cold]\nfile = "x"\n')
    assert load(file, {"MEDIACDN_STORAGE__WARM__FILE": "y"}).config.storage["cold"] == {"file": "x", "driver": "local"}


@pytest.mark.parametrize(("mode", "warns"), [(0o600, False), (0o400, False), (0o640, True), (0o644, True), (0o602, True)])
def test_a_file_that_others_can_reach_is_warned_of(tmp_path: Path, mode: int, warns: bool) -> None:
    secret = kept(tmp_path / "url", URL, mode)
    warnings = load(kept(tmp_path / "c.toml", 'database.url = {file = "url"}\n'), {}).warnings
    assert bool(warns) == bool(warnings)
    if warns:
        assert str(secret) in warnings[0]
        assert f"{mode:04o}" in warnings[0]


REFUSED = [
    ('{file = "absent"}', "No such file or directory"),
    ('{file = "empty"}', "the file is empty"),
    ('{file = "binary"}', "not UTF-8 text"),
    ('{file = "large"}', "larger than 1 MiB"),
    ('{env = "UNSET"}', "the variable UNSET is not set"),
    ('{env = "EMPTY"}', "the variable EMPTY is empty"),
]


@pytest.mark.parametrize(("reference", "complaint"), REFUSED)
def test_a_secret_that_is_not_there_stops_the_start(tmp_path: Path, reference: str, complaint: str) -> None:
    kept(tmp_path / "empty", "\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    kept(tmp_path / "large", "x" * ((1 << 20) + 1))
    with pytest.raises(ConfigError, match=complaint) as refusal:
        load(kept(tmp_path / "c.toml", f"database.url = {reference}\n"), {"EMPTY": ""})
    assert "database.url in" in str(refusal.value)


def test_a_wrong_secret_is_not_quoted(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refusal:
        load(kept(tmp_path / "c.toml", 'server.port = {env = "S"}\n'), {"S": "hunter2"})
    assert "hunter2" not in str(refusal.value)


def test_what_is_shown_holds_no_secret(tmp_path: Path) -> None:
    kept(tmp_path / "token", "from-file-1")
    text = f"""
        database.url = "postgresql://media:in-the-url-2@db/media?password=in-the-query-3"
        signing.keys = {{k1 = "{KEY}"}}
        [storage.cold]
        driver = "s3"
        endpoint = {{env = "ENDPOINT"}}
        secret_key = "by-name-5"
        options = [{{password = "deep-6"}}]
        replica = {{headers = {{x-token = "deeper-7"}}}}
        mirror = "https://user:in-@-url-8@host/path"
        [auth.jwt]
        issuer = {{file = "token"}}
        public_key = "shown"
        leeway = 5
    """
    loaded = load(kept(tmp_path / "c.toml", text), {"ENDPOINT": "from-variable-4", "MEDIACDN_AUTH__JWT__TOKEN": "by-name-9"})
    shown = masked(loaded.config)
    for hidden in ("file-1", "url-2", "query-3", "variable-4", "name-5", "deep-6", "deeper-7", "url-8", "name-9", KEY):
        assert hidden not in json.dumps(shown), hidden
    assert shown["auth"]["jwt"]["public_key"] == "shown"
    assert shown["auth"]["jwt"]["leeway"] == 5
    assert shown["storage"]["cold"]["mirror"] == "https://user:********@host/path"
    assert shown["auth"]["private_read"] == "any"
    assert shown["edge"]["private_max_age"] == 60
    assert shown["signing"]["keys"] == {"k1": "********"}
    for hidden in ("file-1", "variable-4"):
        assert hidden not in repr(loaded.config)


def test_a_secret_still_works_as_text() -> None:
    secret = Secret("abc")
    assert secret == "abc"
    assert secret.encode() == b"abc"
    assert os.fspath(Path(secret)) == "abc"
    assert "abc" not in repr({"a": secret})
