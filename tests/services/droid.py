"""REDbot over one URL, in a process of its own because its event loop and its client are global to theirs."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from configparser import ConfigParser
from typing import Any


def examine(url: str, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    """`{status, supports, notes}`: the main request's status; whether `{ranges, etag, date}` work, null where that could not be told; and of all
    requests made the notes, each `{level, request, summary}` with level GOOD, INFO, WARN or BAD."""
    command = [sys.executable, __file__, url, *(f"{name}:{value}" for name, value in (headers or {}).items())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main(url: str, *fields: str) -> None:
    import thor
    from redbot.resource import HttpResource

    config = ConfigParser()
    config.read_dict({"redbot": {"enable_local_access": "True"}})
    resource = HttpResource(config["redbot"])
    resource.set_request(url, headers=[(name, value) for name, _, value in (field.partition(":") for field in fields)])
    resource.on("check_done", thor.stop)
    resource.check()
    thor.run()
    if resource.fetch_error is not None:
        raise SystemExit(f"{resource.fetch_error.desc}: {resource.fetch_error.detail}")

    def told(request: str, notes: Any) -> Iterator[dict[str, str]]:
        for note in notes:
            yield {"level": note.level.name, "request": request, "summary": note.summary}
            yield from told(request, note.subnotes)

    notes = list(told("main", resource.response.notes))
    for name, further in resource.subreqs.items():
        notes += told(name, further.response.notes)
    supports = {"ranges": resource.partial_support, "etag": resource.inm_support, "date": resource.ims_support}
    print(json.dumps({"status": resource.response.status_code, "supports": supports, "notes": notes}))


if __name__ == "__main__":
    main(*sys.argv[1:])
