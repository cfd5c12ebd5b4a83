"""Stage `simulate`: an archive in the challenge's layout, with its truth."""

from pathlib import Path
from typing import TYPE_CHECKING

from spectramind.errors import ConfigError
from spectramind.provenance import Provenance
from spectramind.simulate.writer import simulate_archive
from spectramind.stages.result import Result
from spectramind.training.device import resolve_device

if TYPE_CHECKING:
    from spectramind.config import Config


def simulate(config: "Config", _folder: Path, provenance: Provenance) -> Result:
    """Write an archive in the challenge's layout to `data.root`."""
    if config.data.name != "sim":
        raise ConfigError(
            f"data={config.data.name}: `simulate` writes simulated archives only. Use data=sim."
        )
    report = simulate_archive(
        config.simulate,
        root=config.data.root,
        level=config.data.level,
        workers=config.runtime.workers,
        device=resolve_device(config.runtime.device),
        provenance=provenance,
    )
    return Result(
        summary=f"simulated {report.planets} planets -> {config.data.root}",
        outputs=(config.data.root,),
        facts={"planets": report.planets, "visits": report.visits, "reused": report.reused},
    )
