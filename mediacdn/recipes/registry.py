"""The recipes that are there, checked once at start-up: found by name, told of, and settled with a caller's arguments into what is to be done."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import structlog
from msgspec import Struct

from mediacdn.errors import ConfigError, InvalidArgument, NotFound, PluginError
from mediacdn.http.media_types import matches
from mediacdn.interfaces import Action
from mediacdn.model import Derivation, Recipe, Step
from mediacdn.recipes import placeholders
from mediacdn.recipes.arguments import Value, normalise
from mediacdn.recipes.checks import accepted, meant, problems, typed
from mediacdn.recipes.declarations import flaws
from mediacdn.recipes.descriptors import Descriptor, describe
from mediacdn.recipes.fingerprints import derivation_key, fingerprint

log = structlog.get_logger("mediacdn.recipes")


class SettledStep(Struct, frozen=True, kw_only=True):
    """A step without placeholders: `spec` is normal by the action's arguments, in their order."""

    name: str
    action: str
    spec: dict[str, Value]
    relationship: str | None = None
    saves_to: str | None = None
    continue_on_error: bool = False

    def derivation_key(self, source_id: str) -> str:
        """What the step's output is known by, when it reads the media `source_id`."""
        return derivation_key(source_id, self.action, self.spec)


class Settled(Struct, frozen=True, kw_only=True):
    """A recipe with its arguments: nothing in it hangs on the caller's spelling, and all that is left to do is to do it."""

    code: str
    version: int
    lane: str
    arguments: dict[str, Value]
    steps: tuple[SettledStep, ...]

    @property
    def name(self) -> str:
        return f"{self.code}@{self.version}"

    def fingerprint(self, source_id: str) -> str:
        """What the task is known by that does this to the media `source_id`."""
        return fingerprint(source_id, self.code, self.version, self.arguments)

    def derivation(self, source_id: str, step: SettledStep) -> Derivation:
        """What is written down with what the step makes."""
        return Derivation(
            media_id=source_id, code=self.code, version=self.version, arguments=dict(self.arguments),
            fingerprint=self.fingerprint(source_id), step=step.name,
        )  # fmt: skip


class Registry:
    """The recipes of one process. They cannot call each other, so there is no circle to look for."""

    def __init__(
        self,
        actions: Mapping[str, Action],
        *,
        brought: Iterable[tuple[str, Recipe]] = (),
        defined: Sequence[Recipe] = (),
        storages: Collection[str] = ("default",),
    ) -> None:
        """`brought` are the plugins' recipes with the plugin's name, `defined` those of [[recipes.define]], `storages` the names that `saves_to` may say.

        A plugin's recipe may have steps whose actions another plugin brings: where that one is not loaded, the recipe is left out, and the log says so.
        Raises: PluginError for what plugins bring, ConfigError for what is defined, each with every problem, one a line.
        """
        self._actions = actions
        self._recipes: dict[str, Recipe] = {}
        self._newest: dict[str, Recipe] = {}
        self._left_out: dict[str, tuple[str, ...]] = {}
        told = [f"action {name!r}: {flaw}" for name, action in actions.items() for flaw in flaws(action.arguments)]
        _refuse(PluginError, told)
        for plugin, recipe in brought:
            told += self._add(f"plugin {plugin!r}: recipe {_name(recipe)!r}", recipe, storages, plugin)
        _refuse(PluginError, told)
        for number, recipe in enumerate(defined):
            told += self._add(f"recipes.define[{number}]: recipe {_name(recipe)!r}", recipe, storages)
        _refuse(ConfigError, told)

    def find(self, name: str) -> Recipe:
        """Give the recipe `code@version`, or by its code alone the one of the highest version. Raises: NotFound.

        Whoever names no version asks for the newest at that moment; what is kept of the request is the full name.
        """
        found = self._recipes.get(name) or self._newest.get(name)
        if found is None and name in self._left_out:
            raise NotFound(f"The recipe {name!r} needs {_listed(self._left_out[name])}, which no plugin here brings")
        if found is None:
            shown = name[:100].encode(errors="replace").decode()
            raise NotFound(f"There is no recipe {shown!r}{meant(shown, self._recipes)}")
        return found

    def left_out(self, name: str) -> bool:
        """Whether a plugin brings a recipe of this name or code that is not there for want of an action."""
        return name in self._left_out and name not in self._newest

    def all(self) -> tuple[Recipe, ...]:
        """Every recipe, by code and version."""
        return tuple(sorted(self._recipes.values(), key=lambda recipe: (recipe.code, recipe.version)))

    def newest(self) -> tuple[Recipe, ...]:
        """Of each code the newest version."""
        return tuple(self._newest[code] for code in sorted(self._newest))

    def accepts(self, recipe: Recipe) -> tuple[str, ...]:
        """The media types and ranges that a recipe takes: those that its first step's action reads as well."""
        return accepted(recipe, self._actions)

    def accepting(self, media_type: str) -> tuple[Recipe, ...]:
        """The recipes that take media of this type, in normal form."""
        return tuple(recipe for recipe in self.all() if any(matches(each, media_type) for each in self.accepts(recipe)))

    def describe(self, recipe: Recipe) -> Descriptor:
        """Tell callers of a recipe."""
        return describe(recipe, self.accepts(recipe))

    def settle(self, recipe: Recipe, given: Any) -> Settled:
        """Read a caller's arguments (see arguments.normalise), put them into the steps, and read each step's spec by its action's arguments.

        Raises: InvalidArgument, also where the recipe takes a value that an action refuses: it names the recipe's argument.
        """
        values = normalise(recipe.arguments, given)
        steps = tuple(self._settled(step, values) for step in recipe.steps)
        return Settled(code=recipe.code, version=recipe.version, lane=recipe.lane, arguments=values, steps=steps)

    def _settled(self, step: Step, values: Mapping[str, Value]) -> SettledStep:
        try:
            spec = normalise(self._actions[step.action].arguments, placeholders.fill_spec(step.spec, values))
        except InvalidArgument as error:
            key = error.extra.get("argument")
            name = next(placeholders.names(step.spec.get(str(key))), key)
            where = f"{name!r} is refused by the step {step.name!r}: " if name != key else f"The step {step.name!r} refuses it: "
            raise InvalidArgument(where + error.detail, argument=name) from None
        return SettledStep(
            name=step.name,
            action=step.action,
            spec=spec,
            relationship=placeholders.fill_relationship(step, values),
            saves_to=step.saves_to,
            continue_on_error=step.continue_on_error,
        )

    def _add(self, who: str, recipe: Recipe, storages: Collection[str], plugin: str | None = None) -> list[str]:
        try:
            recipe = typed(recipe)
        except ValueError as error:
            return [f"{who}: {error}"]
        absent = (
            tuple(dict.fromkeys(step.action for step in recipe.steps if step.action not in self._actions)) if plugin is not None else ()
        )
        told = [f"{who}: {problem}" for problem in problems(recipe, self._actions, storages, absent)]
        if told:
            return told
        if absent:
            for name in (recipe.code, recipe.name):
                self._left_out[name] = absent
            log.info("a recipe is left out for want of an action", recipe=recipe.name, plugin=plugin, actions=absent)
            return []
        if recipe.name in self._recipes:
            return [f"{who}: there is another recipe of this name"]
        self._recipes[recipe.name] = recipe
        newest = self._newest.setdefault(recipe.code, recipe)
        if newest.version < recipe.version:
            self._newest[recipe.code] = recipe
        return []


def check_tables(tables: Iterable[str], actions: Collection[str]) -> None:
    """Refuse tables [recipes.NAME] of no action, and an action whose table would be a key. Raises: ConfigError, PluginError."""
    if "define" in actions:
        raise PluginError("an action is called 'define', whose table [recipes.define] would be the key of this name")
    _refuse(
        ConfigError,
        [
            f"recipes.{name} configures an action that no loaded plugin brings{meant(name, actions)}"
            for name in tables
            if name not in actions
        ],
    )


def _listed(actions: Sequence[str]) -> str:
    return f"the action{'s' if len(actions) > 1 else ''} {', '.join(map(repr, actions))}"


def _name(recipe: Recipe) -> str:
    return recipe.name[:140]


def _refuse(kind: type[ConfigError] | type[PluginError], told: list[str]) -> None:
    if told:
        raise kind("\n".join(told), problems=tuple(told))
