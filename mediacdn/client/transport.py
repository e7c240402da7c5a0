"""Requests to one server: the session, the bearer token, bounded retries with jitter, and failures as MediaErrors. It leaves what is asked to the verbs."""

import asyncio
import os
import random
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import urlsplit

import msgspec

from mediacdn.client.problem import REFUSED_UNTOUCHED, TRANSIENT, error_from, retry_after
from mediacdn.client.upload import STALL, VERDICT, Body
from mediacdn.errors import InvalidParameter, MediaError, Unavailable

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

T = TypeVar("T")
ATTEMPTS = 4
PATIENCE = 60.0
"""The longest Retry-After that is waited for, seconds."""
CONNECT = 10.0
"""Seconds for a connection."""
PROBLEM = 1 << 16


class Transport:
    """A session with one server. `base` is its URL, base path included; `uds` the unix socket to reach it by."""

    def __init__(
        self, base: str, token: str | None, *, uds: str | None, attempts: int, pause: Callable[[int], float] | None = None
    ) -> None:
        parts = urlsplit(base)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
            raise InvalidParameter(f"{base!r} is not a server's URL, such as http://127.0.0.1:8400")
        self.base = base.rstrip("/")
        self.origin = f"{parts.scheme}://{parts.netloc}"
        self._token = token
        self._uds = uds
        self.attempts = attempts
        # Full jitter: callers that failed together must not come back together.
        self.pause = pause or (lambda failures: random.uniform(0.0, min(10.0, 0.25 * 2**failures)))  # noqa: S311 (no secret)
        self._session: ClientSession | None = None

    async def __aenter__(self) -> Self:
        import aiohttp

        connector = aiohttp.UnixConnector(self._uds) if self._uds else aiohttp.TCPConnector()
        headers = {"User-Agent": "mediacdn"} | ({"Authorization": f"Bearer {self._token}"} if self._token else {})
        self._session = aiohttp.ClientSession(
            connector=connector,
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT, sock_connect=CONNECT, sock_read=STALL),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        # aiohttp repeats a request once in silence, so that we would not know that a 404 to DELETE is the answer to the second one.
        self._session._retry_connection = False
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._session is not None:
            await self._session.close()

    async def ask(
        self,
        method: str,
        path: str,
        *,
        repeatable: bool,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        body: Body | None = None,
        done_already: frozenset[int] = frozenset(),
    ) -> "ClientResponse":
        """Send until an answer of success comes, which the caller must release. Raises: the MediaError of a refusal, Unavailable when nobody answers.

        `repeatable` says that the request may run twice; one that may not is repeated only when it did not run: no connection, 429, 503.
        `done_already` are refusals of a repetition which show that the lost first try had worked, such as 404 to a DELETE.
        """
        from aiohttp import ClientConnectorError, ClientError

        failures = 0
        while True:
            fault: BaseException | None = None
            try:
                response = await self._once(method, path, params, headers, json, body)
            except (ClientError, OSError, TimeoutError) as error:
                if body is not None and body.fault is not None:
                    raise body.fault from None
                fault = error
                refusal: MediaError = _unreachable(self.base, error)
                again = repeatable or isinstance(error, ClientConnectorError)
                wait = 0.0
            else:
                if 200 <= response.status < 300 or (failures and response.status in done_already):
                    return response
                refusal = await _refusal(response)
                again = response.status in (TRANSIENT if repeatable else REFUSED_UNTOUCHED)
                again = again or (failures > 0 and refusal.code == "idempotency_in_flight")  # our own lost try, still running there
                wait = retry_after(response.headers)
            failures += 1
            spent = body is not None and body.started and not body.replayable
            if not again or spent or failures >= self.attempts or wait > PATIENCE:
                raise refusal from fault
            await asyncio.sleep(wait + self.pause(failures))

    async def read(self, response: "ClientResponse", kind: type[T]) -> T:
        """The whole of a JSON answer. Raises: Unavailable when it breaks off, MediaError when it is not of this kind."""
        from aiohttp import ClientError

        try:
            body = await response.read()
            return msgspec.json.decode(body, type=kind)
        except (ClientError, TimeoutError) as error:
            raise Unavailable(f"{self.base}: the answer broke off") from error
        except msgspec.MsgspecError as error:
            raise MediaError(f"{self.base} does not answer as a mediacdn server does") from error
        finally:
            response.release()

    async def _once(
        self, method: str, path: str, params: Mapping[str, str] | None, headers: Mapping[str, str] | None, json: Any, body: Body | None
    ) -> "ClientResponse":
        assert self._session is not None, "use `async with`"
        url = self.base + path
        # Compressed on the way, neither ranges nor digests would mean the media's bytes.
        sent = {"Accept-Encoding": "identity", **(headers or {})}
        if body is None:
            return await self._session.request(method, url, params=params, headers=sent, json=json, allow_redirects=False)
        return await self._upload(method, url, params, sent, body)

    async def _upload(
        self, method: str, url: str, params: Mapping[str, str] | None, headers: dict[str, str], body: Body
    ) -> "ClientResponse":
        """Send a body with a watch on its progress, not on its length. Large ones wait for 100 (Continue): a refusal then costs no upload.

        RFC 9110 section 10.1.1 forbids to wait for ever, since a server of old may never say it: after CONNECT seconds the body goes without.
        """
        assert self._session is not None
        expects = body.size is None or body.size > 1 << 20
        if body.size is not None:
            headers["Content-Length"] = str(body.size)
        while True:
            try:
                async with asyncio.timeout(None) as watch:
                    body.watch = watch
                    if expects:
                        watch.reschedule(asyncio.get_running_loop().time() + 2 * CONNECT)
                    return await self._session.request(
                        method, url, params=params, headers=headers, data=body.chunks(), expect100=expects,
                        skip_auto_headers=("Content-Type",), allow_redirects=False, timeout=_patient(),
                    )  # fmt: skip
            except TimeoutError:
                if not expects or body.started:
                    raise
                expects = False
            finally:
                body.watch = None  # an early answer leaves the body's writer running for a moment, and the watch is over


def _patient() -> Any:
    import aiohttp

    return aiohttp.ClientTimeout(total=None, connect=CONNECT, sock_connect=CONNECT, sock_read=VERDICT)


async def _refusal(response: "ClientResponse") -> MediaError:
    from aiohttp import ClientError

    try:
        body = await response.content.read(PROBLEM)
    except (ClientError, OSError, TimeoutError):
        body = b""
    finally:
        response.close()  # there may be more of it, and the request's body may be half sent
    return error_from(response.status, response.headers, body)


def _unreachable(base: str, error: BaseException) -> Unavailable:
    from aiohttp import ClientConnectorError

    if isinstance(error, ClientConnectorError):
        number = error.os_error.errno
        why = "cannot connect: " + (os.strerror(number) if number and number > 0 else error.os_error.strerror or str(error))
    elif isinstance(error, TimeoutError):
        why = "no answer in time"
    else:
        why = f"the connection broke ({str(error) or type(error).__name__})"
    fault = Unavailable(f"{base}: {why}")
    fault.headers = {}
    return fault
