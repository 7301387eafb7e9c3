import pytest
import torch

from hydraudio.tasks.emotion.networks.pooling import LayerMix


@pytest.fixture
def states():
    return torch.randn(2, 3, 5, 4, generator=torch.Generator().manual_seed(0))


def test_starts_as_the_mean(states):
    torch.testing.assert_close(LayerMix(3, 4)(states), states.mean(1))


def test_weights_are_a_softmax(states):
    mix = LayerMix(3, 4)
    with torch.no_grad():
        mix.weight.copy_(torch.tensor([0.5, -1.0, 2.0]))
    share = torch.tensor([0.5, -1.0, 2.0]).exp()
    share = share / share.sum()
    expected = share[0] * states[:, 0] + share[1] * states[:, 1] + share[2] * states[:, 2]
    torch.testing.assert_close(mix(states), expected)


def test_one_state_passes_unchanged():
    mix = LayerMix(1, 4)
    state = torch.randn(2, 1, 5, 4)
    assert not list(mix.parameters())
    assert torch.equal(mix(state), state[:, 0])
    with pytest.raises(ValueError, match="no effect on a single state"):
        LayerMix(1, 4, normalize=True)


def test_normalizes_each_state(states):
    states[:, 1] *= 1000.0
    expected = torch.stack([torch.nn.LayerNorm(4, elementwise_affine=False)(states[:, i]) for i in range(3)]).mean(0)
    torch.testing.assert_close(LayerMix(3, 4, normalize=True)(states), expected)


def test_normalizes_means_and_deviations_apart():
    statistics = torch.randn(2, 3, 8)
    norm = torch.nn.LayerNorm(4, elementwise_affine=False)
    expected = torch.cat([norm(statistics[..., :4]), norm(statistics[..., 4:])], -1).mean(1)
    torch.testing.assert_close(LayerMix(3, 4, normalize=True)(statistics), expected)


def test_refuses_another_number_of_states(states):
    with pytest.raises(ValueError, match="found 3 states, the mix was built for 4"):
        LayerMix(4, 4)(states)
