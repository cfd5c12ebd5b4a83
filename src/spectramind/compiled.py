"""Numba kernels kept on disk, compiled anew when any code they rest on changes.

Numba itself looks only at the file in which a function stands: were a function or a number that
it takes from another file edited, the old machine code would run on.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

from spectramind.closure import PACKAGE, code_hash

Function = Callable[..., Any]
_numba: Any = numba  # its types know neither its settings nor options handed through
_BYTECODE = PACKAGE / "__pycache__"


def kernel(module: str, **options: object) -> Callable[[Function], Function]:
    """A decorator: `numba.njit` with these options, and a cache that follows the code.

    The cache folder bears the hash of the module and of all that it imports from this package.
    It lies in NUMBA_CACHE_DIR where that is set, else beside the bytecode of the package; where
    neither can be written, numba keeps the machine code in the user's own cache.

    Args:
        module: Where the kernel stands: `__name__`.
        options: Those of `numba.njit`, without `cache`.
    """
    name = f"kernels-{code_hash(module)}"

    def compiled(function: Function) -> Function:
        before = _numba.config.CACHE_DIR  # numba reads it while it decorates
        _numba.config.CACHE_DIR = str((Path(before) if before else _BYTECODE) / name)
        try:
            return _numba.njit(cache=True, **options)(function)
        finally:
            _numba.config.CACHE_DIR = before

    return compiled
