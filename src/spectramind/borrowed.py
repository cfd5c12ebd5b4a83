"""What a run takes from elsewhere: weights and priors of other runs, spectra of the simulator."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from spectramind.artefacts import PRETRAINED, SHIPPED, stage_folder
from spectramind.config import Config
from spectramind.errors import ConfigError
from spectramind.observation import Star, TransitFit
from spectramind.transit.learning import prior_path, read_priors
from spectramind.transit.store import fit_path, read_facts

if TYPE_CHECKING:
    from spectramind.training.reobservation import Donors


def prior_file(named: Path) -> Path:
    """The file that `prior` names; `pretrained` is what `make pretrained` has left."""
    return prior_path(SHIPPED / "fit", None) if named == PRETRAINED else named


def require_prior(config: Config) -> None:
    """Refuse fits without a prior over spectra, which no network of another run has seen.

    Raises:
        ConfigError: If the archive's own labels were too few to learn one.
    """
    own = prior_path(stage_folder(config, "fit"), None)
    path = own if config.prior is None else prior_file(config.prior)
    if read_priors(path).spectrum is None:
        raise ConfigError(
            f"weights={config.weights}: the archive has too few labels to learn a prior over "
            "spectra from, which the network's fits had. Fit it with prior=pretrained too."
        )


def require_epistemic(config: Config, run: Path) -> None:
    """Refuse another measure of the members' spread than the one their temperature is for.

    Raises:
        ConfigError: If it is so.
    """
    path = run / "train" / "train.json"
    if not path.is_file():  # `predict` says what it misses
        return
    known = json.loads(path.read_text())["epistemic"]
    if known != config.uq.epistemic:
        raise ConfigError(
            f"uq.epistemic={config.uq.epistemic}: the temperature of weights={config.weights} "
            f"was fitted with {known}. Set uq.epistemic={known}, or train."
        )


def donors_of(
    config: Config, fits: Mapping[int, TransitFit], stars: Mapping[int, Star | None]
) -> "Donors | None":
    """Training planets to see with other atmospheres, where `training.reobserved` asks for it."""
    from spectramind.training.reobservation import Atmospheres, find_donors

    count, simulate = config.training.reobserved, config.simulate
    if count == 0:
        return None
    folder = stage_folder(config, "fit")
    paths = {planet: fit_path(folder, "train", planet) for planet in fits}
    return find_donors(
        fits,
        stars,
        {planet: (path, Path(read_facts(path)["priors"])) for planet, path in paths.items()},
        Atmospheres(count, simulate.population, simulate.atmosphere, config.training.seed),
    )
