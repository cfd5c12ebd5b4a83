"""The code that a result depends on, held against what Python loads and what the text says."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from spectramind.closure import PACKAGE, closure, code_hash
from spectramind.config import load
from spectramind.stages import freshness, runner
from spectramind.stages.folders import STAGES, module_of
from spectramind.stages.result import Result

# Each module is loaded as if it were the first: the package forgotten, torch and the like kept.
LOADED = """
import importlib, json, sys
loaded = {}
for module in sys.argv[1:]:
    own = [name for name in sys.modules if name.split(".")[0] == "spectramind"]
    for name in own:
        del sys.modules[name]
    importlib.import_module(module)
    own = [m for name, m in sys.modules.items() if name.split(".")[0] == "spectramind"]
    loaded[module] = [m.__file__ for m in own if m.__file__]
print(json.dumps(loaded))
"""


def test_everything_that_python_loads_for_a_stage_is_in_its_closure():
    modules = [module_of(stage) for stage in STAGES]
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *modules],
        env=os.environ | {"PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout)
    assert list(loaded) == modules
    missed = {
        module: {Path(path) for path in loaded[module]} - closure(module) for module in modules
    }
    assert missed == {module: set() for module in modules}
    assert all(len(paths) > 5 for paths in loaded.values())


# The same by words alone: what stands after `import` anywhere, but below `if TYPE_CHECKING:`.
FOR_TYPES = re.compile(r"^if TYPE_CHECKING:\n(?:[ \t]+.*\n|\n)+", re.MULTILINE)
FROM = re.compile(r"^\s*from (spectramind[\w.]*) import (\([^)]*\)|.*)", re.MULTILINE)


def named_by(text):
    """Modules that a text imports, as files of the package."""
    found = {PACKAGE / "__init__.py"}
    for place, names in FROM.findall(FOR_TYPES.sub("", text)):
        for name in ["", *re.findall(r"\w+", names)]:
            path = PACKAGE.parent.joinpath(*place.split("."), name)
            found |= {path.with_suffix(".py"), path / "__init__.py", path.parent / "__init__.py"}
    return {path for path in found if path.is_file()}


def reached_from(module):
    """All files that are named on the way from a module, itself included."""
    waiting, found = {PACKAGE.parent.joinpath(*module.split(".")).with_suffix(".py")}, set()
    while waiting:
        path = waiting.pop()
        found.add(path)
        waiting |= named_by(path.read_text()) - found
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_a_closure_holds_what_is_imported_on_the_way_and_nothing_else(stage):
    modules = {path for path in closure(module_of(stage)) if path.suffix == ".py"}
    assert modules == reached_from(module_of(stage))


def test_a_late_import_counts_and_one_for_types_alone_does_not():
    late = PACKAGE / "archive" / "foreign.py"  # inside functions of stages.light_curves
    assert late in closure("spectramind.stages.light_curves")
    assert PACKAGE / "config.py" not in closure("spectramind.stages.fit")


def test_a_template_belongs_to_the_module_that_names_it():
    assert PACKAGE / "diagnose" / "dashboard.html" in closure("spectramind.diagnose.page")
    assert PACKAGE / "diagnose" / "dashboard.html" not in closure("spectramind.diagnose.metrics")


def test_no_such_module():
    with pytest.raises(
        ModuleNotFoundError, match=r"spectramind\.nowhere: there is no such module"
    ):
        closure("spectramind.nowhere")


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the package without its weights."""
    folder = tmp_path_factory.mktemp("copy") / "spectramind"
    left_out = shutil.ignore_patterns("__pycache__", "pretrained")
    return Path(shutil.copytree(PACKAGE, folder, ignore=left_out))


def fresh(copy):
    """The module under test as a fresh Python takes it from the copy, with nothing remembered."""
    spec = importlib.util.spec_from_file_location("closure_of_the_copy", copy / "closure.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert copy == module.PACKAGE
    return module


def test_an_edited_module_makes_exactly_the_stages_stale_that_import_it(copy, monkeypatch):
    later = fresh(copy)
    monkeypatch.setattr(freshness, "code_hash", later.code_hash)
    before = {stage: freshness.stage_code(stage) for stage in STAGES}
    changed = {}
    for path in sorted(copy.rglob("*.py")):
        text = path.read_bytes()
        path.write_bytes(text + b"# edited\n")
        later._sources.cache_clear()  # what another process reads; who imports whom stays
        module = path.relative_to(copy).as_posix()
        changed[module] = [s for s in STAGES if freshness.stage_code(s) != before[s]]
        path.write_bytes(text)
    assert len(changed) > 100
    reached = {stage: reached_from(module_of(stage)) for stage in STAGES}
    assert changed == {
        module: [stage for stage in STAGES if PACKAGE / module in reached[stage]]
        for module in changed
    }
    assert changed["cli/app.py"] == changed["config.py"] == []
    assert changed["transit/white.py"] == ["fit", "predict"]
    assert changed["uq/conformal.py"] == ["calibrate-temp", "predict", "diagnose"]
    assert "calibrate" not in changed["transit/stage.py"]
    assert set(changed["observation.py"]) == set(STAGES)


def test_work_begun_before_an_edit_is_that_of_the_code_before_it(copy, tmp_path, monkeypatch):
    """Edited while it runs, also by taking a module away, the stage is stale afterwards."""
    config = load([f"runtime.out={tmp_path}"])
    module, other = copy / "training" / "module.py", copy / "training" / "curriculum.py"
    texts = {path: path.read_bytes() for path in (module, other)}

    def edit(*_):
        module.write_bytes(texts[module] + b"# edited\n")
        other.unlink()
        return Result("made", ())

    monkeypatch.setattr(runner, "_function", lambda _: edit)
    monkeypatch.setattr(freshness, "data_hash", lambda _: "d")
    monkeypatch.setattr(freshness, "code_hash", fresh(copy).code_hash)
    runner.run_stage(config, "train", tmp_path / "train")
    assert freshness.up_to_date(config, "train")  # this process still runs the code it loaded
    monkeypatch.setattr(freshness, "code_hash", fresh(copy).code_hash)
    assert not freshness.up_to_date(config, "train")
    for path, text in texts.items():
        path.write_bytes(text)
    monkeypatch.setattr(freshness, "code_hash", fresh(copy).code_hash)
    assert freshness.up_to_date(config, "train")


def test_a_module_moved_or_deleted_changes_the_hash(copy):
    name = "spectramind.calibrate.chain"
    whole = fresh(copy).code_hash(name)
    assert whole == code_hash(name)
    module = copy / "calibrate" / "cosmic.py"
    moved = module.rename(module.with_name("rays.py"))
    assert fresh(copy).code_hash(name) != whole
    moved.rename(module)
    assert fresh(copy).code_hash(name) == whole


def test_the_hash_follows_content():
    assert code_hash("spectramind.errors") != code_hash("spectramind.settings")
    assert code_hash("spectramind.errors") == code_hash("spectramind.errors", "spectramind.errors")
