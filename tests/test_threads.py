"""Threads that take bytes in give way; nobody else does."""

import os
from concurrent.futures import ThreadPoolExecutor

from mediacdn import give_way


def test_only_the_thread_that_calls_gives_way() -> None:
    before = os.sched_getscheduler(0)
    with ThreadPoolExecutor(1, initializer=give_way) as pool:
        assert pool.submit(os.sched_getscheduler, 0).result() == os.SCHED_BATCH
    assert os.sched_getscheduler(0) == before


def test_another_policy_stays() -> None:
    def chosen() -> int:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        give_way()
        return os.sched_getscheduler(0)

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(chosen).result() == os.SCHED_IDLE
