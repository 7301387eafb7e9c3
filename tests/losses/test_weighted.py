import pytest
import torch

from hydraudio.losses.permutation import PermutationInvariant
from hydraudio.losses.sdr import SASDRLoss, SISDRLoss, SNRLoss
from hydraudio.losses.stft import MultiResolutionSTFTLoss
from hydraudio.losses.weighted import WeightedLoss


@pytest.fixture
def signals():
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(5, 3, 1500, generator=generator)
    return target.roll(1, 1) + torch.randn(5, 3, 1500, generator=generator), target


def test_is_the_weighted_sum(signals):
    lengths = torch.tensor([1500, 1400, 1300, 1200, 1100])
    stft = MultiResolutionSTFTLoss((256,), (64,), (256,))
    loss = WeightedLoss([SISDRLoss(), stft], [1.0, 0.5])
    expected = SISDRLoss()(*signals, lengths) + 0.5 * stft(*signals, lengths)
    torch.testing.assert_close(loss(*signals, lengths), expected)


def test_permutation_minimises_the_sum(signals):
    loss = WeightedLoss([SISDRLoss(), SNRLoss()], [0.3, 2.0])
    value, permutation = PermutationInvariant(loss)(*signals)
    assert permutation.tolist() == [[1, 2, 0]] * 5
    assert (value <= loss(*signals)).all()


def test_sa_sdr_needs_a_search_loss(signals):
    loss = WeightedLoss([SASDRLoss(), SISDRLoss()], [1.0, 1.0])
    with pytest.raises(ValueError, match="search="):
        PermutationInvariant(loss)(*signals)
    _, permutation = PermutationInvariant(loss, search=SISDRLoss())(*signals)
    assert permutation.tolist() == [[1, 2, 0]] * 5


def test_one_weight_for_each_loss():
    with pytest.raises(ValueError, match="2 losses, 1 weights"):
        WeightedLoss([SISDRLoss(), SNRLoss()], [1.0])
