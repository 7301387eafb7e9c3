"""The stack of Mamba blocks: initialisation, residual stream, checkpointing."""

import pytest
import torch
from torch import Tensor, nn

from hydraudio.tasks.separation.networks.mamba_stack import MambaStack


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def perturbed(net: nn.Module, seed: int = 0) -> nn.Module:
    """No parameter at its initial value."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return net.double()


def test_output_projections_are_scaled_by_depth() -> None:
    def largest(n_layers: int) -> float:
        stack = MambaStack(64, n_layers)
        return max(block.mixer.out_proj.weight.abs().max().item() for block in stack.blocks)

    assert largest(1) == pytest.approx(128**-0.5, rel=0.01)  # as nn.Linear
    assert largest(16) == pytest.approx(128**-0.5 / 4, rel=0.01)


def test_stack_equals_its_parts() -> None:
    stack, x = perturbed(MambaStack(8, 3, d_state=4)), noise(2, 20, 8).double()
    expected = x
    for block in stack.blocks:
        expected = expected + block.mixer(block.norm(expected))
    torch.testing.assert_close(stack(x), stack.norm(expected))


def test_residual_stream_is_float32_under_autocast() -> None:
    """A change of one part in 3000 is lost in a bf16 stream."""
    torch.manual_seed(0)
    stack, x = MambaStack(8, 3, d_state=4), noise(1, 20, 8)
    streams = []
    for block in stack.blocks:
        block.register_forward_hook(lambda module, inputs, output: streams.append((inputs[0], output)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = stack(1000 * x)
    assert all(a.dtype == b.dtype == torch.float32 for a, b in streams)
    assert y.dtype == torch.float32
    assert all((a != b).float().mean() > 0.9 for a, b in streams)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_checkpoint_keeps_less_and_changes_nothing(bidirectional: bool) -> None:
    results = []
    for checkpoint in (False, True):
        torch.manual_seed(0)
        stack = MambaStack(8, 3, bidirectional, d_state=4, activation_checkpointing=checkpoint)
        saved: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, saved=saved: saved.append(x.numel()) or x, lambda x: x):
            y = stack(noise(2, 100, 8))
        y.square().sum().backward()
        results.append((sum(saved), y, [p.grad for p in stack.parameters()]))
    (kept, y, grads), (kept_checkpointed, y_checkpointed, grads_checkpointed) = results
    assert kept_checkpointed < kept / 4
    assert torch.equal(y, y_checkpointed)
    assert all(torch.equal(a, b) for a, b in zip(grads, grads_checkpointed, strict=True))
