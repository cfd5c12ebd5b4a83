"""Stage `simulate`: an archive in the challenge's layout, with its truth."""

import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from spectramind.artefacts import load_json
from spectramind.errors import ArtefactError
from spectramind.files import unwritable
from spectramind.provenance import Provenance
from spectramind.sentences import counted
from spectramind.simulate.writer import ARCHIVE, MARKER, simulate_archive
from spectramind.stages.result import Result
from spectramind.training.device import resolve_device

if TYPE_CHECKING:
    from spectramind.config import Config


def simulate(config: "Config", folder: Path, provenance: Provenance) -> Result:
    """Write an archive in the challenge's layout to `data.root`.

    In the stage's own folder, or in the one beside `runtime.out` that runs share, it is a product
    like any other: one of former code gives way.
    """
    root = config.data.root.resolve()
    if root in (folder.resolve(), config.runtime.out.parent.resolve() / folder.name):
        _remove_former(config.data.root, provenance.code_hash)
    report = simulate_archive(
        config.simulate,
        root=config.data.root,
        level=config.data.level,
        workers=config.runtime.workers,
        device=resolve_device(config.runtime.device),
        provenance=provenance,
    )
    return Result(
        summary=f"simulated {counted(report.planets, 'planet')} -> {config.data.root}",
        outputs=(config.data.root,),
        facts={"planets": report.planets, "visits": report.visits, "reused": report.reused},
    )


def _remove_former(folder: Path, code: str) -> None:
    """Empty a folder whose archive other code of the simulator made; its mark goes last."""
    if not (folder / MARKER).exists():
        return  # no archive of the simulator
    with suppress(ArtefactError):  # a damaged mark says nothing
        if load_json(folder / MARKER, ARCHIVE)["code"] == code:
            return
    print(  # noqa: T201
        f"simulate: {folder} holds a damaged archive, or one of other code; it is made anew",
        file=sys.stderr,
    )
    for path in sorted(folder.iterdir(), key=lambda path: path.name == MARKER):
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        except OSError as error:
            raise unwritable(path, error) from error
