import pytest
import torch

from hydraudio.tasks.emotion.losses import LabelAdaptiveMixup


@pytest.fixture
def batch():
    lengths = torch.tensor([100, 300, 200, 50])
    waveform = torch.randn(4, 300) * (torch.arange(300) < lengths[:, None])
    target = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]])
    return {
        "waveform": waveform,
        "lengths": lengths,
        "padded": True,
        "target": target,
        "label": torch.tensor([0, 1, 2, -1]),
        "votes": target,
        "attributes": torch.tensor([[0.1], [0.5], [float("nan")], [0.9]]),
        "gender": torch.tensor([0, 1, 0, 2]),
        "id": list("abcd"),
    }


def draws(n, seed):
    """The permutation and the numbers that the given generator leads to."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(n, generator=generator), torch.rand(n, generator=generator)


@pytest.mark.parametrize("seed", range(6))
def test_mixes_halves_and_labels_by_length(batch, seed):
    before = {key: value.clone() for key, value in batch.items() if isinstance(value, torch.Tensor)}
    mixed = LabelAdaptiveMixup(0.5)(batch, torch.Generator().manual_seed(seed))
    partner, numbers = draws(4, seed)
    for i, j in enumerate(partner.tolist()):
        if numbers[i] >= 0.5 or 3 in (i, j):  # not chosen, or one has no category
            assert all(torch.equal(mixed[key][i].nan_to_num(), before[key][i].nan_to_num()) for key in before)
            continue
        n_i, n_j = batch["lengths"][[i, j]].tolist()
        share = n_i / (n_i + n_j)
        torch.testing.assert_close(mixed["waveform"][i], 0.5 * before["waveform"][i] + 0.5 * before["waveform"][j])
        assert mixed["lengths"][i] == max(n_i, n_j)
        expected = share * before["target"][i] + (1 - share) * before["target"][j]
        torch.testing.assert_close(mixed["target"][i], expected)
        assert mixed["label"][i] == expected.argmax()
        attribute = share * before["attributes"][i] + (1 - share) * before["attributes"][j]
        torch.testing.assert_close(mixed["attributes"][i], attribute, equal_nan=True)
        assert mixed["gender"][i] == (before["gender"][i] if before["gender"][i] == before["gender"][j] else 2)
    assert mixed["id"] == batch["id"]
    assert all(torch.equal(batch[key].nan_to_num(), before[key].nan_to_num()) for key in before)


def test_probability_is_per_item(batch):
    many = {"waveform": torch.randn(4000, 8), "lengths": torch.full((4000,), 8), "target": torch.eye(4).repeat(1000, 1)}
    mixed = LabelAdaptiveMixup(0.3)(many, torch.Generator().manual_seed(0))
    changed = (mixed["waveform"] != many["waveform"]).any(-1).float().mean()
    assert 0.27 < changed < 0.33
    assert torch.equal(LabelAdaptiveMixup(0.0)(many)["waveform"], many["waveform"])
    torch.testing.assert_close(mixed["target"].sum(-1), torch.ones(4000))


def test_needs_waveforms():
    with pytest.raises(ValueError, match="cached features"):
        LabelAdaptiveMixup()({"features": torch.zeros(2, 1, 8), "target": torch.eye(2)})
