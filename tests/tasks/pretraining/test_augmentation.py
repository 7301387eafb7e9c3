"""Mixup and masks of spectrograms: what they compute, and that their draws are those of the generator alone."""

from __future__ import annotations

import pytest
import torch

from hydraudio.core.sampling import generator
from hydraudio.tasks.pretraining.augmentation import Mixup, SpecAugment


def batch_of(n_items: int = 6, n_classes: int = 3) -> dict:
    draws = torch.Generator().manual_seed(0)
    return {
        "waveform": torch.randn(n_items, 50, generator=draws),
        "lengths": torch.arange(45, 45 + n_items),
        "target": torch.eye(n_classes)[torch.arange(n_items) % n_classes],
        "id": [str(k) for k in range(n_items)],
    }


def test_mixup_mixes_waveforms_and_targets_by_the_same_share():
    batch = batch_of()
    mixed = Mixup(alpha=1.0, p=1.0)(batch, generator(3))
    rng = generator(3)
    partner = rng.permutation(6)
    rng.random(6)
    share = torch.tensor(rng.beta(1.0, 1.0, 6), dtype=torch.float32)[:, None]
    for name in ("waveform", "target"):
        expected = share * batch[name] + (1 - share) * batch[name][partner]
        torch.testing.assert_close(mixed[name], expected)
    assert mixed["lengths"].tolist() == torch.maximum(batch["lengths"], batch["lengths"][partner]).tolist()
    torch.testing.assert_close(mixed["target"].sum(1), torch.ones(6))


def test_items_that_are_not_chosen_or_have_no_target_stay_as_they_are():
    batch = batch_of()
    for name, value in Mixup(p=0.0)(batch, generator(0)).items():
        assert value is batch[name] or torch.equal(value, batch[name])
    batch["target"][2] = 0.0
    mixed = Mixup(p=1.0)(batch, generator(1))
    assert torch.equal(mixed["waveform"][2], batch["waveform"][2])
    assert mixed["target"][2].sum() == 0
    torch.testing.assert_close(mixed["target"].sum(1)[[0, 1, 3, 4, 5]], torch.ones(5))  # no partner without a target


def test_masks_are_stripes_no_wider_than_their_share():
    spectrogram = torch.ones(200, 1, 40, 20)
    masked = SpecAugment(time=0.25, frequency=0.5)(spectrogram, generator(0)) == 0
    frames, bins = masked.all(-1)[:, 0], masked.all(-2)[:, 0]
    for stripe, widest in ((frames, 10), (bins, 10)):
        width = stripe.sum(1)
        assert width.max() == widest
        assert width.min() == 0
        edges = torch.diff(stripe.int(), dim=1).abs().sum(1)
        assert (edges <= 2).all()  # one stripe
        assert stripe.any(0).all()  # anywhere
    assert torch.equal(masked[:, 0], frames[:, :, None] | bins[:, None, :])


@pytest.mark.parametrize("augment", [Mixup(), SpecAugment()], ids=["mixup", "spec_augment"])
def test_equal_numbers_draw_equally_and_others_do_not(augment):
    def drawn(*key: int) -> torch.Tensor:
        if isinstance(augment, Mixup):
            return augment(batch_of(), generator(*key))["waveform"]
        return augment(torch.ones(6, 1, 40, 20), generator(*key))

    before = torch.get_rng_state()
    assert torch.equal(drawn(7, 0, 3, 0), drawn(7, 0, 3, 0))
    for other in ((8, 0, 3, 0), (7, 1, 3, 0), (7, 0, 4, 0), (7, 0, 3, 1)):
        assert not torch.equal(drawn(7, 0, 3, 0), drawn(*other))
    assert torch.equal(torch.get_rng_state(), before)


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="alpha"):
        Mixup(alpha=0.0)
    with pytest.raises(ValueError, match="time"):
        SpecAugment(time=1.5)
