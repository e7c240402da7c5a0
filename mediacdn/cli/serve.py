"""`mediacdn serve`: migrate, serve, keep a worker beside the server, and say how to begin."""

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mediacdn.cli.verb import Verb, answer, settings, with_settings
from mediacdn.errors import Forbidden, MediaError, StartupError

if TYPE_CHECKING:
    from collections.abc import Callable
    from socket import socket

    from prometheus_client import CollectorRegistry

    from mediacdn.config import Config
    from mediacdn.plugins import Plugins
    from mediacdn.server.listening import Listener
    from mediacdn.server.member import Member

TOKEN_LIFETIME = timedelta(days=7)
"""Of the admin token in the data directory; each start makes a new one. Whoever reads that file could read the key beside it."""


@click.command(cls=Verb, name="serve")
@click.option("--host", help="The address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="The port; 0 takes any free one.  [default: 8400]")
@click.option("--uds", help="Listen on this unix socket instead.")
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="Server processes on one address. Rates and connections per client address are limited in each of them: N of them allow up to N times as much.",
)
@click.option("--no-worker", is_flag=True, help="Start no worker process beside the server.")
@with_settings
def command(
    host: str | None,
    port: int | None,
    uds: str | None,
    workers: int,
    no_worker: bool,
    config_file: Path | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Serve media. Without a configuration: SQLite and files in ./var, a development key, loopback only."""
    overrides = {"server.host": host, "server.port": port, "server.uds": uds}
    config = settings(config_file, data, overrides).config
    refuse_open_development(config)
    folder = Path(config.server.data)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _alone(folder):
        arguments = ["--data", str(folder), *(["--config", str(config_file)] if config_file else [])]
        _Serving(config, folder, None if no_worker else arguments, as_json=as_json).run(workers)


class _Serving:
    """One start of the server, by this process or by several under it."""

    def __init__(self, config: "Config", folder: Path, worker: list[str] | None, *, as_json: bool) -> None:
        from mediacdn.cli.companion import Companion, worker_command

        self._config = config
        self._folder = folder
        self._as_json = as_json
        self._companion = Companion(worker_command(worker), self._tell) if worker is not None else None

    def run(self, processes: int) -> None:
        """Serve until a signal. Raises: StartupError."""
        import asyncio

        from mediacdn import logs
        from mediacdn.plugins import Plugins

        writer = logs.configure(self._config.server.log_level, self._config.server.log_format, threaded=processes == 1)
        _all_descriptors()
        self._plugins = Plugins.load(self._config.plugins)
        self._token = asyncio.run(_prepare(self._config, self._plugins))
        self._file = _keep_token(self._folder, self._token) if self._token is not None else None
        try:
            if processes == 1:
                self._serve(self._alone_and_ready)
            else:
                self._serve_with(processes)
        finally:
            if self._companion is not None:
                self._companion.stop()
            writer.drain()

    def _serve(
        self, ready: "Callable[[str], None] | None", member: "Member | None" = None, registry: "CollectorRegistry | None" = None
    ) -> None:
        from mediacdn.app import create_app
        from mediacdn.server.run import run

        settings = self._config.server
        app = create_app(self._config, plugins=self._plugins, registry=registry, exposition=member.total if member is not None else None)

        def drain() -> None:
            app.state.draining = True

        try:
            run(app, settings, ready=ready, on_drain=drain, drain_delay=settings.drain_delay, member=member)
        except StartupError:
            if app.state.failure is not None:
                raise app.state.failure from None
            raise

    def _serve_with(self, processes: int) -> None:
        """Be the parent of several. What they need is imported here, once, and kept by all."""
        import gc

        import mediacdn.app
        import mediacdn.server.run  # noqa: F401
        from mediacdn.cli.crew import Crew
        from mediacdn.keyring import open_keyring
        from mediacdn.server.listening import listen

        open_keyring(self._config.signing, self._folder)  # made once, and a bad one is said once
        listener = listen(self._config.server, processes)

        def serve(slot: int, link: "socket") -> int:
            return self._serve_as_member(listener, slot, link)

        def ready() -> None:
            self._announced(listener.bound)

        gc.freeze()  # what is shared now stays shared: a collection would write into every page of it
        try:
            Crew(listener, self._config.server, serve, ready=ready, tell=self._tell, companion=self._companion).run()
        finally:
            listener.close()

    def _serve_as_member(self, listener: "Listener", slot: int, link: "socket") -> int:
        from mediacdn import logs
        from mediacdn.app import process_registry
        from mediacdn.server.member import Member

        settings = self._config.server
        writer = logs.configure(settings.log_level, settings.log_format, shared=True)
        registry = process_registry()
        member = Member(link, listener.slots, slot, listener.bound, registry, settings.drain_delay + settings.shutdown_timeout)
        try:
            self._serve(None, member, registry)
        except MediaError as error:
            member.refuse(error.detail)
            return 1
        finally:
            writer.drain()
        return 0

    def _alone_and_ready(self, bound: str) -> None:
        # Only now: before, two processes that start would have shared the processor with the first answer.
        if self._companion is not None:
            self._companion.start()
        self._announced(bound)

    def _announced(self, bound: str) -> None:
        file = self._file
        if self._as_json:
            document = {"url": bound, "pid": os.getpid(), "data": str(self._folder.absolute())}
            answer({**document, "token_file": file and str(file.absolute())})
        else:
            click.echo(banner(self._config, bound, file, self._token if sys.stdout.isatty() else None))

    @staticmethod
    def _tell(sentence: str) -> None:
        click.echo(f"mediacdn: {sentence}", err=True)


def _all_descriptors() -> None:
    """Take the descriptors that the system grants for the asking: each connection and each open file is one."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _prepare(config: "Config", plugins: "Plugins") -> str | None:
    """Bring the tables forward where they are behind, and have an admin token made where tokens are ours to make."""
    from mediacdn.catalog.migrate import migrate, pending
    from mediacdn.cli.token import minted

    branches = plugins.branches()
    folder = Path(config.server.data)
    if await pending(config.database, folder, branches):
        await migrate(config.database, folder, branches)
    try:
        return await minted(config, plugins, "admin", "admin", TOKEN_LIFETIME)
    except Forbidden:
        return None


def uses_development_key(config: "Config") -> bool:
    """Whether the driver jwt believes the data directory's own key: it does when no other source of keys is configured."""
    table = config.auth.drivers.get("jwt", {})
    return "jwt" in config.auth.authenticators and not any(table.get(key) for key in ("issuer", "jwks_url", "keys"))


def refuse_open_development(config: "Config") -> None:
    """Raises: StartupError when the development key would open a server that others can reach."""
    if config.server.uds is None and uses_development_key(config) and not _loopback(config.server.host):
        raise StartupError(
            f"the development key serves loopback only, and {config.server.host} is not: "
            "configure auth.jwt (issuer and jwks_url, or keys), or listen on 127.0.0.1 or on a unix socket"
        )


def _loopback(host: str) -> bool:
    from ipaddress import ip_address

    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the data directory for this server: a second one would answer from cards that the first has changed. Raises: StartupError."""
    lock = os.open(folder / "serve.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise StartupError(f"another server already serves the data directory {folder}") from None
    try:
        yield
    finally:
        os.close(lock)


def _keep_token(folder: Path, token: str) -> Path:
    """Write the token to `keys/admin.token`, 0600, whole or not at all."""
    file = folder / "keys" / "admin.token"
    file.parent.mkdir(mode=0o700, exist_ok=True)
    fresh = file.with_name(f".admin.token.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(token + "\n")
    fresh.replace(file)
    return file


def banner(config: "Config", bound: str, file: Path | None, token: str | None) -> str:
    """What a person needs for the first minute: the address, an admin token or its file, and three lines to try."""
    import shlex
    from urllib.parse import urlsplit

    curl, base = "curl -sS", bound + config.server.base_path
    if bound.startswith("unix:"):
        curl, base = f"curl -sS --unix-socket {shlex.quote(bound[5:])}", "http://localhost" + config.server.base_path
    lines = [f"mediacdn serves {bound}{config.server.base_path}, data in {Path(config.server.data).absolute()}"]
    if token is not None:
        lines.append(f"Admin token, for {TOKEN_LIFETIME.days} days (also in {file}):\n\n  {token}\n")
    elif file is not None:
        lines.append(f"Admin token, for {TOKEN_LIFETIME.days} days: in {file}")
    else:
        lines.append("Tokens come from your Authentication Service; put one into TOKEN.")
    public = urlsplit(config.server.public_url or "")
    link = "'URL'" if public.netloc else f"'{urlsplit(base).scheme}://{urlsplit(base).netloc}URL'"
    lines += [
        "Try (ID and URL are in the answers):\n",
        *([f"  TOKEN=$(cat {shlex.quote(str(file))})"] if file is not None else []),
        f'  {curl} -H "Authorization: Bearer $TOKEN" -X POST -T photo.jpg {base}/v1/media',
        f'  {curl} -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" -d \'{{"expires": 600}}\' {base}/v1/media/ID/sign',
        f"  {curl} -o copy.jpg {link}",
        "",
    ]
    return "\n".join(lines)
