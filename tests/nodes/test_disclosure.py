"""The journeys of tests/journeys/test_disclosure.py, made through nginx to many nodes; conftest.py says which are left out, and why."""

from tests.journeys.test_disclosure import *  # noqa: F403
