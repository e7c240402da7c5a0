"""Storages and the rules among them: what is refused, and where the delivered examples put things."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from mediacdn.cli import main
from mediacdn.config import load
from mediacdn.config.storages import landings
from mediacdn.errors import ConfigError
from tests.services.samples import png, text


def said(*arguments: object) -> str:
    done = CliRunner().invoke(main, [str(each) for each in arguments])
    assert done.exit_code == 0, done.output
    return done.output


EXAMPLES = Path(__file__).parents[2] / "config" / "placement.toml"
TWO = '[storage.one]\npath = "one"\n[storage.two]\npath = "two"\n'
BOTH = TWO + '[storage.both]\ndriver = "mirror"\n'


@pytest.mark.parametrize(
    ("toml", "complaint"),
    [
        (BOTH, r"storage.both.of is missing"),
        (BOTH + 'of = ["one"]', r"storage.both.of .*expected two or more different storages"),
        (BOTH + 'of = ["one", "one"]', r"expected two or more different storages"),
        (BOTH + 'of = ["one", "tow"]', r"names 'tow', which is not configured; did you mean 'two'\?"),
        (BOTH + 'of = ["one", "both"]', r"names 'both', which is a mirror itself"),
        (BOTH + 'of = ["one", "two"]\nwrites = "most"', r'storage.both.writes .*expected one of "all", "any"'),
        (BOTH + 'of = ["one", "two"]\npath = "x"', r"storage.both.path .*is not a key"),
        (BOTH + 'of = ["one", "two"]\npatience = 0', r"storage.both.patience .*a number of more than 0"),
        ('[storage.one]\nvia = "two"', r"storage.one.via .*names 'two', which is not configured"),
        ('[storage.one]\nvia = "defualt"', r"did you mean 'default'\?"),
        ("[storage.one]\nvia = 1", r"storage.one.via .*names 1"),
        ('[storage.one]\nvia = "one"', r"must name another storage"),
        (
            '[storage.one]\nvia = "two"\npath = "one"\n[storage.two]\nvia = "default"\npath = "two"',
            r"storage.one.via .*must name another storage",
        ),
        ('[[routing]]\nstorage = "default"\nname = "2"', r"routing\[0\].name .*no other rule's number"),
        ('[[routing]]\nstorage = "default"\nname = "default"', r'not "default"'),
        (
            '[[routing]]\nstorage = "default"\nname = "a"\n[[routing]]\nstorage = "default"\nname = "a"',
            r"which is what routing\[0\] is called",
        ),
        ('[[routing]]\nstorage = "default"\nvariant = ""', r"routing\[0\].variant"),
    ],
)
def test_what_is_refused(tmp_path: Path, toml: str, complaint: str) -> None:
    file = tmp_path / "m.toml"
    file.write_text(toml)
    with pytest.raises(ConfigError, match=complaint):
        load(file, {})


def test_a_mirror_may_be_landed_before_and_landed_in(tmp_path: Path) -> None:
    file = tmp_path / "m.toml"
    file.write_text(BOTH + 'of = ["one", "two"]\nvia = "default"\n[storage.three]\nvia = "both"\npath = "three"')
    with pytest.raises(ConfigError, match="one into which uploads can go directly"):
        load(file, {})
    file.write_text(BOTH + 'of = ["one", "two"]\n[storage.three]\nvia = "both"\npath = "three"')
    assert landings(load(file, {}).config) == {"three": "both"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("files")
    found = {"photo.txt": png(8, 8), "large.png": png(8, 8) + bytes(5_000_000), "notes.png": text(100)}
    for name, content in found.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in found}


@pytest.mark.parametrize(
    ("file", "arguments", "storage", "rule", "via"),
    [
        ("photo.txt", ["--tag", "profile-photo"], "fast", "profile-photo", None),
        ("photo.txt", ["--tag", "profile-photo", "--tag", "pii"], "pii", "pii", None),
        ("photo.txt", ["--tag", "profile-photo", "--variant", "thumbnail"], "fast", "made-here", None),
        ("photo.txt", ["--tag", "pii", "--variant", "thumbnail"], "pii", "pii", None),
        ("large.png", ["--tag", "profile-photo"], "default", "default", None),
        ("notes.png", ["--tag", "profile-photo"], "default", "default", None),
        ("notes.png", ["--tag", "archive"], "archive", "archive", "fast"),
        ("notes.png", ["--tag", "archive", "--variant", "original"], "archive", "archive", "fast"),
        ("notes.png", [], "default", "default", None),
    ],
)
def test_where_the_examples_put_a_file(
    files: dict[str, Path], file: str, arguments: list[str], storage: str, rule: str, via: str | None
) -> None:
    told = json.loads(said("config", "route", files[file], "--config", EXAMPLES, "--json", *arguments))
    assert (told["storage"], told["rule"], told["via"]) == (storage, rule, via)


def test_route_says_why(files: dict[str, Path]) -> None:
    done = said("config", "route", files["large.png"], "--config", EXAMPLES, "--tag", "profile-photo", "--owner", "ann", "--public")
    assert done.splitlines() == [
        "default",
        f"  image/png, {files['large.png'].stat().st_size} bytes",
        "  no rule holds: the default",
        "  not pii: it has no tag pii",
        f"  not profile-photo: it has {files['large.png'].stat().st_size} bytes, more than 5000000",
        "  not made-here: it is an original, not *",
        "  not archive: it has no tag archive",
        "  not private-films: its type is image/png, not video/*",
    ]
    won = said("config", "route", files["notes.png"], "--config", EXAMPLES, "--tag", "archive").splitlines()
    assert won[:3] == ["archive, by way of fast", "  text/plain, 100 bytes", "  rule archive: tag = archive"]
    assert "text/plain" in said("config", "route", files["notes.png"])


def test_config_still_shows() -> None:
    told = said("config", "--config", EXAMPLES, "--changed")
    assert "routing" in told
    assert said("config", "show", "--config", EXAMPLES, "--changed") == told
