import pytest

import dd_jax as dd


@pytest.fixture(scope="session")
def method(digits_mlp):
    """The method of the runs here: what is compiled for one of them serves the others."""
    return dd.methods.unrolled(digits_mlp, num_batches=2, num_epochs=2, num_inits=2, batch_size=32)
