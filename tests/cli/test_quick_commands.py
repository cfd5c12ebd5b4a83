"""Commands that a user waits for load no science library and answer within a second of CPU."""

import json
import os
import re
import resource
import subprocess
import sys

import pytest

QUICK = {
    "help": ["--help"],
    "help of a group": ["config", "--help"],
    "show": ["config", "show", "experiment=demo"],
    "diff": ["config", "diff", "experiment=demo"],
    "hash": ["config", "hash", "experiment=demo"],
    "doctor": ["doctor"],
}
HEAVY = {
    "torch", "lightning", "numba", "scipy", "matplotlib", "xarray", "astropy", "plotly", "numpy",
    "polars", "jaxtyping",
}  # fmt: skip
CODE = """
import json, sys
from spectramind.cli.app import app
for name, words in json.loads(sys.argv[2]).items():
    try:
        app(words)
    except SystemExit as end:
        assert not end.code, (name, end.code)
    loaded = set(sys.argv[1].split(",")) & set(sys.modules)
    assert not loaded, (name, loaded)
    print("end of", name)
"""


def run(command: list[str], folder, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done


def test_nothing_heavy_is_loaded(tmp_path):
    """All in one process: what one of them loads stays loaded."""
    done = run(["-c", CODE, ",".join(HEAVY), json.dumps(QUICK)], tmp_path)
    *said, rest = re.split("^end of .*\n", done.stdout, flags=re.MULTILINE)
    assert len(said) == len(QUICK)
    assert all(said)
    assert rest == ""


# What the shell runs for `spectramind con<TAB>`.
COMPLETION = {
    "_SPECTRAMIND_COMPLETE": "complete_bash", "COMP_WORDS": "spectramind con", "COMP_CWORD": "1",
}  # fmt: skip
PROGRAM = [
    "-c",
    "import sys; sys.argv[0] = 'spectramind'; from spectramind.cli.app import main; main()",
]


def test_completion_of_a_word(tmp_path):
    done = run(PROGRAM, tmp_path, **COMPLETION)
    assert done.stdout.split() == ["config"]


@pytest.fixture(scope="module")
def quiet():
    """A machine that did nothing else before these tests; `make slow` runs them first."""
    if os.getloadavg()[0] > 0.25 * (os.cpu_count() or 1):
        pytest.skip("the machine was busy: CPU seconds grow with what runs beside")


@pytest.mark.slow
@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("name", [*QUICK, "completion"])
def test_an_answer_takes_at_most_a_second_of_cpu(tmp_path, name):
    """The best of five runs of compiled code."""
    compiled = str(tmp_path / "compiled")
    environment = {"PYTHONPYCACHEPREFIX": compiled, "PYTHONDONTWRITEBYTECODE": ""}
    if name == "completion":
        environment |= COMPLETION
    seconds = []
    for _ in range(6):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run([*PROGRAM, *QUICK.get(name, [])], tmp_path, **environment)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    assert min(seconds[1:]) <= 1.0


@pytest.mark.parametrize("name", ["spectramind", "/a/bin/spectramind", "/a/__main__.py"])
def test_completion_is_offered_where_it_works(tmp_path, name):
    """A shell completes programs, not modules."""
    code = PROGRAM[1].replace("'spectramind'", repr(name), 1)
    offered = "--install-completion" in run(["-c", code, "--help"], tmp_path).stdout
    assert offered is not name.endswith(".py")
