"""Several server processes under one parent, which serves nothing: it forks them, starts dead ones again, ends them in order and adds up their metrics.

They are forked, and not started anew: what takes a second is importing, and a process that is started again later runs the code of its siblings. That is safe because
the parent has no thread, event loop or open database when it forks, at any time; so it must stay one plain loop over select. The child's side is server/member.py.
"""

import errno
import os
import selectors
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from mediacdn.cli.companion import PAUSE_FIRST, PAUSE_MOST, Companion
from mediacdn.cli.tally import Tally
from mediacdn.config import Server
from mediacdn.errors import StartupError
from mediacdn.server import messages
from mediacdn.server.listening import Listener
from mediacdn.server.messages import Adopt, Ask, Counted, Drain, Frames, Hurry, Leaving, Order, Ready, Refused, Release, Report, Total, Word

HEALTHY = 10.0
"""Seconds of life after which a death counts as the first again, and the process is started again at once."""
FAILURES, WITHIN = 3, 10.0
"""So many failures to start in so many seconds end the whole, as long as it has never served with all its processes."""
ALONE = 1.0
"""Seconds after which the others start, though the first is not ready."""
SILENT = 1.0
"""Seconds that the parent waits for a process that does not read its orders."""
_MARGIN = 10.0
_TICK = 0.25

Serve = Callable[[int, socket.socket], int]
"""Serve in a slot, told by the other end of the socket, and give the exit code: the life of a forked process."""


@dataclass(eq=False)
class Mate:
    """A server process as its parent sees it."""

    slot: int
    pid: int
    link: socket.socket
    born: float
    frames: Frames[Word] = field(default_factory=messages.words)
    ready: bool = False
    leaving: bool = False
    refusal: str | None = None


class Crew:
    """Keeps a process in each slot of `listener`. `ready` is called when all serve for the first time; `tell` hears a sentence when one died."""

    def __init__(
        self,
        listener: Listener,
        settings: Server,
        serve: Serve,
        *,
        ready: Callable[[], None],
        tell: Callable[[str], None],
        companion: Companion | None = None,
    ) -> None:
        self._listener = listener
        self._patience = settings.drain_delay + settings.shutdown_timeout + _MARGIN
        self._serve = serve
        self._ready = ready
        self._tell = tell
        self._companion = companion
        self._mates: list[Mate] = []
        self._due: dict[int, float] = {}
        self._quick: dict[int, int] = {}
        self._adopted: dict[int, Mate] = {}
        self._failures: deque[float] = deque(maxlen=FAILURES)
        self._complete = False
        self._vacant: set[int] = set()
        self._signals = self._heeded = 0
        self._kill_at: float | None = None
        self._refusal: str | None = None
        self._tally: Tally[Mate] = Tally(
            report=lambda mate, number: self._order(mate, Report(number)),
            answer=lambda mate, number, text: self._order(mate, Total(number, text)),
        )

    def run(self) -> None:
        """Keep the processes until a signal has ended them in order. Raises: StartupError, when they cannot start."""
        with selectors.DefaultSelector() as self._selector, self._woken():
            now = time.monotonic()
            # The first has the processors for itself, and answers in the others' places until they are there: no later than a process alone would.
            self._due = {slot: now + ALONE if slot else now for slot in range(len(self._listener.slots))}
            self._vacant = set(self._due)
            while self._mates or not self._stopping:
                self._heed()
                self._begin()
                for key, _ in self._selector.select(self._pause()):
                    if isinstance(key.data, Mate):
                        self._hear(key.data)
                    else:
                        self._wakened.recv(4096)
                self._heed()  # before the dead are counted: a signal to the whole group ends children first
                self._reap()
                self._cover()
                self._tally.overdue(time.monotonic())
        if self._refusal is not None:
            raise StartupError(self._refusal)

    @property
    def _stopping(self) -> bool:
        return self._kill_at is not None

    @contextmanager
    def _woken(self) -> Iterator[None]:
        """Have signals counted, and select awakened by them."""
        self._wakened, waker = socket.socketpair()
        self._waker = waker
        for each in (self._wakened, waker):
            each.setblocking(False)
        self._selector.register(self._wakened, selectors.EVENT_READ)

        def count(*_: object) -> None:
            self._signals += 1

        before = {
            signal.SIGTERM: signal.signal(signal.SIGTERM, count),
            signal.SIGINT: signal.signal(signal.SIGINT, count),
            signal.SIGCHLD: signal.signal(signal.SIGCHLD, lambda *_: None),
        }
        previous = signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(previous)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._wakened.close()
            waker.close()

    def _pause(self) -> float:
        now = time.monotonic()
        return max(0.0, min([_TICK, *(at - now for at in self._due.values())]))

    def _heed(self) -> None:
        """Act on what signals asked for, and on time that ran out."""
        if self._signals > self._heeded:
            again = self._stopping or self._signals > self._heeded + 1
            self._heeded = self._signals
            self._stop()
            if again:
                self._kill_at = min(time.monotonic() + _MARGIN, self._kill_at or 0.0)
                for mate in self._mates:
                    self._order(mate, Hurry())
        if self._kill_at is not None and time.monotonic() > self._kill_at:
            for mate in self._mates:
                os.kill(mate.pid, signal.SIGKILL)
        if self._companion is not None and self._complete and not self._stopping:
            self._companion.attend()

    def _stop(self) -> None:
        if self._stopping:
            return
        self._kill_at = time.monotonic() + self._patience
        self._due.clear()
        # Only its process may hold a socket now: when it stops to accept, nothing must queue where nobody comes for it.
        self._listener.let_go()
        for mate in self._mates:
            self._order(mate, Drain())

    def _begin(self) -> None:
        """Fork the processes that are due."""
        now = time.monotonic()
        for slot, at in list(self._due.items()):
            if at <= now:
                del self._due[slot]
                self._fork(slot)

    def _fork(self, slot: int) -> None:
        ours, theirs = socket.socketpair()
        try:
            pid = os.fork()
        except OSError as error:
            ours.close()
            theirs.close()
            self._tell(f"no server process could be started: {error.strerror}")
            self._due[slot] = time.monotonic() + PAUSE_MOST
            return
        if pid == 0:
            code = 1
            try:
                code = self._live(slot, ours, theirs)
            finally:
                os._exit(code)  # the rest of the stack, its finally clauses included, is the parent's
        theirs.close()
        ours.settimeout(SILENT)  # a process that does not read must not stop the others
        mate = Mate(slot, pid, ours, time.monotonic())
        self._mates.append(mate)
        self._selector.register(ours, selectors.EVENT_READ, mate)

    def _live(self, slot: int, ours: socket.socket, theirs: socket.socket) -> int:
        """In the child: give back what is the parent's, then serve."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)  # until the server listens to them: the parent's order comes anyway
        self._selector.close()
        for each in (ours, self._wakened, self._waker, *(mate.link for mate in self._mates)):
            each.close()
        if self._companion is not None:
            self._companion.forget()
        return self._serve(slot, theirs)

    def _order(self, mate: Mate, order: Order) -> None:
        with suppress(OSError):  # it is dead, which is heard by itself, or stuck, and then it is killed in the end
            mate.link.sendall(messages.framed(order))

    def _hear(self, mate: Mate) -> None:
        try:
            chunk = mate.link.recv(1 << 18)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EINTR):
                return
            chunk = b""
        if not chunk:
            self._selector.unregister(mate.link)
            mate.link.close()
            return
        for word in mate.frames.feed(chunk):
            self._listen(mate, word)

    def _listen(self, mate: Mate, word: Word) -> None:
        match word:
            case Ready():
                mate.ready = True
                self._vacant.discard(mate.slot)
                if not self._complete:
                    self._due = {slot: at if slot in self._quick else 0.0 for slot, at in self._due.items()}
                adopter = self._adopted.pop(mate.slot, None)
                if adopter is not None:
                    self._order(adopter, Release(mate.slot))
                if not self._complete and not self._stopping and sum(each.ready for each in self._mates) == len(self._listener.slots):
                    self._complete = True
                    self._ready()
            case Leaving():
                mate.leaving = True
                self._vacant.add(mate.slot)
            case Refused(sentence):
                mate.refusal = sentence
            case Counted(number, families):
                self._tally.counted(mate, number, families)
            case Ask(number, families):
                others = {each for each in self._mates if each.ready and each is not mate}
                self._tally.ask(mate, number, families, others, time.monotonic())

    def _reap(self) -> None:
        for mate in list(self._mates):
            pid, status = os.waitpid(mate.pid, os.WNOHANG)
            if pid:
                self._mates.remove(mate)
                self._bury(mate, os.waitstatus_to_exitcode(status))

    def _bury(self, mate: Mate, code: int) -> None:
        while mate.link.fileno() >= 0:  # its last words
            self._hear(mate)
        self._tally.departed(mate)
        for slot in [slot for slot, adopter in self._adopted.items() if adopter is mate]:
            del self._adopted[slot]
        if self._stopping:
            return
        self._vacant.add(mate.slot)
        now = time.monotonic()
        sentence = mate.refusal or f"server process {mate.pid} ended with {code}"
        if not mate.ready and not self._complete:
            self._failures.append(now)
            often = len(self._failures) == FAILURES and now - self._failures[0] <= WITHIN
            if mate.refusal or often:  # what it refuses it would refuse again; what killed it may have been of the moment
                self._refusal = mate.refusal or f"{sentence} before it served"
                self._stop()
                return
        healthy = mate.ready and (code == 0 or now - mate.born > HEALTHY)
        quick = self._quick[mate.slot] = 0 if healthy else self._quick.get(mate.slot, 0) + 1
        pause = min(PAUSE_FIRST * 2 ** (quick - 1), PAUSE_MOST) if quick else 0.0
        self._due[mate.slot] = now + pause
        self._tell(f"{sentence}; it is started again" + (f" in {pause:.1f} s" if pause else ""))

    def _cover(self) -> None:
        """Have the sockets of a slot without a process accepted on by another, or its share of new connections would wait."""
        able = [mate for mate in self._mates if mate.ready and not mate.leaving]
        if not able or self._stopping or self._listener.shared:
            return
        for slot in self._vacant - self._adopted.keys():
            adopter = min(able, key=lambda mate: sum(each is mate for each in self._adopted.values()))
            self._adopted[slot] = adopter
            self._order(adopter, Adopt(slot))
