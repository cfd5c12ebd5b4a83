import pytest

from spectramind.config import load, load_params
from spectramind.errors import ConfigError


def test_round_trip_through_params_file(tmp_path):
    config = load(["experiment=demo", "training.lr=1e-3"])
    path = tmp_path / "params.yaml"
    path.write_text(config.frozen())
    assert load_params(path) == config


def test_command_line_beats_experiment_beats_group():
    group = load([]).training.folds
    experiment = load(["experiment=demo"]).training.folds
    assert experiment != group
    assert load(["experiment=demo", "training.folds=4"]).training.folds == 4


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["training.lrr=1"], r"training\.lrr: no such key\. Did you mean training\.lr\?"),
        (["+training.lrr=1"], r"training\.lrr: no such key\. Did you mean training\.lr\?"),
        (["training.lr=-1"], r"training\.lr: got -1; input should be greater than 0\."),
        (["uq.epistemic=magic"], r"uq\.epistemic: got \"magic\"; input should be 'ensemble' or"),
        (["~training.lr"], r"training\.lr: has no value\. Give one with training\.lr=VALUE\."),
        (["model=v51"], r"model=v51: no such choice\. Did you mean model=v50\? There are: v50\."),
        (["experiment=dmo"], r"experiment=dmo: no such choice\. Did you mean experiment=demo\?"),
        (
            ["model.decoders.mu.hiddenn=[8]"],
            r"model\.decoders\.mu\.hiddenn: no such key\. Did you .* model\.decoders\.mu\.hidden",
        ),
        (
            ["decoders=diffusionn"],
            r"decoders=diffusionn: no such choice\. Did you mean decoders=diffusion\?",
        ),
        (
            ["decoders=diffusion", "model.decoders.covariance.rank=2"],
            r"model\.decoders: got .*; the diffusion decoder has correlations of its own, so that "
            r"covariance\.rank would be ignored; set model\.decoders\.covariance\.rank=0 or use",
        ),
        (["training.lr"], r"Overrides read KEY=VALUE, for example uq\.corel=true\."),
    ],
)
def test_errors_name_key_value_and_remedy(overrides, sentence):
    with pytest.raises(ConfigError, match=sentence):
        load(overrides)


def test_all_faults_are_named_at_once():
    with pytest.raises(ConfigError) as caught:
        load(["training.lr=-1", "training.epochs=0"])
    assert "training.lr" in str(caught.value)
    assert "training.epochs" in str(caught.value)


def test_missing_and_broken_params_file(tmp_path):
    with pytest.raises(ConfigError, match="Write it with: spectramind config freeze -o"):
        load_params(tmp_path / "none.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1")
    with pytest.raises(ConfigError, match="is not valid YAML"):
        load_params(broken)


def test_sections_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        load([]).training.lr = 1.0


def test_diffusion_stands_on_the_gaussian_heads():
    gaussian, diffusion = load([]).model.decoders, load(["decoders=diffusion"]).model.decoders
    assert gaussian.diffusion is None
    assert diffusion.diffusion is not None
    assert diffusion.model_copy(update={"diffusion": None}) == gaussian
