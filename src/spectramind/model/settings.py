"""Settings of the network and its loss (`configs/model`, `configs/decoders`)."""

from typing import Annotated, Literal

from pydantic import Field, StrictBool, StrictInt, model_validator

from spectramind.settings import Seed, Settings

EdgeType = Literal["adjacent", "molecule", "detector"]


class Fgs1EncoderConfig(Settings):
    """Encoder of the FGS1 light curve."""

    type: Literal["mamba"]  # kind of encoder
    d_model: StrictInt = Field(ge=1)  # width of a token
    n_layers: StrictInt = Field(ge=1)  # Mamba blocks
    dropout: float = Field(ge=0, lt=1)  # share of a block's output that is dropped
    d_state: StrictInt = Field(ge=1)  # states per channel
    d_conv: StrictInt = Field(ge=1)  # length of the causal convolution [tokens]
    expand: StrictInt = Field(ge=1)  # inner width over d_model
    stride: StrictInt = Field(ge=1)  # time bins per token
    bidirectional: StrictBool  # a second scan from the end of the visit to its start


class AirsEncoderConfig(Settings):
    """Graph network over the 283 wavelengths."""

    type: Literal["gnn"]  # kind of encoder
    gnn_type: Literal["gat", "rgcn"]  # attention | one convolution per relation
    hidden: StrictInt = Field(ge=1)  # width of a node
    layers: StrictInt = Field(ge=1)  # message-passing layers
    heads: StrictInt = Field(ge=1)  # attention heads (gat) or diagonal blocks of a weight (rgcn)
    dropout: float = Field(ge=0, lt=1)  # share of a layer's output that is dropped
    edge_types: tuple[EdgeType, ...] = Field(min_length=1)  # relations besides the self loop
    neighbours: StrictInt = Field(ge=1)  # reach of `adjacent` on each side [bins]
    detector_block: StrictInt = Field(ge=1)  # width of a region of `detector` [columns]

    @model_validator(mode="after")
    def _fits_together(self) -> "AirsEncoderConfig":
        if self.hidden % self.heads:
            raise ValueError(f"hidden ({self.hidden}) must be a multiple of heads ({self.heads})")
        if len(set(self.edge_types)) < len(self.edge_types):
            raise ValueError(f"edge_types names a relation twice: {', '.join(self.edge_types)}")
        return self


class FusionConfig(Settings):
    """How the encoders' states are joined."""

    type: Literal["concat"]  # node states and features, FGS1 state, planet features, readout
    channels: StrictInt = Field(ge=1)  # of each wavelength in the readout
    width: StrictInt = Field(ge=1)  # of the readout
    patterns: StrictInt = Field(ge=1)  # spectral patterns that the readout weighs
    dropout: float = Field(ge=0, lt=1)  # share of the readout's state that is dropped


class DiffusionConfig(Settings):
    """The diffusion decoder (`configs/decoders/diffusion.yaml`)."""

    width: StrictInt = Field(ge=1)  # of the network's states
    layers: StrictInt = Field(ge=1)
    components: StrictInt = Field(ge=1)  # spectral patterns through which wavelengths meet
    draws: StrictInt = Field(ge=1)  # noises per planet and training step
    weight: float = Field(gt=0)  # of the denoising error beside the Gaussian likelihood
    steps: StrictInt = Field(ge=1)  # of the solver, two passes of the network each
    samples: StrictInt = Field(ge=2, multiple_of=2)  # per planet; their moments are mu and sigma
    seed: Seed  # of the noise at prediction


Width = Annotated[StrictInt, Field(ge=1)]


class MuHeadConfig(Settings):
    """Head of the mean's correction."""

    hidden: tuple[Width, ...] = Field(min_length=1)  # widths of the hidden layers


class SigmaHeadConfig(Settings):
    """Head of the error bar's correction."""

    hidden: tuple[Width, ...] = Field(min_length=1)  # widths of the hidden layers
    max_log_scale: float = Field(gt=0, le=10)  # bound of |ln(sigma / sigma_fit)|


class CovarianceHeadConfig(Settings):
    """Head of the correlations between wavelengths."""

    rank: StrictInt = Field(ge=0, le=32)  # factors per planet; 0: independent wavelengths
    hidden: tuple[Width, ...] = Field(min_length=1)  # widths of the hidden layers
    weight: float = Field(gt=0)  # of the joint likelihood in the loss


class DecodersConfig(Settings):
    """From the fused state to the spectrum (`configs/decoders`)."""

    mu: MuHeadConfig
    sigma: SigmaHeadConfig
    covariance: CovarianceHeadConfig
    diffusion: DiffusionConfig | None  # None: the Gaussian heads alone

    @model_validator(mode="after")
    def _one_kind_of_correlation(self) -> "DecodersConfig":
        if self.diffusion is not None and self.covariance.rank:
            raise ValueError(
                "the diffusion decoder has correlations of its own, so that covariance.rank "
                "would be ignored; set model.decoders.covariance.rank=0 or use decoders=gaussian"
            )
        return self


class LossConfig(Settings):
    """Weights of the loss and the constants of its terms; a weight of 0 switches a prior off."""

    gll_weight: float = Field(gt=0)  # of the Gaussian likelihood
    smooth_l2_weight: float = Field(ge=0)  # of the second difference of mu
    fft_suppress_weight: float = Field(ge=0)  # of the high-frequency power of mu
    asymmetry_weight: float = Field(ge=0)  # of what the correction draws from ingress - egress
    negativity_weight: float = Field(ge=0)  # of depths below zero
    coherence_weight: float = Field(ge=0)  # of what the correction varies inside a molecule band
    fgs1_weight: float = Field(gt=0)  # of FGS1 in the likelihood, one AIRS bin counts 1
    z_clip: float = Field(gt=0)  # |y - mu| / sigma beyond which a point counts less
    fft_cutoff: float = Field(gt=0, lt=0.5)  # lowest frequency suppressed [cycles/bin]


class EncodersConfig(Settings):
    """Both encoders."""

    fgs1: Fgs1EncoderConfig
    airs: AirsEncoderConfig


class ModelConfig(Settings):
    """The network and its loss (`configs/model`)."""

    encoders: EncodersConfig
    fusion: FusionConfig
    decoders: DecodersConfig
    loss: LossConfig
