"""The journeys of tests/journeys/test_upload.py, made through nginx to many nodes; conftest.py says which are left out, and why."""

from tests.journeys.test_upload import *  # noqa: F403
