"""The SDK's clients: one that speaks with the service, one that only signs URLs for whoever reaches it by another address."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.exceptions import BotoCoreError
from botocore.handlers import add_expect_header

from mediacdn import ConfigError
from mediacdn_s3.config import S3Config

_REGION = "us-east-1"


@asynccontextmanager
async def open_clients(config: S3Config) -> AsyncIterator[tuple[Any, Any]]:
    """Give the client and the signer. Raises: ConfigError."""
    session = AioSession(profile=config.profile)
    client_config = settled(config, config.addressing)
    named = {
        "aws_access_key_id": config.access_key,
        "aws_secret_access_key": config.secret_key,
        "aws_session_token": config.session_token,
        "verify": config.verify,
        "config": client_config,
    }
    async with AsyncExitStack() as stack:
        try:
            if config.access_key is None and await session.get_credentials() is None:
                raise ConfigError("no credentials for S3 are configured, and the usual chain (variables, files, roles) finds none")
            named["region_name"] = config.region or session.get_config_variable("region") or _REGION
            client = await stack.enter_async_context(session.create_client("s3", endpoint_url=config.endpoint, **named))
            signer = client
            if _signs_for_the_world(config, client):
                named["config"] = settled(config, "virtual")
            if config.public_endpoint is not None or named["config"] is not client_config:
                signer = await stack.enter_async_context(
                    session.create_client("s3", endpoint_url=config.public_endpoint or config.endpoint, **named)
                )
        except (BotoCoreError, ValueError) as error:
            raise ConfigError(f"S3: {error}") from error
        # It would wait for 100 (Continue) before each body, and for ever where nobody says it. A refused body costs one part at most.
        client.meta.events.unregister("before-call.s3", add_expect_header)
        yield client, signer


def _signs_for_the_world(config: S3Config, client: Any) -> bool:
    """Whether the SDK would sign URLs for Amazon's global address, which redirects to the region's, where the signature does not hold."""
    amazon = (urlsplit(client.meta.endpoint_url).hostname or "").endswith(".amazonaws.com")
    return config.addressing == "auto" and config.public_endpoint is None and amazon and "." not in config.bucket


def settled(config: S3Config, addressing: str) -> AioConfig:
    """How the SDK is to behave: it does not try again (the core does), hashes nothing on the event loop, and asks no environment for a proxy."""
    return AioConfig(
        signature_version="s3v4",
        retries={"total_max_attempts": 1, "mode": "standard"},
        connect_timeout=config.connect_timeout,
        read_timeout=config.read_timeout,
        max_pool_connections=config.connections,
        proxies={} if config.proxy is None else {"http": config.proxy, "https": config.proxy},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": addressing, "payload_signing_enabled": False},
    )
