"""The journeys of one server, made through nginx to two nodes of two processes each: every request may meet another process than the one before."""

import pytest

pytest.register_assert_rewrite(
    "tests.journeys.test_disclosure", "tests.journeys.test_links", "tests.journeys.test_read", "tests.journeys.test_records", "tests.journeys.test_upload"
)

from tests.journeys.test_disclosure import *  # noqa: E402, F403
from tests.journeys.test_links import *  # noqa: E402, F403
from tests.journeys.test_purge import *  # noqa: E402, F403
from tests.journeys.test_read import *  # noqa: E402, F403
from tests.journeys.test_records import *  # noqa: E402, F403
from tests.journeys.test_upload import *  # noqa: E402, F403
