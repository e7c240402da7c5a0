"""The client's verbs about tasks, against the real server and against one whose streams break."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from mediacdn.client import Client
from mediacdn.client.events import Parser
from mediacdn.errors import Conflict, InvalidArgument, NotFound, Unavailable, Unprocessable
from tests.services.samples import png
from tests.services.served import Served
from tests.services.workshop import Bench

pytestmark = pytest.mark.anyio


@pytest.fixture
async def client(server: Served) -> AsyncIterator[Client]:
    async with Client(server.url, server.token()) as opened:
        yield opened


async def test_a_task_from_its_wish_to_its_end(client: Client, bench: Bench, media: dict[str, Any]) -> None:
    task = await client.run_task(media["id"], "toned", {"tone": "warm"})
    assert (task.code, task.status, task.ended) == ("toned@1", "Pending", False)
    assert await client.run_task(media["id"], "toned@1", {"tone": "warm"}) == task

    def work() -> None:
        time.sleep(0.3)
        job = bench.lease(task.id)
        time.sleep(0.8)
        bench.complete(job)

    worker = threading.Thread(target=work)
    worker.start()
    seen = [each async for each in client.stream_task(task.id)]
    await asyncio.to_thread(worker.join)
    assert [each.status for each in seen] == ["Pending", "Processing", "Completed"]
    assert seen[-1] == await client.get_task(task.id)
    assert seen[-1].ended
    assert seen[-1].steps[0].tools == {"bench": "1"}
    assert [each.id async for each in client.tasks(media["id"])] == [task.id]
    with pytest.raises(Conflict):
        await client.cancel_task(task.id)


async def test_recipes_and_refusals(client: Client, server: Served, media: dict[str, Any], picture: bytes) -> None:
    assert [each["code"] for each in await client.recipes()] == ["small", "small", "toned"]
    assert (await client.describe_task("small@1"))["version"] == 1
    with pytest.raises(NotFound):
        await client.describe_task("none")
    with pytest.raises(InvalidArgument):
        await client.run_task(media["id"], "toned", {"tone": "hot"})
    text = server.upload(b"words " + picture.hex().encode())
    with pytest.raises(Unprocessable):
        await client.run_task(text["id"], "small")
    task = await client.run_task(media["id"], "small", track=False)
    assert (await client.cancel_task(task.id)).status == "Cancelled"


async def test_relatives(client: Client, server: Served, bench: Bench, media: dict[str, Any], picture: bytes) -> None:
    child = server.upload(png(4, 4, picture))
    await asyncio.to_thread(bench.link, child["id"], media["id"])
    assert [each.id async for each in client.ancestors(child["id"])] == [media["id"]]
    assert [each.id async for each in client.descendants(media["id"])] == [child["id"]]
    assert [each.id async for each in client.derivatives(media["id"], "small")] == [child["id"]]
    assert [each.id async for each in client.derivatives(media["id"], "large")] == []


TASK = '{"id":"T","media_id":"M","code":"small@1","status":"%s"}'


async def streaming(answers: list[str]) -> tuple[list[str], list[str | None]]:
    """Follow a task at a server that gives one of `answers` a connection and breaks it off; what was seen, and the ids it was resumed with."""
    resumed: list[str | None] = []

    async def events(request: web.Request) -> web.StreamResponse:
        resumed.append(request.headers.get("Last-Event-ID"))
        answer = answers[min(len(resumed), len(answers)) - 1]
        if answer == "204":
            return web.Response(status=204)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for start in range(0, len(answer), 7):
            await response.write(answer[start : start + 7].encode())
        assert request.transport is not None
        request.transport.close()
        return response

    app = web.Application()
    app.router.add_get("/v1/media/tasks/T/events", events)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        [(host, port)] = [each[:2] for each in runner.addresses]
        async with Client(f"http://{host}:{port}", "t") as client:
            client._transport.pause = lambda failures: 0.0
            return [each.status async for each in client.stream_task("T")], resumed
    finally:
        await runner.cleanup()


def event(name: str, id: str, data: str) -> str:
    return f"event: {name}\nid: {id}\ndata: {data}\n\n"


async def test_a_broken_stream_is_resumed_where_it_broke() -> None:
    first = "retry: 1\n\n" + event("task", "1", TASK % "Pending") + "event: task\nid: 2\ndata: {half"
    second = ": hello\n\n" + event("task", "2", TASK % "Completed")
    third = event("end", "2-end", "{}") + event("task", "3", TASK % "Failed")
    assert await streaming([first, second, third]) == (["Pending", "Completed"], [None, "1", "2"])


async def test_204_ends_it() -> None:
    assert await streaming([event("task", "1", TASK % "Completed"), "204"]) == (["Completed"], [None, "1"])


async def test_a_stream_that_only_breaks_is_given_up() -> None:
    with pytest.raises(Unavailable):
        await streaming(["retry: 1\n\n"])


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("size", [1, 2, 1000])
async def test_the_parser_takes_any_line_ends_in_any_pieces(end: str, size: int) -> None:
    lines = [": ping", "", "retry: 1500", "id: 7", "event: task", "data: one", "data:two", "", "data: x", "", "id: 8", ""]
    text = end.join([*lines, "x"]).encode()
    parser, found = Parser(), []
    for start in range(0, len(text), size):
        found += parser.feed(text[start : start + size])
    assert found == [("task", "one\ntwo"), ("message", "x")]
    assert (parser.last_id, parser.retry) == ("8", 1.5)
