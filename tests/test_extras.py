"""A package of an extra that is not installed: which command installs it."""

import re
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
from typer.testing import CliRunner

from spectramind.cli.app import app
from spectramind.errors import ConfigError
from spectramind.extras import PACKAGES, Extra, install_command
from spectramind.training.loggers import require_logger

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize(("extra", "package"), PACKAGES.items())
def test_every_extra_is_one_of_the_project_s(extra, package):
    (wanted,) = (
        line for line in PROJECT["optional-dependencies"][extra] if line.startswith(package)
    )
    assert not any(line.startswith(package) for line in PROJECT["dependencies"])
    assert wanted


@pytest.mark.parametrize(("extra", "package"), PACKAGES.items())
def test_a_missing_package_names_the_command(monkeypatch, extra, package):
    monkeypatch.setitem(sys.modules, package, None)
    sentence = (
        f"the map: the package {package} is not installed. Run pip install "
        f"'spectramind[{extra}]', or do without."
    )
    with (
        pytest.raises(ConfigError, match=rf"^{re.escape(sentence)}$"),
        Extra(extra, "the map", instead="do without"),
    ):
        __import__(package)


def test_other_errors_stay_what_they_are():
    with pytest.raises(ZeroDivisionError), Extra("mlflow", "the map", instead=""):
        _ = 1 / 0
    with pytest.raises(ModuleNotFoundError), Extra("triton", "the map", instead=""):
        import_module("spectramind.model.scan.moved")


@pytest.mark.parametrize("kind", ["mlflow", "tensorboard"])
def test_a_logger_that_is_not_installed(monkeypatch, kind):
    monkeypatch.setitem(sys.modules, PACKAGES[kind], None)
    for other in ("csv", "none"):
        require_logger(other)
    with pytest.raises(
        ConfigError,
        match=rf"^runtime\.logger={kind}: the package {kind} is not installed\. Run pip install "
        rf"'spectramind\[{kind}\]', or set runtime\.logger=csv\.$",
    ):
        require_logger(kind)


def test_the_pipeline_is_written_without_dvc(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "dvc", None)
    assert CliRunner().invoke(app, ["config", "dvc"]).exit_code == 0
    assert (tmp_path / "dvc.yaml").exists()


def test_the_command_is_what_pip_takes():
    assert install_command("pipeline") == "pip install 'spectramind[pipeline]'"
