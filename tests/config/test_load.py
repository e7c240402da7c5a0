"""Loading: the order of the layers, what each kind of text becomes, and where a value is said to come from."""

from pathlib import Path

import pytest

from mediacdn.config import Config, EdgeRule, Loaded, Rule, load, masked
from mediacdn.errors import ConfigError
from mediacdn.model import Argument, Recipe, Step

KEY = "c2l4dGVlbiBieXRlcyB0d2ljZSBtYWtlIHRoaXJ0eXR3byE="


def written(folder: Path, text: str, name: str = "mediacdn.toml") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def value_at(loaded: Loaded, key: str) -> object:
    value: object = loaded.config
    for part in key.split("."):
        value = value[part] if isinstance(value, dict) else getattr(value, part)
    return value


def test_nothing_given_is_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, "[server]\nport = 1\n")
    monkeypatch.chdir(tmp_path)  # a mediacdn.toml in the working directory is not picked up
    loaded = load(None, {})
    assert loaded.config == Config()
    assert set(loaded.sources.values()) == {"default"}
    assert loaded.sources['limits.by_type."video/*"'] == "default"
    assert loaded.warnings == ()


def test_each_layer_wins_over_the_one_before_it(tmp_path: Path) -> None:
    file = written(tmp_path, "[server]\nport = 1\nhost = '127.0.0.2'\nidle_timeout = 5\n")
    loaded = load(file, {"MEDIACDN_SERVER__PORT": "2", "MEDIACDN_SERVER__HOST": "127.0.0.3"}, {"server.port": 3, "server.uds": None})
    assert (loaded.config.server.port, loaded.config.server.host, loaded.config.server.idle_timeout) == (3, "127.0.0.3", 5.0)
    assert loaded.config.server.uds is None
    assert loaded.sources["server.port"] == "command line"
    assert loaded.sources["server.host"] == "MEDIACDN_SERVER__HOST"
    assert loaded.sources["server.idle_timeout"] == str(file)
    assert loaded.sources["server.uds"] == "default"


def test_the_file_is_named_by_argument_else_by_variable(tmp_path: Path) -> None:
    one, two = written(tmp_path, "[server]\nport = 1\n", "one.toml"), written(tmp_path, "[server]\nport = 2\n", "two.toml")
    assert load(None, {"MEDIACDN_CONFIG": str(two)}).config.server.port == 2
    assert load(one, {"MEDIACDN_CONFIG": str(two)}).config.server.port == 1
    assert load(None, {"MEDIACDN_CONFIG": ""}).config.server.port == 8400


VARIABLES = [
    # variable, its text, the key, the value
    ("MEDIACDN_SERVER__PORT", "9000", "server.port", 9000),
    ("MEDIACDN_SERVER__HEADER_TIMEOUT", "2.5", "server.header_timeout", 2.5),
    ("MEDIACDN_SERVER__HEADER_TIMEOUT", "2", "server.header_timeout", 2.0),
    ("MEDIACDN_AUTH__OWNER_MAY_DELETE", "true", "auth.owner_may_delete", True),
    ("MEDIACDN_AUTH__OWNER_MAY_DELETE", "1", "auth.owner_may_delete", True),
    ("MEDIACDN_AUTH__OWNER_MAY_DELETE", "yes", "auth.owner_may_delete", True),
    ("MEDIACDN_AUTH__OWNER_MAY_DELETE", "Off", "auth.owner_may_delete", False),
    ("MEDIACDN_SERVER__PUBLIC_URL", "https://cdn.example.org", "server.public_url", "https://cdn.example.org"),
    ("MEDIACDN_SERVER__PUBLIC_URL", "", "server.public_url", None),
    ("MEDIACDN_SERVER__DATA", "8", "server.data", "8"),
    ("MEDIACDN_SERVER__LOG_LEVEL", "debug", "server.log_level", "debug"),
    ("MEDIACDN_SERVER__ALLOWED_HOSTS", "a.example, b.example,", "server.allowed_hosts", ("a.example", "b.example")),
    ("MEDIACDN_SERVER__ALLOWED_HOSTS", '["a.example"]', "server.allowed_hosts", ("a.example",)),
    ("MEDIACDN_SERVER__ALLOWED_HOSTS", "", "server.allowed_hosts", ()),
    ("MEDIACDN_PLUGINS", "local", "plugins", ("local",)),
    ("MEDIACDN_LIMITS__BY_TYPE", '{"image/*": 5}', "limits.by_type", {"image/*": 5}),
    ("MEDIACDN_AUTH__SCOPE_MAP", '{"photos": "media:read"}', "auth.scope_map", {"photos": "media:read"}),
    ("MEDIACDN_SIGNING__KEYS__K1", KEY, "signing.keys", {"k1": KEY}),
    ("MEDIACDN_STORAGE__DEFAULT__PATH", "/srv/media", "storage.default", {"driver": "local", "path": "/srv/media"}),
    ("MEDIACDN_STORAGE__COLD", '{"driver": "s3", "retries": 3}', "storage.cold", {"driver": "s3", "retries": 3}),
    ("MEDIACDN_AUTH__JWT__ISSUER", "https://id.example", "auth.drivers", {"jwt": {"issuer": "https://id.example"}}),
    ("MEDIACDN_AUTH__JWT", '{"leeway": 5}', "auth.drivers", {"jwt": {"leeway": 5}}),
    ("MEDIACDN_EDGE__CDN_MAX_AGE", "600", "edge.cdn_max_age", 600),
    ("MEDIACDN_EDGE__CDN_MAX_AGE", "", "edge.cdn_max_age", None),
    ("MEDIACDN_EDGE__RULES", '[{"type": "video/*", "tiers": ["disk"]}]', "edge.rules", (EdgeRule(type="video/*", tiers=("disk",)),)),
    ("MEDIACDN_ROUTING", '[{"storage": "default", "min_size": 7}]', "routing", (Rule("default", min_size=7),)),
]


@pytest.mark.parametrize(("name", "text", "key", "value"), VARIABLES)
def test_a_variable_is_read_by_its_keys_type(name: str, text: str, key: str, value: object) -> None:
    read = value_at(load(None, {name: text}), key)
    assert read == value
    assert type(read) in (type(value), str) or isinstance(value, str)


def test_variables_reach_into_tables_of_the_file_whatever_their_case(tmp_path: Path) -> None:
    file = written(tmp_path, '[storage.Cold-Store]\ndriver = "s3"\nBucket = "a"\nregion = "x"\n')
    loaded = load(file, {"MEDIACDN_STORAGE__COLD_STORE__BUCKET": "b"})
    assert loaded.config.storage["Cold-Store"] == {"driver": "s3", "Bucket": "b", "region": "x"}
    assert loaded.sources["storage.Cold-Store.Bucket"] == "MEDIACDN_STORAGE__COLD_STORE__BUCKET"
    assert loaded.sources["storage.Cold-Store.region"] == str(file)


def test_a_whole_table_in_a_variable_gives_way_to_its_single_keys() -> None:
    environ = {"MEDIACDN_STORAGE__COLD__BUCKET": "b", "MEDIACDN_STORAGE__COLD": '{"driver": "s3", "bucket": "a"}'}
    loaded = load(None, environ)
    assert loaded.config.storage["cold"] == {"driver": "s3", "bucket": "b"}
    assert loaded.sources["storage.cold.driver"] == "MEDIACDN_STORAGE__COLD"
    assert loaded.sources["storage.cold.bucket"] == "MEDIACDN_STORAGE__COLD__BUCKET"


def test_a_table_replaces_the_default_table_but_the_default_storage_stays(tmp_path: Path) -> None:
    file = written(tmp_path, '[limits.by_type]\n"image/*" = 5\n[storage.fast]\npath = "/fast"\n')
    config = load(file, {}).config
    assert config.limits.by_type == {"image/*": 5}
    assert config.storage == {"default": {"driver": "local"}, "fast": {"driver": "local", "path": "/fast"}}


def test_the_tables_of_authenticators_and_the_authorizer_are_kept_for_their_drivers(tmp_path: Path) -> None:
    file = written(
        tmp_path, '[auth]\nauthenticators = ["jwt", "keys"]\nauthorizer = "rules"\n[auth.jwt]\nissuer = "i"\n[auth.rules]\nallow = ["x"]\n'
    )
    loaded = load(file, {})
    assert loaded.config.auth.drivers == {"jwt": {"issuer": "i"}, "rules": {"allow": ["x"]}}
    assert loaded.sources["auth.jwt.issuer"] == str(file)
    assert "auth.drivers" not in loaded.sources


def test_the_tables_of_the_edges_drivers_are_kept_for_them(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("wire://secret@h")
    file = written(
        tmp_path,
        '[edge]\npolicy = "mine"\nbus = "wire"\n[edge.mine]\nfile = "kept"\n[edge.wire]\nurl = {file = "url"}\n',
    )
    loaded = load(file, {"MEDIACDN_EDGE__MINE__DEPTH": "5", "MEDIACDN_EDGE__WIRE__TLS": "true"})
    assert loaded.config.edge.drivers == {
        "mine": {"file": "kept", "depth": "5"},
        "wire": {"url": "wire://secret@h", "tls": "true"},
    }
    assert loaded.sources["edge.mine.file"] == str(file)
    assert loaded.sources["edge.mine.depth"] == "MEDIACDN_EDGE__MINE__DEPTH"
    assert "edge.drivers" not in loaded.sources
    assert masked(loaded.config)["edge"]["wire"] == {"url": "********", "tls": "true"}
    assert "secret" not in repr(loaded.config)


def test_recipes_are_read_as_they_are_and_the_tables_of_actions_are_kept_for_them(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        """
        [recipes.image]
        max_pixels = 5
        [[recipes.define]]
        code = "poster"
        version = 2
        arguments = [{name = "w", type = "integer", default = 640, allowed = [320, 640]}, {name = "strength", type = "number", max = 1}]
        steps = [{name = "scale", action = "image", spec = {w = "${w}", fit = "cover"}, relationship = "poster"}]
        """,
    )
    loaded = load(file, {"MEDIACDN_RECIPES__PDF__DPI": "72", "MEDIACDN_VARIANTS__PRESETS__AVATAR__W": "64"})
    strength = Argument(name="strength", type="number", max=1.0)
    assert loaded.config.recipes.define == (
        Recipe(
            code="poster",
            version=2,
            arguments=(Argument(name="w", type="integer", default=640, allowed=(320, 640)), strength),
            steps=(Step(name="scale", action="image", spec={"w": "${w}", "fit": "cover"}, relationship="poster"),),
        ),
    )
    assert loaded.config.recipes.drivers == {"image": {"max_pixels": 5}, "pdf": {"dpi": "72"}}
    assert loaded.sources["recipes.image.max_pixels"] == str(file)
    assert "recipes.drivers" not in loaded.sources
    assert loaded.config.variants.presets == {"avatar": {"w": "64"}}
    assert masked(loaded.config)["recipes"]["define"][0]["steps"][0]["spec"] == {"w": "${w}", "fit": "cover"}


FOREIGN = {
    "MEDIACDN_CORPUS": "/corpus",
    "MEDIACDN_SERVICE_HOST": "10.0.0.1",
    "MEDIACDN_SERVICE_PORT_HTTP": "80",
    "MEDIACDN_PORT": "tcp://10.0.0.1:80",
    "MEDIACDN_PORT_80_TCP_ADDR": "10.0.0.1",
    "MEDIACDN_REDIS_PORT": "tcp://10.0.0.2:6379",
    "MEDIACDN_REDIS_PORT_6379_TCP": "tcp://10.0.0.2:6379",
    "MEDIACDNX": "1",
    "OTHER": "1",
}


def test_variables_that_are_not_settings_are_left_alone() -> None:
    assert load(None, FOREIGN).config == Config()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[server", "is not TOML"),
        ("[server]\nport = 1\nport = 2\n", "is not TOML"),
        ("\udcff", "is not TOML"),
        (None, "No such file or directory"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, text: str | None, complaint: str) -> None:
    file = tmp_path / "broken.toml"
    if text is not None:
        file.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ConfigError, match=complaint) as refusal:
        load(file, {})
    assert str(file) in str(refusal.value)
