"""`mediacdn serve` as a benchmark runs it: the real command in a process of its own, its log in a file or nowhere, and the few requests that set it up."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx

TOML = """
[server]
log_level = "{level}"
log_format = "json"
[limits]
max_upload_size = 32_000_000_000
uploads_per_second = 0
"""


class Mediacdn:
    """A running server: `url`, `pid` and an admin's `client`. Without `log` only warnings are logged, which is what `access_log off` is elsewhere."""

    def __init__(self, data: Path, *, log: Path | None = None, toml: str = "", interpreter: tuple[str, ...] = ()) -> None:
        data.mkdir(parents=True, exist_ok=True)
        config = data / "mediacdn.toml"
        config.write_text(TOML.format(level="info" if log else "warning") + toml)
        self.data = data
        self.config = config
        command = [sys.executable, *interpreter, "-m", "mediacdn", "serve", "--no-worker", "--port", "0", "--json"]
        with open(log or os.devnull, "ab") as errors:
            self._process = subprocess.Popen(
                [*command, "--data", str(data), "--config", str(config)], stdout=subprocess.PIPE, stderr=errors, text=True
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

    def stop(self) -> None:
        self.client.close()
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(40)
        assert self._process.stdout is not None
        self._process.stdout.close()
