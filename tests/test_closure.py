"""The code that a result depends on, held against what Python itself loads."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from spectramind.closure import PACKAGE, closure, code_hash
from spectramind.stages.folders import STAGES, module_of

LOADED = """
import json, sys
import {module}
files = [m.__file__ for n, m in sys.modules.items() if n.split(".")[0] == "spectramind"]
print(json.dumps([f for f in files if f]))
"""


def run(code, source, *arguments):
    """What a fresh Python prints that takes the package from `source`."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={"PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("stage", ["fit", "train", "diagnose"])
def test_everything_that_python_loads_for_a_stage_is_in_its_closure(stage):
    loaded = run(LOADED.format(module=module_of(stage)), PACKAGE.parent)
    assert {Path(path) for path in loaded} <= closure(module_of(stage))


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


EDITED = """
import json, sys
from pathlib import Path
from spectramind.closure import closure
from spectramind.stages.folders import STAGES, module_of
from spectramind.stages.freshness import stage_code

package, changed = Path(sys.argv[1]), {}
before = {stage: stage_code(stage) for stage in STAGES}
for path in sorted(package.rglob("*.py")):
    text = path.read_bytes()
    path.write_bytes(text + b"# edited\\n")
    stale = [stage for stage in STAGES if stage_code(stage) != before[stage]]
    changed[path.relative_to(package).as_posix()] = stale
    path.write_bytes(text)
print(json.dumps(changed))
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the package without its weights."""
    folder = tmp_path_factory.mktemp("copy") / "spectramind"
    left_out = shutil.ignore_patterns("__pycache__", "pretrained")
    return Path(shutil.copytree(PACKAGE, folder, ignore=left_out))


def test_an_edited_module_makes_exactly_the_stages_stale_that_import_it(copy):
    changed = run(EDITED, copy.parent, str(copy))
    assert len(changed) > 100
    for module, stale in changed.items():
        expected = [stage for stage in STAGES if PACKAGE / module in closure(module_of(stage))]
        assert stale == expected, module
    assert changed["cli/app.py"] == changed["config.py"] == []
    assert changed["transit/white.py"] == ["fit"]
    assert changed["uq/conformal.py"] == ["calibrate-temp", "predict", "diagnose"]
    assert "calibrate" not in changed["transit/stage.py"]
    assert set(changed["observation.py"]) == set(STAGES)


def test_a_module_moved_or_deleted_changes_the_hash(copy):
    code = "import json; from spectramind.closure import code_hash; "
    code += "print(json.dumps(code_hash('spectramind.calibrate.chain')))"
    whole = run(code, copy.parent)
    module = copy / "calibrate" / "cosmic.py"
    moved = module.rename(module.with_name("rays.py"))
    assert run(code, copy.parent) != whole
    moved.rename(module)
    assert run(code, copy.parent) == whole


def test_the_hash_follows_content():
    assert code_hash("spectramind.errors") != code_hash("spectramind.settings")
    assert code_hash("spectramind.errors") == code_hash("spectramind.errors", "spectramind.errors")
