"""The journeys of tests/journeys/test_read.py, made through nginx to many nodes; conftest.py says which are left out, and why."""

from tests.journeys.test_read import *  # noqa: F403
