"""A served configuration whose storage takes parts and presigns: the testing kit's folder, brought by a plugin of the test's own."""

from pathlib import Path

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
    info = folder / "bucket-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "bucket.py").write_text(PLUGIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bucket\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[mediacdn]\nbucket = bucket\n")
    return {"PYTHONPATH": str(folder)}


def storage(name: str, root: Path, door: str = "") -> str:
    """Its table in the configuration."""
    return f'[storage.{name}]\ndriver = "bucket"\nroot = "{root}"\ndoor = "{door}"\n'


PLUGINS = 'plugins = ["local", "jwt", "bucket"]\n'
