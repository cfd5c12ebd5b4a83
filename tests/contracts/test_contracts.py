"""Contracts of the repository: layering, frozen parameters, pipeline file, messages, settings."""

import ast
import itertools
import re
import subprocess
import sys
import typing
from pathlib import Path

import pytest
import yaml

from spectramind.closure import closure
from spectramind.config import Config, configs_folder, load
from spectramind.settings import Settings, flatten
from spectramind.stages.dvc import pipeline_text
from spectramind.stages.folders import STAGES, module_of
from spectramind.stages.freshness import STAGE_KEYS, stage_hash

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src" / "spectramind").rglob("*.py"))


def test_imports_point_down():
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def test_params_file_is_the_frozen_demo():
    assert (ROOT / "params.yaml").read_text() == load(["experiment=demo"]).frozen()


def test_dvc_params_are_the_stage_keys():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert tuple(stages) == STAGES
    for stage, entry in stages.items():
        assert tuple(entry["params"]) == STAGE_KEYS[stage]


def test_dvc_file_is_that_of_the_stages():
    assert (ROOT / "dvc.yaml").read_text() == pipeline_text(load(["experiment=demo"]))


def test_dvc_code_is_the_import_closure_of_each_stage():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    for stage, entry in stages.items():
        named = [ROOT / dep for dep in entry["deps"] if dep.startswith("src/")]
        files = {path for place in named for path in [place, *place.rglob("*")]}
        code = {path for path in files if path.is_file() and path.parent.name != "__pycache__"}
        assert code == closure(module_of(stage))


def test_dvc_outs_are_the_stage_folders():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    out = load(["experiment=demo"]).runtime.out
    for stage, entry in stages.items():
        (declared,) = entry["outs"]
        path = declared if isinstance(declared, str) else next(iter(declared))
        assert Path(path) == out / stage


def test_every_result_key_belongs_to_a_stage():
    tree = load([]).model_dump(mode="json")
    owned = [key for keys in STAGE_KEYS.values() for key in keys]
    free = {"data.name", "data.root"}  # known to the stages by the data hash
    for leaf in flatten(tree):
        if leaf.startswith("runtime.") or leaf in free:
            continue
        assert any(leaf == key or leaf.startswith(key + ".") for key in owned), leaf


@pytest.mark.parametrize(
    ("override", "first"),
    [
        ("simulate.seed=9", "simulate"),
        ("calibration.flat=false", "calibrate"),
        ("transit.bin_s=300", "fit"),
        ("training.lr=1e-3", "train"),
        ("uq.epistemic=mc_dropout", "train"),
        ("uq.temp_scale=false", "calibrate-temp"),
        ("uq.corel=true", "predict"),
        ("diagnostics.planets=3", "diagnose"),
    ],
)
def test_a_changed_key_changes_exactly_the_hashes_below_it(override, first):
    before, after = load([]), load([override])
    changed = [s for s in STAGES if stage_hash(before, s) != stage_hash(after, s)]
    if first == "simulate":
        assert changed == ["simulate"]  # the data hash tells the others
    else:
        assert changed == list(STAGES[STAGES.index(first) :])


@pytest.mark.parametrize(
    "override",
    [
        "runtime.workers=1",
        "runtime.out=elsewhere",
        "runtime.device=cpu",
        "runtime.logger=none",
        "data.root=elsewhere",
        "calibration.cache=false",
    ],
)
def test_how_and_where_to_run_enters_no_hash(override):
    before, after = load([]), load([override])
    assert [stage_hash(before, s) for s in STAGES] == [stage_hash(after, s) for s in STAGES]


def test_every_yaml_group_composes():
    for path in sorted(configs_folder().glob("*/*.yaml")):
        assert isinstance(load([f"{path.parent.name}={path.stem}"]), Config)


def _is_settings(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Settings)


def _has_one_choice(annotation: object) -> bool:
    """A Literal of one value, or a section of such fields only: nothing is left to read."""
    if _is_settings(annotation):
        return all(_has_one_choice(f.annotation) for f in annotation.model_fields.values())
    return (
        typing.get_origin(annotation) is typing.Literal and len(typing.get_args(annotation)) == 1
    )


def _fields(model: type[Settings]) -> set[str]:
    names: set[str] = set()
    for name, field in model.model_fields.items():
        if _has_one_choice(field.annotation):
            continue
        names.add(name)
        for inner in (field.annotation, *typing.get_args(field.annotation)):
            if _is_settings(inner):
                names |= _fields(inner)
    return names


def test_every_setting_is_read_somewhere():
    text = "\n".join(path.read_text() for path in SOURCES)
    reads = set(re.findall(r"\.([a-z_0-9]+)", text))
    for validated in re.findall(r"@field_validator\(([^)]*)\)", text):
        reads |= set(re.findall(r'"([a-z_0-9]+)"', validated))
    assert _fields(Config) - reads == set()


def _settings_classes(model: type[Settings]) -> set[type[Settings]]:
    found = {model}
    for field in model.model_fields.values():
        for inner in (field.annotation, *typing.get_args(field.annotation)):
            if _is_settings(inner):
                found |= _settings_classes(inner)
    return found


def test_settings_have_no_second_defaults():
    for model in _settings_classes(Config):
        for name, field in model.model_fields.items():
            assert field.is_required(), f"{model.__name__}.{name}"


def _seams(tree: ast.AST) -> list[int]:
    """Lines where implicitly joined literals touch without a blank, or a raise makes a tuple."""
    faults = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            if not ast.unparse(node.exc.func).endswith("Error"):
                continue
            strings = [a for a in node.exc.args if isinstance(a, ast.Constant | ast.JoinedStr)]
            if len(strings) > 1:
                faults.append(node.lineno)
    return faults


def _joined_without_blank(path: Path) -> list[int]:
    import io
    import tokenize

    faults = []
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
    skip = {tokenize.NL, tokenize.NEWLINE, tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT}
    solid = [token for token in tokens if token.type not in skip]
    for left, right in itertools.pairwise(solid):
        if left.type == right.type == tokenize.STRING and left.end[0] != right.start[0]:
            before = left.string.rstrip("\"'")[-1:]
            after = right.string.lstrip("rbfRBF").lstrip("\"'")[:1]
            if before.isalnum() and after.isalnum():
                faults.append(right.start[0])
    return faults


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_messages_have_no_broken_seams(path):
    assert _seams(ast.parse(path.read_text())) == []
    assert _joined_without_blank(path) == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_nothing_is_unpickled_or_evaluated(path):
    calls = {
        ast.unparse(node.func)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
    }
    assert not calls & {"pickle.load", "pickle.loads", "torch.load", "eval", "exec", "yaml.load"}


KERNELS = (
    "model/scan/cpu.py", "model/scan/gpu.py", "model/scan/op.py",  # the scan's own arguments
    "calibrate/kernel.py", "calibrate/fused.py",
)  # fmt: skip
MOST_PARAMETERS = 7


def _parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    own = function.args
    named = [*own.posonlyargs, *own.args, *own.kwonlyargs, own.vararg, own.kwarg]
    return [one.arg for one in named if one is not None and one.arg not in ("self", "cls")]


def _is_command(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """A command of the program: its parameters are the words that a user types."""
    return any(".command" in ast.unparse(mark) for mark in function.decorator_list)


def _overloaded(source: str) -> dict[str, int]:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    found = [node for node in ast.walk(ast.parse(source)) if isinstance(node, functions)]
    return {
        f"{node.name}, line {node.lineno}": count
        for node in found
        if (count := len(_parameters(node))) > MOST_PARAMETERS and not _is_command(node)
    }


def test_functions_outside_kernels_take_few_parameters():
    package = ROOT / "src" / "spectramind"
    paths = {path.relative_to(package).as_posix(): path for path in SOURCES}
    assert set(KERNELS) <= set(paths)
    found = {name: _overloaded(path.read_text()) for name, path in paths.items()}
    assert {name: own for name, own in found.items() if own and name not in KERNELS} == {}


def test_the_count_of_parameters_sees_all_kinds():
    head = "def f(self, a, b, /, c, d, *e, g, {}**h): ..."
    assert _overloaded(head.format("")) == {}
    assert _overloaded(head.format("i, ")) == {"f, line 1": 8}
    assert _overloaded("@app.command()\n" + head.format("i, ")) == {}


def test_files_stay_readable():
    long = {path.name: n for path in SOURCES if (n := len(path.read_text().splitlines())) > 450}
    assert long == {}
