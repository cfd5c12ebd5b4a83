"""The code that a result depends on, held against what Python itself loads."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from spectramind.closure import PACKAGE, closure, code_hash
from spectramind.stages import freshness
from spectramind.stages.folders import STAGES, module_of

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
    monkeypatch.setattr(freshness, "code_hash", fresh(copy).code_hash)
    before = {stage: freshness.stage_code(stage) for stage in STAGES}
    changed = {}
    for path in sorted(copy.rglob("*.py")):
        text = path.read_bytes()
        path.write_bytes(text + b"# edited\n")
        module = path.relative_to(copy).as_posix()
        changed[module] = [s for s in STAGES if freshness.stage_code(s) != before[s]]
        path.write_bytes(text)
    assert len(changed) > 100
    assert changed == {
        module: [stage for stage in STAGES if PACKAGE / module in closure(module_of(stage))]
        for module in changed
    }
    assert changed["cli/app.py"] == changed["config.py"] == []
    assert changed["transit/white.py"] == ["fit"]
    assert changed["uq/conformal.py"] == ["calibrate-temp", "predict", "diagnose"]
    assert "calibrate" not in changed["transit/stage.py"]
    assert set(changed["observation.py"]) == set(STAGES)


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
