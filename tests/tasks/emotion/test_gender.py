"""Loss of a gender head."""

import torch
import torch.nn.functional as F

from hydraudio.tasks.emotion.losses import GenderCrossEntropy


def test_gender_loss_ignores_unknown():
    logits = torch.randn(5, 2)
    gender = torch.tensor([0, 2, 1, 2, 1])
    torch.testing.assert_close(GenderCrossEntropy()(logits, gender), F.cross_entropy(logits, gender, ignore_index=2))
    assert GenderCrossEntropy()(logits, torch.full((5,), 2)) == 0
