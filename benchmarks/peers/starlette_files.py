"""Starlette's FileResponse over the benchmark's files, for uvicorn: what one writes in an evening. `BENCH_FILES` is the folder, `BENCH_FILL` header bytes."""

import os
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Route

FILES = Path(os.environ["BENCH_FILES"])
HEADERS = {"Cache-Control": "public, max-age=86400, immutable", "X-Fill": os.environ["BENCH_FILL"]}


async def file(request: Request) -> FileResponse:
    """Send one file."""
    return FileResponse(FILES / request.path_params["name"], headers=HEADERS)


app = Starlette(routes=[Route("/{name}", file)])
