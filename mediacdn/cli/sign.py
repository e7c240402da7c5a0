"""`mediacdn sign`: a signed link made with the key ring alone; no server is asked."""

import time
from datetime import UTC, datetime
from pathlib import Path

import click

from mediacdn.cli.verb import Duration, Verb, answer, settings, with_settings
from mediacdn.errors import InvalidParameter


@click.command(cls=Verb, name="sign")
@click.argument("media_id", metavar="ID")
@click.option("--variant", help="Sign this variant in place of the original: thumb, or w=320,h=240,…")
@click.option("--expires", type=Duration(), help="The link's lifetime.  [default: signing.default_expires, 10m]")
@click.option("--prefix", is_flag=True, help="A link under /s/TOKEN/ that also opens what stands beside the original.")
@click.option(
    "--base", metavar="URL", help="Where callers reach the server, base path included.  [default: server.public_url, else its address]"
)
@with_settings
def command(
    media_id: str,
    variant: str | None,
    expires: int | None,
    prefix: bool,
    base: str | None,
    config_file: Path | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Print a signed link to the media ID.

    It is made with the key ring alone, so that nobody checks here whether there is such a media; a link opens what exists when it is used.
    """
    from mediacdn.keyring import open_keyring
    from mediacdn.signing import mint_prefix, rounded, sign_query
    from mediacdn.ulids import is_ulid

    if not is_ulid(media_id):
        raise click.UsageError(f"{media_id!r} is not a media id: 26 characters, upper case")
    config = settings(config_file, data).config
    lifetime = config.signing.default_expires if expires is None else expires
    if lifetime > config.signing.max_expires:
        raise InvalidParameter(f"--expires is at most {config.signing.max_expires} seconds (signing.max_expires)")
    ring = open_keyring(config.signing, Path(config.server.data)).ring()
    iat, exp = rounded(int(time.time()), lifetime, config.signing.window)
    path = f"/v1/media/{media_id}"
    form = "" if variant is None else "/thumb" if variant == "thumb" else f"/v/{variant}"
    if prefix:
        # Presets are covered by every prefix link, ad-hoc variants only by name; only those have an equals sign.
        covers = (variant,) if variant is not None and "=" in variant else ()
        link = f"/s/{mint_prefix(ring, media_id, exp=exp, iat=iat, covers=covers)}{path}{form}"
    else:
        link = sign_query(ring, path + form, exp=exp, iat=iat)
    if base is None:
        host = f"[{config.server.host}]" if ":" in config.server.host else config.server.host
        base = (config.server.public_url or f"http://{host}:{config.server.port}").rstrip("/") + config.server.base_path
    url = base.rstrip("/") + link
    if as_json:
        answer({"url": url, "expires_at": datetime.fromtimestamp(exp, UTC)})
    else:
        click.echo(url)
