"""Fixtures shared by all tests: seeded generators, and one thread for linear algebra."""

import os
import random

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

# Threads of OpenBLAS wait by spinning: beside another worker of the tests that costs several
# times the CPU time of the work itself. The plugins have loaded numpy by now; torch, scipy and
# processes that a test starts read the variable.
threadpool_limits(1, "blas")
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(autouse=True)
def seeded():
    """Same random numbers in every run; the global generators are left as they were seeded."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - guards code that uses the global generator by mistake
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    yield
    assert np.array_equal(state, np.random.get_state()[1]), "global numpy generator was used"  # noqa: NPY002


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
