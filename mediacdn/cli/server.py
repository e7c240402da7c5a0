"""The server that a client verb talks to: its address, the token that is sent, and the bar that shows a long transfer."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import click

from mediacdn.cli.verb import settings, with_settings

if TYPE_CHECKING:
    from mediacdn.client import Client, Progress

F = TypeVar("F", bound=Callable[..., Any])


def with_server(function: F) -> F:
    """Add --url and --token, and what every verb has."""
    function = with_settings(function)
    function = click.option(
        "--token",
        metavar="TOKEN",
        help="The bearer token.  [default: MEDIACDN_TOKEN, else the data directory's admin token, for loopback only]",
    )(function)
    return click.option(
        "--url",
        envvar="MEDIACDN_URL",
        default="http://127.0.0.1:8400",
        show_default=True,
        show_envvar=True,
        help="The server, or unix:PATH for its socket.",
    )(function)


def client(url: str, token: str | None, config_file: Path | None, data: Path | None) -> "Client":
    """Make the client of `url`, with the token given, found in the environment, or kept in the data directory."""
    from mediacdn.client import Client

    token = token or os.environ.get("MEDIACDN_TOKEN") or None
    # The admin token of this machine's server is nobody else's business.
    if token is None and (url.startswith("unix:") or urlsplit(url).hostname in ("127.0.0.1", "::1", "localhost")):
        file = Path(settings(config_file, data).config.server.data) / "keys" / "admin.token"
        if file.is_file():
            token = file.read_text("ascii").strip()
    if url.startswith("unix:"):
        return Client("http://localhost", token, uds=url[5:])
    return Client(url, token)


@contextmanager
def progress_bar(label: str, *, quiet: bool) -> "Iterator[Progress | None]":
    """A bar with bytes, rate and time left, on stderr, where that is a terminal; None elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(printable(label), total=None)

        def show(done: int, total: int | None) -> None:
            progress.update(task, completed=done, total=total)

        yield show


def printable(name: str) -> str:
    """A file's name without what would steer a terminal."""
    return "".join(each if each.isprintable() else "?" for each in name)
