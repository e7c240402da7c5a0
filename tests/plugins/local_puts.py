"""A process that puts objects into a local storage one after the other and prints what it was told, for tests that break the system calls beneath it.

    python local_puts.py FOLDER COUNT SIZE

It prints one JSON line an object: {"key", "outcome"}, the outcome "ok" or the error's code. All that writes runs in one thread, so that the n-th call of a kind
is the same one in every run; only the opening's own sync is left out of that.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator

from mediacdn import MediaError
from mediacdn_local.storage import LocalStorage
from mediacdn_local.tree import Tree


async def content(size: int) -> AsyncIterator[bytes]:
    for at in range(0, size, 65536):
        yield b"x" * min(65536, size - at)


async def run(folder: str, count: int, size: int) -> None:
    tree = Tree(folder, sync=False)
    tree.sync = True
    storage = LocalStorage(tree, 0, writers=1)
    for n in range(count):
        outcome = "ok"
        try:
            await storage.put(f"originals/{n}", content(size))
        except MediaError as error:
            outcome = error.code
        print(json.dumps({"key": f"originals/{n}", "outcome": outcome}), flush=True)
    await storage.close()


asyncio.run(run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
