"""Members of each kind of heads and decoder: trained, stored, read, predicted."""

import math

import numpy as np
import pytest
import torch
from biased_fits import widen

from spectramind.errors import ArtefactError
from spectramind.model.settings import ModelConfig
from spectramind.training.data import feature_table
from spectramind.training.members import Recipe, Runtime, TrainingPlanets, train_members
from spectramind.training.predict import Epistemic, predict, predict_members
from spectramind.training.store import read_member

DIFFUSION = {
    "width": 8, "layers": 1, "components": 4, "draws": 2, "weight": 1.0, "steps": 2,
    "samples": 8, "seed": 0,
}  # fmt: skip
KINDS = {
    "gaussian": {},
    "covariance": {"covariance": {"rank": 2, "hidden": [8], "weight": 1.0}},
    "diffusion": {"diffusion": DIFFUSION},
}


@pytest.fixture(scope="module", params=list(KINDS))
def trained(request, tmp_path_factory, archive, model_config, training_config, provenance):
    """Model, data, output folder and report of a run with two members."""
    values, data = model_config.model_dump(), archive(12)
    values["decoders"] |= KINDS[request.param]
    model = ModelConfig.model_validate(values)
    out = tmp_path_factory.mktemp(request.param)
    training = training_config.model_copy(update={"epochs": 2})
    report = train_members(
        TrainingPlanets(*data, donors=None),
        Recipe(model, training, Epistemic("ensemble", 2), start=None),
        Runtime("cpu", devices=1, workers=1, logger="none"),
        out=out,
        provenance=provenance,
    )
    return model, data, out, report


def test_it_learns_and_starts_at_the_fit(trained):
    _, _, _, report = trained
    assert min(report.best_epochs) > 0
    assert report.v50_nll < report.fit_nll
    assert math.isfinite(report.v50_nll)


def test_prediction_repeats_and_does_not_depend_on_the_batch(trained, monkeypatch):
    model, (fits, stars, _), out, _ = trained
    settings = {"model": model, "epistemic": Epistemic("ensemble", 2), "device": "cpu"}
    first = predict_members(out, fits, stars, seed=1, **settings)[1]
    again = predict_members(out, fits, stars, seed=1, **settings)[1]
    assert torch.equal(first.mu, again.mu)
    assert torch.equal(first.sigma, again.sigma)
    monkeypatch.setattr("spectramind.training.predict._BATCH", 5)
    parted = predict_members(out, fits, stars, seed=1, **settings)[1]
    torch.testing.assert_close(parted.mu, first.mu, rtol=1e-5, atol=0)
    torch.testing.assert_close(parted.sigma, first.sigma, rtol=1e-4, atol=0)


@pytest.mark.parametrize("method", ["ensemble", "mc_dropout"])
def test_what_widens_a_fit_widens_sigma_and_moves_nothing(trained, method):
    """The spread of members and passes is widened too."""
    model, (fits, stars, _), out, _ = trained
    settings = {"model": model, "epistemic": Epistemic(method, 2), "device": "cpu", "seed": 1}
    clean = predict_members(out, fits, stars, **settings)[1]
    wide = {planet: widen(fit, 5.0) for planet, fit in fits.items()}
    doubted = predict_members(out, wide, stars, **settings)[1]
    table = feature_table(fits, stars)
    assert np.abs((clean.mu.numpy() - table.depth) / table.sigma).mean() > 0.01
    assert torch.equal(doubted.mu, clean.mu)
    torch.testing.assert_close(doubted.sigma, 5.0 * clean.sigma, rtol=1e-12, atol=0)
    if clean.factor is not None:
        torch.testing.assert_close(doubted.factor, 5.0 * clean.factor, rtol=1e-12, atol=0)


def test_members_come_back_with_their_decoder(trained):
    model, (fits, stars, _), out, report = trained
    member = read_member(out / "members", report.members[0], model)
    table = feature_table(fits, stars)
    batch = member.scaling.batch(table)
    posterior = predict([member], table, passes=0, device=torch.device("cpu"), seed=1)
    samples = member.network.samples(batch, count=400, seed=3)
    np.testing.assert_allclose(samples.mean(0), posterior.mu, atol=1e-4)
    ratio = samples.std(0) / posterior.sigma
    assert 0.7 < float(ratio.median()) < 1.4
    if member.network.covariance is not None:
        torch.testing.assert_close(posterior.factor, member.network(batch).factor.detach())


def test_another_decoder_is_named(trained, model_config):
    model, _, out, report = trained
    values = model_config.model_dump()
    values["decoders"] |= KINDS["covariance" if model == model_config else "gaussian"]
    with pytest.raises(ArtefactError, match=r"model\.decoders\.\w+\S* is .* in it and .* in the"):
        read_member(out / "members", report.members[0], ModelConfig.model_validate(values))
