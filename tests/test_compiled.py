"""Compiled kernels follow all the code they rest on, not only the file in which they stand."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from spectramind.closure import PACKAGE
from spectramind.compiled import kernel

INNER = """
from spectramind.compiled import kernel

FACTOR = 2.0

@kernel(__name__)
def grow(x):
    return x + 1.0
"""
OUTER = """
from spectramind.compiled import kernel
from spectramind.inner import FACTOR, grow

@kernel(__name__)
def outer(x):
    return FACTOR * grow(x)
"""
CALL = """
import json
from spectramind.outer import outer
value = outer(1.0)
print(json.dumps([value, sum(outer.stats.cache_hits.values())]))
"""


@pytest.fixture
def package(tmp_path):
    """A package of this name that holds the module tested and two kernels of its own."""
    folder = tmp_path / "spectramind"
    folder.mkdir()
    for name in ("__init__.py", "closure.py", "compiled.py", "files.py", "errors.py"):
        shutil.copy(PACKAGE / name, folder / name)
    (folder / "inner.py").write_text(INNER)
    (folder / "outer.py").write_text(OUTER)
    return folder


def call(package, **environment):
    """What a fresh Python gets from the outer kernel, and how often it was found on disk."""
    done = subprocess.run(
        [sys.executable, "-c", CALL],
        env={"PYTHONPATH": str(package.parent), **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_an_edited_inner_file_is_compiled_anew(package):
    assert call(package) == [4.0, 0]
    assert call(package) == [4.0, 1]
    edit(package / "inner.py", "x + 1.0", "x + 2.0")
    edit(package / "inner.py", "FACTOR = 2.0", "FACTOR = 3.0")
    assert call(package) == [9.0, 0]  # 6.0 if one of the two were the old one


def test_a_cache_folder_of_the_user_is_used(package, tmp_path):
    assert call(package, NUMBA_CACHE_DIR=str(tmp_path / "cache")) == [4.0, 0]
    assert list((tmp_path / "cache").glob("kernels-*/*/outer.outer-*.nbi"))
    assert not list(package.rglob("*.nbi"))


def test_where_nothing_can_be_written_nothing_is_kept(package, tmp_path):
    """A package that is only for reading, and no home: as in a container."""
    (package / "__pycache__").write_text("no folder")
    home = {"HOME": str(tmp_path / "inner.py"), "PYTHONDONTWRITEBYTECODE": "1"}
    (tmp_path / "inner.py").write_text("no folder either")
    assert call(package, **home) == [4.0, 0]
    assert call(package, **home, XDG_CACHE_HOME=str(tmp_path / "own")) == [4.0, 0]
    assert call(package, **home, XDG_CACHE_HOME=str(tmp_path / "own")) == [4.0, 1]
    nowhere = str(tmp_path / "inner.py")
    assert call(package, **home, NUMBA_CACHE_DIR=nowhere) == [4.0, 0]


def test_options_reach_numba_and_its_settings_stay_as_they_were():
    import numba

    before = numba.config.CACHE_DIR
    divide = kernel("spectramind.errors", error_model="numpy")(lambda x, y: x / y)
    assert before == numba.config.CACHE_DIR
    assert np.isinf(divide(1.0, 0.0))


def test_every_kernel_of_the_package_is_compiled_this_way():
    for path in PACKAGE.rglob("*.py"):
        if path.name != "compiled.py":
            assert "njit" not in path.read_text().replace("`numba.njit`", ""), path
