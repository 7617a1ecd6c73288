import pytest
from little_runs import little_data, little_method, uninterrupted


@pytest.fixture(scope="session")
def small():
    """A dataset that is read in a moment."""
    return little_data()


@pytest.fixture(scope="session")
def little(small):
    """A method that is done in a moment."""
    return little_method(small)


@pytest.fixture(scope="session")
def whole(little, small, tmp_path_factory):
    """What a run leaves behind that nothing happens to."""
    return uninterrupted(little, small, tmp_path_factory.mktemp("whole") / "run")
