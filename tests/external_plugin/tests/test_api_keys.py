"""The authenticator `api-keys`."""

from typing import Any

import msgspec
import pytest
from mediacdn_example import ApiKeys, ApiKeysConfig, Key, open_api_keys

from mediacdn import InvalidToken, Scope

pytestmark = pytest.mark.anyio
SECRET = "correct horse battery staple"
KIT: Any = None


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_a_key_speaks_for_its_caller() -> None:
    async with open_api_keys(ApiKeysConfig({"scanner": Key(SECRET), "boss": Key(SECRET * 2, (Scope.ADMIN,))}), KIT) as keys:
        scanner, boss = await keys.authenticate({"x-api-key": SECRET}), await keys.authenticate({"x-api-key": SECRET * 2})
        assert scanner is not None
        assert boss is not None
        assert (scanner.id, scanner.scopes) == ("scanner", {"media:read", "media:write"})
        assert (boss.id, boss.scopes) == ("boss", {"media:admin"})


@pytest.mark.parametrize("given", ["", SECRET[:-1], SECRET + "x", SECRET.upper(), "é", "\udcff"])
async def test_another_key_is_refused(given: str) -> None:
    with pytest.raises(InvalidToken):
        await ApiKeys({"scanner": Key(SECRET)}).authenticate({"x-api-key": given})


async def test_other_credentials_are_left_to_others() -> None:
    assert await ApiKeys({"scanner": Key(SECRET)}).authenticate({"authorization": "Bearer x"}) is None


def test_a_short_secret_is_refused_with_the_configuration() -> None:
    with pytest.raises(msgspec.ValidationError, match="at least 20 characters"):
        msgspec.convert({"keys": {"scanner": {"secret": "short"}}}, ApiKeysConfig)
