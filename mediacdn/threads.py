"""Threads beside the event loop give way to it: they hash, copy and wait for the disk, and whenever one of them woke the loop would stand still in the middle of a hit."""

import os
from contextlib import suppress


def give_way() -> None:
    """Let this thread never interrupt another when it wakes (SCHED_BATCH, sched(7)); its share of the processor stays. To be called by the thread itself.

    A policy that somebody else chose is left alone, and a system that has none or refuses it goes on as before.
    """
    if hasattr(os, "SCHED_BATCH"):
        with suppress(OSError):
            if os.sched_getscheduler(0) == os.SCHED_OTHER:
                os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
