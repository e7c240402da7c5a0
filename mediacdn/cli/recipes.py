"""`mediacdn recipes`: what can be made of media here, and what was made by versions that have a newer one."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mediacdn.cli.verb import Listing, Verb, answer, log_on_stderr, settings, with_settings

if TYPE_CHECKING:
    from mediacdn.config import Config
    from mediacdn.interfaces import Action
    from mediacdn.model import Argument, Recipe
    from mediacdn.recipes.descriptors import Descriptor
    from mediacdn.recipes.registry import Registry
    from mediacdn.tasks import Stale

T = TypeVar("T")


@click.group(name="recipes", cls=Listing)
def command() -> None:
    """List the recipes or their actions, show one, or find what older versions made. Without more said: list."""


@command.command("list", cls=Verb)
@with_settings
def list_recipes(config_file: Path | None, data: Path | None, as_json: bool) -> None:
    """List the recipes that plugins and the configuration bring."""
    found = _opened(settings(config_file, data).config, lambda registry, actions: [registry.describe(each) for each in registry.all()])
    if as_json:
        answer({"items": found})
        return
    for each in found:
        click.echo(f"{each.code}@{each.version}  {', '.join(each.requires) or '*/*'}  {each.title or ''}".rstrip())
    if not found:
        click.echo("no recipes")


@command.command("show", cls=Verb)
@click.argument("code")
@with_settings
def show(code: str, config_file: Path | None, data: Path | None, as_json: bool) -> None:
    """Show the recipe CODE, its newest version, or CODE@VERSION."""
    recipe, each = _opened(settings(config_file, data).config, lambda registry, actions: _found(registry, code))
    if as_json:
        answer(each)
        return
    click.echo(f"{each.code}@{each.version}" + (f"  {each.title}" if each.title else ""))
    if each.summary:
        click.echo(f"  {each.summary}")
    click.echo(f"  takes {', '.join(each.requires) or '*/*'}")
    for argument in recipe.arguments:
        click.echo(f"  {_told(argument)}")
    for number, step in enumerate(each.steps, 1):
        click.echo(f"  {number}. {step.name}: {step.action}" + (f" -> {step.relationship}" if step.relationship else ""))


@command.command("actions", cls=Verb)
@with_settings
def list_actions(config_file: Path | None, data: Path | None, as_json: bool) -> None:
    """List the actions that steps of recipes name, and what each may be told; `image` is told the same by presets and variants."""
    found = _opened(
        settings(config_file, data).config,
        lambda registry, actions: [(name, tuple(each.accepts), tuple(each.arguments)) for name, each in actions.items()],
    )
    if as_json:
        answer({"items": [{"name": name, "accepts": accepts, "args": arguments} for name, accepts, arguments in found]})
        return
    for name, accepts, arguments in found:
        click.echo(f"{name}  {', '.join(accepts)}")
        for argument in arguments:
            click.echo(f"  {_told(argument)}")


@command.command("stale", cls=Verb)
@click.option("--rebuild", is_flag=True, help="Ask for the newest version, for just these sources.")
@with_settings
def stale(rebuild: bool, config_file: Path | None, data: Path | None, as_json: bool) -> None:
    """List what was made by a version of a recipe that has a newer one, which would make it otherwise and has not done so yet.

    The older version need not be there any more. The older derivatives stay where they are.
    """
    import asyncio

    config = settings(config_file, data).config
    with log_on_stderr(config):
        found, asked = asyncio.run(_stale(config, rebuild=rebuild))
    if as_json:
        answer({"items": found, "asked": asked})
        return
    for each in found:
        click.echo(f"{each.id}  {each.recipe} -> {each.newest}  of {each.source}")
    told = "nothing is stale" if not found else f"{len(found)} stale"
    click.echo(told + (f"; {len(asked)} tasks asked for" if rebuild else ""))


def _opened(config: "Config", look: "Callable[[Registry, Mapping[str, Action]], T]") -> T:
    import asyncio

    async def work() -> T:
        from prometheus_client import CollectorRegistry

        from mediacdn.drivers import open_actions, recipe_registry
        from mediacdn.plugins import Plugins

        plugins = Plugins.load(config.plugins)
        async with open_actions(config, plugins, CollectorRegistry()) as actions:
            return look(recipe_registry(config, plugins, actions), actions)

    with log_on_stderr(config):
        return asyncio.run(work())


def _found(registry: "Registry", code: str) -> "tuple[Recipe, Descriptor]":
    recipe = registry.find(code)
    return recipe, registry.describe(recipe)


def _told(argument: "Argument") -> str:
    """One line of what an argument may be."""
    from mediacdn.recipes.arguments import canonical, rule, written

    default = "; required" if argument.required else "" if argument.default is None else f"; default {written(canonical(argument.default))}"
    return f"{argument.name}: {rule(argument)}{default}" + (f"  ({argument.summary})" if argument.summary else "")


async def _stale(config: "Config", *, rebuild: bool) -> "tuple[list[Stale], list[str]]":
    from prometheus_client import CollectorRegistry

    from mediacdn.catalog.database import open_catalog
    from mediacdn.cli.drivers import MachineClock
    from mediacdn.drivers import open_actions, recipe_registry
    from mediacdn.errors import MediaError
    from mediacdn.plugins import Plugins
    from mediacdn.tasks import Tasks
    from mediacdn.ulids import Ulids

    async def nobody(changes: Any) -> None:
        """Servers learn by their own sweep."""

    plugins, clock = Plugins.load(config.plugins), MachineClock()
    asked: list[str] = []
    async with (
        open_catalog(config.database, Path(config.server.data), clock) as catalog,
        open_actions(config, plugins, CollectorRegistry()) as actions,
    ):
        registry = recipe_registry(config, plugins, actions)
        tasks = Tasks(catalog=catalog, registry=registry, told=nobody, new_id=Ulids(), clock=clock, attempts=config.jobs.attempts)
        found = [each async for each in tasks.stale()]
        for each in found if rebuild else ():
            source = await catalog.media.get(each.source)
            if source is None:
                continue
            try:
                job, started = await tasks.ask(source, each.newest, each.arguments, by=None)
            except MediaError as error:
                click.echo(f"mediacdn: {each.source}: {error.detail}", err=True)
                continue
            asked += [job.id] if started else []
    return found, asked
