"""The README's tour is pasted into a shell and works, and so are the scripts for callers and the configuration for operators; recipes are the files that are tested."""

import re
import subprocess
import sys
from base64 import b64encode
from pathlib import Path

import pytest

from mediacdn.config.loading import load
from mediacdn.plugins import Plugins
from tests.services.proxy import free_port, nginx
from tests.services.served import served

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
CALLERS = (ROOT / "mediacdn" / "README.md").read_text()
OPERATORS = (ROOT / "deploy" / "README.md").read_text()


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
    assert (ROOT / "tests" / "recipes" / name).read_text().strip() in CALLERS


def chapter(document: str, heading: str) -> str:
    level = heading.partition(" ")[0]
    assert f"\n{heading}\n" in document
    return document.partition(f"\n{heading}\n")[2].partition(f"\n{level} ")[0]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.S)


def test_the_scripts_for_callers(tmp_path: Path) -> None:
    """Titles, other services' URLs, an upload that is waited for, one that resumes, and the client's verbs."""
    (tmp_path / "film.mp4").write_bytes(b"\0\0\0\x18ftypisom\0\0\2\0isommp42\0\0\0\x10mdat" + bytes(8))
    (tmp_path / "benchmarks" / "plots").mkdir(parents=True)
    for copy in ("catalog.png", "benchmarks/plots/catalog.png"):
        (tmp_path / copy).write_bytes((ROOT / "benchmarks/plots/catalog.png").read_bytes())
    with served(tmp_path / "data", 'plugins = ["local", "jwt", "vips", "titles", "compat"]\n', arguments=()) as own:
        environ = {"PATH": "/usr/bin:/bin", "URL": own.url, "TOKEN": own.token("admin", "admin"), "HOME": str(tmp_path)}
        for heading, last in (
            ("## Titles", '"title":"Pilot"'),
            ("## Other services' URLs", '"presets":[]'),
            ("## Store, wait, show", '"status":"Completed"}'),
            ("## Uploads that resume", '"state":"done"'),
        ):
            script = "set -e\n" + "".join(blocks(chapter(CALLERS, heading), "sh"))
            done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60, env=environ)
            assert done.returncode == 0, done.stdout + done.stderr
            assert last in done.stdout
        (program,) = blocks(chapter(CALLERS, "## Store, wait, show"), "python")
        done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60, env=environ)
        assert done.returncode == 0, done.stderr
        assert re.fullmatch(r"READY http\S+/thumb\?exp=\S+\n", done.stdout)
    assert (tmp_path / "thumb.jpg").stat().st_size > 1000
    assert (tmp_path / "copy.png").read_bytes() == (tmp_path / "catalog.png").read_bytes()


def test_two_nodes_behind_one_nginx(tmp_path: Path) -> None:
    """The configuration loads, and nginx with the two changes reads from the node that is there."""
    text = chapter(OPERATORS, "### Two nodes behind one nginx")
    (toml,) = blocks(text, "toml")
    for name, secret in (
        ("mediacdn.toml", toml),
        ("database-url", "postgresql://u:p@db/media\n"),
        ("signing-k1", b64encode(bytes(32)).decode()),
    ):
        (tmp_path / name).write_text(secret)
        (tmp_path / name).chmod(0o600)
    config = load(tmp_path / "mediacdn.toml", {}).config
    assert (config.database.url, config.edge.bus, set(config.signing.keys)) == ("postgresql://u:p@db/media", "postgres", {"k1"})
    assert Plugins.load(config.plugins).driver("storage", config.storage["default"]["driver"])

    upstream, again = blocks(text, "nginx")

    def change(conf: str) -> str:
        conf, first = re.subn(r"(?ms)^    upstream mediacdn \{.*?^    \}\n", upstream, conf)
        conf, second = re.subn(r"(?m)^ *proxy_next_upstream off;\n", again, conf)
        assert (first, second) == (1, 1)
        return conf.replace("10.0.0.11:8400", own.url.removeprefix("http://")).replace("10.0.0.12:8400", f"127.0.0.1:{free_port()}")

    with served(tmp_path / "data") as own, nginx(tmp_path / "nginx", tmp_path / "absent", tmp_path, change) as proxy:
        assert [proxy.curl("/healthz", write="%{http_code}") for _ in range(4)] == [b"200"] * 4
