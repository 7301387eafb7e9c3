import math

import pytest
import torch

from hydraudio.losses.combination import FixedWeights, UncertaintyWeights


def test_fixed_weights():
    balance = FixedWeights({"category": 1.0, "attributes": 0.5, "gender": 0.1})
    losses = {"category": torch.tensor(2.0), "gender": torch.tensor(3.0)}
    assert balance(losses).item() == pytest.approx(2.3)
    with pytest.raises(ValueError, match=r"no weight for the losses \['topic'\]"):
        balance({"topic": torch.tensor(1.0)})


def test_uncertainty_weights_by_hand():
    balance = UncertaintyWeights(["category", "attributes"], ["attributes"])
    assert all(parameter._no_weight_decay for parameter in balance.parameters())
    losses = {"category": torch.tensor(2.0), "attributes": torch.tensor(0.6)}
    assert balance(losses).item() == pytest.approx(2.3)
    with torch.no_grad():
        balance.log_variances["category"].fill_(math.log(4.0))  # sigma = 2
        balance.log_variances["attributes"].fill_(math.log(0.25))  # sigma = 1/2
    expected = 2 / 4 + math.log(2) + 0.6 / (2 * 0.25) + math.log(0.5)
    assert balance(losses).item() == pytest.approx(expected)


def test_uncertainty_weights_learn_the_scale_of_a_loss():
    balance = UncertaintyWeights(["category"], [])
    optimizer = torch.optim.SGD(balance.parameters(), lr=1.0)
    for _ in range(60):
        optimizer.zero_grad()
        balance({"category": torch.tensor(3.0)}).backward()
        optimizer.step()
    assert balance.log_variances["category"].exp().item() == pytest.approx(6.0, rel=1e-3)  # d/ds: -3 exp(-s) + 1/2 = 0


def test_names_must_fit():
    with pytest.raises(ValueError, match="weights are learned for"):
        UncertaintyWeights(["category", "attributes"], ["attributes"])({"category": torch.tensor(1.0)})
    with pytest.raises(ValueError, match="must be different losses"):
        UncertaintyWeights([], [])
