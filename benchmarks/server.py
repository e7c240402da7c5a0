"""`mediacdn serve` as a benchmark runs it: the real command in a process of its own, its log in a file or nowhere, and the few requests that set it up."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from benchmarks import cores

TOML = """
plugins = {plugins}
[server]
log_level = "{level}"
log_format = "json"
{server}
[limits]
max_upload_size = 32_000_000_000
uploads_per_second = 0
"""


class Mediacdn:
    """A running server: `url`, `pid` and an admin's `client`. Without `log` only warnings are logged, which is what `access_log off` is elsewhere.

    `server` are further lines of the table [server], `toml` further tables; `plugins` are added to the ordinary ones; `workers` are server processes.
    """

    def __init__(
        self,
        data: Path,
        *,
        log: Path | None = None,
        server: str = "",
        toml: str = "",
        plugins: tuple[str, ...] = (),
        workers: int = 1,
        environ: Mapping[str, str] | None = None,
        interpreter: tuple[str, ...] = (),
    ) -> None:
        data.mkdir(parents=True, exist_ok=True)
        config = data / "mediacdn.toml"
        config.write_text(TOML.format(plugins=["local", "jwt", *plugins], level="info" if log else "warning", server=server) + toml)
        self.data = data
        self.config = config
        command = [sys.executable, *interpreter, "-m", "mediacdn", "serve", "--no-worker", "--port", "0", "--json"]
        command += ["--workers", str(workers)] if workers > 1 else []
        with open(log or os.devnull, "ab") as errors:
            self._process = subprocess.Popen(
                [*command, "--data", str(data), "--config", str(config)],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, **(environ or {})},
            )
        self.pid = self._process.pid
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"mediacdn did not start and ended with {self._process.wait(20)}")
        said = json.loads(line)
        self.url: str = said["url"]
        self.token = Path(said["token_file"]).read_text().strip()
        self.client = httpx.Client(base_url=self.url, timeout=300, trust_env=False, headers={"Authorization": f"Bearer {self.token}"})

    def upload(self, file: Path, **parameters: str) -> str:
        """Store a file; tells its id."""
        with file.open("rb") as body:
            answer = self.client.post("/v1/media", content=body, params=parameters)
        answer.raise_for_status()
        record: dict[str, Any] = answer.json()
        return str(record["id"])

    def signed(self, media: str) -> str:
        """A link of a day, as path and query."""
        answer = self.client.post(f"/v1/media/{media}/sign", json={"expires": 86400})
        answer.raise_for_status()
        url = httpx.URL(answer.json()["url"])
        return url.raw_path.decode()

    def read_token(self) -> str:
        """A token that reads any media and no more."""
        command = [sys.executable, "-m", "mediacdn", "token", "--data", str(self.data), "--config", str(self.config), "--scope", "read"]
        return subprocess.run([*command, "--expires", "12h"], check=True, capture_output=True, text=True).stdout.strip()

    def holders(self) -> int:
        """How many of its processes hold a client's connection now: a load meant for all of them has to reach all."""
        port = f":{urlsplit(self.url).port:04X}"
        lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        established = {f"socket:[{fields[9]}]" for fields in lines if fields[1].endswith(port) and fields[3] == "01"}
        return sum(bool(established & _links(pid)) for pid in cores.family(self.pid))

    def stop(self) -> None:
        self.client.close()
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(40)
        assert self._process.stdout is not None
        self._process.stdout.close()


def _links(pid: int) -> set[str]:
    found = set()
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found.add(os.readlink(each))
    return found
