"""What code a result depends on: the modules that a module imports, followed to the end.

Nothing is listed by hand and nothing is imported: the files are read. An import counts wherever
it stands, inside a function too; one under `TYPE_CHECKING` never runs and does not count.

A process reads all files at once, when it first asks, and never again: the modules that it has
loaded stay as they were, whatever is edited while it runs.
"""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
_NAME = PACKAGE.name


def code_hash(*modules: str) -> str:
    """Hash of all code that modules depend on, such as "spectramind.stages.fit".

    Part of the origin of every result: other code, other result.
    """
    seen = hashlib.sha256()
    for path in sorted({path for module in modules for path in closure(module)}):
        seen.update(f"{path.relative_to(PACKAGE).as_posix()}\0".encode())
        seen.update(_sources()[path])
    return seen.hexdigest()[:16]


@cache
def _sources() -> dict[Path, bytes]:
    """Content of every module of this package and of the files beside them."""
    folders = [path.parent for path in PACKAGE.rglob("__init__.py")]
    return {
        path: path.read_bytes()
        for folder in folders
        for path in folder.iterdir()
        if path.is_file()
    }


@cache
def closure(module: str) -> frozenset[Path]:
    """Files of a module and of all modules of this package that it imports, however far away.

    A file that is no module (a template, a style sheet) belongs to the modules beside it that
    name it.

    Raises:
        ModuleNotFoundError: If this package has no such module.
    """
    if _file(module) is None:
        raise ModuleNotFoundError(f"{module}: there is no such module in {PACKAGE}")
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _imported(name)
    return frozenset(path for name in found for path in _files(name))


def _file(module: str) -> Path | None:
    place = PACKAGE.parent.joinpath(*module.split("."))
    for path in (place.with_suffix(".py"), place / "__init__.py"):
        if path in _sources():
            return path
    return None


@cache
def _files(module: str) -> tuple[Path, ...]:
    path = _file(module)
    assert path is not None
    text = _sources()[path].decode()
    beside = [other for other in _sources() if other.parent == path.parent]
    named = [other for other in beside if other.suffix != ".py" and f'"{other.name}"' in text]
    return (path, *named)


@cache
def _imported(module: str) -> frozenset[str]:
    """Modules of this package that a module imports itself, and the packages around them."""
    path = _file(module)
    assert path is not None
    running = _running(ast.parse(_sources()[path]))
    imports = [node for node in running if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {name for node in imports for name in _names(node)}
    own = {name for name in names if name.split(".")[0] == _NAME and _file(name) is not None}
    around = {name.rpartition(".")[0] for name in own | {module}}
    while around:
        own |= around
        around = {name.rpartition(".")[0] for name in around} - {""}
    return frozenset(own - {""})


def _running(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node but those below `if TYPE_CHECKING:`."""
    waiting = [tree]
    while waiting:
        yield (node := waiting.pop())
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                waiting += child.orelse
            else:
                waiting.append(child)


def _names(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """What an import statement may mean: the module, and each name as a module inside it."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif node.module:
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
