"""A served configuration whose storage takes parts and presigns: the testing kit's folder, brought by a plugin of the test's own."""

from pathlib import Path

from tests.services import distribution

PLUGIN = '''
"""The folder storage as a driver."""

from contextlib import asynccontextmanager
from pathlib import Path

from msgspec import Struct

from mediacdn import Driver, hookimpl
from mediacdn.testing.folder import FolderStorage


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    root: str
    door: str = ""


@asynccontextmanager
async def opened(config, kit):
    yield FolderStorage(Path(config.root), config.door)


@hookimpl
def mediacdn_drivers():
    return [Driver("storage", "bucket", Settings, opened)]
'''


def install(folder: Path) -> dict[str, str]:
    """Put the plugin into `folder`; the environment in which a server finds it."""
    return distribution.install(folder, "bucket", PLUGIN)


def storage(name: str, root: Path, door: str = "") -> str:
    """Its table in the configuration."""
    return f'[storage.{name}]\ndriver = "bucket"\nroot = "{root}"\ndoor = "{door}"\n'


PLUGINS = 'plugins = ["local", "jwt", "bucket"]\n'

MORTAL = '''
"""Kills its process with the first object that it removes, once the file of MORTAL_MARK is there: after the removal, before anybody hears of it."""

import os
import signal

from mediacdn.testing.folder import FolderStorage
from mediacdn_local.storage import LocalStorage


def mortal(kind):
    delete = kind.delete

    async def dying(self, key):
        await delete(self, key)
        mark = os.environ["MORTAL_MARK"]
        if key.startswith("originals/") and os.path.exists(mark):
            os.unlink(mark)
            os.kill(os.getpid(), signal.SIGKILL)

    kind.delete = dying


mortal(FolderStorage)
mortal(LocalStorage)
'''


def make_mortal(folder: Path) -> None:
    """Have what is installed in `folder` die of a removal (see MORTAL)."""
    (folder / "mortal.py").write_text(MORTAL)
    module = folder / "bucket.py"
    module.write_text(module.read_text() + "\n\nimport mortal  # noqa: E402, F401\n")
