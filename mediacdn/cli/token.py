"""`mediacdn token`: a development token, signed with the data directory's own key."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mediacdn.cli.verb import Duration, Verb, answer, log_on_stderr, settings, with_settings
from mediacdn.errors import Forbidden
from mediacdn.model import Scope

if TYPE_CHECKING:
    from mediacdn.config import Config
    from mediacdn.plugins import Plugins

SCOPES = {
    "read": frozenset({Scope.READ}),
    "write": frozenset({Scope.READ, Scope.WRITE}),
    "admin": frozenset({Scope.READ, Scope.WRITE, Scope.ADMIN}),
}


async def minted(config: "Config", plugins: "Plugins", subject: str, scope: str, lifetime: timedelta) -> str:
    """Have the first authenticator with the TokenMinter power issue a token. Raises: Forbidden when tokens come from elsewhere."""
    from mediacdn.cli.drivers import open_authenticator
    from mediacdn.interfaces import TokenMinter

    for name in config.auth.authenticators:
        async with open_authenticator(config, plugins, name) as authenticator:
            if isinstance(authenticator, TokenMinter):
                return await authenticator.mint(subject, frozenset(str(each) for each in SCOPES[scope]), lifetime)
    raise Forbidden("tokens of this server come from its Authentication Service: no development key is in use")


@click.command(cls=Verb, name="token")
@click.option("--scope", type=click.Choice(list(SCOPES)), required=True, help="What the token may do; each includes those before it.")
@click.option("--sub", default=None, help="Whom it speaks for.  [default: the scope's name]")
@click.option("--expires", type=Duration(), default="1h", show_default=True, help="Its lifetime.")
@with_settings
def command(scope: str, sub: str | None, expires: int, config_file: Path | None, data: Path | None, as_json: bool) -> None:
    """Print a development token, signed with the data directory's own key."""
    import asyncio

    from mediacdn.plugins import Plugins

    config = settings(config_file, data).config
    subject = sub if sub is not None else scope
    ends = datetime.now(UTC) + timedelta(seconds=expires)
    with log_on_stderr(config):
        token = asyncio.run(minted(config, Plugins.load(config.plugins), subject, scope, timedelta(seconds=expires)))
    if as_json:
        answer({"token": token, "sub": subject, "scope": scope, "expires_at": ends})
    else:
        click.echo(token)
