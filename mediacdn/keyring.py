"""Where the secrets live: the signing key ring and the development key, in the configuration or in `keys/` of the data directory. It leaves what a key signs to
signing and to the authenticators. Everything here is synchronous and short; only `lookup` and `ring` are meant for a request, and they cost a stat at most."""

import base64
import binascii
import fcntl
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from mediacdn.config import Signing
from mediacdn.errors import ConfigError
from mediacdn.signing import SECRET_SIZE, KeyRing

RING = "signing.json"
DEVELOPMENT = "development.pem"
RECHECK = 2.0
"""Seconds after which a running server looks whether the file was rotated; an unknown kid makes it look sooner."""
_LOCK_WAIT = 10.0
_MAX_SIZE = 1 << 20


class KeyEntry(Struct, frozen=True):
    """What may be shown of a key: never its secret. `created_at` is None for a key of the configuration."""

    kid: str
    current: bool
    created_at: datetime | None = None


class _StoredKey(Struct, frozen=True, forbid_unknown_fields=True):
    kid: str
    secret: bytes
    created_at: datetime


class _StoredRing(Struct, frozen=True, forbid_unknown_fields=True):
    """The file: keys in the order in which they were made, the newest last."""

    current: str
    keys: tuple[_StoredKey, ...]

    def ring(self) -> KeyRing:
        return KeyRing({key.kid: key.secret for key in self.keys}, self.current)


class _Folder:
    """The folder `keys/`, 0700: files read and replaced through its descriptor, never through a symbolic link, by one process at a time."""

    def __init__(self, data: Path) -> None:
        self.path = data / "keys"

    @contextmanager
    def locked(self) -> Iterator[int]:
        """Hold the folder's lock and give its descriptor. flock ends with the process, so a killed one leaves nothing to clean up."""
        with self.opened() as folder:
            lock = os.open("lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
            try:
                deadline = time.monotonic() + _LOCK_WAIT
                while True:
                    try:
                        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        break
                    except BlockingIOError:
                        if time.monotonic() > deadline:
                            raise ConfigError(f"{self.path / 'lock'} is held by another process for more than {_LOCK_WAIT:g} s") from None
                        time.sleep(0.01)
                yield folder
            finally:
                os.close(lock)

    @contextmanager
    def opened(self) -> Iterator[int]:
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise ConfigError(f"{self.path} cannot be opened as a folder: {error.strerror}") from None
        try:
            _private(os.fstat(folder), self.path, "700")
            yield folder
        finally:
            os.close(folder)

    def read(self, folder: int, name: str) -> tuple[bytes, tuple[int, ...]] | None:
        """Give a file's bytes and the mark of its version, None when there is no such file."""
        try:
            file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigError(f"{self.path / name} cannot be read: {error.strerror}") from None
        try:
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode):
                raise ConfigError(f"{self.path / name} is not a regular file")
            _private(status, self.path / name, "600")
            with open(file, "rb", closefd=False) as reader:
                return reader.read(_MAX_SIZE), _mark(status)
        finally:
            os.close(file)

    def replace(self, folder: int, name: str, content: bytes) -> None:
        """Put `content` in the place of a file, durable and whole: a reader sees the old bytes or the new ones, also after a power cut."""
        temporary = f"{name}.new"
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=folder)  # of a process that was killed; we hold the lock
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
        with open(file, "wb") as writer:
            if os.geteuid() == 0:
                # Rotated by root, read by the server's own user: the file stays with whom the folder belongs to.
                owner = os.fstat(folder)
                os.fchown(file, owner.st_uid, owner.st_gid)
            writer.write(content)
            writer.flush()
            os.fsync(file)
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        os.fsync(folder)


class RingFile:
    """The key ring in force. From a file it follows rotations by other processes; from the configuration it never changes.

    `warn` hears one sentence when a changed file cannot be used: the ring that was in force stays in force, a server does not lose its keys over a bad edit.
    """

    def __init__(
        self, ring: KeyRing, folder: _Folder | None, warn: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ring = ring
        self._folder = folder
        self._warn = warn
        self._clock = clock
        self._created: dict[str, datetime] = {}
        self._mark: tuple[int, ...] = ()
        self._seen = clock()
        self._sought = float("-inf")
        self._told = ""
        if folder is not None:
            self._follow(self._seen)

    def lookup(self, kid: str) -> bytes | None:
        """Give a kid's secret, None when there is no such key (any more). An unknown kid looks at the file at most once a second, however many are asked for."""
        if self._folder is not None:
            now = self._clock()
            if now - self._seen >= RECHECK:
                self._follow(now)
            # Not counted against the regular look: else a link signed just after a rotation in another process would be refused for a while.
            if kid not in self._ring.keys and now - self._sought >= 1.0:
                self._sought = now
                self._follow(now)
        return self._ring.keys.get(kid)

    def ring(self) -> KeyRing:
        """Give the ring to sign with."""
        if self._folder is not None and (now := self._clock()) - self._seen >= RECHECK:
            self._follow(now)
        return self._ring

    def list(self) -> list[KeyEntry]:
        """List the keys, oldest first, without secrets."""
        ring = self.ring()
        return [KeyEntry(kid, kid == ring.current, self._created.get(kid)) for kid in ring.keys]

    def rotate(self, keep: int) -> str:
        """Add a key, sign with it from now on, and keep the `keep` newest older ones for links already out; give the new kid.

        Links of keys beyond those are refused at once. Raises ConfigError when the keys stand in the configuration.
        """
        if self._folder is None:
            raise ConfigError("the signing keys stand in the configuration: add one to signing.keys and name it in signing.current")
        if keep < 0:
            raise ConfigError("keep: how many older keys still verify, 0 or more")
        with self._folder.locked() as folder:
            stored = _load(self._folder, folder)
            older = stored.keys if stored is not None else ()
            new = _new_key({key.kid for key in older})
            self._folder.replace(
                folder, RING, msgspec.json.encode(_StoredRing(new.kid, (*older[len(older) - min(keep, len(older)) :], new)))
            )
        self._mark = ()
        self._follow(self._clock())
        return new.kid

    def _follow(self, now: float) -> None:
        """Read the file again when it is another one than before."""
        assert self._folder is not None
        self._seen = now
        try:
            mark = _mark(os.stat(self._folder.path / RING, follow_symlinks=False))
            if mark == self._mark:
                return
            self._mark = mark  # a bad file is read once, not every two seconds
            with self._folder.opened() as folder:
                stored = _load(self._folder, folder)
        except ConfigError as error:
            self._complain(str(error))
        except OSError as error:
            self._complain(f"{self._folder.path / RING} cannot be read: {error.strerror}")
        else:
            if stored is None:
                self._complain(f"{self._folder.path / RING} is gone")
            else:
                self._ring = stored.ring()
                self._created = {key.kid: key.created_at for key in stored.keys}
                self._told = ""

    def _complain(self, sentence: str) -> None:
        if sentence != self._told:
            self._told = sentence
            self._warn(f"{sentence}; the keys read before stay in force")


def open_keyring(config: Signing, data: Path, *, warn: Callable[[str], None] = lambda sentence: None) -> RingFile:
    """Open the key ring: of the configuration when it names keys, else `keys/signing.json` (0600) beneath `data`, made on first use.

    Two processes that start at once agree on one file. Raises ConfigError for keys that cannot be used, and for files that group or others may read.
    """
    if config.keys:
        if config.current is None and len(config.keys) > 1:
            raise ConfigError("signing.current: with more than one of signing.keys, name the one that signs")
        return RingFile(
            KeyRing({kid: _decoded(kid, text) for kid, text in config.keys.items()}, config.current or next(iter(config.keys))), None, warn
        )
    if config.current is not None:
        raise ConfigError(
            "signing.current names a key, but signing.keys is empty: the keys of the data directory are chosen by `mediacdn keys rotate`"
        )
    keys = _Folder(data)
    with keys.locked() as folder:
        stored = _load(keys, folder)
        if stored is None:
            first = _new_key(set())
            stored = _StoredRing(first.kid, (first,))
            keys.replace(folder, RING, msgspec.json.encode(stored))
    return RingFile(stored.ring(), keys, warn)


def development_key(data: Path) -> bytes:
    """Give the Ed25519 private key (PEM, PKCS #8) that signs development tokens: `keys/development.pem` (0600) beneath `data`, made on first use."""
    keys = _Folder(data)
    with keys.locked() as folder:
        found = keys.read(folder, DEVELOPMENT)
        if found is not None:
            return found[0]
        # Only a server without an issuer needs it: most processes never pay for this import.
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        keys.replace(folder, DEVELOPMENT, pem)
        return pem


def _load(keys: _Folder, folder: int) -> _StoredRing | None:
    found = keys.read(folder, RING)
    if found is None:
        return None
    try:
        stored = msgspec.json.decode(found[0], type=_StoredRing)
    except (msgspec.DecodeError, msgspec.ValidationError):
        # Without the cause: a parser's message may quote a secret.
        raise ConfigError(
            f"{keys.path / RING} is not a key ring; restore it, or remove it to begin with a new key (links already out die)"
        ) from None
    stored.ring()
    return stored


def _new_key(taken: set[str]) -> _StoredKey:
    while (kid := secrets.token_hex(4)) in taken:
        pass
    return _StoredKey(kid, secrets.token_bytes(SECRET_SIZE), datetime.now(UTC))


def _decoded(kid: str, text: str) -> bytes:
    try:
        return base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise ConfigError(f"signing.keys.{kid} is not base64; `openssl rand -base64 32` makes one") from None


def _private(status: os.stat_result, path: Path, mode: str) -> None:
    if status.st_mode & 0o077:
        raise ConfigError(f"{path} can be read by others than its owner; run: chmod {mode} {path}")


def _mark(status: os.stat_result) -> tuple[int, ...]:
    """Tell versions apart: a rename brings another inode, an edit in place another time or size."""
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_mode
