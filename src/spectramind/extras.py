"""Packages that only some uses need, and the extra of `pyproject.toml` that installs each."""

from types import TracebackType
from typing import Literal

from spectramind.errors import ConfigError

Name = Literal["explain", "mlflow", "pipeline", "tensorboard", "triton"]
PACKAGES: dict[Name, str] = {  # what is imported
    "explain": "torch_geometric",
    "mlflow": "mlflow",
    "pipeline": "dvc",
    "tensorboard": "tensorboard",
    "triton": "triton",
}


def install_command(extra: Name) -> str:
    """What installs an extra."""
    return f"pip install 'spectramind[{extra}]'"


class Extra:
    """Imports inside `with Extra(...):` that fail say which command installs the package.

    Args:
        extra: Whose packages are imported.
        wanted_by: What needs them, as the user names it.
        instead: What does without them; empty if nothing does.

    Raises:
        ConfigError: If a package is not installed.
    """

    def __init__(self, extra: Name, wanted_by: str, instead: str) -> None:
        self.extra: Name = extra
        self.wanted_by, self.instead = wanted_by, instead

    def __enter__(self) -> None:
        """Nothing happens before the imports."""

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:  # fmt: skip
        """Put a package that is not there into words."""
        if not isinstance(error, ModuleNotFoundError):
            return
        package = (error.name or str(error)).partition(".")[0]
        if package != __name__.partition(".")[0]:  # a module of ours that is gone is our fault
            otherwise = f", or {self.instead}" if self.instead else ""
            raise ConfigError(
                f"{self.wanted_by}: the package {package} is not installed. Run "
                f"{install_command(self.extra)}{otherwise}."
            ) from error
