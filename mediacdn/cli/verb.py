"""What every verb shares: the options --config, --data and --json, how a failure is told, and how an outcome is."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mediacdn.errors import MediaError, Unauthorized

if TYPE_CHECKING:
    from mediacdn.config import Config, Loaded

F = TypeVar("F", bound=Callable[..., Any])

SIZES = {"k": 1000, "M": 1000**2, "G": 1000**3}
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class Verb(click.Command):
    """A command whose failures are one sentence on stderr (with --json also an object on stdout) and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except MediaError as error:
            complain(error.detail, error.code, as_json=bool(ctx.params.get("as_json")))
            if isinstance(error, Unauthorized) and "url" in ctx.params:
                click.echo("  Give a token: --token, MEDIACDN_TOKEN, or --data with the server's data directory.", err=True)
        except BrokenPipeError:
            raise
        except OSError as error:
            sentence = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
            complain(sentence, "os_error", as_json=bool(ctx.params.get("as_json")))
        raise SystemExit(1)


class Listing(click.Group):
    """A group of verbs that does its `default` when it is told nothing else."""

    default = "list"

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        named = args and (not args[0].startswith("-") or args[0] in ctx.help_option_names)
        return super().parse_args(ctx, args if named else [self.default, *args])


def complain(sentence: str, code: str, *, as_json: bool) -> None:
    """Tell a failure: to people on stderr, to programs on stdout."""
    click.echo(f"mediacdn: {sentence}", err=True)
    if as_json:
        answer({"error": {"code": code, "detail": sentence}})


def answer(document: Any) -> None:
    """Write one JSON document on one line of stdout."""
    import msgspec

    sys.stdout.write(msgspec.json.encode(document).decode() + "\n")
    sys.stdout.flush()


def with_json(function: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Write JSON to standard output.")(function)


def with_settings(function: F) -> F:
    """Add --config, --data and --json."""
    function = with_json(function)
    function = click.option(
        "--data",
        type=click.Path(file_okay=False, path_type=Path),
        help="The data directory: everything the server writes.  [default: ./var]",
    )(function)
    return click.option(
        "--config", "config_file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The TOML file.  [default: none]"
    )(function)


def settings(config_file: Path | None, data: Path | None, overrides: Mapping[str, Any] | None = None) -> "Loaded":
    """Load the configuration with the command line over it; warnings go to stderr. Raises: ConfigError."""
    from mediacdn.config import load

    loaded = load(config_file, overrides={"server.data": None if data is None else str(data), **(overrides or {})})
    for warning in loaded.warnings:
        click.echo(f"mediacdn: {warning}", err=True)
    return loaded


@contextmanager
def log_on_stderr(config: "Config") -> Iterator[None]:
    """Send what drivers and libraries log to stderr, from warnings on: structlog left alone writes to stdout, which is the answer's."""
    from mediacdn import logs

    writer = logs.configure("warning", config.server.log_format)
    try:
        yield
    finally:
        writer.drain()


class Size(click.ParamType[int]):
    """A number of bytes, written 500, 500k, 20M or 2G (powers of 1000)."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        number, unit = (value[:-1], value[-1]) if value[-1:] in SIZES else (value, "")
        if not (number.isascii() and number.isdigit()) or len(number) > 15:
            self.fail(f"{value!r} is not a size such as 500k, 20M or 2G", param, ctx)
        return int(number) * SIZES.get(unit, 1)


class Duration(click.ParamType[int]):
    """A span of time in seconds, written 90, 90s, 10m, 1h, 7d or 2w."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        number, unit = (value[:-1], value[-1]) if value[-1:] in UNITS else (value, "s")
        if not (number.isascii() and number.isdigit()) or len(number) > 9 or int(number) == 0:
            self.fail(f"{value!r} is not a duration such as 90s, 10m, 1h or 7d", param, ctx)
        return int(number) * UNITS[unit]
