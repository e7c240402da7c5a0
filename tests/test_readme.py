"""The README's tour is pasted into a shell and works; its recipes are the files that are tested."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.services.served import served

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_tour(tmp_path: Path) -> None:
    tour = README.partition("## A tour")[2].partition("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", tour, re.S)
    assert len(blocks) >= 5
    shown = re.findall(r"```text\n(.*?)```", tour, re.S)
    with served(tmp_path / "data") as own:
        script = "set -e\n" + "echo @@@@\n".join(blocks)
        script = script.replace("http://127.0.0.1:8400", own.url).replace(
            'PATH="$PWD/.venv/bin:$PATH"', f'PATH="{Path(sys.executable).parent}:$PATH"'
        )
        script = script.replace("benchmarks/plots/catalog.png", str(ROOT / "benchmarks/plots/catalog.png"))
        done = subprocess.run(
            ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=110, env={"PATH": "/usr/bin:/bin", "MEDIACDN_SERVER__DATA": str(own.data), "HOME": str(tmp_path)},
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout.split("@@@@\n")
    assert len(said) == len(blocks)
    printed = [each for each in said if each.strip()]
    assert len(printed) == len(shown), "a block prints what the README does not show, or the other way round"
    for ours, theirs in zip(shown, printed, strict=True):
        assert shape(ours) == shape(theirs)


def shape(text: str) -> list[str]:
    """What is stable of an output: status lines and codes, field names, members; not ids, times, signatures and sizes."""
    text = re.sub(r"sha-?256[=:][:=]?[\w+/=-]+:?", "SHA", text)
    text = re.sub(r"\b[0-9A-HJKMNP-TV-Z]{26}\b", "ULID", text)
    text = re.sub(r"http://[\d.:]+", "URL", text)
    text = re.sub(r'"(etag|digest|storage_etag|created_at|updated_at|upload_time|request_id|storage_key)":"[^"]*"', r'"\1":""', text)
    text = re.sub(r"(?im)^(date|last-modified|x-request-id|etag|repr-digest|content-length): .*$", r"\1:", text)
    text = re.sub(r'("size"|"links_valid_from"):\d+', r"\1:0", text)
    text = re.sub(r"(ttl=|edge;dur=|(?m:^age: ))[\d.]+", r"\1N", text)
    return [line.rstrip() for line in text.strip().splitlines()]


@pytest.mark.parametrize("name", ["sign.py", "sign.mjs", "sign.go", "sign.sh"])
def test_the_recipes_are_the_tested_files(name: str) -> None:
    assert (ROOT / "tests" / "recipes" / name).read_text().strip() in README


def test_the_tours_of_titles_and_of_other_services(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"\0\0\0\x18ftypisom\0\0\2\0isommp42\0\0\0\x10mdat" + bytes(8))
    with served(tmp_path / "data", 'plugins = ["local", "jwt", "vips", "titles", "compat"]\n') as own:
        for heading, last in (("### Titles", '"title":"Pilot"'), ("### Other services' URLs", '"presets":[]')):
            tour = README.partition(heading + "\n")[2].partition("\n### ")[0]
            script = f"set -e\nURL={own.url} TOKEN={own.token('admin', 'admin')}\n" + "".join(re.findall(r"```sh\n(.*?)```", tour, re.S))
            done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, done.stdout + done.stderr
            assert last in done.stdout
