"""Every wrong key or value: the sentence names the key, its source, what was expected and what is near."""

from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from mediacdn.config import decode_driver, load
from mediacdn.errors import ConfigError

KEY = "c2l4dGVlbiBieXRlcyB0d2ljZSBtYWtlIHRoaXJ0eXR3byE="


def complaints(folder: Path, text: str, environ: dict[str, str] | None = None, overrides: dict[str, Any] | None = None) -> list[str]:
    file = folder / "config.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as refusal:
        load(file, environ or {}, overrides)
    assert str(refusal.value) == "\n".join(refusal.value.extra["problems"])
    return [line.replace(str(file), "config.toml") for line in refusal.value.extra["problems"]]


UNKNOWN = [
    ("[server]\nprot = 1", "server.prot in config.toml is not a key; did you mean server.port?"),
    ("[sever]\nport = 1", "sever in config.toml is not a key; did you mean server?"),
    ("[server]\nmax_upload_size = 1", "server.max_upload_size in config.toml is not a key; did you mean limits.max_upload_size?"),
    ("[server]\nqqqq = 1", "server.qqqq in config.toml is not a key"),
    ("[auth]\nprivate_reads = 1", "auth.private_reads in config.toml is not a key; did you mean auth.private_read?"),
    ("[auth.drivers.jwt]\na = 1", "auth.drivers in config.toml is not a key"),
    ('[auth.keys]\na = "b"', "auth.keys in config.toml configures a driver that neither auth.authenticators nor auth.authorizer names"),
    ("[edge.drivers.fifo]\na = 1", "edge.drivers in config.toml is not a key"),
    ("[edge.fifo]\na = 1", "edge.fifo in config.toml configures a driver that neither edge.policy nor edge.bus names"),
    ("[edge]\nmemery = 1", "edge.memery in config.toml is not a key; did you mean edge.memory?"),
    ('[edge]\nbus = "fifo"\nfifoo = 1', "edge.fifoo in config.toml is not a key"),
    ("[[edge.rules]]\nmin_hit = 1", "edge.rules[0].min_hit in config.toml is not a key; did you mean edge.rules[0].min_hits?"),
    ("[recipes]\ndefin = 1", "recipes.defin in config.toml is not a key; did you mean recipes.define?"),
    (
        '[[recipes.define]]\ncode = "a"\nstep = []\nsteps = []',
        "recipes.define[0].step in config.toml is not a key; did you mean recipes.define[0].steps?",
    ),
    (
        '[[recipes.define]]\ncode = "a"\nsteps = [{name = "s", action = "x", specs = {}}]',
        "recipes.define[0].steps[0].specs in config.toml is not a key; did you mean recipes.define[0].steps[0].spec?",
    ),
    ("[recipes.drivers.image]\na = 1", "recipes.drivers in config.toml is not a key"),
    ("[variants.preset.thumb]\nw = 1", "variants.preset in config.toml is not a key; did you mean variants.presets?"),
    ('[[routing]]\nstorage = "default"\nmin_siz = 1', "routing[0].min_siz in config.toml is not a key; did you mean routing[0].min_size?"),
]


@pytest.mark.parametrize(("text", "complaint"), UNKNOWN)
def test_an_unknown_key_is_told_with_the_nearest_one(tmp_path: Path, text: str, complaint: str) -> None:
    assert complaints(tmp_path, text) == [complaint]


UNKNOWN_VARIABLES = [
    ("MEDIACDN_SERVER__PROT", "1", "MEDIACDN_SERVER__PROT is not a key; did you mean MEDIACDN_SERVER__PORT?"),
    ("MEDIACDN_PORT", "8400", "MEDIACDN_PORT is not a key; did you mean MEDIACDN_SERVER__PORT?"),
    ("MEDIACDN_SERVER_PORT", "8400", "MEDIACDN_SERVER_PORT is not a key; did you mean MEDIACDN_SERVER__PORT?"),
    ("MEDIACDN_SERVER", "8400", "MEDIACDN_SERVER names a section; set its keys one by one, as MEDIACDN_SERVER__KEY"),
    ("MEDIACDN_AUTH__PRIVAT_READ", "any", "MEDIACDN_AUTH__PRIVAT_READ is not a key; did you mean MEDIACDN_AUTH__PRIVATE_READ?"),
    ("MEDIACDN_SERVER__PORT", "eighty", 'MEDIACDN_SERVER__PORT expected a whole number from 0 to 65535, found "eighty"'),
    ("MEDIACDN_LIMITS__BY_TYPE", "{", "MEDIACDN_LIMITS__BY_TYPE expected a table as JSON"),
    ("MEDIACDN_STORAGE__DEFAULT", "5", "MEDIACDN_STORAGE__DEFAULT expected a table, found 5"),
    ("MEDIACDN_SERVER__HEADER_TIMEOUT", "nan", 'MEDIACDN_SERVER__HEADER_TIMEOUT expected a number of more than 0, found "nan"'),
]


@pytest.mark.parametrize(("name", "text", "complaint"), UNKNOWN_VARIABLES)
def test_a_wrong_variable_is_told_by_its_own_name(tmp_path: Path, name: str, text: str, complaint: str) -> None:
    [told] = complaints(tmp_path, "", {name: text})
    assert told.startswith(complaint)


WRONG = [
    ('[server]\nport = "80"', 'server.port in config.toml expected a whole number from 0 to 65535, found "80"'),
    ("[server]\nport = 80.5", "server.port in config.toml expected a whole number from 0 to 65535, found 80.5"),
    ("[server]\nport = true", "server.port in config.toml expected a whole number from 0 to 65535, found true"),
    ("[server]\nport = 65536", "server.port in config.toml expected a whole number from 0 to 65535, found 65536"),
    ("[server]\nheader_timeout = 0", "server.header_timeout in config.toml expected a number of more than 0, found 0"),
    ("[server]\nheader_timeout = inf", "server.header_timeout in config.toml expected a number of more than 0, found inf"),
    ("[edge]\ncards = 0", "edge.cards in config.toml expected a whole number of at least 1, found 0"),
    ("[lifecycle]\ndefault_expires_in = -1", "lifecycle.default_expires_in in config.toml expected a whole number of at least 0, found -1"),
    ("server = 5", "server in config.toml expected a table, found 5"),
    ("[server]\nport = {a = 1}", "server.port in config.toml expected a whole number from 0 to 65535, found a table"),
    ('[server]\nallowed_hosts = "a"', 'server.allowed_hosts in config.toml expected a list of strings, found "a"'),
    ("[server]\nallowed_hosts = [1]", "server.allowed_hosts[0] in config.toml expected a string, found 1"),
    ('[limits.by_type]\n"video/*" = "x"', 'limits.by_type."video/*" in config.toml expected a whole number of at least 1, found "x"'),
    (
        '[server]\nmetrics = "anyon"',
        'server.metrics in config.toml expected one of "loopback", "admin", "anyone", found "anyon"; did you mean "anyone"?',
    ),
    (
        "[edge]\nslice_size = 1000",
        "edge.slice_size in config.toml expected a whole number from 65536 to 67108864, found 1000",
    ),
    (
        '[[edge.rules]]\nadmit = "second"',
        'edge.rules[0].admit in config.toml expected one of "always", "second-hit", "never", found "second"; did you mean "second-hit"?',
    ),
    ('[[edge.rules]]\ntiers = ["ram"]', 'edge.rules[0].tiers[0] in config.toml expected one of "memory", "disk", found "ram"'),
    ('[edge]\nbus = "fifo"\nfifo = 1', "edge.fifo in config.toml expected a table, found 1"),
    ("[[routing]]\nmin_size = 1", "routing[0].storage is missing; expected a string"),
    ('[[recipes.define]]\ncode = "a"', "recipes.define[0].steps is missing; expected a list of tables"),
    (
        '[[recipes.define]]\ncode = "a"\nsteps = []\narguments = [{name = "n", type = "int"}]',
        'recipes.define[0].arguments[0].type in config.toml expected one of "string", "integer", "number", "boolean", found "int"; did you mean "integer"?',
    ),
    ("[variants]\nmax_per_media = 0", "variants.max_per_media in config.toml expected a whole number of at least 1, found 0"),
    ("[variants.presets]\nthumb = 5", "variants.presets.thumb in config.toml expected a table, found 5"),
    (
        '[variants]\nnegotiate = ["jpg"]',
        'variants.negotiate[0] in config.toml expected one of "avif", "webp", "jpeg", "png", "gif", found "jpg"; did you mean "jpeg"?',
    ),
    ("[signing.keys]\nk1 = 12345", "signing.keys.k1 in config.toml expected a string, found a number that is not shown"),
    ('[auth]\njwt = "x"', 'auth.jwt in config.toml expected a table, found "x"'),
    ('storage = "x"', 'storage in config.toml expected a table, found "x"'),
    ('[storage]\ncold = "x"', 'storage.cold in config.toml expected a table, found "x"'),
]


@pytest.mark.parametrize(("text", "complaint"), WRONG)
def test_a_wrong_value_is_told_with_what_was_expected(tmp_path: Path, text: str, complaint: str) -> None:
    assert complaints(tmp_path, text) == [complaint]


RULES = [
    # the file, the start of the sentence
    ('[server]\nbase_path = "x"', "server.base_path in config.toml expected"),
    ('[server]\nbase_path = "/x/"', "server.base_path in config.toml expected"),
    ('[server]\nbase_path = "/a/../b"', "server.base_path in config.toml expected"),
    ('[server]\nbase_path = "/"', "server.base_path in config.toml expected"),
    ('[server]\npublic_url = "cdn.example.org"', "server.public_url in config.toml expected an absolute URL"),
    ('[server]\npublic_url = "https://cdn.example.org/"', "server.public_url in config.toml expected an absolute URL"),
    ('[server]\npublic_url = "ftp://cdn.example.org"', "server.public_url in config.toml expected an absolute URL"),
    ('[server]\npublic_url = "https://a@cdn.example.org"', "server.public_url in config.toml expected an absolute URL"),
    ('[server]\npublic_url = "https://cdn.example.org?x"', "server.public_url in config.toml expected an absolute URL"),
    ('[server]\npublic_url = "https://cdn.example.org:port"', "server.public_url in config.toml expected an absolute URL"),
    ('[server]\ntrusted_proxies = ["10.0.0.1/8"]', "server.trusted_proxies[0] in config.toml expected an address, a network"),
    ('[server]\ntrusted_proxies = ["::1", "proxy"]', "server.trusted_proxies[1] in config.toml expected an address, a network"),
    ('[server]\nallowed_hosts = ["https://a.example"]', "server.allowed_hosts[0] in config.toml expected a host name"),
    ('[server]\nallowed_hosts = ["a..example"]', "server.allowed_hosts[0] in config.toml expected a host name"),
    ('[cors]\norigins = ["*"]', "cors.origins[0] in config.toml expected an origin"),
    ('[cors]\norigins = ["https://app.example/"]', "cors.origins[0] in config.toml expected an origin"),
    ('[cors]\norigins = ["https://app.example:443"]', "cors.origins[0] in config.toml expected an origin"),
    ('[cors]\nmedia_origins = ["app.example"]', 'cors.media_origins[0] in config.toml expected "*" or an origin'),
    ('[database]\nurl = "mysql://a"', "database.url in config.toml expected postgresql://"),
    (
        '[[routing]]\nstorage = "defalt"',
        "routing[0].storage in config.toml names 'defalt', which is not configured; did you mean 'default'?",
    ),
    ('[[routing]]\nstorage = "default"\nmin_size = 2\nmax_size = 1', "routing[0].min_size in config.toml is more than max_size (1)"),
    ('[[routing]]\nstorage = "default"\ntype = "video"', "routing[0].type in config.toml expected a media type"),
    ('[limits]\nallow_types = ["Image/*"]', "limits.allow_types[0] in config.toml expected a media type"),
    ('[limits.by_type]\n"video" = 1', "limits.by_type.video in config.toml expected a media type"),
    (
        '[[edge.rules]]\nstorage = "defalt"',
        "edge.rules[0].storage in config.toml names 'defalt', which is not configured; did you mean 'default'?",
    ),
    ('[[edge.rules]]\ntype = "Video/*"', "edge.rules[0].type in config.toml expected a media type"),
    ("[[edge.rules]]\nmin_size = 2\nmax_size = 1", "edge.rules[0].min_size in config.toml is more than max_size (1)"),
    ("[[edge.rules]]\nmin_size = -1", "edge.rules[0].min_size in config.toml expected a whole number of at least 0, found -1"),
    ("[edge]\ncdn_max_age = -1", "edge.cdn_max_age in config.toml expected a whole number of at least 0, found -1"),
    ('[[edge.rules]]\ntag = ""', "edge.rules[0].tag in config.toml expected one tag, without a comma or spaces around it, found ''"),
    ('[[routing]]\nstorage = "default"\ntag = "a,b"', "routing[0].tag in config.toml expected one tag"),
    ('[[edge.rules]]\ntag = " a"', "edge.rules[0].tag in config.toml expected one tag"),
    ("[[edge.rules]]\nttl = 1\n[[edge.rules]]\ntag = 'x'", "edge.rules[1] in config.toml is never reached: edge.rules[0] before it has no"),
    ('[[edge.rules]]\ntype = "*/*"\nmin_size = 0\nmin_hits = 1\n[[edge.rules]]\n', "edge.rules[1] in config.toml is never reached"),
    ('[[edge.rules]]\nname = "default"', "edge.rules[0].name in config.toml expected printable text that is no other rule's number"),
    ('[[edge.rules]]\nname = "2"', "edge.rules[0].name in config.toml expected printable text that is no other rule's number"),
    ('[[edge.rules]]\nname = "a\\nb"', "edge.rules[0].name in config.toml expected printable text that"),
    (
        '[[edge.rules]]\nname = "a"\ntag = "x"\n[[edge.rules]]\nname = "a"',
        "edge.rules[1].name in config.toml names 'a', which is what edge.rules[0] is called",
    ),
    ('[[edge.rules]]\nvariant = ""', "edge.rules[0].variant in config.toml expected the name of a variant"),
    ("[[edge.rules]]\ntiers = []", 'edge.rules[0].tiers in config.toml is empty; to keep no copy, set admit = "never"'),
    ('[edge]\nadmit = "never"\n[[edge.rules]]\nadmit = "always"\ntiers = []', "edge.rules[0].tiers in config.toml is empty"),
    ('[[edge.rules]]\ntiers = ["disk", "disk"]', "edge.rules[0].tiers in config.toml names a tier twice"),
    ('[[edge.rules]]\nadmit = "never"\npin = true', 'edge.rules[0].pin in config.toml pins what admit = "never" does not keep'),
    ("[edge]\nttl = 0\ngrace = 0", "edge.ttl in config.toml is 0 and so is edge.grace"),
    ("[[edge.rules]]\nttl = 0\ngrace = 0", "edge.rules[0].ttl in config.toml leaves copies no time"),
    ("[edge]\nttl = 0\n[[edge.rules]]\ngrace = 0", "edge.rules[0].grace in config.toml leaves copies no time"),
    ('[edge]\nsurrogate_key_header = "Surrogate Key"', "edge.surrogate_key_header in config.toml expected the name of a header field"),
    ('[edge]\nsurrogate_key_header = "a\\r\\nb"', "edge.surrogate_key_header in config.toml expected the name of a header field"),
    ('[edge]\nsurrogate_key_header = ""', "edge.surrogate_key_header in config.toml expected the name of a header field"),
    ('[edge]\nsurrogate_key_header = "ETag"', "edge.surrogate_key_header in config.toml names ETag, which carries something else"),
    ('[edge]\nsurrogate_key_header = "X-Media-Id"', "edge.surrogate_key_header in config.toml names X-Media-Id, which carries"),
    ('[edge]\nsurrogate_key_header = "access-control-max-age"', "edge.surrogate_key_header in config.toml names access-control-max-age"),
    ('[edge]\ndirectory = "."', "edge.directory in config.toml must be a folder of its own; the data directory would lie in it"),
    ('[edge]\ndirectory = "/"', "edge.directory in config.toml must be a folder of its own; the data directory would lie in it"),
    (
        '[edge]\ndirectory = "objects"',
        "edge.directory in config.toml must be a folder of its own; the objects of storage.default would lie in it",
    ),
    (
        '[edge]\ndirectory = "/srv/x"\n[storage.cold]\npath = "/srv/x/cold"',
        "edge.directory in config.toml must be a folder of its own; the objects of storage.cold would lie in it",
    ),
    ('[edge]\npolicy = "memory"', "edge.policy in config.toml names the driver 'memory', whose table [edge.memory] would be the key of"),
    ('[edge]\nbus = "rules"', "edge.bus in config.toml names the driver 'rules', whose table [edge.rules] would be the key of"),
    ('[edge]\npolicy = "x"\nbus = "x"', "edge.bus in config.toml names 'x', as edge.policy does; two drivers cannot share"),
    ('[edge]\nbus = "a b"', 'edge.bus."a b" in config.toml is not a name'),
    (
        '[edge]\npolicy = "x"\n[[edge.rules]]\ntag = "a"',
        'edge.rules in config.toml are read by the policy "rules" alone, and edge.policy is',
    ),
    ("[variants.presets.Thumb]\nw = 1", "variants.presets.Thumb in config.toml is not the name of a preset"),
    ('[variants.presets."w=1"]\nw = 1', 'variants.presets."w=1" in config.toml is not the name of a preset'),
    ("[variants.presets.original]\nw = 1", "variants.presets.original in config.toml is not the name of a preset"),
    (f"[variants.presets.{'a' * 65}]\nw = 1", f"variants.presets.{'a' * 65} in config.toml is not the name of a preset"),
    (
        "[variants.presets.thumb]\nw = [1]",
        "variants.presets.thumb.w in config.toml expected a string, a number, true or false, found a list",
    ),
    ('[variants]\nnegotiate = ["webp", "webp"]', "variants.negotiate in config.toml names 'webp' twice"),
    ("[limits]\nuploads_burst = 0", "limits.uploads_burst in config.toml must be at least 1"),
    ('[signing]\ncurrent = "k1"', "signing.current in config.toml names 'k1', which is none of signing.keys"),
    (f'[signing.keys]\nk1 = "{KEY}"\nk2 = "{KEY}"', "signing.current must name the key that signs, one of k1, k2"),
    ('[signing.keys]\nk1 = "c2hvcnQ="', "signing.keys.k1 in config.toml expected base64 of at least 32 bytes"),
    ('[signing.keys]\nk1 = "!!"', "signing.keys.k1 in config.toml expected base64 of at least 32 bytes"),
    (f'[signing.keys]\n"k 1" = "{KEY}"', 'signing.keys."k 1" in config.toml is not a name'),
    ("[signing]\ndefault_expires = 20\nmax_expires = 10", "signing.default_expires in config.toml is more than signing.max_expires (10)"),
    ('[auth]\ndefault_scopes = ["media:admin"]', "auth.default_scopes[0] in config.toml media:admin is never given by default"),
    ('[auth]\ndefault_scopes = ["read"]', "auth.default_scopes[0] in config.toml expected media:read or media:write, found 'read'"),
    ('[auth.scope_map]\nphotos = "media:reed"', "auth.scope_map.photos in config.toml expected one of media:read"),
    ('[auth]\nauthenticators = ["jwt", "jwt"]', "auth.authenticators in config.toml names 'jwt' twice"),
    ('plugins = ["local", "local"]', "plugins in config.toml names 'local' twice"),
    ('[storage."a/b"]\ndriver = "local"', 'storage."a/b" in config.toml is not a name'),
]


@pytest.mark.parametrize(("text", "complaint"), RULES)
def test_what_no_type_can_say_is_checked(tmp_path: Path, text: str, complaint: str) -> None:
    [told] = complaints(tmp_path, text)
    assert told.startswith(complaint)


FINE = [
    '[server]\nbase_path = "/a/b.c"',
    '[server]\npublic_url = "http://127.0.0.1:8400/media"',
    '[server]\ntrusted_proxies = ["unix", "10.0.0.0/8", "::1"]',
    '[server]\nallowed_hosts = ["*", "*.example.org", "10.0.0.1", "[::1]", "localhost"]',
    '[cors]\norigins = ["https://app.example", "http://localhost:3000"]\nmedia_origins = []',
    'database.url = "postgres://a@b/c"',
    '[signing.keys]\nk1 = "c2l4dGVlbiBieXRlcyB0d2ljZSBtYWtlIHRoaXJ0eXR3byE"',
    '[[routing]]\nstorage = "default"\ntype = "image/svg+xml"\nmin_size = 1\nmax_size = 1',
    '[auth.scope_map]\nphotos = "media:admin"',
    '[edge]\nsurrogate_key_header = "xkey"\ndirectory = "/var/cache/mediacdn"\nmemory = 0\ndisk = 0',
    '[edge]\nttl = 0\ngrace = 0\nadmit = "never"\nrules = [{tag = "x", admit = "always", ttl = 5}, {name = "2"}]',
    '[edge]\nadmit = "never"\n[[edge.rules]]\ntiers = []',
    '[[edge.rules]]\ntype = "*/*"\nmin_hits = 2\n[[edge.rules]]\nvariant = "*"\n[[edge.rules]]\npin = true',
    "[variants]\npresets = {}\nnegotiate = []\n[recipes.image]\nmax_pixels = 5",
    '[variants.presets.avatar-2]\nw = 64\nfit = "cover"\nsharpen = 0.5\nflip = true',
    '[edge]\npolicy = "mine"\nbus = "wire"\n[edge.mine]\nrules = 3\n[edge.wire]\nurl = "wire://h"',
]


@pytest.mark.parametrize("text", FINE)
def test_what_is_right_passes(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(text)
    load(file, {})


def test_all_problems_are_told_at_once_and_each_names_its_layer(tmp_path: Path) -> None:
    told = complaints(tmp_path, "[server]\nprot = 1\n", {"MEDIACDN_EDGE__CARDS": "x"}, {"server.port": "x"})
    assert sorted(told) == [
        'MEDIACDN_EDGE__CARDS expected a whole number of at least 1, found "x"',
        'server.port on the command line expected a whole number from 0 to 65535, found "x"',
        "server.prot in config.toml is not a key; did you mean server.port?",
    ]


class Tls(Struct, frozen=True, forbid_unknown_fields=True):
    ca: str | None = None


class Bucket(Struct, frozen=True, forbid_unknown_fields=True):
    bucket: str
    retries: int = 3
    secret_key: str = ""
    tls: Tls = Tls()
    regions: tuple[str, ...] = ()
    audience: str | tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.bucket == "no":
            raise ValueError("there is no bucket of this name")


def test_a_drivers_table_is_decoded_by_its_struct(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[storage.cold]\ndriver = "s3"\nbucket = "b"\n')
    environ = {"MEDIACDN_STORAGE__COLD__RETRIES": "5", "MEDIACDN_STORAGE__COLD__TLS__CA": "/ca", "MEDIACDN_STORAGE__COLD__REGIONS": "x,y"}
    environ["MEDIACDN_STORAGE__COLD__AUDIENCE"] = '["a", "b"]'
    loaded = load(file, environ)
    read = decode_driver(Bucket, loaded.config.storage["cold"], "storage.cold", loaded.sources)
    assert read == Bucket("b", 5, "", Tls("/ca"), ("x", "y"), ("a", "b"))
    environ["MEDIACDN_STORAGE__COLD__AUDIENCE"] = "a"
    assert decode_driver(Bucket, load(file, environ).config.storage["cold"], "storage.cold").audience == "a"


DRIVER = [
    ({"bucket": "b", "retry": 1}, "storage.cold.retry in config.toml is not a key; did you mean storage.cold.retries?"),
    ({"bucket": "b", "retries": "5"}, 'storage.cold.retries in config.toml expected a whole number, found "5"'),
    ({"bucket": "b", "tls": {"caa": "x"}}, "storage.cold.tls.caa in config.toml is not a key; did you mean storage.cold.tls.ca?"),
    ({"bucket": "b", "secret_key": 5}, "storage.cold.secret_key in config.toml expected a string, found a number that is not shown"),
    ({"bucket": "b", "audience": 1}, "storage.cold.audience in config.toml expected a string or a list of strings, found 1"),
    ({"driver": "s3"}, "storage.cold.bucket is missing; expected a string"),
    ({"bucket": "no"}, "storage.cold in config.toml is refused: there is no bucket of this name"),
]


@pytest.mark.parametrize(("table", "complaint"), DRIVER)
def test_a_drivers_wrong_table_is_told_like_the_cores(table: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        decode_driver(Bucket, table, "storage.cold", {"storage.cold": "config.toml"})
    assert str(refusal.value) == complaint
