"""What must hold of storages and of the rules that choose among them; and the conditions that rules of routing and of the edge have in common."""

import re
from collections.abc import Iterable

from mediacdn.config.decoding import Path, Reader, decode, nearest
from mediacdn.config.sections import Config, EdgeRule, Mirrored, Rule
from mediacdn.errors import ConfigError

TYPE = re.compile(r"(\*/\*|[a-z0-9][a-z0-9!#$&^_.+-]*/(\*|[a-z0-9][a-z0-9!#$&^_.+-]*))\Z")
MIRROR = "mirror"
"""The one storage driver that is the core's own."""


def default_storage(config: Config) -> str:
    """The storage of what no rule claims."""
    return "default" if "default" in config.storage else next(iter(config.storage))


def landings(config: Config) -> dict[str, str]:
    """The storages whose uploads land elsewhere first, each with that other one."""
    return {name: table["via"] for name, table in config.storage.items() if "via" in table}


def check_storages(config: Config, reader: Reader) -> None:
    """Check the storages' own keys, the mirrors, and the rules of routing."""
    for name, table in config.storage.items():
        if table.get("driver") == MIRROR:
            _mirror(name, config, reader)
        if "via" in table:
            _via(name, table["via"], config, reader)
    called: dict[str, int] = {}
    for number, rule in enumerate(config.routing):
        path: Path = ("routing", number)
        conditions(rule, path, config, reader)
        if rule.name is not None and (
            rule.name in ("", "default") or not rule.name.isprintable() or (rule.name.isdigit() and rule.name != str(number + 1))
        ):
            reader.problem(
                (*path, "name"), f'expected printable text that is no other rule\'s number and not "default", found {rule.name!r}'
            )
        label = rule.name or str(number + 1)
        if label in called:
            reader.problem((*path, "name"), f"names {label!r}, which is what routing[{called[label]}] is called")
        called.setdefault(label, number)
        if rule.variant == "":
            reader.problem((*path, "variant"), 'expected "original", what a derivative is to its source, or "*" for any of them')


def _via(name: str, via: object, config: Config, reader: Reader) -> None:
    path: Path = ("storage", name, "via")
    if not isinstance(via, str) or via not in config.storage:
        reader.problem(path, f"names {via!r}, which is not configured" + (meant(via, config.storage) if isinstance(via, str) else ""))
    elif via == name or "via" in config.storage[via]:
        reader.problem(path, "must name another storage, one into which uploads can go directly")


def _mirror(name: str, config: Config, reader: Reader) -> None:
    try:
        table = {key: value for key, value in config.storage[name].items() if key not in ("driver", "via")}
        mirrored = decode(Mirrored, table, ("storage", name), reader.sources)
    except ConfigError as error:
        reader.problems.extend(error.extra.get("problems", (error.detail,)))
        return
    path: Path = ("storage", name, "of")
    if len(set(mirrored.of)) < max(2, len(mirrored.of)):
        reader.problem(path, "expected two or more different storages")
    for each in mirrored.of:
        if each not in config.storage:
            reader.problem(path, f"names {each!r}, which is not configured{meant(each, config.storage)}")
        elif config.storage[each].get("driver") == MIRROR:
            reader.problem(path, f"names {each!r}, which is a mirror itself")


def conditions(rule: Rule | EdgeRule, path: Path, config: Config, reader: Reader) -> None:
    """Check what rules of routing and of the edge have in common."""
    if rule.storage is not None and rule.storage not in config.storage:
        known = ", ".join(f"storage.{name}" for name in config.storage)
        reader.problem(
            (*path, "storage"), f"names {rule.storage!r}, which is not configured{meant(rule.storage, config.storage)} (there is {known})"
        )
    if rule.type is not None:
        a_type(rule.type, (*path, "type"), reader)
    if rule.min_size is not None and rule.max_size is not None and rule.min_size > rule.max_size:
        reader.problem((*path, "min_size"), f"is more than max_size ({rule.max_size})")
    if rule.tag is not None and (not rule.tag or rule.tag != rule.tag.strip() or "," in rule.tag):
        reader.problem((*path, "tag"), f"expected one tag, without a comma or spaces around it, found {rule.tag!r}")


def a_type(pattern: str, path: Path, reader: Reader) -> None:
    """Check that this is a media type or a range of them."""
    if not TYPE.match(pattern):
        reader.problem(path, f"expected a media type such as image/png, image/* or */* in lower case, found {pattern!r}")


def meant(name: str, known: Iterable[str]) -> str:
    """Tell which name was probably meant."""
    near = nearest(name, known)
    return f"; did you mean {near!r}?" if near else ""
