"""The journeys of tests/journeys/test_records.py, made through nginx to many nodes; conftest.py says which are left out, and why."""

from tests.journeys.test_records import *  # noqa: F403
