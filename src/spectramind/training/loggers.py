"""Loggers of a training: a CSV file, TensorBoard, MLflow or none."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from spectramind.extras import PACKAGES, Extra
from spectramind.files import append
from spectramind.training.settings import LoggerKind

_EXPERIMENT = "spectramind"


class CsvLogger(Logger):
    """One line per number, `step,name,value`; a training that is resumed goes on below."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    @property
    def name(self) -> str:
        """Of the member."""
        return self.path.parent.name

    @property
    def version(self) -> str:
        """Stage of the curriculum."""
        return self.path.stem

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write what Lightning measured at a step."""
        lines = "".join(f"{step},{name},{float(value)!r}\n" for name, value in metrics.items())
        self.path.parent.mkdir(parents=True, exist_ok=True)
        append(self.path, lines, header="step,name,value\n")

    def log_hyperparams(self, *_: Any, **__: Any) -> None:  # noqa: ANN401 - Lightning's interface
        """Settings stand in `stage.json`."""


class PortableMLFlowLogger(MLFlowLogger):
    """One run in an SQLite file; a copy sent to another process opens its own connection."""

    def __init__(self, database: Path, run_name: str) -> None:
        self.database, self.name_of_run = database, run_name
        super().__init__(
            experiment_name=_EXPERIMENT, run_name=run_name,
            tracking_uri=f"sqlite:///{database.resolve()}",
            artifact_location=str(database.with_name("mlflow").resolve()),
        )  # fmt: skip

    def __reduce__(self) -> tuple[type, tuple[Path, str]]:
        return type(self), (self.database, self.name_of_run)


def require_logger(kind: LoggerKind) -> None:
    """Refuse a logger that is not installed.

    Raises:
        ConfigError: If it is not.
    """
    if kind == "mlflow" or kind == "tensorboard":
        with Extra(kind, f"runtime.logger={kind}", instead="set runtime.logger=csv"):
            import_module(PACKAGES[kind])


def logger_of(
    kind: LoggerKind, folder: Path, *, member: str, stage: str
) -> Logger | Literal[False]:
    """A logger of one stage of one member's training.

    Args:
        kind: csv makes the file `folder`/`member`/`stage`.csv, tensorboard makes events in
            `folder`/`member`/`stage`, mlflow makes a run `member`/`stage` in the database
            `folder`/mlflow.db, none makes nothing.
        folder: Of all members.
        member: Name of the member.
        stage: Stage of the curriculum.

    Returns:
        The logger, or False for none, as Lightning takes it.
    """
    if kind == "csv":
        return CsvLogger(folder / member / f"{stage}.csv")
    if kind == "tensorboard":
        return TensorBoardLogger(folder, member, version=stage)
    if kind == "none":
        return False
    folder.mkdir(parents=True, exist_ok=True)
    return PortableMLFlowLogger(folder / "mlflow.db", f"{member}/{stage}")
