"""Loggers of a training: TensorBoard, MLflow or none."""

from importlib import import_module
from pathlib import Path
from typing import Literal

from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger

from spectramind.errors import ConfigError
from spectramind.training.settings import LoggerKind

_EXPERIMENT = "spectramind"


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
    if kind != "mlflow":
        return
    try:
        import_module("mlflow")
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"runtime.logger=mlflow: the package {error.name} is not installed. Run "
            "pip install 'spectramind[mlflow]' or set runtime.logger=tensorboard."
        ) from error


def logger_of(
    kind: LoggerKind, folder: Path, *, member: str, stage: str
) -> Logger | Literal[False]:
    """A logger of one stage of one member's training.

    Args:
        kind: tensorboard: events in `folder`/`member`/`stage`; mlflow: a run `member`/`stage` in
            the database `folder`/mlflow.db; none.
        folder: Of all members.
        member: Name of the member.
        stage: Stage of the curriculum.

    Returns:
        The logger, or False for none, as Lightning takes it.
    """
    if kind == "tensorboard":
        return TensorBoardLogger(folder, member, version=stage)
    if kind == "none":
        return False
    folder.mkdir(parents=True, exist_ok=True)
    return PortableMLFlowLogger(folder / "mlflow.db", f"{member}/{stage}")
