"""Plugins: found by name, refused with a sentence that helps, and never able to hurt each other."""

from importlib.metadata import EntryPoint, distributions
from pathlib import Path
from typing import Any, cast

import pytest
import structlog

from mediacdn import Core, Event
from mediacdn.config import Config
from mediacdn.errors import PluginError
from mediacdn.plugins import Plugins

HEAD = """
from contextlib import asynccontextmanager
from msgspec import Struct
from mediacdn import Branch, Driver, hookimpl

class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    path: str = ""

@asynccontextmanager
async def opened(config, kit):
    yield object()
"""
DRIVERS = HEAD + '@hookimpl\ndef mediacdn_drivers():\n    return [Driver("storage", "{0}", Settings, opened)]\n'
EVENT = Event("media.stored", "01J", cast(Any, None))


class Site:
    """A folder of installed distributions."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        monkeypatch.syspath_prepend(str(folder))

    def install(
        self, name: str, body: str, *, distribution: str | None = None, extras: tuple[str, ...] = (), module: str | None = None
    ) -> None:
        distribution = distribution or f"site-{name}"
        module = module or f"{distribution.replace('-', '_')}_{name}"
        (self.folder / f"{module}.py").write_text(body)
        info = self.folder / f"{distribution.replace('-', '_')}-1.2.dist-info"
        info.mkdir()
        metadata = [f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2", *(f"Provides-Extra: {extra}" for extra in extras)]
        (info / "METADATA").write_text("\n".join(metadata) + "\n")
        (info / "entry_points.txt").write_text(f"[mediacdn]\n{name} = {module}\n")

    @property
    def points(self) -> list[EntryPoint]:
        return [point for found in distributions(path=[str(self.folder)]) for point in found.entry_points if point.group == "mediacdn"]

    def load(self, *names: str) -> Plugins:
        return Plugins.load(names, self.points)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(tmp_path, monkeypatch)


def refusal(site: Site, *names: str) -> str:
    with pytest.raises(PluginError) as refused:
        site.load(*names)
    return str(refused.value)


def test_the_default_plugins_are_installed_and_load() -> None:
    plugins = Plugins.load(Config().plugins)
    assert [each.name for each in plugins.described()] == list(Config().plugins)
    assert plugins.driver("storage", "local").name == "local"
    assert plugins.driver("authenticator", "jwt").seam == "authenticator"


def test_only_the_named_plugins_are_imported(site: Site) -> None:
    site.install("good", DRIVERS.format("good"))
    site.install("bad", "raise SystemExit('imported')")
    assert [each.name for each in site.load("good").described()] == ["good"]


def test_a_missing_plugin_is_told_with_the_nearest_one_and_pip(site: Site) -> None:
    site.install("albums", "")
    told = refusal(site, "album")
    assert told.startswith("plugin 'album' is not installed; did you mean 'albums'? (installed: albums)")
    assert "pip install" in told


def test_a_missing_dependency_is_told_with_the_pip_line(site: Site) -> None:
    site.install("s3", "import aiobotocore_absent", distribution="mediacdn-clouds", extras=("s3",))
    assert refusal(site, "s3") == (
        "plugin 's3' needs a missing dependency (No module named 'aiobotocore_absent'); try: pip install 'mediacdn-clouds[s3]'"
    )


def test_a_distribution_without_extras_is_told_alone(site: Site) -> None:
    site.install("s4", "from json import absent_name", distribution="mediacdn-clouds")
    told = refusal(site, "s4")
    assert told.startswith("plugin 's4' needs a missing dependency (cannot import name 'absent_name'")
    assert told.endswith("try: pip install 'mediacdn-clouds'")


def test_the_core_distribution_is_named_with_its_extra() -> None:
    class Core:
        metadata = type("M", (), {"__getitem__": lambda self, key: "mediacdn", "get_all": lambda self, key: ["jwt", "s3"]})()

    def load() -> None:
        raise ModuleNotFoundError("No module named 'aiobotocore'", name="aiobotocore")

    point = cast(
        EntryPoint, type("P", (), {"name": "s3", "value": "mediacdn_s3", "module": "mediacdn_s3", "dist": Core, "load": staticmethod(load)})
    )
    with pytest.raises(PluginError) as refused:
        Plugins.load(["s3"], [point])
    assert str(refused.value) == (
        "plugin 's3' needs a missing dependency (No module named 'aiobotocore'); "
        "try: pip install 'mediacdn[s3]' (in a clone: make install EXTRAS=s3)"
    )


REFUSED = [
    # what the module says, what the refusal says
    ("1 / 0", "plugin 'x' failed while it was imported: ZeroDivisionError: division by zero"),
    (HEAD + "@hookimpl\ndef mediacdn_drivrs():\n    return []\n", "unknown hook 'mediacdn_drivrs'"),
    (HEAD + "def mediacdn_drivers():\n    return []\n", "plugin 'x': mediacdn_drivers is not marked with @hookimpl"),
    (
        HEAD + "@hookimpl\nasync def mediacdn_on_event(event):\n    pass\n",
        "plugin 'x': mediacdn_on_event must be a plain function, not async",
    ),
    (HEAD + "@hookimpl\ndef mediacdn_on_event(evnt):\n    pass\n", "evnt"),
    (HEAD + "@hookimpl\ndef mediacdn_drivers():\n    return ['local']\n", "plugin 'x': mediacdn_drivers must return a list of Driver"),
    (
        DRIVERS.format("s").replace('"storage"', '"storages"'),
        "plugin 'x': there is no seam 'storages'; did you mean 'storage'?",
    ),
    (
        DRIVERS.format("s").replace("Settings, opened", "dict, opened"),
        "plugin 'x': the config of storage driver 's' must be a msgspec Struct type",
    ),
]


@pytest.mark.parametrize(("body", "complaint"), REFUSED)
def test_a_plugin_that_is_wrong_stops_the_start(site: Site, body: str, complaint: str) -> None:
    site.install("x", body, module=f"wrong_{REFUSED.index((body, complaint))}")
    assert complaint in refusal(site, "x")


def test_two_plugins_may_not_bring_one_driver(site: Site) -> None:
    site.install("one", DRIVERS.format("same"), module="twin_one")
    site.install("two", DRIVERS.format("same"), module="twin_two")
    assert refusal(site, "one", "two") == "plugins 'one' and 'two' both bring the storage driver 'same'"


def test_a_plugin_is_named_once_and_comes_from_one_distribution(site: Site) -> None:
    site.install("a", "", distribution="first", module="first_a")
    assert refusal(site, "a", "a") == "plugin 'a' is named twice"
    site.install("a", "", distribution="second", module="second_a")
    assert "more than one distribution" in refusal(site, "a")
    assert "first" in refusal(site, "a")
    assert "second" in refusal(site, "a")


def test_an_unknown_driver_is_told_with_those_that_are_there(site: Site) -> None:
    site.install("d", DRIVERS.format("folder"), module="driver_d")
    plugins = site.load("d")
    assert plugins.driver("storage", "folder").seam == "storage"
    with pytest.raises(PluginError, match=r"no loaded plugin brings the storage driver 'folders'; did you mean 'folder'\?.*plugins: d"):
        plugins.driver("storage", "folders")
    with pytest.raises(PluginError, match=r"there is none"):
        plugins.driver("authenticator", "folder")


def test_routes_and_branches_are_joined_in_the_order_of_the_configuration(site: Site) -> None:
    body = (
        HEAD
        + '@hookimpl\ndef mediacdn_routes(core):\n    return [(core, "{0}")]\n@hookimpl\ndef mediacdn_migrations():\n    return [Branch("{1}", "/r")]\n'
    )
    site.install("one", body.format("r1", "b1"), module="joined_one")
    site.install("two", body.format("r2", "b2"), module="joined_two")
    core = cast(Core, "core")
    assert site.load("two", "one").routes(core) == [("core", "r2"), ("core", "r1")]
    assert [each.label for each in site.load("one", "two").branches()] == ["b1", "b2"]
    site.install("three", body.format("r3", "b1"), module="joined_three")
    with pytest.raises(PluginError, match="plugins 'one' and 'three' both bring the migration branch 'b1'"):
        site.load("one", "three").branches()


def test_a_plugin_that_fails_on_an_event_is_logged_and_the_others_hear_it(site: Site) -> None:
    body = "from mediacdn import hookimpl\nheard = []\n@hookimpl\ndef mediacdn_on_event(event):\n    {0}\n"
    site.install("first", body.format("heard.append(event)"), module="hearing_first")
    site.install("broken", body.format("raise RuntimeError('no')"), module="hearing_broken")
    site.install("last", body.format("heard.append(event)"), module="hearing_last")
    plugins = site.load("first", "broken", "last")
    with structlog.testing.capture_logs() as logs:
        plugins.emit(EVENT)
    import hearing_first  # type: ignore[import-not-found]
    import hearing_last  # type: ignore[import-not-found]

    assert hearing_first.heard == hearing_last.heard == [EVENT]
    assert [(log["plugin"], log["log_level"]) for log in logs] == [("broken", "error")]


def test_a_description_tells_name_version_distribution_drivers_and_hooks(site: Site) -> None:
    site.install("d", DRIVERS.format("folder") + "@hookimpl\ndef mediacdn_on_event(event):\n    pass\n", module="described_d")
    [told] = site.load("d").described()
    assert (told.name, told.version, told.distribution) == ("d", "1.2", "site-d")
    assert told.drivers == ("storage:folder",)
    assert told.hooks == ("mediacdn_drivers", "mediacdn_on_event")


RECIPE = """
from mediacdn import hookimpl
from mediacdn.model import Recipe, Step
@hookimpl
def mediacdn_recipes():
    return [Recipe(code="{0}", steps=(Step(name="s", action="a"),))]
"""


def test_recipes_are_told_with_their_plugin_in_the_order_of_the_configuration(site: Site) -> None:
    site.install("one", RECIPE.format("poster"))
    site.install("two", RECIPE.format("clip"))
    assert [(plugin, recipe.name) for plugin, recipe in site.load("two", "one").recipes()] == [("two", "clip@1"), ("one", "poster@1")]


def test_what_is_no_recipe_is_told(site: Site) -> None:
    site.install("listless", "from mediacdn import hookimpl\n@hookimpl\ndef mediacdn_recipes():\n    return ['poster']\n")
    with pytest.raises(PluginError, match="plugin 'listless': mediacdn_recipes must return a list of Recipe"):
        site.load("listless").recipes()
