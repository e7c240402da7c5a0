"""The URLs and words of other media services for the same media: nothing here stores, decides or delivers by itself."""

from typing import Any

from mediacdn import Core, hookimpl

__all__ = ["mediacdn_routes"]


@hookimpl
def mediacdn_routes(core: Core) -> list[Any]:
    from mediacdn_compat.files import file_routes
    from mediacdn_compat.mounts import mounted
    from mediacdn_compat.records import record_routes

    return [*mounted(core), *file_routes(core), *record_routes(core)]
