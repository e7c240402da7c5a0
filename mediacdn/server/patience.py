"""How long a slow peer is borne: an allowance in seconds that bytes earn and waiting spends, so that only the average counts."""


class Patience:
    """The least rate of one connection, asked at intervals.

    `rate` is bytes per second (0: any rate will do) and `window` the seconds over which it is averaged: a peer that stops is borne for one window,
    one at half the rate for two, one at the rate for ever. Bytes beyond the rate earn nothing past a full window.
    """

    __slots__ = ("_asked", "_done", "_left", "_rate", "_what", "_window")

    def __init__(self, rate: float, window: float) -> None:
        self._rate = rate
        self._window = window
        self._what = 0
        self._left = window
        self._done = 0
        self._asked = 0.0

    def lasts(self, what: int, done: int, now: float) -> bool:
        """Whether to go on waiting, where `what` names the direction waited for and `done` counts all its bytes so far; the first question only starts the clock."""
        if self._rate <= 0:
            return True
        if what != self._what:
            self._what, self._left = what, self._window
        else:
            earned = (done - self._done) / self._rate
            self._left = min(self._window, self._left + earned - (now - self._asked))
        self._done, self._asked = done, now
        return self._left > 0

    def rest(self) -> None:
        """Nobody waits for the peer: the clock stops, and its next start is a fresh one."""
        self._what = 0
