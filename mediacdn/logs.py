"""Structured logs: one JSON object (or a console line) an event, written to stderr by a thread so that a full pipe never stops the event loop.

Secrets never come here: paths are masked where they enter an event, headers are never logged, and values under telling names are cut out.
"""

import logging
import os
import select
import stat
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any, BinaryIO

import msgspec
import structlog

from mediacdn.signing import mask
from mediacdn.threads import give_way

_SECRET = frozenset({"authorization", "cookie", "token", "secret", "password", "sig", "signature", "x-api-key"})
_BACKLOG = 10_000
_SELDOM, _OFTEN = 0.1, 0.005
"""Seconds between two looks of the thread that writes, at the most and at the least."""
_FEW = 100
"""Lines that it writes at a stretch, where it can choose: while it encodes them the event loop waits, up to a slice of the kernel's."""
_WHOLE = 262_144


Access = Callable[[str, str | None, str | None, str, bytes, int, int, float], None]
Waiting = tuple[float, str, str | None, str | None, str, bytes, int, int, float]
"""A line of the access log until somebody has the time to mask and encode it: unix seconds, and the values of Access."""


class Line(msgspec.Struct):
    """A line of the access log."""

    timestamp: datetime
    request_id: str
    client: str | None
    subject: str | None
    method: str
    path: str
    status: int
    bytes: int
    ms: float
    event: str = "request"
    level: str = "info"


def _line(
    at: float,
    request_id: str,
    client: str | None,
    subject: str | None,
    method: str,
    target: bytes,
    status: int,
    sent: int,
    seconds: float,
) -> Line:
    path = mask(target.decode("latin-1"))
    return Line(datetime.fromtimestamp(at, UTC), request_id, client, subject, method, path, status, sent, round(seconds * 1000, 2))


class ThreadedWriter:
    """A file-like end of the log. Lines gather for a daemon thread that writes them ten times a second, and sooner the more there are; when 10,000 wait, further ones are counted and dropped.

    The thread is not woken by each line: it would fight the event loop for the interpreter at every request. `shared`: other processes write to the same end.
    """

    def __init__(self, stream: BinaryIO, *, threaded: bool = True, shared: bool = False) -> None:
        self._stream = stream
        self._lines: deque[bytes | Waiting] = deque()
        self._encode = msgspec.json.Encoder().encode
        self._dropped = 0
        self._writing = threading.Lock()
        self.threaded = threaded
        self._batch = select.PIPE_BUF if shared and _is_pipe(stream) else _WHOLE
        if threaded:
            threading.Thread(target=self._run, name="log", daemon=True).start()

    def write(self, line: bytes | Waiting) -> int:
        if len(self._lines) < _BACKLOG:
            self._lines.append(line)
        else:
            self._dropped += 1
        return len(line)

    def flush(self) -> None:
        """structlog flushes after each line; the thread does that in its own time, where there is one."""
        if not self.threaded:
            self.drain()

    def drain(self) -> int:
        """Write what was logged so far, also before the process ends; tells how many lines there were."""
        with self._writing:
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                lines.append(b'{"level":"warning","event":"log lines dropped","count":%d}\n' % dropped)
            try:
                for batch in self._batches(lines):
                    self._stream.write(batch)
                    self._stream.flush()
            except (OSError, ValueError):
                pass  # stderr is closed: there is nobody to tell
            return len(lines)

    def _batches(self, lines: Iterable[bytes | Waiting]) -> Iterator[bytes]:
        """Lines joined; up to PIPE_BUF bytes where the end is a pipe that others write to: it takes so much whole, so that nobody's line comes between."""
        batch: list[bytes] = []
        size = 0
        for each in lines:
            line = each if isinstance(each, bytes) else self._encode(_line(*each)) + b"\n"
            if batch and size + len(line) > self._batch:
                yield b"".join(batch)
                batch, size = [], 0
            batch.append(line)
            size += len(line)
        if batch:
            yield b"".join(batch)

    def _run(self) -> None:
        give_way()
        pause = _SELDOM
        while True:
            time.sleep(pause)
            pause = _next_pause(pause, self.drain())


def _next_pause(last: float, lines: int) -> float:
    """How long about as many lines as are written at a stretch take to gather, going by how many did in the last pause."""
    return min(_SELDOM, max(_OFTEN, last * _FEW / max(lines, 1)))


def _is_pipe(stream: BinaryIO) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError):
        return False


def configure(level: str = "info", style: str = "auto", *, threaded: bool = True, shared: bool = False) -> ThreadedWriter:
    """Set structlog and the standard library's logging up for this process. `style`: "json", "console" or "auto". A process that forks must not be `threaded`;
    one that has siblings is `shared`."""
    writer = ThreadedWriter(sys.stderr.buffer, threaded=threaded, shared=shared)
    console = style == "console" or (style == "auto" and sys.stderr.isatty())
    threshold = logging.getLevelNamesMapping()[level.upper()]
    processors: list[Any] = [_stamped]
    if console:
        processors += [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()), _encoded]
    else:
        processors += [structlog.processors.format_exc_info, _json]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=_Ends(writer),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[_Bridge()], level=max(threshold, logging.WARNING), force=True)
    return writer


def access_log() -> Access:
    """The access log: called with request id, client, subject, method, target as sent (it is masked here), status, bytes and seconds.

    It finds out at its first line how this process logs. Where that is JSON, the values are kept as they are and encoded by the thread that writes them: the way
    through structlog costs more than all else that a cached answer does.
    """
    write: Access | None = None

    def line(*values: Any) -> None:
        nonlocal write
        if write is None:
            write = _access_way()
        write(*values)

    return line


def _access_way() -> Access:
    settings = structlog.get_config()
    log = structlog.get_logger("mediacdn.access")
    if not log.is_enabled_for(logging.INFO):
        return lambda *values: None
    names = Line.__struct_fields__[1:9]
    if settings["processors"][-1] is not _json:

        def shown(*values: Any) -> None:
            line = _line(0.0, *values)
            log.info("request", **{name: getattr(line, name) for name in names})

        return shown
    end = settings["logger_factory"]().keep
    return lambda *values: end((time.time(), *values))


class _Ends:
    """structlog's logger for bytes without its lock, which a deque does not need; and the factory of it."""

    def __init__(self, writer: ThreadedWriter) -> None:
        self._write, self._flush = writer.write, writer.flush
        if writer.threaded:
            self.keep = writer.write  # type: ignore[assignment, method-assign]

    def __call__(self, *_: Any) -> "_Ends":
        return self

    def msg(self, line: bytes) -> None:
        self.keep(line + b"\n")

    def keep(self, line: bytes | Waiting) -> None:
        self._write(line)
        self._flush()

    log = debug = info = warning = warn = error = critical = exception = fatal = failure = err = msg


class _Bridge(logging.Handler):
    """Libraries' records, through the same end."""

    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger(record.name).log(record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info or None)


def _stamped(_: Any, level: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Level and time, and no value under a telling name. One step, because every request passes here."""
    for name in event.keys() & _SECRET:
        event[name] = "[cut]"
    event["level"] = level
    event["timestamp"] = datetime.now(UTC).isoformat()
    return event


def _json(_: Any, __: str, event: MutableMapping[str, Any]) -> bytes:
    return msgspec.json.encode(event, enc_hook=str)


def _encoded(_: Any, __: str, line: str) -> bytes:
    return line.encode("utf-8", "backslashreplace")
