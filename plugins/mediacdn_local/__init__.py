"""Storage driver `local`: objects as files of this machine."""

from mediacdn import Driver, hookimpl
from mediacdn_local.config import LocalConfig
from mediacdn_local.storage import LocalStorage, open_local

__all__ = ["LocalConfig", "LocalStorage", "mediacdn_drivers", "open_local"]


@hookimpl
def mediacdn_drivers() -> list[Driver]:
    return [Driver(seam="storage", name="local", config=LocalConfig, open=open_local)]
