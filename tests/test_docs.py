"""The documents say what the code does: this fails when one of them moves alone."""

import ast
import importlib
import re
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import click
import pytest
from prometheus_client import CollectorRegistry

import mediacdn
from mediacdn import cli, errors
from mediacdn.catalog.notify import PostgresBusConfig
from mediacdn.config import Config, EdgeRule, Mirrored, Purge, Rule
from mediacdn.config.decoding import dotted, keys
from mediacdn.config.layers import RESERVED
from mediacdn.edge.metrics import EdgeMetrics
from mediacdn.hookspecs import SEAMS
from mediacdn.model import Argument, Recipe, Scope, Status, Step
from mediacdn.plugins import Plugins
from mediacdn.routes.parameters import NAMES

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
CALLERS = ROOT / "mediacdn" / "README.md"
OPERATORS = ROOT / "deploy" / "README.md"
GUIDE = ROOT / "plugins" / "README.md"
ANNOTATED = ROOT / "config" / "mediacdn.toml"
PLUGINS = sorted(folder.name for folder in (ROOT / "plugins").glob("mediacdn_*"))
GENERATED = {
    ".git",
    ".uv",
    ".venv",
    ".test",
    ".hypothesis",
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
    ".import_linter_cache",
    "var",
    "dist",
}
METRICS = {"Counter", "Gauge", "Histogram", "Summary", "Info", "CounterMetricFamily", "GaugeMetricFamily", "HistogramMetricFamily"}


def sources(*folders: str) -> Iterator[tuple[Path, ast.Module]]:
    for folder in folders:
        for file in sorted((ROOT / folder).rglob("*.py")):
            yield file.relative_to(ROOT), ast.parse(file.read_text())


def signatures(module: str) -> dict[str, str]:
    """Every function and method of a module's source as it would be called: `head(key: str) -> ObjectInfo`."""
    found: dict[str, str] = {}
    tree = ast.parse((ROOT / "mediacdn" / f"{module}.py").read_text())
    for outer in tree.body:
        for node in [outer, *(outer.body if isinstance(outer, ast.ClassDef) else ())]:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                node.args.args = [argument for argument in node.args.args if argument.arg != "self"]
                name = node.name if node is outer else f"{outer.name}.{node.name}"  # type: ignore[union-attr]
                found[name] = f"{node.name}({ast.unparse(node.args)}) -> {ast.unparse(node.returns)}" if node.returns else node.name
    return found


def between(text: str, mark: str) -> str:
    found = re.search(rf"<!-- {mark} -->\n(.*?)<!-- /{mark} -->", text, re.DOTALL)
    assert found, f"there is no <!-- {mark} --> … <!-- /{mark} -->"
    return found[1]


def rows(text: str) -> list[tuple[str, ...]]:
    cells = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in text.splitlines() if line.startswith("|")]
    return [row for row in cells[1:] if not set(row[0]) <= {"-", ":", " "}]


def descendants(kind: type) -> Iterator[type]:
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
            yield from descendants(child)


# Hooks and seams


@pytest.mark.parametrize("signature", [text for name, text in signatures("hookspecs").items() if name.startswith("mediacdn_")])
def test_the_guide_shows_every_hook(signature: str) -> None:
    assert f"`{signature}`" in GUIDE.read_text()


def test_the_guide_shows_no_hook_that_is_not_there() -> None:
    assert set(re.findall(r"`(mediacdn_\w+)\(", GUIDE.read_text())) <= set(signatures("hookspecs"))


@pytest.mark.parametrize("signature", [text for name, text in signatures("interfaces").items() if "." in name])
def test_the_guide_shows_every_method_of_every_seam(signature: str) -> None:
    assert signature in GUIDE.read_text().replace(" = ", "=").replace('"', "'")


@pytest.mark.parametrize("name", [*SEAMS, *mediacdn.__all__])
def test_the_guide_names_every_seam_and_every_public_name(name: str) -> None:
    assert re.search(rf"(?<!\w){name}(?!\w)", GUIDE.read_text())


@pytest.mark.parametrize("name", mediacdn.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(mediacdn, name) is not None


# Configuration


def test_the_annotated_file_mentions_every_key_and_no_other() -> None:
    text = ANNOTATED.read_text()
    mentioned: set[str] = set()
    section = ""
    for line in text.splitlines():
        if header := re.match(r"#?\[\[?([\w.]+)\]\]?$", line):
            section = header[1]
            mentioned.add(section)
        elif key := re.match(r"#?(\w+) = ", line):
            mentioned.add(f"{section}.{key[1]}" if section else key[1])
    routing = {f"routing.{field}" for field in Rule.__struct_fields__}
    caching = {f"edge.rules.{field}" for field in EdgeRule.__struct_fields__}
    defining = {f"recipes.define.{field}" for field in Recipe.__struct_fields__}
    defining |= {f"recipes.define.arguments.{field}" for field in Argument.__struct_fields__}
    defining |= {f"recipes.define.steps.{field}" for field in Step.__struct_fields__}
    purging = {f"purge.{field}" for field in Purge.__struct_fields__}
    core = {dotted(key) for key in keys(Config)} - {"storage", "routing", "purge"} | routing | caching | defining | purging
    drivers: set[str] = set()
    loaded = Plugins.load([*Config().plugins, "cloudfront", "redis", "s3"])
    drivers |= {"storage.both", *(f"storage.both.{field}" for field in ("driver", *Mirrored.__struct_fields__))}
    drivers |= {"storage.default.via", "storage.landing", "storage.landing.driver", "storage.landing.path"}
    shared = {dotted(key) for key in keys(loaded.driver("bus", "redis").config)}
    for table, config, common in (
        ("storage.default", loaded.driver("storage", "local").config, set()),
        ("storage.cold", loaded.driver("storage", "s3").config, set()),
        ("auth.jwt", loaded.driver("authenticator", "jwt").config, set()),
        ("links.cloudfront", loaded.driver("links", "cloudfront").config, set()),
        ("edge.postgres", PostgresBusConfig, set()),
        ("redis", loaded.driver("bus", "redis").config, set()),
        ("jobs.redis", loaded.driver("broker", "redis").config, shared),
    ):
        drivers |= {table} | {f"{table}.{key}" for key in {dotted(key) for key in keys(config)} - common}
    sections = {key.split(".")[0] for key in core if "." in key}
    assert mentioned - {"storage.default.driver", "storage.cold.driver"} - sections == core | drivers - sections


@pytest.mark.parametrize("variable", RESERVED)
def test_the_annotated_file_names_the_variables_that_are_no_keys(variable: str) -> None:
    assert variable in ANNOTATED.read_text()


def test_every_key_has_a_comment_before_it_or_before_its_group() -> None:
    lines = ANNOTATED.read_text().splitlines()
    for above, line in pairwise(lines):
        if re.match(r'#?("|\w+ = )', line):
            assert above.strip(), f"nothing says what this is: {line}"


# Errors


def test_the_tree_in_the_docstring_is_the_real_one() -> None:
    drawn: set[tuple[str, str, int, str]] = set()
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"^([│├└─\s]*)(\w+) (\d{3}) (\w+)$", line):
            depth = len(found[1]) // 4
            path[depth:] = [found[2]]
            drawn.add((path[depth - 1] if depth else "Exception", found[2], int(found[3]), found[4]))
    real = [errors.MediaError, *descendants(errors.MediaError)]
    assert drawn == {(kind.__base__.__name__, kind.__name__, kind.status, kind.code) for kind in real}  # type: ignore[attr-defined, union-attr]


def test_codes_and_titles_are_unique() -> None:
    real = [errors.MediaError, *descendants(errors.MediaError)]
    for attribute in ("code", "title"):
        told = [getattr(kind, attribute) for kind in real]
        assert len(set(told)) == len(told), attribute


def test_callers_are_told_of_every_error() -> None:
    real = [errors.MediaError, *descendants(errors.MediaError)]
    listed = rows(between(CALLERS.read_text(), "errors"))
    assert set(listed) == {(str(kind.status), f"`{kind.code}`", kind.title) for kind in real}  # type: ignore[attr-defined]
    assert listed == sorted(listed, key=lambda row: (row[0], row[1]))


# Metrics


def metrics() -> set[str]:
    """The names under which Prometheus sees the metrics that the code makes: those that a source names, and the edge's, which puts its names together."""
    edge = EdgeMetrics(CollectorRegistry())
    found = {f"{each.name}_total" if each.type == "counter" else each.name for each in edge.collect()}
    for _, tree in sources("mediacdn", "plugins"):
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str):
                kind = node.func.id if isinstance(node.func, ast.Name) else node.func.attr if isinstance(node.func, ast.Attribute) else ""
                name = node.args[0].value
                if kind in METRICS and name.startswith("mediacdn_"):
                    counts = kind.startswith("Counter") and not name.endswith("_total")
                    found.add(f"{name}_total" if counts else name)
    return found


def test_operators_are_told_of_every_metric_and_no_other() -> None:
    listed = {row[0] for row in rows(between(OPERATORS.read_text(), "metrics"))}
    assert metrics(), "the scan finds nothing"
    assert listed == {f"`{name}`" for name in metrics()}


# What callers and operators are told


def test_callers_are_told_of_every_parameter_of_an_upload() -> None:
    assert [row[0] for row in rows(between(CALLERS.read_text(), "upload parameters"))] == [f"`{name}`" for name in NAMES]


def test_callers_are_told_what_every_status_and_scope_means() -> None:
    listed = {row[0] for row in rows(CALLERS.read_text())}
    assert {f"`{each}`" for each in (*Status, *Scope)} <= listed


def test_operators_are_told_of_every_plugin_and_its_extra() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    listed = {row[0].strip("`"): row[1] for row in rows(between(OPERATORS.read_text(), "plugins"))}
    assert set(listed) == {folder.removeprefix("mediacdn_") for folder in PLUGINS}
    for name, extra in listed.items():
        assert extra.startswith(f"`{name}`") == bool(extras[name]), name


DOCUMENTS = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not GENERATED & set(path.relative_to(ROOT).parts) and path.name not in ("CHANGELOG.md", "RESULTS.md")
)
FENCE = re.compile(r"^```.*?^```\n", re.MULTILINE | re.DOTALL)


def headings(text: str) -> set[str]:
    """The anchors of a document's headings, as code hosts make them."""
    told = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in told}


def links(text: str) -> Iterator[tuple[str, str]]:
    """The files and anchors that a document refers to."""
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", FENCE.sub("", text))):
        if not re.match(r"[a-z]+:", target):
            file, _, anchor = target.partition("#")
            yield file, anchor


@pytest.mark.parametrize(
    "document", [*DOCUMENTS, ROOT / "CHANGELOG.md", ROOT / "benchmarks/RESULTS.md"], ids=lambda path: str(path.relative_to(ROOT))
)
def test_every_link_between_the_documents_leads_somewhere(document: Path) -> None:
    for file, anchor in links(document.read_text()):
        target = (document.parent / file).resolve() if file else document
        assert target.exists(), f"{document.name}: {file} is not there"
        assert not anchor or anchor in headings(target.read_text()), f"{document.name}: {file} has no heading #{anchor}"


def test_a_link_that_leads_nowhere_is_seen() -> None:
    assert list(links("[a](b.md#c) `[no](code)`\n```\n[no](fence)\n```\n[d](#e) [f](https://example.org)")) == [("b.md", "c"), ("", "e")]
    assert headings("# Other services' URLs\n```\n# a comment\n```\n### A `b_c` d") == {"other-services-urls", "a-b_c-d"}


def test_every_document_is_found_from_the_readme() -> None:
    seen: set[Path] = set()
    ahead = [README]
    while ahead:
        document = ahead.pop()
        seen.add(document)
        found = ((document.parent / file).resolve() for file, _ in links(document.read_text()) if file.endswith(".md"))
        ahead += [each for each in found if each not in seen]
    assert {*DOCUMENTS} - {ROOT / "tests/external_plugin/README.md"} <= seen


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_verbs_that_documents_name_are_there(document: Path) -> None:
    text = document.read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", text, re.MULTILINE)) <= targets
    assert set(re.findall(r"(?:`|bin/|^)mediacdn ([a-z]+)", text, re.MULTILINE)) <= set(cli.main.list_commands(click.Context(cli.main)))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_keys_that_documents_name_are_there(document: Path) -> None:
    known = {dotted(key) for key in keys(Config)}
    sections = {key.split(".")[0] for key in known if "." in key}
    named = {name for name in re.findall(r"`(\w+(?:\.\w+)+)\b[^`/]*`", document.read_text()) if name.split(".")[0] in sections}
    assert {
        each for each in named if not any(key == each or key.startswith(f"{each}.") or each.startswith(f"{key}.") for key in known)
    } <= set()


# Plugins


@pytest.mark.parametrize("folder", PLUGINS)
def test_every_plugin_has_an_entry_point(folder: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    name = folder.removeprefix("mediacdn_")
    assert project["entry-points"]["mediacdn"].get(name) == folder
    assert name in project["optional-dependencies"], "the plugin's name is an extra, so that the pip line works"


@pytest.mark.parametrize(("file", "tree"), [pytest.param(*each, id=str(each[0])) for each in sources("plugins", "tests/external_plugin")])
def test_plugins_import_only_the_public_names(file: Path, tree: ast.Module) -> None:
    own = next((part for part in file.parts if part.startswith("mediacdn_")), None)
    tests = "tests" in file.parts[2:]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                assert alias.name == top if top == "mediacdn" else top == own or not top.startswith("mediacdn_"), (
                    f"{file}: import {alias.name}"
                )
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            top = node.module.partition(".")[0]
            if node.module == "mediacdn":
                assert {alias.name for alias in node.names} <= {*mediacdn.__all__}, f"{file}: {ast.unparse(node)}"
            else:
                published = node.module == "mediacdn.testing" and tests
                assert published or tests or top == own or not top.startswith("mediacdn"), f"{file}: {ast.unparse(node)}"


# The repository's text

FORBIDDEN = {
    "an address of a machine's own": r"(?<![\w.~})-])/(?:home|root|Users|work)/",
    "a package registry": "|".join(
        ("py" + r"pi\.", "python" + "hosted", r"registry\." + "(?:npm|yarn)", r"proxy\." + "golang", "conda" + r"\.ana")
    ),
    "a note to do something later": r"\b(?:TODO|FIXME|XXX|HACK)\b",
}


def text_files() -> Iterator[Path]:
    for path in sorted(ROOT.rglob("*")):
        parts = path.relative_to(ROOT).parts
        generated = GENERATED & set(parts) or "__pycache__" in parts or any(part.endswith(".egg-info") for part in parts)
        if not generated and path.is_file() and path != Path(__file__) and not path.name.endswith((".min.js", ".min.css", ".lock")):
            yield path


@pytest.mark.parametrize(("what", "pattern"), FORBIDDEN.items())
def test_the_repository_speaks_of_the_product_alone(what: str, pattern: str) -> None:
    hits = []
    for file in text_files():
        try:
            text = file.read_text()
        except UnicodeDecodeError:
            continue
        hits += [
            f"{file.relative_to(ROOT)}:{number}: {line.strip()[:120]}"
            for number, line in enumerate(text.splitlines(), 1)
            if re.search(pattern, line)
        ]
    assert not hits, f"{what}:\n" + "\n".join(hits)


def test_the_lock_has_no_addresses() -> None:
    assert "://" not in (ROOT / "requirements.lock").read_text()


def test_no_test_is_passed_over() -> None:
    """A test that cannot run fails and says what is missing; it does not step aside."""
    aside = re.compile(r"pytest\.(?:skip|xfail|importorskip)|mark\.(?:skip|skipif|xfail)|unittest\.skip")
    hits = [
        str(file)
        for file, _ in sources("tests", "mediacdn/testing")
        if aside.search((ROOT / file).read_text()) and file.name != "test_docs.py"
    ]
    assert not hits


def test_every_module_says_what_it_answers_for() -> None:
    assert not [str(file) for file, tree in sources("mediacdn", "plugins") if tree.body and not ast.get_docstring(tree)]


def test_modules_of_the_documents_exist() -> None:
    for name in re.findall(r"`(mediacdn\.[a-z_.]+)`", GUIDE.read_text()):
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            module, _, attribute = name.rpartition(".")
            assert hasattr(importlib.import_module(module), attribute), name
