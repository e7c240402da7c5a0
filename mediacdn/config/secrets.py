"""Values that stand elsewhere: `{file = "…"}` and `{env = "…"}`."""

import stat
from collections.abc import Mapping
from pathlib import Path as File

from mediacdn.config.decoding import Secret
from mediacdn.errors import ConfigError

LARGEST = 1 << 20
RUNTIME_FOLDERS = ("/run/secrets/", "/var/run/secrets/")
"""Container runtimes mount secrets here and set their modes (0444), which no user of them can change."""


def from_variable(key: str, name: str, environ: Mapping[str, str]) -> Secret:
    """Read a secret from the variable `name`. Raises: ConfigError when it is unset or empty."""
    if not environ.get(name):
        raise ConfigError(f"{key}: the variable {name} is {'empty' if name in environ else 'not set'}")
    return Secret(environ[name])


def from_file(key: str, file: File) -> tuple[Secret, str | None]:
    """Read a secret from a text file, without the newline at its end; the second value warns when others on the machine can read it.

    Raises: ConfigError when the file cannot be read, is empty, is no UTF-8 or is larger than 1 MiB.
    """
    try:
        with file.open("rb") as handle:
            mode = stat.S_IMODE(file.stat().st_mode)
            content = handle.read(LARGEST + 1)
        text = content.decode().removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise ConfigError(f"{key}: {file}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ConfigError(f"{key}: {file}: not UTF-8 text") from None
    if not text or len(content) > LARGEST:
        raise ConfigError(f"{key}: {file}: " + ("the file is empty" if not text else "larger than 1 MiB"))
    exposed = mode & 0o077 and not str(file).startswith(RUNTIME_FOLDERS)
    return Secret(text), f"{key}: {file} has mode {mode:04o}, so that other users can reach it; chmod 600 it" if exposed else None
