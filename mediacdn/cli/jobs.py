"""`mediacdn jobs`: what is to be done and what came of it, straight from the catalog."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mediacdn.cli.verb import Listing, Verb, answer, log_on_stderr, settings, with_settings

if TYPE_CHECKING:
    from datetime import datetime

    from mediacdn.catalog.jobs import JobRows
    from mediacdn.config import Config
    from mediacdn.model import Job

STATES = ("Pending", "Processing", "Completed", "Failed", "Cancelled")


@click.group(name="jobs", cls=Listing)
def command() -> None:
    """List jobs, show one, start one again or cancel it. Without more said: list."""


@command.command("list", cls=Verb)
@click.option("--state", type=click.Choice(STATES, case_sensitive=False), help="Only jobs in this state.")
@click.option("--lane", help="Only jobs of this lane.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="At most so many, the newest.")
@with_settings
def list_jobs(state: str | None, lane: str | None, limit: int, config_file: Path | None, data: Path | None, as_json: bool) -> None:
    """List jobs, newest first."""
    from mediacdn.model import JobState

    async def work(rows: "JobRows") -> "list[Job]":
        return (await rows.page(limit=limit, state=None if state is None else JobState(state), lane=lane))[0]

    found = _run(settings(config_file, data).config, work)
    if as_json:
        answer({"items": [_shown(job) for job in found]})
        return
    for job in found:
        click.echo(f"{job.id}  {job.state:<10}  {job.lane}  {job.code or job.kind}  {job.media_id or ''}".rstrip())
    if not found:
        click.echo("no jobs")


@command.command("show", cls=Verb)
@click.argument("id")
@with_settings
def show(id: str, config_file: Path | None, data: Path | None, as_json: bool) -> None:
    """Show the job ID with its steps."""
    from mediacdn.errors import NotFound

    async def work(rows: "JobRows") -> "Job":
        job = await rows.get(id)
        if job is None:
            raise NotFound("There is no such job")
        return job

    _tell(_run(settings(config_file, data).config, work), as_json=as_json)


@command.command("retry", cls=Verb)
@click.argument("id")
@with_settings
def retry(id: str, config_file: Path | None, data: Path | None, as_json: bool) -> None:
    """Start the failed or cancelled job ID again."""

    async def work(rows: "JobRows") -> "Job":
        return (await rows.retry(id))[0]

    _tell(_run(settings(config_file, data).config, work), as_json=as_json)


@command.command("cancel", cls=Verb)
@click.argument("id")
@with_settings
def cancel(id: str, config_file: Path | None, data: Path | None, as_json: bool) -> None:
    """Cancel the job ID, which waits or runs. Whoever runs it stops at its next heartbeat."""

    async def work(rows: "JobRows") -> "Job":
        return (await rows.cancel(id))[0]

    _tell(_run(settings(config_file, data).config, work), as_json=as_json)


def _run(config: "Config", work: Any) -> Any:
    import asyncio

    async def opened() -> Any:
        async with _rows(config) as rows:
            return await work(rows)

    with log_on_stderr(config):
        return asyncio.run(opened())


@asynccontextmanager
async def _rows(config: "Config") -> "AsyncIterator[JobRows]":
    from mediacdn.catalog.database import open_catalog
    from mediacdn.cli.drivers import MachineClock

    # Servers learn of what moves a media's status by their own sweep.
    async with open_catalog(config.database, Path(config.server.data), MachineClock()) as catalog:
        yield catalog.jobs


def _shown(job: "Job") -> dict[str, Any]:
    import msgspec

    shown: dict[str, Any] = msgspec.to_builtins(job)
    return {name: value for name, value in shown.items() if name not in ("fence", "revision", "fingerprint")}


def _tell(job: "Job", *, as_json: bool) -> None:
    if as_json:
        answer(_shown(job))
        return
    click.echo(f"{job.id}  {job.state}  {job.progress:.0%}  attempt {job.attempts} of {job.max_attempts}")
    click.echo(f"  {job.code or job.kind} in {job.lane}" + (f", of the media {job.media_id}" if job.media_id else ""))
    click.echo(f"  asked for {_at(job.created_at)}" + _took(job.started_at, job.ended_at))
    if job.error_message:
        click.echo(f"  {job.error_code}: {job.error_message}")
    for step in job.steps:
        click.echo(
            f"  {step.name} ({step.action}): {step.state}"
            + (f" -> {step.output}" if step.output else "")
            + _took(step.started_at, step.ended_at)
        )
        if step.error_message:
            click.echo(f"    {step.error_code}: {step.error_message}")


def _at(moment: "datetime") -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}Z"


def _took(began: "datetime | None", ended: "datetime | None") -> str:
    """When it began and how long it took, as far as that is known."""
    if began is None:
        return ""
    return f", begun {_at(began)}" + (f", took {(ended - began).total_seconds():.1f} s" if ended is not None else "")
