"""The configurations that are delivered load, and the annotated one is exactly the defaults."""

from pathlib import Path

import pytest

from mediacdn.config import Config, Mirrored, decode_driver, load
from mediacdn.config.storages import MIRROR
from mediacdn.errors import ConfigError
from mediacdn.plugins import Plugins

FOLDER = Path(__file__).parents[2] / "config"
ENVIRONMENT = {"DATABASE_URL": "postgresql://mediacdn:secret@db/mediacdn"}


def test_the_annotated_file_is_the_defaults(tmp_path: Path) -> None:
    assert load(FOLDER / "mediacdn.toml", {}).config == Config()


def test_every_line_of_the_annotated_file_loads_when_it_is_set(tmp_path: Path) -> None:
    """Take the # off each key and table: the examples are right too."""
    lines = (FOLDER / "mediacdn.toml").read_text().splitlines()
    file = tmp_path / "all.toml"
    file.write_text("\n".join(line.removeprefix("#") if line.startswith("#") and not line.startswith("# ") else line for line in lines))
    environ = {"CDN_TOKEN": "t", "CLOUDFRONT_KEY": "a key"}
    text = file.read_text()
    with pytest.raises(ConfigError, match=r"configures a driver that links.via does not name"):
        load(file, environ)
    for old, new in (
        ('plugins = ["local", "jwt", "vips", "pdf"]', 'plugins = ["local", "jwt", "vips", "pdf", "cloudfront", "redis", "s3"]'),
        ('via = "ours"', 'via = "cloudfront"'),
        ('url = ""', 'url = "postgresql://u:p@db/mediacdn"'),
        ('bus = "redis"', 'bus = "postgres"'),
        ('broker = "table"', 'broker = "redis"'),
    ):
        assert old in text
        text = text.replace(old, new, 1)
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"^signing.current .* names 'k1', which is none of signing.keys$"):
        load(file, environ)
    file.write_text(file.read_text().replace("\nkeys = {}\n# The key that signs", '\nkeys = {k1 = {env = "K1"}}\n# The key that signs', 1))
    config = load(file, {"K1": "A" * 43, **environ}).config
    assert config.server.public_url == "https://cdn.example.org"
    assert config.routing[0].type == "video/*"
    plugins = Plugins.load(config.plugins)
    decode_driver(plugins.driver("links", "cloudfront").config, config.links.drivers["cloudfront"], "links.cloudfront")
    for name, driver in (("default", "local"), ("cold", "s3")):
        decode_driver(plugins.driver("storage", driver).config, config.storage[name], f"storage.{name}")
    decode_driver(plugins.driver("authenticator", "jwt").config, config.auth.drivers["jwt"], "auth.jwt")


@pytest.mark.parametrize("name", sorted(file.name for file in FOLDER.glob("*.toml")))
def test_each_delivered_file_loads_with_its_drivers(name: str) -> None:
    config = load(FOLDER / name, ENVIRONMENT).config
    plugins = Plugins.load(config.plugins)
    for storage, table in config.storage.items():
        if table["driver"] == MIRROR:
            assert decode_driver(Mirrored, table, f"storage.{storage}").of
            continue
        decode_driver(plugins.driver("storage", table["driver"]).config, table, f"storage.{storage}")
    for authenticator in config.auth.authenticators:
        decode_driver(
            plugins.driver("authenticator", authenticator).config, config.auth.drivers.get(authenticator, {}), f"auth.{authenticator}"
        )


def test_production_is_meant_for_a_proxy_and_postgresql() -> None:
    config = load(FOLDER / "production.toml", ENVIRONMENT).config
    assert config.database.url == ENVIRONMENT["DATABASE_URL"]
    assert config.server.public_url
    assert config.server.trusted_proxies
    assert config.auth.drivers["jwt"]["jwks_url"].startswith("https://")
    with pytest.raises(ConfigError, match="DATABASE_URL is not set"):
        load(FOLDER / "production.toml", {})
