import pytest
import torch
from torch import nn

from hydraudio.tasks.emotion.networks.heads import (
    AttributeHead,
    BranchAttributeHead,
    ClassifierHead,
    GenderAdversary,
    GenderClassifier,
    GenderCondition,
)

VAD = ["arousal", "valence", "dominance"]


def kinds(module):
    return [type(layer).__name__ for layer in module.trunk]


def test_the_baseline_classifier():
    head = ClassifierHead(16, 8, hidden_dim=12, n_layers=2, dropout=0.5)
    assert kinds(head) == ["Dropout"] + ["Linear", "LayerNorm", "ReLU", "Dropout"] * 2
    assert [layer.out_features for layer in head.trunk if isinstance(layer, nn.Linear)] == [12, 12]
    assert all(layer.p == 0.5 for layer in head.trunk if isinstance(layer, nn.Dropout))
    assert head(torch.randn(3, 16)).shape == (3, 8)
    assert head.embed(torch.randn(3, 16)).shape == (3, head.embedding_features) == (3, 12)


def test_no_hidden_layer():
    head = ClassifierHead(16, 8, n_layers=0)
    assert kinds(head) == ["Dropout"]
    assert head.output.in_features == head.embedding_features == 16


def test_the_dual_head_has_its_published_size():
    category = ClassifierHead(768, 8, hidden_dim=64, n_layers=2, dropout=0.2, activation="tanh")
    attributes = BranchAttributeHead(768, ["arousal", "valence"], context_features=64)
    gendered = BranchAttributeHead(768, ["arousal", "valence"], context_features=64 + 32, hidden_dims=[64, 32])
    assert kinds(category) == ["Linear", "Tanh", "Dropout"] * 2
    shapes = [tuple(p.shape) for p in attributes.parameters() if p.ndim == 2]
    assert shapes == [(64, 768), (64, 128), (2, 64)]
    assert [tuple(p.shape) for p in gendered.parameters() if p.ndim == 2] == [(64, 768), (64, 160), (32, 64), (2, 32)]


def test_logits_are_scaled_cosines():
    head = ClassifierHead(16, 4, hidden_dim=12, cosine_scale=30.0).eval()
    x = torch.randn(5, 16)
    embedding = head.embed(x)
    expected = [[30 * torch.cosine_similarity(e, w, dim=0) for w in head.output.weight] for e in embedding]
    torch.testing.assert_close(head(x), torch.stack([torch.stack(row) for row in expected]))


@pytest.mark.parametrize("head_class", [AttributeHead, BranchAttributeHead])
def test_attributes_lie_between_0_and_1(head_class):
    head = head_class(16, VAD, context_features=5).eval()
    x, context = 50 * torch.randn(64, 16), 50 * torch.randn(64, 5)
    y = head(x, context)
    assert y.shape == (64, 3)
    assert y.min() >= 0
    assert y.max() <= 1
    assert not torch.equal(y, head(x, -context))
    with pytest.raises(ValueError, match="attribute_names is empty"):
        head_class(16, [])


def test_gender_is_hidden_in_training_alone():
    condition = GenderCondition(dim=4, dropout=0.0, unknown_p=0.15)
    gender = torch.zeros(4000, dtype=torch.long)
    unknown = condition.eval()(torch.tensor([2]))
    assert not (condition(gender) == unknown).all(-1).any()
    torch.manual_seed(0)
    hidden = (condition.train()(gender) == unknown).all(-1).float().mean()
    assert 0.13 < hidden < 0.17


def test_the_adversary_reverses_the_gradient():
    classifier = GenderClassifier(6, hidden_dim=5, dropout=0.0)
    adversary = GenderAdversary(6, reversal=0.3, hidden_dim=5, dropout=0.0)
    adversary.load_state_dict(classifier.state_dict())
    x, y = torch.randn(4, 6).requires_grad_(), torch.tensor([0, 1, 1, 0])
    y_classifier, y_adversary = classifier(x), adversary(x)
    assert torch.equal(y_classifier, y_adversary)
    plain = torch.autograd.grad(nn.functional.cross_entropy(y_classifier, y), [x, *classifier.parameters()])
    reversed_ = torch.autograd.grad(nn.functional.cross_entropy(y_adversary, y), [x, *adversary.parameters()])
    torch.testing.assert_close(reversed_[0], -0.3 * plain[0])
    torch.testing.assert_close(reversed_[1:], plain[1:])  # the classifier itself still learns gender
