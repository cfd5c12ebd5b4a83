"""Numba kernels kept on disk, compiled anew when any code they rest on changes.

Numba itself looks only at the file in which a function stands: were a function or a number that
it takes from another file edited, the old machine code would run on.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from spectramind.closure import PACKAGE, code_hash
from spectramind.files import writable

Function = Callable[..., Any]
_BYTECODE = PACKAGE / "__pycache__"


def kernel_cache() -> Path | None:
    """Where machine code is kept: the first of these folders that can be written.

    NUMBA_CACHE_DIR where that is set, else beside the bytecode of the package, else the user's
    own cache. None: nowhere, so that every process compiles anew.
    """
    wanted = os.environ.get("NUMBA_CACHE_DIR")
    if wanted:
        places = [Path(wanted)]
    else:
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111
        places = [_BYTECODE, *([Path(cache, "spectramind")] if Path(cache).is_absolute() else [])]
    return next((place for place in places if writable(place)), None)


def kernel(module: str, **options: object) -> Callable[[Function], Function]:
    """A decorator: `numba.njit` with these options, and a cache that follows the code.

    The cache folder bears the hash of the module and of all that it imports from this package.
    It lies in `kernel_cache`; where there is none, nothing is kept.

    Args:
        module: Where the kernel stands: `__name__`.
        options: Those of `numba.njit`, without `cache`.
    """
    import numba

    own: Any = numba  # its types know neither its settings nor options handed through
    name, place = f"kernels-{code_hash(module)}", kernel_cache()

    def compiled(function: Function) -> Function:
        if place is None:
            return own.njit(**options)(function)
        before = own.config.CACHE_DIR  # numba reads it while it decorates
        own.config.CACHE_DIR = str(place / name)
        try:
            return own.njit(cache=True, **options)(function)
        finally:
            own.config.CACHE_DIR = before

    return compiled
