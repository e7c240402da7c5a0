"""`mediacdn doctor`: looks at what a server needs, part by part, and says what to do about what is not right."""

import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from msgspec import Struct
from msgspec.structs import replace

from mediacdn.cli.verb import Verb, answer, log_on_stderr, settings, with_settings
from mediacdn.errors import MediaError, Unavailable

if TYPE_CHECKING:
    from mediacdn.config import Config
    from mediacdn.model import Tool
    from mediacdn.plugins import Plugins

ROOM_LEAST, ROOM_WANTED = 100_000_000, 1_000_000_000
FILES_WANTED = 4096
PATIENCE = 10.0
"""Seconds that one part may take to answer."""


class Finding(Struct, frozen=True):
    """One part's state: "ok", "warn" (works, but) or "fail", and what to do."""

    part: str
    state: str
    found: str
    fix: str = ""


@click.command(cls=Verb, name="doctor")
@with_settings
def command(config_file: Path | None, data: Path | None, as_json: bool) -> None:
    """Look at what the server needs and say how to mend what is wrong. Exit 1 when anything fails."""
    import asyncio

    try:
        config = settings(config_file, data).config
    except MediaError as error:
        findings = [Finding("configuration", "fail", error.detail, "correct the keys that are named")]
    else:
        with log_on_stderr(config):
            findings = asyncio.run(_examine(config))
    failed = any(finding.state == "fail" for finding in findings)
    if as_json:
        answer({"healthy": not failed, "findings": findings})
    else:
        _table(findings)
    if failed:
        raise SystemExit(1)


def _table(findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("part", "state", "found", "to do", show_edge=False)
    for each in findings:
        colour = {"ok": "green", "warn": "yellow", "fail": "bold red"}[each.state]
        table.add_row(Text(each.part), Text(each.state, colour), Text(each.found), Text(each.fix))
    console = Console()
    if not console.is_terminal:
        console.width = 200
    console.print(table)


async def _examine(config: "Config") -> list[Finding]:
    from mediacdn.plugins import Plugins, available

    folder = Path(config.server.data)
    findings = [Finding("configuration", "ok", "every key is known and its value allowed"), *_machine(), _fence(config), *_folder(folder)]
    try:
        plugins = Plugins.load(config.plugins)
    except MediaError as error:
        return [*findings, Finding("plugins", "fail", error.detail, "correct `plugins`, or install what is missing")]
    others = ", ".join(each for each in available() if each not in config.plugins)
    findings.append(Finding("plugins", "ok", ", ".join(config.plugins) + (f"; installed and not named: {others}" if others else "")))
    if folder.is_dir():  # noqa: ASYNC240 (nothing else runs here)
        return [*findings, *await _parts(config, plugins)]
    # A look changes nothing: what would be made in the data directory is made in one that goes away.
    with tempfile.TemporaryDirectory(prefix="mediacdn-doctor-") as stand_in:
        return [*findings, *await _parts(replace(config, server=replace(config.server, data=stand_in)), plugins)]


async def _parts(config: "Config", plugins: "Plugins") -> list[Finding]:
    findings = [await _catalog(config, plugins)]
    findings += [each async for each in _storages(config, plugins)]
    findings += [each async for each in _authenticators(config, plugins)]
    findings += [each async for each in _inspectors(config, plugins)]
    findings += await _actions(config, plugins)
    return [*findings, *[each async for each in _edge(config, plugins)]]


def _machine() -> list[Finding]:
    import resource
    import time
    from importlib.util import find_spec

    import mediacdn

    findings = [
        Finding("uvloop", "ok", "present")
        if find_spec("uvloop")
        else Finding("uvloop", "fail", "not installed", "pip install uvloop: files are sent from memory maps only under it")
    ]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = 0 <= soft < FILES_WANTED
    fix = f"ulimit -n {FILES_WANTED} before the start, or LimitNOFILE= in its systemd unit" if few else ""
    findings.append(Finding("open files", "warn" if few else "ok", f"at most {soft} (hard limit {hard})", fix))
    built = os.stat(mediacdn.__file__).st_mtime
    behind = time.time() < built
    found = f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime())} UTC" + (", before this program was installed" if behind else "")
    findings.append(Finding("clock", "fail" if behind else "ok", found, "set the clock: links and tokens live by it" if behind else ""))
    return findings


def _fence(config: "Config") -> Finding:
    from mediacdn.sandbox.fence import kernel

    mode = config.decoders.fence
    if mode == "off":
        return Finding(
            "decoders", "warn", "no fence, by decoders.fence", 'set decoders.fence = "auto": a decoder that is taken over may read the keys'
        )
    found = kernel()
    if found.whole:
        return Finding("decoders", "ok", f"behind a fence of the kernel: {found}")
    fix = "Linux 5.13 or newer with lsm=landlock,…, on x86_64 or aarch64, and a container whose profile lets it be used"
    return Finding("decoders", "fail" if mode == "require" else "warn", f"the kernel's fence lacks a part: {found}", fix)


def _folder(folder: Path) -> list[Finding]:
    import shutil

    if not folder.exists():
        return [Finding("data directory", "warn", f"{folder} is not there yet", "the first `mediacdn serve` makes it")]
    try:
        status = folder.stat()
        if not folder.is_dir() or not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            return [
                Finding(
                    "data directory", "fail", f"{folder} cannot be written", f"chown it to uid {os.geteuid()}, or name another with --data"
                )
            ]
        findings = [
            Finding("data directory", "fail", f"others may write to {folder}", f"chmod go-w {folder}")
            if status.st_mode & 0o022
            else Finding("data directory", "ok", str(folder.absolute()))
        ]
        free = shutil.disk_usage(folder).free
        state = "fail" if free < ROOM_LEAST else "warn" if free < ROOM_WANTED else "ok"
        fix = "" if state == "ok" else "make room, or move the data directory"
        findings.append(Finding("free room", state, f"{free / 1e9:.1f} GB", fix))
        return [*findings, _keys(folder / "keys")]
    except OSError as error:
        return [Finding("data directory", "fail", f"{error.filename}: {error.strerror}", f"chown it to uid {os.geteuid()}")]


def _keys(keys: Path) -> Finding:
    if not keys.exists():
        return Finding("keys", "warn", "none yet", "the first `mediacdn serve` makes them")
    loose = [each for each in (keys, *sorted(keys.iterdir())) if each.lstat().st_mode & 0o077]
    if loose:
        return Finding(
            "keys", "fail", f"others may read {', '.join(map(str, loose))}", f"chmod -R go-rwx {keys}, then `mediacdn keys rotate`"
        )
    return Finding("keys", "ok", f"only for uid {keys.stat().st_uid}")


def _sentence(error: Exception) -> str:
    if isinstance(error, MediaError):
        return error.detail
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return f"{type(error).__name__}: {error}".splitlines()[0]


async def _catalog(config: "Config", plugins: "Plugins") -> Finding:
    from mediacdn.catalog.migrate import pending

    where = "PostgreSQL" if config.database.url else "SQLite"
    try:
        behind = await pending(config.database, Path(config.server.data), plugins.branches())
    except Exception as error:  # a look at what is broken must outlive every way in which it can be
        fix = (
            "correct database.url, or start the database"
            if config.database.url
            else "restore the file from a backup, or correct its rights"
        )
        return Finding("catalog", "fail", f"{where}: {_sentence(error)}", fix)
    if behind:
        return Finding(
            "catalog", "warn", f"{where}: the tables are behind this program", "`mediacdn migrate`, or the next `mediacdn serve`"
        )
    return Finding("catalog", "ok", f"{where}: reachable, up to date")


async def _storages(config: "Config", plugins: "Plugins") -> AsyncIterator[Finding]:
    import asyncio

    from mediacdn.cli.drivers import open_storage
    from mediacdn.config.storages import MIRROR

    for name, table in config.storage.items():
        part = f"storage {name}"
        if table.get("driver") == MIRROR:
            yield Finding(part, "ok", f"mirror of {', '.join(table['of'])}")
            continue
        folder = table.get("directory")
        if table.get("driver", "local") == "local" and folder and not os.path.exists(folder):  # noqa: ASYNC240 (nothing else runs here)
            # To look would make it, and make it this user's.
            yield Finding(part, "warn", f"{folder} is not there yet", "the first `mediacdn serve` makes it, as the user that it runs as")
            continue
        try:
            async with asyncio.timeout(PATIENCE), open_storage(config, plugins, name) as storage:
                tried = await _probe(storage)
        except Exception as error:
            yield Finding(part, "fail", _sentence(error), f"look at the table [storage.{name}], and at what it names")
        else:
            yield Finding(part, "ok", f"{table.get('driver', 'local')}: an object was put, read and deleted{tried}")


async def _probe(storage: Any) -> str:
    """Put, read and delete one small object, and begin and abort an upload of parts where there are such; tells of the latter.

    Raises: what the driver raises, MediaError when other bytes come back.
    """
    import secrets

    from mediacdn.errors import ObjectCorrupt
    from mediacdn.interfaces import MultipartUpload

    content = secrets.token_bytes(64)
    key = f"probes/{secrets.token_hex(13)}"

    async def chunks() -> AsyncIterator[bytes]:
        yield content

    await storage.put(key, chunks(), size=len(content))
    try:
        async with storage.open(key) as body:
            read = b"".join([chunk async for chunk in body])
    finally:
        await storage.delete(key)
    if read != content:
        raise ObjectCorrupt("other bytes came back than were put")
    if not isinstance(storage, MultipartUpload):
        return ""
    upload = await storage.begin_parts(key)
    try:
        if upload not in [each.upload async for each in storage.list_uploads("probes/")]:
            return "; uploads in parts are not listed, so that abandoned ones cannot be found"
    finally:
        await storage.abort_parts(key, upload)
    return "; an upload in parts was begun, listed and aborted"


async def _authenticators(config: "Config", plugins: "Plugins") -> AsyncIterator[Finding]:
    """Open each authenticator as the server does; one that fetches its keys shows within a while whether it can."""
    import asyncio

    from mediacdn.cli.drivers import open_authenticator
    from mediacdn.cli.serve import refuse_open_development, uses_development_key

    try:
        refuse_open_development(config)
    except MediaError as error:
        yield Finding("development key", "fail", error.detail, "configure auth.jwt, or bind to loopback")
    for name in config.auth.authenticators:
        part = f"auth {name}"
        try:
            async with asyncio.timeout(PATIENCE), open_authenticator(config, plugins, name) as authenticator:
                await _can_verify(getattr(authenticator, "check", None))
        except TimeoutError:
            yield Finding(part, "fail", "its keys cannot be fetched", f"look at [auth.{name}] and at the Authentication Service")
        except Exception as error:
            yield Finding(part, "fail", _sentence(error), f"look at the table [auth.{name}]")
        else:
            yield Finding(part, "ok", "the development key" if name == "jwt" and uses_development_key(config) else "its keys are at hand")


async def _inspectors(config: "Config", plugins: "Plugins") -> AsyncIterator[Finding]:
    """Open each inspector as the server does, and ask the one that can tell how it is."""
    import asyncio

    from mediacdn.cli.drivers import open_inspector

    for name in config.inspection.inspectors:
        part = f"inspector {name}"
        try:
            async with asyncio.timeout(PATIENCE), open_inspector(config, plugins, name) as inspector:
                await _can_verify(getattr(inspector, "check", None))
        except Exception as error:
            yield Finding(
                part, "fail", _sentence(error), f"look at the table [inspection.{name}]: uploads are {config.inspection.on_failure}d"
            )
        else:
            yield Finding(part, "ok", "it opens")


async def _actions(config: "Config", plugins: "Plugins") -> list[Finding]:
    """Open every action and read every recipe, as server and worker do, and look at the programs and libraries that they work by."""
    import asyncio

    from prometheus_client import CollectorRegistry

    from mediacdn.drivers import open_actions, recipe_registry
    from mediacdn.interfaces import Equipped
    from mediacdn.model import Tool

    equipment: dict[Tool, list[str]] = {}
    try:
        async with asyncio.timeout(PATIENCE), open_actions(config, plugins, CollectorRegistry()) as actions:
            recipes = recipe_registry(config, plugins, actions).all()
            for each in actions.values():
                await _can_verify(getattr(each, "check", None))
            equipped = {name: each for name, each in actions.items() if isinstance(each, Equipped)}
        looks = await asyncio.gather(*(each.equipment() for each in equipped.values()), return_exceptions=True)
        for name, tools in zip(equipped, looks, strict=True):
            if isinstance(tools, BaseException):
                raise tools
            for tool in tools:
                equipment.setdefault(tool, []).append(name)
    except Exception as error:
        return [Finding("actions", "fail", _sentence(error), "look at `plugins`, and at the tables [recipes.NAME]")]
    return [
        Finding("actions", "ok", f"{', '.join(actions) or 'none'}; {len(recipes)} recipes"),
        *(_equipped(tool, names) for tool, names in equipment.items()),
    ]


def _equipped(tool: "Tool", actions: list[str]) -> Finding:
    state = "fail" if not tool.usable else "warn" if tool.fix else "ok"
    return Finding(tool.name, state, f"{tool.found} (for {', '.join(actions)})", tool.fix)


async def _edge(config: "Config", plugins: "Plugins") -> AsyncIterator[Finding]:
    """Look at the folder of the edge, and open what plugins bring to it, to the jobs and to the limits."""
    import asyncio

    from mediacdn.cli.drivers import open_part
    from mediacdn.drivers import edge_folder

    folder = edge_folder(config)
    try:
        with tempfile.TemporaryDirectory(prefix="doctor-", dir=next(each for each in (folder, *folder.parents) if each.exists())):
            pass
    except OSError as error:
        yield Finding("edge directory", "fail", f"{folder} cannot be written: {error.strerror}", "correct edge.directory, or its rights")
    else:
        yield Finding("edge directory", "ok", str(folder.absolute()))
    for part, seam, name, table in (
        ("edge policy", "cache_policy", config.edge.policy if config.edge.policy != "rules" else None, "edge"),
        ("edge bus", "bus", config.edge.bus, "edge"),
        ("jobs broker", "broker", config.jobs.broker if config.jobs.broker != "table" else None, "jobs"),
        ("limits counters", "counters", config.limits.counters if config.limits.counters != "memory" else None, "limits"),
    ):
        if name is not None:
            where = f"[{name}] or [{table}.{name}]" if name in config.shared else f"[{table}.{name}]"
            try:
                async with asyncio.timeout(PATIENCE), open_part(config, plugins, seam, name) as opened:
                    check = getattr(opened, "check", None)
                    if check is not None:
                        await check()
            except Unavailable as error:  # without it everything works, slower
                yield Finding(part, "warn", f"{name}: {_sentence(error)}", f"start what the table {where} names, or correct it")
            except Exception as error:
                yield Finding(part, "fail", _sentence(error), f"look at the table {where}, and at `plugins`")
            else:
                yield Finding(part, "ok", f"{name}: it opens" if check is None else f"{name}: it answers")


async def _can_verify(check: Any) -> None:
    import asyncio

    while check is not None:
        try:
            await check()
        except MediaError:
            await asyncio.sleep(0.1)
        else:
            return
