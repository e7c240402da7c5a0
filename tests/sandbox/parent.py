"""A parent to be killed: opens a sandbox, has one child at work and one idle, and prints their numbers."""

import asyncio

from mediacdn import open_sandbox


async def main() -> None:
    async with open_sandbox(call="tests.sandbox.pranks:run", children=2) as box:
        await box.start()
        work = asyncio.create_task(box.run({"do": "deaf"}, deadline=60))
        await asyncio.sleep(0.3)
        print(*box.pids, flush=True)
        await work


asyncio.run(main())
