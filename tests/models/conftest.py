import pytest

from tests.models.tiny import clouds


@pytest.fixture
def points():
    return clouds()
