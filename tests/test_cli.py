"""The command as people and programs use it: real processes, exit codes, JSON, terminals, and the worker beside the server."""

import hashlib
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import httpx
import pytest

import mediacdn.cli as cli
from mediacdn.cli import main
from mediacdn.cli.get import _proposed
from mediacdn.cli.serve import refuse_open_development
from mediacdn.cli.verb import Duration
from mediacdn.config import load
from mediacdn.errors import StartupError
from tests.services.command import COMMAND, Terminal, alive, answered, children, environment, run, within
from tests.services.program import Program
from tests.services.samples import png
from tests.services.served import Served, served

ID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
ROOM = {"MEDIACDN_LIMITS__MAX_UPLOAD_SIZE": "1000000000"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("cli") / "data", environ=ROOM) as running:
        yield running


@pytest.fixture
def near(server: Served) -> list[object]:
    """The options of a client verb that talks to the server with its data directory's token."""
    return ["--url", server.url, "--data", server.data]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    file = tmp_path / "picture.png"
    file.write_bytes(png(8, 8, str(tmp_path).encode()))
    return file


def leaves(command: click.Command = main, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if not isinstance(command, click.Group):
        yield path, command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        yield from leaves(found, (*path, name))


@pytest.mark.parametrize(("path", "command"), list(leaves()), ids=lambda each: " ".join(each) if isinstance(each, tuple) else "")
def test_every_verb_has_json_and_help(path: tuple[str, ...], command: click.Command) -> None:
    options = {option for parameter in command.params for option in parameter.opts}
    assert {"--json", "--config", "--data"} <= options
    assert command.help
    assert all(parameter.help for parameter in command.params if isinstance(parameter, click.Option) and not parameter.hidden)


def test_help_and_version_import_nothing_heavy() -> None:
    """What --help imports decides how long it takes; a quarter of it is the interpreter's own start."""
    script = """
import sys
from mediacdn.cli import main
main([sys.argv[1]], standalone_mode=False)
print(*sorted(sys.modules), file=sys.stderr)
"""
    for option in ("--help", "--version"):
        done = subprocess.run([sys.executable, "-c", script, option], capture_output=True, text=True, check=True, env=environment())
        heavy = {"aiohttp", "litestar", "sqlalchemy", "alembic", "rich", "uvicorn", "structlog", "asyncio", "cryptography", "jwt"}
        assert heavy & set(done.stderr.split()) == set()
    assert re.match(r"mediacdn \d+\.\d+", done.stdout)


def test_serve_imports_nothing_that_it_does_not_use(tmp_path: Path) -> None:
    with served(tmp_path / "data"):
        pass  # now there is nothing to migrate
    script = (
        "import sys\nfrom mediacdn.cli import main\nmain(sys.argv[1:], standalone_mode=False)\nprint(*sorted(sys.modules), file=sys.stderr)"
    )
    command = [sys.executable, "-c", script, "serve", "--port", "0", "--no-worker", "--json", "--data", str(tmp_path / "data")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 0
    assert {"aiohttp", "alembic", "mediacdn.client", "mediacdn.cli.put"} & set(said.split()) == set()
    assert "litestar" in said.split()


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["nonsense"], 2, "No such command"),
        (["serve", "--workers", "257"], 2, "--workers"),
        (["serve", "--workers", "0"], 2, "--workers"),
        (["serve", "--port", "70000"], 2, "--port"),
        (["serve", "--config", "/nowhere.toml"], 2, "/nowhere.toml"),
        (["serve", "--host", "0.0.0.0"], 1, "the development key serves loopback only"),
        (["serve", "--host", "::"], 1, "the development key serves loopback only"),
        (["token"], 2, "--scope"),
        (["token", "--scope", "root"], 2, "'root' is not one of"),
        (["token", "--scope", "read", "--expires", "1y"], 2, "not a duration"),
        (["token", "--scope", "read", "--sub", ""], 1, "subject"),
        (["sign", "short"], 2, "not a media id"),
        (["sign", ID.lower()], 2, "not a media id"),
        (["sign", ID, "--expires", "8d"], 1, "signing.max_expires"),
        (["put"], 2, "FILE"),
        (["put", "/nowhere.png"], 2, "/nowhere.png"),
        (["get"], 2, "ID"),
        (["purge"], 2, "exactly one of the three"),
        (["purge", ID, "--all"], 2, "exactly one of the three"),
        (["purge", "--all", "--tag", "x"], 2, "exactly one of the three"),
        (["get", ID, "-o", "-", "--json"], 2, "not both"),
        (["get", ID, "-o", "x", "--url", "ftp://h"], 1, "is not a server's URL"),
        (["get", ID, "-o", "x", "--url", "http://127.0.0.1:9"], 1, "Connection refused"),
        (["keys", "turn"], 2, "No such command"),
        (["gc"], 1, "run `mediacdn migrate`"),
        (["worker"], 1, "run `mediacdn migrate`"),
    ],
)
def test_exit_codes_and_sentences(tmp_path: Path, arguments: list[str], code: int, sentence: str) -> None:
    if arguments[0] not in ("nonsense", "keys"):
        arguments = [*arguments, "--data", str(tmp_path / "data")]
    done = run(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (code, ""), done.stdout + done.stderr
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_a_failure_with_json_is_json(tmp_path: Path) -> None:
    told = answered("sign", ID, "--expires", "8d", "--data", tmp_path, code=1)
    assert told["error"]["code"] == "invalid_parameter"


def test_a_wrong_key_is_named(tmp_path: Path) -> None:
    file = tmp_path / "mediacdn.toml"
    file.write_text("[server]\nprot = 1\n")
    done = run("config", "--config", file)
    assert done.returncode == 1
    assert "server.prot" in done.stderr
    assert "port" in done.stderr


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("1h", 3600), ("7d", 604800), ("2w", 1209600)])
def test_durations(text: str, seconds: int) -> None:
    assert Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5h", "h", "1y", "\u0661", "9999999999"])
def test_no_durations(text: str) -> None:
    with pytest.raises(click.BadParameter):
        Duration().convert(text, None, None)


JWT = "[auth.jwt]\nissuer = 'https://id.example.org'\njwks_url = 'https://id.example.org/jwks'\n"


@pytest.mark.parametrize(
    ("toml", "refused"),
    [
        ("[server]\nhost = '0.0.0.0'", True),
        ("[server]\nhost = '192.0.2.1'", True),
        ("[server]\nhost = 'media.example.org'", True),
        ("[server]\nhost = '::ffff:0.0.0.0'", True),
        ("[server]\nhost = '127.9.9.9'", False),
        ("[server]\nhost = '::1'", False),
        ("[server]\nhost = 'localhost'", False),
        ("[server]\nhost = '0.0.0.0'\nuds = '/run/m.sock'", False),  # the socket is listened on in the host's stead
        ("[server]\nhost = '0.0.0.0'\n" + JWT, False),
        ("[server]\nhost = '0.0.0.0'\n[auth.jwt]\nleeway = 10", True),
    ],
)
def test_the_development_key_stays_on_this_machine(tmp_path: Path, toml: str, refused: bool) -> None:
    file = tmp_path / "mediacdn.toml"
    file.write_text(toml)
    config = load(file, {}).config
    if refused:
        with pytest.raises(StartupError, match="loopback only"):
            refuse_open_development(config)
    else:
        refuse_open_development(config)


def test_serve_says_where_it_is_in_one_line(server: Served) -> None:
    """The line that programs wait for; `served` has read it."""
    assert server.said.keys() == {"url", "pid", "data", "token_file"}
    assert server.said["pid"] == server.process.pid
    file = Path(server.said["token_file"])
    assert file == server.data.absolute() / "keys" / "admin.token"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(server.data.stat().st_mode) == 0o700
    bearer = {"Authorization": f"Bearer {file.read_text().strip()}"}
    assert server.client.get("/metrics", headers={"X-Forwarded-For": "192.0.2.1", **bearer}).status_code in (200, 401)
    assert server.client.get(f"/v1/media/{ID}/explain", headers=bearer).status_code == 404  # an admin's 404, not a 403


@pytest.mark.parametrize(("toml", "key"), [("policy = 'nonsense'", "edge.policy"), ("bus = 'nonsense'", "edge.bus")])
def test_a_driver_that_is_not_there_is_a_sentence_and_no_traceback(tmp_path: Path, toml: str, key: str) -> None:
    (tmp_path / "m.toml").write_text(f"[edge]\n{toml}\n")
    done = run("serve", "--port", 0, "--no-worker", "--data", tmp_path / "data", "--config", tmp_path / "m.toml")
    assert done.returncode == 1
    assert f"mediacdn: {key}: no loaded plugin brings" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_taken_port_is_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = run("serve", "--port", taken.getsockname()[1], "--data", tmp_path / "data", "--no-worker")
    assert done.returncode == 1
    assert re.search(r"^mediacdn: cannot listen on 127\.0\.0\.1 port \d+: Address already in use$", done.stderr, re.MULTILINE)
    assert "Traceback" not in done.stderr


def test_one_server_for_one_data_directory(server: Served) -> None:
    done = run("serve", "--port", "0", "--data", server.data)
    assert (done.returncode, done.stdout) == (1, "")
    assert "another server already serves the data directory" in done.stderr


def test_serve_on_a_socket(tmp_path: Path, picture: Path) -> None:
    path = tmp_path / "s"
    process = Program(
        ["serve", "--uds", str(path), "--data", str(tmp_path / "data"), "--json", "--no-worker"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment(),
    )  # fmt: skip
    assert process.stdout is not None
    try:
        assert json.loads(process.stdout.readline())["url"] == f"unix:{path}"
        [outcome] = answered("put", picture, "--url", f"unix:{path}", "--data", tmp_path / "data")
        assert outcome["record"]["size"] == picture.stat().st_size
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        process.stdout.close()
    assert not path.exists()


def banner_of(arguments: list[object], cwd: Path) -> tuple[subprocess.Popen[str], str]:
    process = Program(
        [str(each) for each in arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment(), cwd=cwd
    )
    assert process.stdout is not None
    text = ""
    while "copy.jpg" not in text:
        line = process.stdout.readline()
        assert line, "the server ended"
        text += line
    return process, text


def test_the_banner_can_be_pasted(tmp_path: Path) -> None:
    """Its lines run as they stand, ID and URL filled in from the answers; the token is not on a pipe."""
    data = tmp_path / "my data"
    (tmp_path / "photo.jpg").write_bytes(png(4, 4, b"banner"))
    process, text = banner_of(["serve", "--port", 0, "--data", data, "--no-worker"], tmp_path)
    try:
        token = (data / "keys" / "admin.token").read_text().strip()
        assert token not in text
        assert str(data / "keys" / "admin.token") in text
        token_line, upload, sign, fetch = (line.strip() for line in text.splitlines() if line.startswith("  "))

        def paste(line: str) -> str:
            done = subprocess.run(["bash", "-c", f"{token_line}\n{line}"], capture_output=True, text=True, check=True, cwd=tmp_path)
            return done.stdout

        record = json.loads(paste(upload))
        signed = json.loads(paste(sign.replace("/ID/", f"/{record['id']}/")))
        paste(fetch.replace("URL'", f"{signed['url']}'"))
        assert (tmp_path / "copy.jpg").read_bytes() == (tmp_path / "photo.jpg").read_bytes()
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert process.stdout is not None
        process.stdout.close()


def test_on_a_terminal_the_banner_holds_the_token(tmp_path: Path) -> None:
    terminal = Terminal("serve", "--port", 0, "--data", tmp_path / "data", "--no-worker")
    screen = terminal.until("copy.jpg")
    token = (tmp_path / "data" / "keys" / "admin.token").read_text().strip()
    assert f"\n  {token}\n" in screen
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.end() == 0
    assert "Traceback" not in terminal.screen


def test_without_a_development_key_the_banner_has_no_token(tmp_path: Path) -> None:
    toml = "[auth.jwt]\nissuer = 'https://id.example.org'\njwks_url = 'https://127.0.0.1:9/jwks'\njwks_allow = ['127.0.0.0/8']\n"
    with served(tmp_path / "data", toml) as server:
        assert server.said["token_file"] is None
    done = run("token", "--scope", "read", "--data", tmp_path / "data", "--config", tmp_path / "data" / "mediacdn.toml")
    assert done.returncode == 1
    assert "Authentication Service" in done.stderr


def worker_of(server: Served, other_than: int = 0) -> int:
    """The pid of the server's worker, once it is past its start."""

    def found() -> int:
        for pid in children(server.process.pid):
            if pid != other_than and "worker" in Path(f"/proc/{pid}/cmdline").read_text().split("\0"):
                return pid
        return 0

    return int(within(15, found))


def test_the_worker_lives_and_dies_with_its_server(tmp_path: Path) -> None:
    with served(tmp_path / "data", arguments=()) as server:
        first = worker_of(server)
        os.kill(first, signal.SIGKILL)
        second = worker_of(server, other_than=first)
        assert second != first
        assert any("the worker ended with -9" in line for line in server.log)
        server.kill()
        within(15, lambda: not alive(second))
        server.start()
        third = worker_of(server)
        assert server.stop() == 0
        assert not alive(third)


def test_a_worker_alone_ends_in_order(tmp_path: Path) -> None:
    assert answered("migrate", "--data", tmp_path)["applied"]
    process = Program(["worker", "--data", str(tmp_path), "--json"], stdout=subprocess.PIPE, text=True, env=environment())
    assert process.stdout is not None
    assert json.loads(process.stdout.readline()) == {"worker": "started", "pid": process.pid}
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    process.stdout.close()


def test_token_scopes(server: Served, picture: Path) -> None:
    def status(scope: str, method: str, path: str, **more: Any) -> int:
        return server.client.request(method, path, headers=server.auth("eve", scope), **more).status_code

    told = answered("token", "--scope", "read", "--sub", "eve", "--expires", "2m", "--data", server.data)
    assert {"sub": "eve", "scope": "read"}.items() <= told.items()
    assert run("token", "--scope", "read", "--data", server.data).stdout.count(".") == 2
    body = picture.read_bytes()
    assert [status(scope, "POST", "/v1/media", content=body) for scope in ("read", "write", "admin")] == [403, 201, 200]
    assert [status(scope, "GET", f"/v1/media/{ID}/explain") for scope in ("read", "write", "admin")] == [403, 403, 404]


def put(near: list[object], *arguments: object, code: int = 0) -> Any:
    return answered("put", *arguments, *near, code=code)


def test_put_and_get(near: list[object], picture: Path, tmp_path: Path) -> None:
    [first] = put(near, picture, "--title", "T", "--tags", "a,b", "--verify")
    assert (first["duplicate"], first["record"]["title"], first["record"]["tags"]) == (False, "T", ["a", "b"])
    assert first["record"]["digest"] == hashlib.sha256(picture.read_bytes()).hexdigest()
    [second] = put(near, picture)
    assert (second["duplicate"], second["id"], second["url"]) == (True, first["id"], first["url"])
    done = run("put", picture, "--public", *near)
    assert re.fullmatch(rf"{ID[:2]}\w{{24}}  {re.escape(str(near[1]))}/v1/media/\w+\n", done.stdout)
    assert httpx.get(done.stdout.split()[1]).content == picture.read_bytes()
    assert run("put", picture, "--title", "other", *near).stderr.count("keeps its own title") == 1
    target = tmp_path / "copy.png"
    told = answered("get", first["id"], "-o", target, *near)
    assert told == {"file": str(target), "size": target.stat().st_size, "digest": first["record"]["digest"], "resumed_at": 0}
    assert target.read_bytes() == picture.read_bytes()


def test_get_takes_the_medias_name_and_never_overwrites(near: list[object], tmp_path: Path) -> None:
    file = tmp_path / "größe \u2603.png"
    file.write_bytes(png(8, 8, str(file).encode()))
    [outcome] = put(near, file)
    folder = tmp_path / "here"
    folder.mkdir()
    assert run("get", outcome["id"], *near, cwd=folder).returncode == 0
    assert os.listdir(folder) == [file.name]
    again = run("get", outcome["id"], *near, cwd=folder)
    assert again.returncode == 1
    assert "already there" in again.stderr


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('inline; filename="a.png"', "a.png"),
        ("attachment; filename=\"_.png\"; filename*=UTF-8''%E2%98%83.png", "☃.png"),  # RFC 6266 section 4.3: the extended one wins
        ('attachment; filename="../../etc/passwd"', "passwd"),
        ("attachment; filename*=UTF-8''..%2F..%2Fetc%2Fpasswd", "passwd"),
        ('attachment; filename="a\\\\..\\\\b"', "b"),
        ('attachment; filename=".bashrc"', "bashrc"),
        ("attachment; filename*=UTF-8''a%0A%1B%5B31m.png", "a__[31m.png"),
        ('attachment; filename=".."', ""),
        ("attachment", ""),
    ],
)
def test_a_proposed_name_stays_in_the_folder(disposition: str, name: str) -> None:
    assert _proposed(disposition) == name


def test_get_goes_on_with_a_part(near: list[object], picture: Path, tmp_path: Path) -> None:
    [outcome] = put(near, picture)
    content = picture.read_bytes()
    (tmp_path / "copy.png.part").write_bytes(content[:20])
    assert answered("get", outcome["id"], "-o", tmp_path / "copy.png", *near)["resumed_at"] == 20
    assert (tmp_path / "copy.png").read_bytes() == content
    (tmp_path / "copy.png.part").write_bytes(content[:20])
    assert answered("get", outcome["id"], "-o", tmp_path / "copy.png", "--restart", *near)["resumed_at"] == 0


def test_get_to_standard_output(near: list[object], picture: Path) -> None:
    [outcome] = put(near, picture)
    command = [*COMMAND, "get", outcome["id"], "-o", "-", *map(str, near)]
    done = subprocess.run(command, capture_output=True, check=True, env=environment())
    assert done.stdout == picture.read_bytes()


def test_after_a_failure_the_other_files_still_go(near: list[object], picture: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong\x1b[31m.jpg"
    wrong.write_bytes(b"plain text")
    outcomes = put(near, wrong, picture, "--type", "image/png", code=1)
    assert [each.get("error", {}).get("code") for each in outcomes] == ["type_mismatch", None]
    done = run("put", wrong, "--type", "image/png", *near)
    assert (done.returncode, done.stdout) == (1, "")
    assert "\x1b" not in done.stderr


def test_where_the_token_comes_from(server: Served, picture: Path, tmp_path: Path) -> None:
    elsewhere = ["--url", server.url, "--data", tmp_path / "none"]
    done = run("put", picture, *elsewhere)
    assert done.returncode == 1
    assert "Give a token" in done.stderr
    assert run("get", ID, "-o", tmp_path / "x", *elsewhere).returncode == 1
    token = server.token("zoe", "write")
    assert run("put", picture, *elsewhere, "--token", token).returncode == 0
    done = run("put", picture, "--data", tmp_path / "none", environ={"MEDIACDN_TOKEN": token, "MEDIACDN_URL": server.url})
    assert done.returncode == 0, done.stderr


def test_the_admin_token_is_not_sent_elsewhere(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    from mediacdn.cli.server import client

    monkeypatch.delenv("MEDIACDN_TOKEN", raising=False)
    assert client(server.url, None, None, server.data)._transport._token
    for url in ("http://media.example.org", "https://192.0.2.1:8400", "http://127.0.0.1.example.org"):
        assert client(url, None, None, server.data)._transport._token is None


def test_long_transfers_show_a_bar(near: list[object], tmp_path: Path) -> None:
    file = tmp_path / "long.bin"
    file.write_bytes(os.urandom(20_000_000))
    terminal = Terminal("put", file, *near)
    assert terminal.end() == 0, terminal.screen
    assert "long.bin" in terminal.screen
    assert re.search(r"20\.0/20\.0 MB", terminal.screen)
    assert re.search(r"[kMG]B/s", terminal.screen)
    media_id = re.search(r"\n?(01\w{24})  http", terminal.screen)
    assert media_id is not None
    terminal = Terminal("get", media_id[1], "-o", tmp_path / "copy.bin", *near)
    assert terminal.end() == 0, terminal.screen
    assert re.search(r"20\.0/20\.0 MB", terminal.screen)
    assert (tmp_path / "copy.bin").read_bytes() == file.read_bytes()
    piped = run("get", media_id[1], "-o", tmp_path / "copy.bin", *near)
    assert piped.stderr == ""


def peak_of(arguments: list[object]) -> int:
    """Run a verb and give the most memory that it held, bytes."""
    process = subprocess.Popen([*COMMAND, *map(str, arguments)], stdout=subprocess.DEVNULL, env=environment())
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_maxrss * 1024


def test_transfers_take_constant_memory(near: list[object], picture: Path, tmp_path: Path) -> None:
    large = tmp_path / "large.bin"
    with large.open("wb") as file:
        file.write(os.urandom(64))
        file.truncate(300_000_000)
    small_peak = peak_of(["put", picture, *near])
    assert peak_of(["put", large, *near]) - small_peak < 32_000_000
    [outcome] = put(near, large)
    assert outcome["duplicate"]
    [small] = put(near, picture)
    small_peak = peak_of(["get", small["id"], "-o", tmp_path / "small", *near])
    assert peak_of(["get", outcome["id"], "-o", tmp_path / "copy", *near]) - small_peak < 32_000_000


@pytest.mark.parametrize("prefix", [False, True])
def test_sign_opens(server: Served, near: list[object], picture: Path, prefix: bool) -> None:
    [outcome] = put(near, picture)
    told = answered(
        "sign", outcome["id"], "--data", server.data, "--base", server.url, "--expires", "1m", *(["--prefix"] if prefix else [])
    )
    assert httpx.get(told["url"]).content == picture.read_bytes()
    assert httpx.get(told["url"].replace("exp=", "exp=1").replace(".17", ".18")).status_code == 403
    plain = run("sign", outcome["id"], "--data", server.data).stdout
    assert plain.startswith(f"http://127.0.0.1:8400/v1/media/{outcome['id']}?exp=")


@pytest.mark.parametrize(
    ("toml", "arguments", "start"),
    [
        ("", [], f"http://127.0.0.1:8400/v1/media/{ID}?exp="),
        ("[server]\npublic_url = 'https://cdn.example.org'\nbase_path = '/m'", [], f"https://cdn.example.org/m/v1/media/{ID}?exp="),
        ("[server]\nhost = '::1'\nport = 1", [], f"http://[::1]:1/v1/media/{ID}?exp="),
        ("", ["--variant", "thumb"], f"http://127.0.0.1:8400/v1/media/{ID}/thumb?exp="),
        ("", ["--variant", "w=320,h=240"], f"http://127.0.0.1:8400/v1/media/{ID}/v/w=320,h=240?exp="),
        ("", ["--base", "https://h/x/"], f"https://h/x/v1/media/{ID}?exp="),
        ("", ["--prefix", "--variant", "w=320"], "http://127.0.0.1:8400/s/p1."),
    ],
)
def test_the_address_of_a_signed_link(tmp_path: Path, toml: str, arguments: list[str], start: str) -> None:
    (tmp_path / "m.toml").write_text(toml)
    assert run("sign", ID, *arguments, "--config", tmp_path / "m.toml", "--data", tmp_path).stdout.startswith(start)


def test_keys_rotate_under_a_running_server(server: Served, near: list[object], picture: Path) -> None:
    [outcome] = put(near, picture)
    where = ["--data", server.data]
    old = answered("sign", outcome["id"], "--base", server.url, *where)["url"]
    kid = answered("keys", "rotate", *where)["kid"]
    assert [each["kid"] for each in answered("keys", "list", *where) if each["current"]] == [kid]
    assert f"* {kid}" in run("keys", "list", *where).stdout
    new = answered("sign", outcome["id"], "--base", server.url, *where)["url"]
    assert [httpx.get(url).status_code for url in (old, new)] == [200, 200]
    assert len(answered("keys", "rotate", "--keep", "0", *where)["dropped"]) == 2
    within(5, lambda: httpx.get(new).status_code == 403)


def test_plugins_are_listed(tmp_path: Path) -> None:
    told = answered("plugins", "--data", tmp_path)
    assert {each["name"]: each["drivers"] for each in told} == {
        "local": ["storage:local"],
        "jwt": ["authenticator:jwt"],
        "vips": ["action:image", "action:image-facts"],
        "pdf": ["action:pdf-facts", "action:pdf-page", "action:pdf-text"],
    }
    assert "storage:local" in run("plugins").stdout
    (tmp_path / "m.toml").write_text("plugins = ['local', 'jtw']")
    done = run("plugins", "--config", tmp_path / "m.toml")
    assert done.returncode == 1
    assert "did you mean 'jwt'?" in done.stderr


def test_config_tells_sources_and_no_secrets(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text(
        "[database]\nurl = 'postgresql://u:hunter2@h/db'\n[signing]\nkeys = {k1 = 'aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMmh1bnRlcjI='}"
    )
    arguments = ["config", "--config", tmp_path / "m.toml", "--data", tmp_path]
    told = answered(*arguments, environ={"MEDIACDN_SERVER__PORT": "9000"})
    assert told["config"]["server"]["port"] == 9000
    sources = told["sources"]
    assert sources["server.port"] == "MEDIACDN_SERVER__PORT"
    assert sources["server.data"] == "command line"
    assert sources["server.host"] == "default"
    assert sources["database.url"] == str(tmp_path / "m.toml")
    text = run(*arguments).stdout
    assert re.search(r"^server\.host = \"127\.0\.0\.1\" +# default$", text, re.MULTILINE)
    for secret in ("hunter2", "aHVudGVy"):
        assert secret not in text + json.dumps(told)
    changed = answered(*arguments, "--changed")
    assert set(changed["config"]) == {"server.data", "database.url", "signing.keys.k1"}


def test_migrate_tells_what_it_did(tmp_path: Path) -> None:
    assert answered("migrate", "--check", "--data", tmp_path, code=1) == {"pending": True, "applied": []}
    assert not (tmp_path / "catalog.sqlite3").exists()
    assert answered("migrate", "--data", tmp_path)["applied"]
    assert answered("migrate", "--data", tmp_path) == {"pending": False, "applied": []}
    assert run("migrate", "--check", "--data", tmp_path).stdout == "nothing to do\n"


def test_explain(server: Served, near: list[object], picture: Path) -> None:
    [outcome] = put(near, picture)
    told = answered("explain", outcome["id"], *near)
    assert told["reads"]["anonymous"] == "401 unauthorized"
    text = run("explain", outcome["id"], *near).stdout
    assert re.search(r"^  anonymous: +401 unauthorized$", text, re.MULTILINE)
    assert run("explain", outcome["id"], "--url", server.url, "--token", server.token()).returncode == 1
    assert answered("explain", ID, *near, code=1)["error"]["code"] == "not_found"


def test_explain_names_the_rule_of_the_cache(tmp_path: Path, picture: Path) -> None:
    rules = '[[edge.rules]]\ntype = "video/*"\n[[edge.rules]]\nname = "small"\nmax_size = 100000\ntiers = ["memory"]\nttl = 90\n'
    with served(tmp_path / "data", rules) as server:
        near: list[object] = ["--url", server.url, "--data", server.data]
        [outcome] = put(near, picture)
        text = run("explain", outcome["id"], *near).stdout
    for line in (
        "cache:",
        "  rule:             small",
        "  because:          max_size 100000",
        "  passed over:      1 (type video/*)",
        "  ttl:              90",
    ):
        assert f"\n{line}\n" in text, text
    assert "\n  cache control:    private, max-age=60\n" in text


def test_purge(server: Served, near: list[object], picture: Path) -> None:
    [outcome] = put(near, picture, "--tags", "to-purge")

    def generation() -> int:
        return int(answered("explain", outcome["id"], *near)["generation"])

    before = generation()
    assert answered("purge", outcome["id"], ID, *near) == {"purged": 1}
    assert run("purge", "--tag", "to-purge", "--tag", "none", *near).stdout == "1 media purged\n"
    assert generation() == before + 2
    assert run("purge", "--all", *near).stdout == "everything purged\n"
    assert run("get", outcome["id"], "-o", picture.with_suffix(".copy"), *near).returncode == 0
    assert answered("purge", ID, "--url", server.url, "--token", server.token(), code=1)["error"]["code"] == "insufficient_scope"


def test_gc_removes_what_a_crash_left(tmp_path: Path) -> None:
    config = "[lifecycle]\nabandoned_after = 1\nsweep_every = 3600.0\n"
    with served(tmp_path / "data", config) as server:
        port = int(server.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as upload:
            head = f"POST /v1/media HTTP/1.1\r\nHost: x\r\nContent-Length: 5000000\r\nAuthorization: Bearer {server.token()}\r\n\r\n"
            upload.sendall(head.encode() + png(8, 8, b"gc") + bytes(3_000_000))
            within(10, lambda: [each for each in (server.data / "objects").rglob("*") if each.is_file()])
            options = ["--data", server.data, "--config", tmp_path / "data" / "mediacdn.toml"]
            # The intent is written while the bytes arrive: a server killed before it stands leaves no row to find, only a staging file without a lock.
            found = within(30, lambda: answered("gc", "--dry-run", *options)["objects"])
            server.kill()
        assert answered("gc", *options) == {"dry_run": False, "objects": found}
        assert answered("gc", *options)["objects"] == []
        assert [each for each in (server.data / "objects").rglob("*") if each.is_file()] == []
        assert "0 objects would be removed" in run("gc", "--dry-run", *options).stdout


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory that a server could be started on, to be copied and harmed."""
    data = tmp_path_factory.mktemp("kept") / "data"
    data.mkdir(mode=0o700)
    for arguments in (["migrate"], ["token", "--scope", "read"], ["sign", ID]):
        assert run(*arguments, "--data", data).returncode == 0
    (data / "m.toml").write_text("")
    return data


def findings(*arguments: object, code: int = 0, environ: dict[str, str] | None = None) -> dict[str, str]:
    told = answered("doctor", *arguments, code=code, environ=environ)
    assert told["healthy"] == (code == 0)
    assert all(each["fix"] for each in told["findings"] if each["state"] != "ok")
    return {each["part"]: each["state"] for each in told["findings"]}


def test_doctor_finds_a_served_directory_healthy(server: Served) -> None:
    states = findings("--data", server.data)
    parts = (
        "configuration",
        "uvloop",
        "open files",
        "clock",
        "decoders",
        "data directory",
        "free room",
        "keys",
        "plugins",
        "catalog",
        "storage default",
        "auth jwt",
        "actions",
        "libvips",
        "edge directory",
    )
    assert tuple(states) == parts
    assert {state for part, state in states.items() if part not in ("open files", "free room")} == {"ok"}
    before = set(server.data.rglob("*"))
    done = run("doctor", "--data", server.data)
    assert done.returncode == 0
    assert "an object was put, read and deleted" in done.stdout
    assert re.search(r"libvips .*\d+\.\d+\.\d+, which reads JPEG, PNG, WebP, GIF, TIFF, AVIF", done.stdout)
    assert {each for each in set(server.data.rglob("*")) - before if each.is_file()} == set()


@pytest.mark.parametrize(
    ("harm", "part", "state"),
    [
        ("chmod 644 keys/signing.json", "keys", "fail"),
        ("chmod 777 .", "data directory", "fail"),
        ("rm catalog.sqlite3*", "catalog", "warn"),
        ("rm catalog.sqlite3*; echo nonsense-nonsense-nonsense > catalog.sqlite3", "catalog", "fail"),
        ("rm -r objects; echo > objects", "storage default", "fail"),
        ("echo nonsense > keys/development.pem", "auth jwt", "fail"),
        ("printf '[server]\\nhost = \"0.0.0.0\"' > m.toml", "development key", "fail"),
        ("printf 'plugins = [\"local\"]' > m.toml", "auth jwt", "fail"),
        ("printf 'plugins = [\"nonsense\"]' > m.toml", "plugins", "fail"),
        (
            'printf \'plugins = ["local", "jwt", "ffmpeg"]\\n[recipes]\\n%s\' "$(printf \'%s = {ffmpeg = "/nonsense"}\\n\' hls mp4 opus)" > m.toml',
            "ffmpeg",
            "fail",
        ),
        ("printf 'nonsense = 1' > m.toml", "configuration", "fail"),
        ("printf '[database]\\nurl = \"postgresql://u@127.0.0.1:9/x\"' > m.toml", "catalog", "fail"),
        ("echo > file; printf '[edge]\\ndirectory = \"file/edge\"' > m.toml", "edge directory", "fail"),
        ("printf '[edge]\\npolicy = \"nonsense\"' > m.toml", "edge policy", "fail"),
        ("printf '[edge]\\nbus = \"nonsense\"' > m.toml", "edge bus", "fail"),
    ],
)
def test_doctor_names_what_is_wrong(tmp_path: Path, kept: Path, harm: str, part: str, state: str) -> None:
    data = shutil.copytree(kept, tmp_path / "data")
    subprocess.run(harm, shell=True, check=True, cwd=data)
    states = findings("--data", data, "--config", data / "m.toml", code=int(state == "fail"))
    assert states[part] == state


def test_doctor_asks_the_authentication_service(tmp_path: Path, kept: Path) -> None:
    data = shutil.copytree(kept, tmp_path / "data")
    (data / "m.toml").write_text("[auth.jwt]\nissuer = 'i'\njwks_url = 'http://127.0.0.1:9/jwks'\njwks_allow = ['127.0.0.0/8']\n")
    assert findings("--data", data, "--config", data / "m.toml", code=1)["auth jwt"] == "fail"


def test_doctor_changes_nothing_where_nothing_is(tmp_path: Path) -> None:
    assert findings("--data", tmp_path / "none")["data directory"] == "warn"
    assert not (tmp_path / "none").exists()


def test_doctor_makes_no_storages_folder(tmp_path: Path, kept: Path) -> None:
    """Which would be the user's who asked, and not the service's."""
    data = shutil.copytree(kept, tmp_path / "data")
    (data / "m.toml").write_text(f"[storage.default]\ndriver = 'local'\ndirectory = '{tmp_path}/media'\n")
    assert findings("--data", data, "--config", data / "m.toml")["storage default"] == "warn"
    assert not (tmp_path / "media").exists()


def test_the_verbs_are_the_files() -> None:
    """A verb without a file would be an internal error at its call."""
    for verb in cli.VERBS:
        assert main.get_command(click.Context(main), verb) is not None
