"""Settings of the transit fit (configs/transit)."""

from pydantic import Field, PositiveFloat

from spectramind.settings import Seed, Settings


class BaselineConfig(Settings):
    """Prior of the gain drift 1 + sum_ij c_ij T_i(time) T_j(wavelength), Chebyshev in both."""

    scatter: tuple[float, ...] = Field(min_length=1, max_length=8)  # of c_i0 [relative]
    wavelength_order: int = Field(ge=1, le=8)  # highest j
    wavelength_decay: float = Field(gt=0.0, le=1.0)  # scatter of c_ij over that of c_i,j-1
    typical: float = Field(
        gt=0.0
    )  # coefficients' worth of belief that a drift is as strong as all


class PriorConfig(Settings):
    """Gaussian scatter of the truth around the tables."""

    period: float = Field(gt=0.0)  # [relative]
    semi_major_axis: float = Field(gt=0.0)  # [relative]
    impact_parameter: float = Field(gt=0.0)  # [stellar radii]
    limb_darkening: float = Field(gt=0.0)  # of u1 and of u2
    limb_darkening_colour: float = Field(ge=0.0)  # of u1, u2 at one wavelength beside the others
    clock_s: float = Field(gt=0.0)  # FGS1 clock minus AIRS-CH0 clock [s]
    visit_offset: float = Field(ge=0.0)  # depth of a visit beside the planet's [relative]
    typical: float = Field(ge=0.0)  # planets' worth of these scatters in those that are learned
    fewest: int = Field(ge=2)  # planets of an archive that teach what they share without labels
    most: int = Field(ge=2)  # and as many of a large archive


class UnknownStarConfig(Settings):
    """What is assumed of a star that is in no table."""

    temperature_k: float = Field(gt=0.0)  # [K]
    period_d: float = Field(gt=0.0)  # [d]
    semi_major_axis_rs: float = Field(gt=1.0)  # [stellar radii]
    impact_parameter: float = Field(ge=0.0)  # [stellar radii]
    widening: float = Field(ge=1.0)  # factor on the scatters of `PriorConfig` but the clock's


class SpotsConfig(Settings):
    """Spots and faculae outside the planet's path."""

    cooling_k: float = Field(gt=0.0)  # of spots below the photosphere [K]
    scatter: float = Field(
        ge=0.0
    )  # of the disc's share, for a star of 5000 K, until it is learned


class ScanConfig(Settings):
    """Search for the first guess of the mid-transit time."""

    step_h: float = Field(gt=0.0)  # [h]
    margin_h: float = Field(ge=0.0)  # how far outside the window mid-transit may lie [h]
    impact_parameters: tuple[float, ...] = Field(min_length=1)  # tried [stellar radii]
    axes: tuple[PositiveFloat, ...] = Field(min_length=1)  # tried where no table is believed
    starts: int = Field(ge=1)  # least-squares fits that are begun


class EndsConfig(Settings):
    """Parts without which a planet is tried whose white light fits poorly."""

    parts_h: tuple[PositiveFloat, ...]  # lengths tried; none: whole visits stay [h]
    gain: float = Field(gt=1.0)  # factor on the white light's reduced chi^2 that tells a bad end


class SpectrumConfig(Settings):
    """How the prior over spectra is learned."""

    fewest_labels: int = Field(ge=10)  # planets; with fewer there is no such prior
    folds: int = Field(ge=2)  # a labelled planet's priors are learned from the other folds
    seed: Seed  # of the folds
    components: tuple[int, ...] = Field(min_length=1)  # numbers tried
    lengths_um: tuple[float, ...] = Field(min_length=1)  # beyond which wavelengths are independent
    unit_scale: float = Field(ge=0.0)  # planets' worth of belief that sigma needs no scale
    least: float = Field(gt=0.0)  # amplitude of the process of any planet, over the typical
    noise: float = Field(gt=0.0)  # of a depth, with which left-out labels judge [(Rp/Rs)^2]


class FailureConfig(Settings):
    """When a fit is not trusted, and what then happens to sigma."""

    chi2: float = Field(gt=1.0)  # largest reduced chi^2 of the white light
    red_noise: float = Field(gt=1.0)  # largest factor on white-light noise by correlation
    red_noise_s: float = Field(gt=0.0)  # time scale of that factor [s]
    snr: float = Field(gt=0.0)  # white-light depth [sigma] below which there is no transit
    bins: int = Field(ge=1)  # fewest bins in and out of transit
    tension_sigma: float = Field(gt=0.0)  # largest distance from a prior [sigma]
    disagreement_sigma: float = Field(gt=0.0)  # largest distance of two visits [sigma]
    hidden_noise: float = Field(ge=0.0)  # added to the level's variance, over it, at most
    rejected_share: float = Field(gt=0.0, lt=1.0)  # largest share of rejected bins
    tolerated_sigma: float = Field(gt=0.0)  # distance from a prior from which sigma grows [sigma]
    red_noise_bins: tuple[int, ...]  # lengths of correlation that widen sigma [bins]
    depth_scatter: float = Field(gt=0.0)  # sigma where no transit was found [(Rp/Rs)^2]


class TransitConfig(Settings):
    """Section `transit`."""

    bin_s: float = Field(gt=0.0)  # time bins [s]
    planets_per_batch: int = Field(ge=1)  # fitted side by side
    passes: int = Field(ge=6, le=50)  # linearisations of the whole spectrum
    settled_ppm: float = Field(gt=0.0)  # change of the spectrum in the last pass [ppm]
    samples_per_bin: int = Field(ge=1, le=15)  # times at which the model of a bin is averaged
    fgs1_bins: int = Field(ge=16)  # finer FGS1 series for the network, at most
    edge_exposures: int = Field(ge=0)  # dropped at either end of a visit
    outlier_sigma: float = Field(gt=2.0)  # [sigma]
    baseline: BaselineConfig
    prior: PriorConfig
    unknown_star: UnknownStarConfig
    spots: SpotsConfig
    scan: ScanConfig
    ends: EndsConfig
    spectrum: SpectrumConfig
    failure: FailureConfig
