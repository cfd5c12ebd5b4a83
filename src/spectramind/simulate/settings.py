"""The section `simulate` of the configuration."""

import math
from typing import Annotated, Literal, get_args

from pydantic import Field, StrictBool, StrictInt, model_validator

from spectramind.instrument import AIRS
from spectramind.settings import Seed, Settings

Gas = Literal["H2O", "CO2", "CO", "CH4", "NH3", "HCN", "C2H2", "SO2", "H2S"]  # of `GASES`
Range = tuple[float, float]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
ShareRange = tuple[Share, Share]
PositiveRange = tuple[Positive, Positive]
Change = Annotated[float, Field(gt=0, le=0.5)]  # relative, of a level that stays above 0
ChangeRange = tuple[Change, Change]
Metals = Annotated[float, Field(le=2)]  # log10; more of them would outweigh the hydrogen
Steep = Annotated[float, Field(ge=1, le=2)]
Covered = Annotated[float, Field(ge=0, le=0.5)]
Contrast = Annotated[float, Field(ge=-3000, le=3000)]  # [K]; the coolest star has 4,236 K
Count = Annotated[StrictInt, Field(ge=1)]
_COOLEST = 0.8  # most of the temperature that a profile takes away


class Effects(Settings):
    """Which effects are in the data; an effect that is off leaves all others as they were."""

    jitter: StrictBool  # pointing moves the image
    defocus: StrictBool  # width of the image breathes
    foreground: StrictBool  # zodiacal and thermal light on every pixel
    gain_drift: StrictBool  # 1 + f(t) g(column)
    dark: StrictBool  # dark current
    hot_pixels: StrictBool  # pixels with a large dark current
    dead_pixels: StrictBool  # pixels without response
    linearity: StrictBool  # response bends with charge
    flat: StrictBool  # pixel-to-pixel response
    shot_noise: StrictBool  # Poisson noise of light and dark current
    read_noise: StrictBool  # of each read
    reset_noise: StrictBool  # kTC noise, common to the two reads of a pair
    saturation: StrictBool  # full well
    cosmic_rays: StrictBool  # charge deposits
    adc: StrictBool  # the challenge's gain; off: 1 count an electron
    bad_edge_frames: StrictBool  # first or last exposure loses light
    partial_transits: StrictBool  # some visits miss ingress or egress
    clock_offset: StrictBool  # between FGS1 and AIRS
    spots: StrictBool  # unocculted and crossed star spots
    visit_dilution: StrictBool  # each visit sees a little less than the whole depth
    foreign_limb_darkening: StrictBool  # a power-2 law in place of the simulator's own
    ramp: StrictBool  # exponential change of level from the start of a visit
    red_noise: StrictBool  # correlated in time, smooth in colour
    steps: StrictBool  # sudden changes of level


class PopulationConfig(Settings):
    """Distribution of depths, orbits and the errors of the star table."""

    depth_floor: Positive  # least depth of the shifted lognormal
    depth_excess_median: Positive  # median of depth minus floor
    depth_log_scatter: Positive  # of depth minus floor [ln]
    depth_range: Range  # depths outside are drawn again
    impact_scatter: Positive  # half-normal impact parameter
    impact_limit: Positive  # larger ones are drawn again
    temperature_factor: Range  # atmosphere temperature over equilibrium temperature
    radius_over_scale_height_min: Positive  # less bound planets are drawn again
    mass_radius_correlation: Annotated[float, Field(ge=0, lt=1)]  # of the normal ranks
    table_period_scatter: NotNegative  # error of the star table, relative
    table_semi_major_axis_scatter: NotNegative  # relative
    table_impact_scatter: NotNegative  # absolute, on b


class AtmosphereConfig(Settings):
    """Composition, cloud, haze and more of the population, and the layers of the model."""

    log10_abundance: dict[str, Range]  # volume mixing ratio of each gas, log-uniform
    cloud_probability: Share  # of a grey cloud deck
    log10_cloud_pressure_bar: Range  # its top, log-uniform
    haze_probability: Share
    log10_haze_enhancement: Range  # over Rayleigh at 0.35 um, log-uniform
    haze_slope: Range  # exponent of the haze cross section
    equilibrium_share: Share  # of planets whose main gases follow from C/O and metallicity
    log10_metallicity: tuple[Metals, Metals]  # O, N and S over the Sun's, log-uniform
    carbon_to_oxygen: PositiveRange  # carbon atoms per oxygen atom
    log10_quench_pressure_bar: Range  # where the gases freeze in, log-uniform
    temperature_slope: Range  # relative change of temperature per decade of pressure
    profile_pressure_bar: Positive  # where a profile has the planet's temperature
    unknown_bands_most: Annotated[StrictInt, Field(ge=0, le=20)]  # bands of unknown absorbers
    unknown_band_um: PositiveRange  # their centres, log-uniform
    unknown_band_width: ChangeRange  # standard deviation over wavelength, log-uniform
    log10_unknown_section_cm2: Range  # of the whole mixture at the centre, log-uniform
    star_slope_probability: Share  # of a true spectrum with the slope of spots or faculae
    star_slope_share: tuple[Covered, Covered]  # of the disc
    star_slope_heat_k: tuple[Contrast, Contrast]  # spots (below 0) or faculae minus star [K]
    layers: Annotated[StrictInt, Field(ge=10)]
    bottom_pressure_bar: Annotated[float, Field(gt=0)]
    top_pressure_bar: Annotated[float, Field(gt=0)]

    @model_validator(mode="after")
    def _every_gas(self) -> "AtmosphereConfig":
        if set(self.log10_abundance) != set(get_args(Gas)):
            raise ValueError(
                f"simulate.atmosphere.log10_abundance names {sorted(self.log10_abundance)}, "
                f"expected a range for each of {sorted(get_args(Gas))}."
            )
        for gas, (low, high) in self.log10_abundance.items():
            if not low <= high <= 0.0:
                raise ValueError(
                    f"simulate.atmosphere.log10_abundance.{gas} is [{low}, {high}], expected the "
                    "smaller number first and none above 0."
                )
        return self

    @model_validator(mode="after")
    def _warm_everywhere(self) -> "AtmosphereConfig":
        ends = (self.bottom_pressure_bar, self.top_pressure_bar)
        decades = max(abs(math.log10(end / self.profile_pressure_bar)) for end in ends)
        steepest = max(map(abs, self.temperature_slope))
        if steepest * decades > _COOLEST:
            raise ValueError(
                f"simulate.atmosphere.temperature_slope is {list(self.temperature_slope)}: over "
                f"{decades:.1f} decades of pressure that takes more than {_COOLEST:.0%} of the "
                f"temperature. Keep it within -+{_COOLEST / decades:.3f}."
            )
        return self


class StarConfig(Settings):
    """Brightness, limb darkening and spots."""

    fgs1_electrons: Positive  # median FGS1 charge of 0.1 s [e-]
    airs_electrons: Positive  # median charge of 4.5 s in the column at 2.1 um [e-]
    electrons_scatter: NotNegative  # of both, independently [ln]
    limb_darkening_scatter: NotNegative  # of u1 and u2 between stars, relative
    nonquadratic: Range  # amplitude of the part of the law that no quadratic law has
    foreign_steepness: tuple[Steep, Steep]  # loss at the limb over that of the quadratic guess
    spot_fraction: Range  # covered share of the disc, with spots on
    spot_cooling_k: Range  # spot below photosphere [K]
    spot_crossing_probability: Annotated[float, Field(ge=0, le=1)]


class VisitConfig(Settings):
    """Timing and slow or pointing-borne systematics."""

    mid_time_scatter_h: NotNegative  # mid-time within -+ this of the window's middle [h]
    partial_probability: Share  # of a visit that misses ingress or egress
    partial_share: Range  # part of the transit outside the window
    clock_offset_s: NotNegative  # scatter of the AIRS clock against FGS1 [s]
    jitter_rms_pixel: NotNegative  # pointing, each axis [pixel]
    jitter_time_s: Positive  # correlation time of half of the jitter's variance [s]
    defocus_rms: NotNegative  # relative change of the image width
    defocus_time_s: Positive  # its correlation time [s]
    gain_drift_amplitude: ChangeRange  # peak to peak over time and columns, log-uniform
    gain_drift_time_order: Annotated[StrictInt, Field(ge=0)]
    gain_drift_column_order: Annotated[StrictInt, Field(ge=0)]
    edge_frame_probability: Share  # that the first, and that the last, exposure is faulty
    edge_frame_loss: Range  # share of the light that a faulty exposure loses
    dilution: ShareRange  # of the depth, lost at FGS1 and at the last wavelength
    ramp_amplitude: ChangeRange  # at the start of the visit, either sign, log-uniform
    ramp_time_h: PositiveRange  # to 1/e of it, log-uniform [h]
    red_noise_rms: ChangeRange  # in each column, log-uniform
    red_noise_time_h: PositiveRange  # correlation time, log-uniform [h]
    red_noise_common_share: ShareRange  # of its variance that FGS1 and AIRS-CH0 share
    red_noise_turn_rad: tuple[NotNegative, NotNegative]  # its cosine correlates AIRS's two ends
    step_count: tuple[Count, Count]  # in one visit
    step_size: ChangeRange  # either sign, log-uniform
    level_colour: Share  # most that a ramp or step changes from mid AIRS-CH0 to its ends, relative


class ImageConfig(Settings):
    """Cross-section of the image: a Gaussian core on wings that fall as x^-3, along each axis."""

    centre: tuple[float, float]  # row, column (column unused by AIRS) [pixel]
    core_sigma: Positive  # [pixel]
    wing_share: Share  # of the light in the wings
    wing_width: Positive  # scale of the wings [pixel]


class DetectorConfig(Settings):
    """Maps and noise of the detectors; numbers are those of the public sample visit, rounded."""

    airs_image: ImageConfig
    fgs1_image: ImageConfig
    gain: Positive  # [counts/e-]
    offset_e: float  # [e-]; electrons = counts / gain + offset
    full_well_e: Positive  # measured charge at which a pixel saturates [e-]
    read_noise_e: Positive  # median of one read [e-]
    noisy_share: Share  # pixels with up to three times the read noise
    reset_noise_e: NotNegative  # [e-]
    dark_e_s: Positive  # median dark current [e-/s]
    hot_share: Share  # of pixels
    hot_dark_e_s: Range  # their dark current, log-uniform [e-/s]
    dead_share: Share  # of pixels
    flat_mean: Positive
    flat_scatter: NotNegative
    linearity_scatter: NotNegative  # of c1 about 1
    linearity_cubic: Positive  # c3 [e-^-2]; c4 and c5 follow it
    airs_foreground_e_s: Positive  # median of one pixel at 2.7 um [e-/s]
    fgs1_foreground_e_s: Positive  # median of one pixel [e-/s]
    foreground_scatter: NotNegative  # between planets [ln]
    cosmic_rate_s: NotNegative  # hits of one pixel [1/s]
    cosmic_energy_e: Range  # charge of a hit, log-uniform [e-]


class SimulateConfig(Settings):
    """A synthetic archive."""

    seed: Seed
    train_planets: Annotated[StrictInt, Field(ge=0)]
    test_planets: Annotated[StrictInt, Field(ge=0)]
    cadence_factor: Annotated[StrictInt, Field(ge=1)]  # read pairs merged on board
    two_visit_fraction: Share  # of the planets
    effects: Effects
    population: PopulationConfig
    atmosphere: AtmosphereConfig
    star: StarConfig
    visit: VisitConfig
    detector: DetectorConfig

    @model_validator(mode="after")
    def _whole_exposures(self) -> "SimulateConfig":
        if AIRS.pairs % self.cadence_factor or AIRS.pairs // self.cadence_factor < 2:
            raise ValueError(
                f"simulate.cadence_factor is {self.cadence_factor}, expected a divisor of "
                f"{AIRS.pairs} below it (1, 3, 5, 9, 15, 25, 45, 75, 125, 225, ...)."
            )
        return self

    @model_validator(mode="after")
    def _ordered_ranges(self) -> "SimulateConfig":
        sections = (self.population, self.atmosphere, self.star, self.visit, self.detector)
        for section in sections:
            for name, value in section:
                if isinstance(value, tuple) and value[0] > value[1]:
                    raise ValueError(
                        f"simulate key {name} is [{value[0]}, {value[1]}], expected the smaller "
                        "number first."
                    )
        return self
