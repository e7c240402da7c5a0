"""Tables that are named after plugins: what the tables of drivers of that name have in common; and the drivers of jobs and limits."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mediacdn.config import Loaded, load, masked
from mediacdn.drivers import open_lesser
from mediacdn.errors import ConfigError, PluginError
from mediacdn.plugins import Plugins
from mediacdn.testing import kit

HEAD = 'plugins = ["local", "jwt", "redis"]\n'


def loaded(folder: Path, toml: str, **environ: str) -> Loaded:
    file = folder / "mediacdn.toml"
    file.write_text(toml)
    return load(file, environ)


def opened(config: Loaded, seam: str, folder: Path) -> Any:
    """The Struct that a driver is opened with."""
    plugins = Plugins.load(config.config.plugins)
    seen: list[Any] = []

    @asynccontextmanager
    async def look(settings: Any, kit: Any) -> AsyncIterator[None]:
        seen.append(settings)
        yield

    for (of, name), (driver, owner) in list(plugins._drivers.items()):
        plugins._drivers[of, name] = (type(driver)(of, name, driver.config, look), owner)

    async def enter() -> None:
        async with open_lesser(config.config, plugins, seam, kit(str(folder))):
            pass

    asyncio.run(enter())
    return seen[0]


def test_one_table_for_all_drivers_of_a_name_and_their_own_before_it(tmp_path: Path) -> None:
    toml = HEAD + (
        '[redis]\nurl = "rediss://shared"\npassword = {env = "WORD"}\n[edge]\nbus = "redis"\n[edge.redis]\nurl = "redis://own"\n'
        '[jobs]\nbroker = "redis"\n[jobs.redis]\nstream_length = 200\n[limits]\ncounters = "redis"\n'
    )
    config = loaded(tmp_path, toml, WORD="secret", MEDIACDN_REDIS__PREFIX="p")
    bus, broker, counters = (opened(config, seam, tmp_path) for seam in ("bus", "broker", "counters"))
    assert [(each.url, each.password, each.prefix) for each in (bus, broker, counters)] == [
        ("redis://own", "secret", "p"), ("rediss://shared", "secret", "p"), ("rediss://shared", "secret", "p"),
    ]  # fmt: skip
    assert broker.stream_length == 200
    shown = masked(config.config)
    assert (shown["redis"]["url"], shown["redis"]["password"], "shared" in shown) == ("rediss://shared", "********", False)
    assert config.sources["redis.password"].endswith("(env WORD)")
    assert config.sources["redis.prefix"] == "MEDIACDN_REDIS__PREFIX"


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        ('[redis]\nurl = "redis://x"\n', "redis is not a key|redis in .* is not a key"),
        (HEAD + "[shared]\nx = 1\n", "shared.* is not a key"),
        (HEAD + '[jobs]\nbroker = "redis"\n[jobs.rabbit]\nurl = "x"\n', r"configures a driver that jobs\.broker does not name"),
        (HEAD + '[limits.redis]\nurl = "redis://x"\n', r"configures a driver that limits\.counters does not name"),
        (HEAD + '[jobs]\nbroker = "lanes"\n', r"whose table \[jobs\.lanes\] would be the key of this name"),
        (HEAD + '[limits]\ncounters = "by_type"\n', r"whose table \[limits\.by_type\]"),
        (HEAD + '[edge]\nbus = "postgres"\n', r"needs database\.url"),
        (HEAD + "redis = 1\n", "redis.* is not a key"),
    ],
)
def test_what_is_refused_when_it_is_read(tmp_path: Path, toml: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        loaded(tmp_path, toml)


@pytest.mark.parametrize(
    ("toml", "error", "says"),
    [
        (HEAD + '[jobs]\nbroker = "redis"\n[redis]\nurk = "x"\n', ConfigError, r"redis\.urk is not a key; did you mean redis\.url"),
        (HEAD + '[jobs]\nbroker = "redis"\n[jobs.redis]\nurk = "x"\n', ConfigError, r"jobs\.redis\.urk is not a key"),
        ('plugins = ["local", "jwt"]\n[jobs]\nbroker = "redis"\n', PluginError, r"jobs\.broker: no loaded plugin brings the broker driver 'redis'"),
    ],
)  # fmt: skip
def test_what_is_refused_when_it_is_opened(tmp_path: Path, toml: str, error: type[Exception], says: str) -> None:
    config = loaded(tmp_path, toml)
    with pytest.raises(error, match=says):
        opened(config, "broker", tmp_path)
