"""Two plain Litestar handlers over the benchmark's files, for uvicorn: bytes out of a dict at /route, Litestar's own File at /file.

`BENCH_FILES` is the folder, `BENCH_FILL` header bytes. The dict holds every small file before the first request.
"""

import os
from pathlib import Path

from litestar import Litestar, Response, get
from litestar.response import File

FILES = Path(os.environ["BENCH_FILES"])
HEADERS = {"Cache-Control": "public, max-age=86400, immutable", "X-Fill": os.environ["BENCH_FILL"]}
BODIES = {file.name: file.read_bytes() for file in FILES.iterdir() if file.stat().st_size < 100_000}


@get("/route/{name:str}", media_type="application/octet-stream", sync_to_thread=False)
def route(name: str) -> Response[bytes]:
    """Give a body out of memory."""
    return Response(BODIES[name], headers=HEADERS)


@get("/file/{name:str}")
async def file(name: str) -> File:
    """Send one file."""
    return File(FILES / name, headers=HEADERS)


app = Litestar([route, file], openapi_config=None)
