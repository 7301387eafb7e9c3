"""Operations on batches of unequal lengths."""

import pytest
import torch
import torch.nn.functional as F

from hydraudio.nn.layers.masking import check_lengths, flip_frames, frame_mask, global_norm, reflect_frames

N_FRAMES = torch.tensor([9, 6, 4])


def batch(*shape: int) -> torch.Tensor:
    return torch.randn(3, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_frame_mask():
    assert frame_mask(torch.tensor([2, 0]), 3).tolist() == [[True, True, False], [False, False, False]]


def test_check_lengths_wants_one_integer_per_item():
    mixture = torch.zeros(2, 5)
    check_lengths(torch.tensor([5, 3]), mixture)
    for wrong in (torch.tensor([5]), torch.tensor([5.0, 3.0]), torch.tensor([[5, 3]])):
        with pytest.raises(ValueError, match=r"lengths must be \(2,\) integers"):
            check_lengths(wrong, mixture)


def test_global_norm_sees_the_valid_part_alone():
    x, weight, bias = batch(5, 9), torch.rand(5).double(), torch.rand(5).double()
    valid = frame_mask(N_FRAMES, 9).unsqueeze(1)
    y = global_norm(x, weight, bias, 1e-8, valid)
    for item, n in enumerate(N_FRAMES.tolist()):
        alone = F.group_norm(x[item : item + 1, :, :n], 1, weight, bias, 1e-8)
        torch.testing.assert_close(y[item : item + 1, :, :n], alone)
        assert not y[item, :, n:].any()


def test_global_norm_over_two_axes():
    x, weight, bias = batch(5, 4, 9), torch.rand(5).double(), torch.rand(5).double()
    y = global_norm(x, weight, bias, 1e-8, frame_mask(N_FRAMES, 9)[:, None, None])
    alone = F.group_norm(x[2:, :, :, :4], 1, weight, bias, 1e-8)
    torch.testing.assert_close(y[2:, :, :, :4], alone)


def test_global_norm_computes_half_precision_in_float32():
    x = 1e-4 * torch.randn(1, 4, 50)
    weight, bias = torch.ones(4), torch.zeros(4)
    y = global_norm(x.half(), weight, bias, 1e-12)
    assert y.dtype == torch.float16
    torch.testing.assert_close(y.float(), F.group_norm(x.half().float(), 1, weight, bias, 1e-12), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dim", [1, 2, -1])
def test_flip_frames_reverses_each_item_within_its_length(dim):
    x = batch(9, 9)
    y = flip_frames(x, N_FRAMES, dim)
    for item, n in enumerate(N_FRAMES.tolist()):
        ours, theirs = (z[item].movedim(dim % 3 - 1, 0) for z in (y, x))
        torch.testing.assert_close(ours[:n], theirs[:n].flip(0))
        torch.testing.assert_close(ours[n:], theirs[n:])
    torch.testing.assert_close(flip_frames(y, N_FRAMES, dim), x)
    torch.testing.assert_close(flip_frames(x, None, dim), x.flip(dim))


def test_reflect_frames_mirrors_at_each_items_end():
    x = batch(2, 9)
    y = reflect_frames(x, N_FRAMES, (3, 3))
    for item, n in enumerate(N_FRAMES.tolist()):
        alone = F.pad(x[item : item + 1, :, :n], (3, 3), "reflect")
        torch.testing.assert_close(y[item : item + 1, :, : n + 6], alone)
