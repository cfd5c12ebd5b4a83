import re

import pytest
import yaml

from spectramind.config import Config, configs_folder, dump, load, load_params, load_sweep
from spectramind.errors import ConfigError
from spectramind.settings import flatten, keys_of_paths


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


ONE_CHOICE = {
    "model.encoders.fgs1.type": "mamba",
    "model.encoders.airs.type": "gnn",
    "model.fusion.type": "concat",
    "training.optimizer": "adamw",
}


@pytest.mark.parametrize(("key", "choice"), ONE_CHOICE.items())
def test_a_key_with_one_choice_says_so(key, choice):
    sentence = rf'^{key}: got "other"; this version has \'{choice}\' alone\. Leave the key out\.$'
    with pytest.raises(ConfigError, match=sentence):
        load([f"{key}=other"])
    assert flatten(dump(load([f"{key}={choice}"])))[key] == choice


def test_the_weight_of_fgs1_stands_once():
    sources = [path.read_text() for path in configs_folder().rglob("*.yaml")]
    assert sum(text.count("57.846") for text in sources) == 1
    config = load(["diagnostics.metric.fgs_weight=3.5"])
    assert (config.diagnostics.metric.fgs_weight, config.model.loss.fgs1_weight) == (3.5, 3.5)
    assert "fgs1_weight: 3.5" in config.frozen()
    assert load(["model.loss.fgs1_weight=2"]).diagnostics.metric.fgs_weight == 57.846


def test_the_mission_s_own_values_are_the_defaults():
    config = load([])
    assert config.model.loss.smooth_l2_weight == 0.1
    assert config.model.loss.fft_suppress_weight == 0.05
    assert config.training.amp is True


@pytest.mark.parametrize("experiment", ["pretrain", "ablation"])
def test_what_was_measured_without_priors_stays_without(experiment):
    """The shipped weights, and the ablation, which switches each prior on alone."""
    config = load([f"experiment={experiment}"])
    assert (config.model.loss.smooth_l2_weight, config.model.loss.fft_suppress_weight) == (0, 0)
    assert config.training.amp is False


def _former(values):
    """The layout of 0.1.0, when planets and samples were counted `a` batch and `a` bin."""
    transit = values["transit"]
    transit["planets_a_batch"] = transit.pop("planets_per_batch")
    transit["samples_a_bin"] = transit.pop("samples_per_bin")
    return values


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (
            _former,
            r"there is no key transit\.planets_a_batch, transit\.samples_a_bin; "
            r"transit\.planets_per_batch, transit\.samples_per_bin has no value",
        ),
        (lambda values: values | {"uq": 3}, r"uq is no section"),
        (lambda values: values | {"loss": {}}, r"there is no key loss"),
        (lambda _: None, r"it is no section"),
        (lambda _: [1], r"it is no section"),
    ],
)
def test_params_of_a_former_layout_are_written_anew(tmp_path, change, found):
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(change(yaml.safe_load(load([]).frozen()))))
    with pytest.raises(
        ConfigError,
        match=rf"params\.yaml: is not of this version's layout: {found}\. Write it anew with: "
        r"spectramind config freeze -o .*params\.yaml \(and the KEY=VALUE that it was written wi",
    ):
        load_params(path)


def test_a_wrong_value_in_params_is_named_as_on_the_command_line(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(load([]).frozen().replace("  folds: 5\n  gradient", "  folds: 1\n  gradient"))
    with pytest.raises(
        ConfigError, match=r"^training\.folds: got 1; input should be greater than"
    ):
        load_params(path)


def test_sections_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        load([]).training.lr = 1.0


def test_diffusion_stands_on_the_gaussian_heads():
    gaussian, diffusion = load([]).model.decoders, load(["decoders=diffusion"]).model.decoders
    assert gaussian.diffusion is None
    assert diffusion.diffusion is not None
    assert diffusion.model_copy(update={"diffusion": None}) == gaussian


NAMES = (  # of folders, as a shell hands them over
    "é", "a=b", "#x", "a,b", "[x]", "{a: 1}", "'q'", '"q"', "a b", " x ", "2024", "1e3", "true",
    "${x}", "$x", "\\", "\\'", "\\${x}", "(x)", "choice(a,b)", "*", "a:b", "@x", "-x", "x\ny",
)  # fmt: skip
PATHS = ("data.root", "runtime.out", "prior", "weights", "training.start")


def test_every_path_of_the_configuration_is_taken_verbatim():
    assert keys_of_paths(Config) == set(PATHS)


@pytest.mark.parametrize("names", [NAMES[i : i + 5] for i in range(0, len(NAMES), 5)])
def test_paths_are_verbatim(names, tmp_path):
    wanted = dict(zip(PATHS, names, strict=True))
    config = load([f"{key}={name}" for key, name in wanted.items()])
    frozen = tmp_path / "params.yaml"
    frozen.write_text(config.frozen(), encoding="utf-8")
    for read in (config, load_params(frozen)):
        assert wanted.items() <= flatten(dump(read)).items()


def test_a_sweep_over_paths_takes_them_verbatim():
    assert load_sweep(["prior=a [1],null,é", "training.lr=1e-4,2e-4"]) == [
        "prior='a [1]',null,'é'", "training.lr=1e-4,2e-4",
    ]  # fmt: skip


def test_the_home_folder_is_named_by_its_sign(monkeypatch):
    monkeypatch.setenv("HOME", "/h")
    values = flatten(dump(load([f"{key}=~/x" for key in PATHS])))
    assert {values[key] for key in PATHS} == {"/h/x"}


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("", r"a path cannot be empty: write \. for the current folder"),
        ("~n0b0dy", r"there is no such home folder\. Write the path in full"),
    ],
)
def test_a_path_that_is_none_is_refused(value, why):
    with pytest.raises(ConfigError) as caught:
        load([f"{key}={value}" for key in PATHS])
    for key, line in zip(sorted(PATHS), sorted(str(caught.value).splitlines()), strict=True):
        assert re.fullmatch(f'{key}: got "{value}"; {why}\\.', line)


def test_a_name_that_is_no_text_is_refused():
    with pytest.raises(ConfigError, match=r"^data\.root: got .*; the name is not UTF-8 text\. R"):
        load(["data.root=\udcff"])
