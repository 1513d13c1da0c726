"""Fixtures that several files of tests about calls share."""

import pytest

from tests.kit.call import Witness


@pytest.fixture
def witness() -> Witness:
    """An observer of calls: ``call_simulator(agent, seams=witness.seams)``."""
    return Witness()
