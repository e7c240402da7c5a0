"""The `mediacdn` command. Each verb is a file of this package, imported when it is called; what it needs of the server it imports when it runs."""

from importlib import import_module
from typing import Any

import click

VERBS = (
    "serve", "worker", "token", "sign", "put", "get", "keys", "plugins", "config", "migrate", "doctor", "gc", "explain", "purge",
    "recipes", "jobs", "move", "scrub",
)  # fmt: skip


class Verbs(click.Group):
    """The group whose commands are the files of this package."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module: Any = import_module(f"mediacdn.cli.{cmd_name}")
        command: click.Command = module.command
        return command


def _version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        click.echo(f"mediacdn {version('mediacdn')}")
        ctx.exit()


@click.command(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Show the version and exit.")
def main() -> None:
    """A self-hosted media CDN: serve it, fill it, look after it.

    Exit codes: 0 done, 1 refused or failed, 2 wrong usage. With --json every command writes JSON, and nothing else, to standard output.
    """
