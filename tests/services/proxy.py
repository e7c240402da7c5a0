"""Proxies in front of a served test: the very files of deploy/ with this machine's addresses, paths and a certificate of the test's own in them."""

import datetime
import os
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

DEPLOY = Path(__file__).parents[2] / "deploy"
NAME = "cdn.example.org"


class Proxy:
    """A running proxy: its port of 127.0.0.1, the certificate that it shows, and the file of its access log."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.certificate = folder / "fullchain.pem"
        self.log = folder / "access.log"
        _certify(self.certificate, folder / "privkey.pem")

    @property
    def url(self) -> str:
        return f"https://{NAME}:{self.port}"

    @property
    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.certificate))

    def curl(self, path: str, *arguments: str, write: str | None = None) -> bytes:
        """What curl prints of a request to it."""
        command = ["curl", "-sS", "--max-time", "60", "--cacert", str(self.certificate), "--resolve", f"{NAME}:{self.port}:127.0.0.1"]
        command += [*arguments, *(["-o", os.devnull, "-w", write] if write else []), self.url + path]
        done = subprocess.run(command, capture_output=True, timeout=90, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def connect(self, *, receive_buffer: int = 0) -> ssl.SSLSocket:
        """A TLS connection that speaks HTTP/1.1."""
        plain = socket.socket()
        if receive_buffer:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        plain.settimeout(30)
        try:
            plain.connect(("127.0.0.1", self.port))
            return self.trust.wrap_socket(plain, server_hostname=NAME)
        except OSError:
            plain.close()
            raise


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


@contextmanager
def nginx(folder: Path, uds: Path, objects: Path, change: Callable[[str], str] = str) -> Iterator[Proxy]:
    """nginx with deploy/nginx.conf in front of the socket `uds`, sending the files of `objects`. `change` is what an operator does to the file."""
    folder.mkdir(parents=True)
    proxy = Proxy(folder)
    text = (DEPLOY / "nginx.conf").read_text()
    for there, here in (
        ("user mediacdn;", "user root root;" if os.geteuid() == 0 else ""),
        ("worker_processes auto;", "worker_processes 2; daemon off;"),
        ("worker_rlimit_nofile 65536;", ""),
        ("/run/nginx.pid", f"{folder}/nginx.pid"),
        ("/var/log/nginx/error.log", f"{folder}/error.log"),
        ("/var/log/nginx/access.log", str(proxy.log)),
        ("unix:/run/mediacdn/http.sock", f"unix:{uds}"),
        ("alias /var/lib/mediacdn/objects/", f"alias {objects}/"),
        ("/etc/ssl/cdn.example.org", str(folder)),
        ("listen 443 ssl http2;", f"listen 127.0.0.1:{proxy.port} ssl http2;"),
        ("listen [::]:443 ssl http2;", ""),
        ("listen 80;", f"listen unix:{folder}/plain.sock;"),
        ("listen [::]:80;", ""),
        (
            "    default_type",
            "".join(f"    {each}_temp_path {folder}/{each};\n" for each in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
            + "    default_type",
        ),
    ):
        assert text.count(there) >= 1, there
        text = text.replace(there, here)
    config = folder / "nginx.conf"
    config.write_text(change(text))
    command = ["nginx", "-p", str(folder), "-e", f"{folder}/error.log", "-c", str(config)]
    tested = subprocess.run([*command, "-t"], capture_output=True, text=True, timeout=30, check=False)
    assert tested.returncode == 0, tested.stderr
    with _running(command, proxy):
        yield proxy


@contextmanager
def caddy(folder: Path, uds: Path) -> Iterator[Proxy]:
    """Caddy with deploy/Caddyfile in front of the socket `uds`."""
    folder.mkdir(parents=True)
    proxy = Proxy(folder)
    text = (DEPLOY / "Caddyfile").read_text()
    for there, here in (
        ("\n{\n\tservers", "\n{\n\tadmin off\n\tauto_https off\n\tservers"),
        (f"\n{NAME} {{\n", f"\nhttps://{NAME}:{proxy.port} {{\n\tbind 127.0.0.1\n\ttls {folder}/fullchain.pem {folder}/privkey.pem\n"),
        ("\tlog {\n", f"\tlog {{\n\t\toutput file {proxy.log}\n"),
        ("unix//run/mediacdn/http.sock", f"unix/{uds}"),
    ):
        assert text.count(there) == 1, there
        text = text.replace(there, here)
    config = folder / "Caddyfile"
    config.write_text(text)
    environ = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    for verb in ("validate", "run"):
        command = ["caddy", verb, "--config", str(config), "--adapter", "caddyfile"]
        if verb == "validate":
            tested = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=30, check=False)
            assert tested.returncode == 0, tested.stderr
    with _running(command, proxy, environ):
        yield proxy


@contextmanager
def _running(command: list[str], proxy: Proxy, environ: dict[str, str] | None = None) -> Iterator[None]:
    with (proxy.folder / "output").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environ)
    try:
        _answers(process, proxy)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _answers(process: "subprocess.Popen[bytes]", proxy: Proxy) -> None:
    end = time.monotonic() + 20
    while True:
        try:
            proxy.connect().close()
            return
        except OSError:
            assert process.poll() is None, (proxy.folder / "output").read_text()
            assert time.monotonic() < end, "the proxy does not answer"
            time.sleep(0.05)


def _certify(certificate: Path, private: Path) -> None:
    """A certificate that vouches for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME), x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate.write_bytes(made.public_bytes(Encoding.PEM))
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
