"""`python -m tests.services.program_source DESCRIPTOR`: imports the program, then forks a process that runs it for each wish that comes over the socket.

A wish is JSON, {"arguments", "cwd", "env", "session"}, with four descriptors: standard input, output, error, and a pipe that gets the wait status as a number.
The answer is the process id. The end of the socket is the end of it.
"""

import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import sys
from contextlib import suppress
from importlib.metadata import entry_points
from typing import Any


def load() -> None:
    """Import what the verbs import when they run."""
    import mediacdn.cli

    for module in pkgutil.iter_modules(mediacdn.cli.__path__, "mediacdn.cli."):
        importlib.import_module(module.name)
    for name in (
        "app",
        "worker_app",
        "catalog.migrate",
        "catalog.database",
        "client",
        "server.run",
        "server.loop",
        "server.member",
        "server.listening",
    ):
        importlib.import_module(f"mediacdn.{name}")
    for name in (
        "alembic.command",
        "aiosqlite",
        "asyncpg",
        "sqlalchemy.dialects.sqlite.aiosqlite",
        "sqlalchemy.dialects.postgresql.asyncpg",
    ):
        importlib.import_module(name)
    for each in entry_points(group="mediacdn"):
        each.load()
    tasks = os.listdir("/proc/self/task")
    assert len(tasks) == 1, "a thread would be missing in what is forked"
    gc.collect()
    gc.freeze()


def serve(link: socket.socket) -> None:
    """Fork for each wish; returns in each child, as if the interpreter had just started, and never in the parent."""
    running: dict[int, tuple[int, int]] = {}
    while True:
        for ready in select.select([link, *running], [], [])[0]:
            if ready is not link:
                pid, tell = running.pop(ready)
                with suppress(BrokenPipeError):  # nobody wants to know
                    os.write(tell, str(os.waitpid(pid, 0)[1]).encode())
                os.close(tell)
                os.close(ready)
                continue
            wish, descriptors, _, _ = socket.recv_fds(link, 1 << 20, 4)
            if not wish:
                os._exit(0)
            pid = os.fork()
            if pid == 0:
                link.detach()
                become(json.loads(wish), descriptors[:3])
                return
            for each in descriptors[:3]:
                os.close(each)
            running[os.pidfd_open(pid)] = (pid, descriptors[3])
            link.send(str(pid).encode())


def become(wish: dict[str, Any], streams: list[int]) -> None:
    """Be what a bare start of `python -m mediacdn` would be."""
    if wish["session"]:
        os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.closerange(3, 4096)
    os.chdir(wish["cwd"])
    environ: dict[str, str] = wish["env"]
    os.environ.clear()
    os.environ.update(environ)
    sys.path[0] = wish["cwd"]
    sys.path[1:1] = [each for each in environ.get("PYTHONPATH", "").split(os.pathsep) if each and each not in sys.path]
    sys.pycache_prefix = environ.get("PYTHONPYCACHEPREFIX") or None
    sys.dont_write_bytecode = bool(environ.get("PYTHONDONTWRITEBYTECODE"))
    sys.argv = ["mediacdn", *wish["arguments"]]
    sys.stdin, sys.stdout, sys.stderr = (
        open(number, mode, buffering=1 if number == 2 or os.isatty(number) else -1, closefd=False)  # noqa: SIM115
        for number, mode in enumerate("rww")
    )


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    load()
    serve(socket.socket(fileno=int(sys.argv[1])))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from mediacdn.cli import main

    main(prog_name="mediacdn")
