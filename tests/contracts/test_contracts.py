"""Contracts of the repository: layering, frozen parameters, pipeline file, messages, settings."""

import ast
import io
import itertools
import re
import subprocess
import sys
import tokenize
import tomllib
import typing
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from spectramind.cli.app import main
from spectramind.closure import closure
from spectramind.config import Config, configs_folder, load
from spectramind.sentences import counted
from spectramind.settings import Settings, flatten
from spectramind.stages.dvc import pipeline_text
from spectramind.stages.folders import STAGES, module_of
from spectramind.stages.freshness import STAGE_KEYS, stage_hash

ROOT = Path(__file__).parents[2]
SOURCES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in sorted((ROOT / "src" / "spectramind").rglob("*.py"))
}


@pytest.fixture(scope="module")
def demo() -> Config:
    return load(["experiment=demo"])


@pytest.fixture(scope="module")
def default() -> Config:
    return load([])


@pytest.fixture(scope="module")
def dvc() -> dict[str, dict]:
    """The stages of `dvc.yaml`."""
    return yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def offenders(faults: Callable[[str], Iterator[object]]) -> list[str]:
    """Every fault that a rule finds in a source file, with the file's name."""
    return [f"{name}: {fault}" for name, text in SOURCES.items() for fault in faults(text)]


def test_imports_point_down():
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def test_the_console_script_is_the_program():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"spectramind": f"{main.__module__}:{main.__name__}"}


def test_params_file_is_the_frozen_demo(demo):
    assert (ROOT / "params.yaml").read_text() == demo.frozen()


def test_dvc_params_are_the_stage_keys(dvc):
    assert {stage: tuple(entry["params"]) for stage, entry in dvc.items()} == STAGE_KEYS
    assert tuple(dvc) == STAGES


def test_dvc_file_is_that_of_the_stages(demo):
    assert (ROOT / "dvc.yaml").read_text() == pipeline_text(demo, ["experiment=demo"])


def test_dvc_code_is_the_import_closure_of_each_stage(dvc):
    """Files alone: what Python compiles beside them is no change of a folder that DVC watches."""
    for stage, entry in dvc.items():
        named = [ROOT / dep for dep in entry["deps"] if dep.startswith("src/")]
        assert set(named) == closure(module_of(stage))
        assert len(named) == len(set(named))


def test_dvc_outs_are_the_stage_folders(dvc, demo):
    for stage, entry in dvc.items():
        outs = {own if isinstance(own, str) else next(iter(own)) for own in entry["outs"]}
        archive = {str(demo.data.root)} if stage == "simulate" else set()
        assert outs == archive | {str(demo.runtime.out / stage)}


def test_every_result_key_belongs_to_a_stage(default):
    owned = [key for keys in STAGE_KEYS.values() for key in keys]
    # Known to the stages by the data hash; and planets, which the seal of a stage counts up.
    free = {"data.name", "data.root", "data.splits"}
    nobodys = [
        leaf
        for leaf in flatten(default.model_dump(mode="json"))
        if not leaf.startswith("runtime.") and leaf not in free
        if not any(leaf == key or leaf.startswith(key + ".") for key in owned)
    ]
    assert nobodys == []


@pytest.mark.parametrize(
    ("override", "first"),
    [
        ("simulate.seed=9", "simulate"),
        ("calibration.flat=false", "calibrate"),
        ("transit.bin_s=300", "fit"),
        ("training.lr=1e-3", "train"),
        ("uq.epistemic=mc_dropout", "train"),
        ("uq.temp_scale=false", "calibrate-temp"),
        ("uq.corel=true", "diagnose"),
        ("diagnostics.planets=3", "diagnose"),
    ],
)
def test_a_changed_key_changes_exactly_the_hashes_below_it(default, override, first):
    after = load([override])
    changed = [s for s in STAGES if stage_hash(default, s) != stage_hash(after, s)]
    if first == "simulate":
        assert changed == ["simulate"]  # the data hash tells the others
    else:
        assert changed == list(STAGES[STAGES.index(first) :])


def test_how_and_where_to_run_enters_no_hash(default):
    elsewhere = load(
        [
            "runtime.workers=1",
            "runtime.out=elsewhere",
            "runtime.device=cpu",
            "runtime.logger=none",
            "data.root=elsewhere",
            "calibration.cache=false",
        ]
    )
    changed = [s for s in STAGES if stage_hash(default, s) != stage_hash(elsewhere, s)]
    assert changed == []


def test_every_yaml_group_composes():
    groups = [folder for folder in sorted(configs_folder().iterdir()) if folder.is_dir()]
    files = [[f"{group.name}={path.stem}" for path in group.glob("*.yaml")] for group in groups]
    assert all(files)
    for choices in itertools.zip_longest(*files):  # one file of each group at a time
        assert isinstance(load([choice for choice in choices if choice]), Config)


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
    text = "\n".join(SOURCES.values())
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
    defaults = [
        f"{model.__name__}.{name}"
        for model in _settings_classes(Config)
        for name, field in model.model_fields.items()
        if not field.is_required()
    ]
    assert defaults == []


def _raises_with_a_tuple(text: str) -> Iterator[int]:
    """Lines of errors that got their sentence in several arguments."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            strings = [a for a in node.exc.args if isinstance(a, ast.Constant | ast.JoinedStr)]
            if ast.unparse(node.exc.func).endswith("Error") and len(strings) > 1:
                yield node.lineno


def _joined_without_blank(text: str) -> Iterator[int]:
    """Lines of strings that continue those above without a blank between the words."""
    skip = {tokenize.NL, tokenize.NEWLINE, tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT}
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    solid = [token for token in tokens if token.type not in skip]
    for left, right in itertools.pairwise(solid):
        if left.type == right.type == tokenize.STRING and left.end[0] != right.start[0]:
            before = left.string.rstrip("\"'")[-1:]
            after = right.string.lstrip("rbfRBF").lstrip("\"'")[:1]
            if before.isalnum() and after.isalnum():
                yield right.start[0]


def test_messages_have_no_broken_seams():
    assert offenders(_raises_with_a_tuple) == []
    assert offenders(_joined_without_blank) == []


def _unsafe_calls(text: str) -> Iterator[str]:
    unsafe = {"pickle.load", "pickle.loads", "torch.load", "eval", "exec", "yaml.load"}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in unsafe:
            yield f"{node.lineno}: {ast.unparse(node.func)}"


def test_nothing_is_unpickled_or_evaluated():
    assert offenders(_unsafe_calls) == []


def _text_without_encoding(text: str) -> Iterator[str]:
    """Calls that would read or write text in whatever encoding the machine is set to."""
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func).rpartition(".")[2]
        words = {word.arg: ast.unparse(word.value) for word in node.keywords}
        modes = [ast.unparse(word) for word in node.args] + [words.get("mode", "")]
        as_text = name in ("read_text", "write_text") or words.get("text") == "True"
        opened = name in ("open", "fdopen", "NamedTemporaryFile")
        if opened and ast.unparse(node.func) != "os.open":
            as_text = not any("b" in mode for mode in modes if mode.startswith("'"))
        if as_text and "encoding" not in words:
            yield f"{node.lineno}: {ast.unparse(node.func)}"


def test_text_names_its_encoding():
    assert offenders(_text_without_encoding) == []


def test_the_rule_of_encodings_sees_all_kinds():
    bad = ["open(p)", "p.open('w')", "p.read_text()", "p.write_text(s)", "run(a, text=True)"]
    good = ["p.open('rb')", "os.open(p, 0)", "p.read_text(encoding='utf-8')", "open(p, mode='rb')"]
    assert all(list(_text_without_encoding(call)) for call in bad)
    assert not any(list(_text_without_encoding(call)) for call in good)


def test_settings_are_ascii():
    """Hydra reads them in whatever encoding the machine is set to."""
    assert all(path.read_bytes().isascii() for path in configs_folder().rglob("*.yaml"))


_PLURAL = re.compile(r" (planets|visits|labels|members|files|jobs|folds)\b")


def _numbers_with_a_plural(text: str) -> Iterator[str]:
    """Words that are wrong where the number before them is one; `counted` knows both."""
    for node in ast.walk(ast.parse(text)):
        for value, after in itertools.pairwise(getattr(node, "values", ())):
            words = str(after.value) if isinstance(after, ast.Constant) else ""
            if isinstance(value, ast.FormattedValue) and _PLURAL.match(words):
                yield f"{value.lineno}: {ast.unparse(value.value)}{words}"


def test_one_planet_is_no_planets():
    said = {name: text for name, text in SOURCES.items() if "/cli/" in name or "/stages/" in name}
    assert {n: list(_numbers_with_a_plural(text)) for n, text in said.items()} == {
        name: [] for name in said
    }
    assert list(_numbers_with_a_plural('f"{n} planets"'))
    assert counted(1, "planet") == "1 planet"
    assert counted(0, "planet") == "0 planets"


KERNELS = {  # the compiled loops, and the scan's operation with the scan's own arguments
    f"src/spectramind/{name}.py"
    for name in ("model/scan/cpu", "model/scan/gpu", "model/scan/op", "calibrate/kernel")
}
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
    assert set(SOURCES) >= KERNELS
    found = {name: _overloaded(text) for name, text in SOURCES.items() if name not in KERNELS}
    assert {name: own for name, own in found.items() if own} == {}


def test_the_count_of_parameters_sees_all_kinds():
    head = "def f(self, a, b, /, c, d, *e, g, {}**h): ..."
    assert _overloaded(head.format("")) == {}
    assert _overloaded(head.format("i, ")) == {"f, line 1": 8}
    assert _overloaded("@app.command()\n" + head.format("i, ")) == {}


def test_files_stay_readable():
    long = {name: n for name, text in SOURCES.items() if (n := len(text.splitlines())) > 450}
    assert long == {}
