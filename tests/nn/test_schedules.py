"""Learning-rate schedules against torch's own cosine and a closed form."""

import io

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR

from hydraudio.nn.schedules import warmup_cosine


def optimizer(lr=0.1):
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)


def rates(scheduler, n_steps):
    values = []
    for _ in range(n_steps):
        values.append(scheduler.get_last_lr()[0])
        scheduler.optimizer.step()
        scheduler.step()
    return values


def test_warm_up_is_linear_and_wastes_no_step():
    values = rates(warmup_cosine(optimizer(), n_steps=20, warmup_ratio=0.2), 5)
    assert values == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1])


def test_decay_equals_torch_cosine_annealing():
    ours = rates(warmup_cosine(optimizer(), n_steps=33, warmup_ratio=0.1, min_ratio=0.1), 34)[3:]
    torchs = rates(CosineAnnealingLR(optimizer(), T_max=30, eta_min=0.01), 31)
    assert ours == pytest.approx(torchs)


def test_rate_stays_at_its_minimum_after_the_end():
    values = rates(warmup_cosine(optimizer(), n_steps=5, warmup_ratio=0.0, min_ratio=0.2), 9)
    assert values[0] == pytest.approx(0.1)
    assert values[5:] == pytest.approx([0.02] * 4)


def test_state_loads_with_weights_only_and_continues():
    scheduler = warmup_cosine(optimizer(), n_steps=10, warmup_ratio=0.2)
    expected = rates(scheduler, 10)
    halfway = warmup_cosine(optimizer(), n_steps=10, warmup_ratio=0.2)
    rates(halfway, 4)
    file = io.BytesIO()
    torch.save(halfway.state_dict(), file)
    file.seek(0)
    resumed = warmup_cosine(optimizer(), n_steps=10, warmup_ratio=0.2)
    resumed.optimizer.load_state_dict(halfway.optimizer.state_dict())
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert rates(resumed, 6) == pytest.approx(expected[4:])


def test_one_step_is_enough():
    assert rates(warmup_cosine(optimizer(), n_steps=1), 1) == pytest.approx([0.1])


@pytest.mark.parametrize(
    ("n_steps", "warmup", "ratio"), [(0, 0.1, 0.0), (10, 1.0, 0.0), (10, -0.1, 0.0), (10, 0.1, 1.1)]
)
def test_wrong_arguments_are_refused(n_steps, warmup, ratio):
    with pytest.raises(ValueError, match="must"):
        warmup_cosine(optimizer(), n_steps, warmup, ratio)
