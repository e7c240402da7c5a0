"""The sockets that the server listens on: a host and port, or a path; bound before anything else is opened, so that a taken port refuses the start early."""

import os
import socket
import stat
from contextlib import suppress

from mediacdn.config import Server
from mediacdn.errors import StartupError

BACKLOG = 2048
UDS_MODE = 0o660
"""Who may connect to the unix socket: the server's user and group. A proxy of another user joins the group, or the folder is made setgid."""


class Listener:
    """Listening sockets and where they are: `slots` has a list for each process, `bound` is "http://HOST:PORT" with the real port, or "unix:PATH"."""

    def __init__(self, slots: list[list[socket.socket]], bound: str, path: str | None = None) -> None:
        self.slots = slots
        self.bound = bound
        self._path = path
        self._inode = os.stat(path).st_ino if path else 0

    @property
    def sockets(self) -> list[socket.socket]:
        """Those of the first process."""
        return self.slots[0]

    @property
    def shared(self) -> bool:
        """Whether all processes accept on the same sockets."""
        return self._path is not None

    def let_go(self) -> None:
        """Close this process' descriptors: who inherited some listens on."""
        for sockets in self.slots:
            for each in sockets:
                each.close()

    def close(self) -> None:
        """Stop listening, and take away the socket file unless another server has put its own there."""
        self.let_go()
        if self._path:
            with suppress(OSError):
                if os.stat(self._path).st_ino == self._inode:
                    os.unlink(self._path)


def listen(settings: Server, processes: int = 1) -> Listener:
    """Listen where the settings say. Raises: StartupError.

    A TCP port gets sockets for each process, among which the kernel spreads connections by their addresses and ports (SO_REUSEPORT). Accepting on one
    socket together leaves most connections to whichever process wakes first: of 64, one had up to 54. A unix socket cannot be spread so, and is shared.
    """
    if settings.uds is not None:
        each = _unix(settings.uds)
        return Listener([[each]] * processes, f"unix:{settings.uds}", settings.uds)
    first = _tcp(settings.host, settings.port)
    port = first[0].getsockname()[1]
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    slots = [first]
    if processes > 1:
        # Bound without SO_REUSEPORT first, to be refused where anybody else listens, another server of ours included; then anew, because all have to have it.
        for each in first:
            each.close()
        slots = []
        try:
            for _ in range(processes):
                slots.append(_tcp(settings.host, port, spread=True))
        except StartupError:
            Listener(slots, "").let_go()
            raise
    return Listener(slots, f"http://{host}:{port}")


def _tcp(host: str, port: int, *, spread: bool = False) -> list[socket.socket]:
    """One socket for each address of the host (localhost has two), all on one port even where the kernel chooses it."""
    sockets: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(found):
            each = socket.socket(family, kind, protocol)
            sockets.append(each)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if spread:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # inherited by what is accepted
            if family == socket.AF_INET6:
                each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            each.bind((address[0], port, *address[2:]))
            each.listen(BACKLOG)
            each.setblocking(False)
            port = each.getsockname()[1]
    except OSError as exc:
        for each in sockets:
            each.close()
        raise StartupError(f"cannot listen on {host} port {port}: {exc.strerror}") from exc
    return sockets


def _unix(path: str) -> socket.socket:
    _remove_stale(path)
    each = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # The umask, and not a chmod after the bind, or the socket would be open to all for a moment.
    mask = os.umask(0o777 & ~UDS_MODE)
    try:
        each.bind(path)
        each.listen(BACKLOG)
        each.setblocking(False)
    except OSError as exc:
        each.close()
        raise StartupError(f"cannot listen on {path}: {exc.strerror or exc}") from exc
    finally:
        os.umask(mask)
    return each


def _remove_stale(path: str) -> None:
    """Remove a socket that nobody listens on; anything else in the way refuses the start."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    except OSError as exc:
        raise StartupError(f"cannot listen on {path}: {exc.strerror}") from exc
    if not stat.S_ISSOCK(mode):
        raise StartupError(f"cannot listen on {path}: a file of another kind is there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except OSError as exc:
            raise StartupError(f"cannot listen on {path}: {exc.strerror}") from exc
    raise StartupError(f"cannot listen on {path}: another server does")
