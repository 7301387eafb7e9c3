"""What every autoencoder of this floor promises, for each kind of block, position, decoder and target."""

from functools import partial

import pytest
import torch
from torch import Tensor

from hydraudio.tasks.pretraining.networks.autoencoder import MaskedAutoencoder
from hydraudio.tasks.pretraining.networks.blocks import CrossBlock, FeedForward, MacaronBlock, PlainBlock, SwiGLU
from hydraudio.tasks.pretraining.networks.classifier import EncoderClassifier
from hydraudio.tasks.pretraining.networks.decoder import CrossAttentionDecoder, TransformerDecoder
from hydraudio.tasks.pretraining.networks.encoder import Encoder
from hydraudio.tasks.pretraining.networks.grid import Grid
from hydraudio.tasks.pretraining.networks.masks import Mask, RandomMasker
from hydraudio.tasks.pretraining.networks.positions import AxialRotary, Learned, RasterSinCos, SinCos

GRID = Grid(n_frames=24, n_bins=12, patch=(3, 4), channels=2)  # 8 x 3
MACARON = partial(MacaronBlock, ffn1=partial(FeedForward, activation="silu"), ffn2=SwiGLU)
BARE = partial(SwiGLU, ratio=2, inner_norm=False, bias=False)
PLAIN = partial(PlainBlock, ffn=partial(FeedForward, ratio=2))
CROSS = partial(CrossBlock, ffn=BARE)


def make(block, positions, decoder=TransformerDecoder, decoder_block=None, decoder_positions=None, **options):
    torch.manual_seed(0)
    target = options.pop("target", "raw")
    encoder = Encoder(GRID, width=24, depth=2, n_heads=3, block=block, positions=positions, **options)
    decoder = partial(
        decoder,
        width=16,
        depth=2,
        n_heads=2,
        block=decoder_block or block,
        positions=decoder_positions or positions,
    )
    return MaskedAutoencoder(encoder, decoder, RandomMasker(0.75), target)


NETS = {
    "macaron, sines": partial(make, MACARON, SinCos, decoder_positions=RasterSinCos),
    "macaron as released": partial(make, partial(MACARON, compat="released"), SinCos, compat="released"),
    "macaron, rotary, bare SwiGLU, normal": partial(
        make, partial(MACARON, ffn2=BARE, qkv_bias=False), AxialRotary, init="normal", target="patch_normalized"
    ),
    "plain, learned, no class token": partial(make, PLAIN, Learned, cls=False, target="patch_normalized"),
    "plain, LayerScale": partial(make, partial(PLAIN, layer_scale=0.1), Learned),
    "cross-attention": partial(make, PLAIN, SinCos, CrossAttentionDecoder, CROSS),
    "cross-attention, rotary": partial(make, PLAIN, AxialRotary, CrossAttentionDecoder, CROSS),
}
each = pytest.mark.parametrize("build", NETS.values(), ids=NETS)


def spectrograms(n_items: int = 3, n_frames: int = 24, seed: int = 0) -> Tensor:
    return torch.randn(n_items, 2, n_frames, 12, generator=torch.Generator().manual_seed(seed))


def mask(n_items: int = 3, seed: int = 0) -> Mask:
    return RandomMasker(0.75)(n_items, GRID, torch.Generator().manual_seed(seed), "cpu")


def pixels(masked: Tensor) -> Tensor:
    """(batch, n_tokens) bool -> the same of all values of a spectrogram."""
    return GRID.unpatchify(masked.unsqueeze(-1).expand(-1, -1, GRID.patch_values))


@each
def test_gives_a_loss_a_prediction_and_the_mask(build):
    output = build()(spectrograms(), mask())
    assert output.loss.shape == ()
    assert output.loss.dtype == torch.float32
    assert output.prediction.shape == (3, 24, GRID.patch_values)
    assert torch.equal(output.masked, mask().masked)


@each
def test_loss_is_the_mean_over_masked_patches_alone(build):
    net, x = build(), spectrograms()
    output = net(x, mask())
    targets = net.targets(x)
    expected = (output.prediction - targets)[output.masked].square().mean()
    torch.testing.assert_close(output.loss, expected)
    visible = net.visible_loss(x, output)
    if isinstance(net.decoder, CrossAttentionDecoder):
        assert visible is None
        assert (output.prediction[~output.masked] == 0).all()
    else:
        torch.testing.assert_close(visible, (output.prediction - targets)[~output.masked].square().mean())


@each
def test_loss_ignores_what_is_predicted_of_visible_patches(build):
    net, x = build(), spectrograms()
    output = net(x, mask())
    (gradient,) = torch.autograd.grad(output.loss, output.prediction)
    assert (gradient[~output.masked] == 0).all()
    assert (gradient[output.masked] != 0).all()


@each
def test_masked_values_do_not_leak(build):
    net, x = build(), spectrograms()
    changed = torch.where(pixels(mask().masked), spectrograms(seed=1), x)
    first, second = net(x, mask()), net(changed, mask())
    assert torch.equal(net.encoder(x, mask().keep), net.encoder(changed, mask().keep))
    assert torch.equal(first.prediction, second.prediction)
    assert first.loss != second.loss


@each
def test_visible_values_matter(build):
    net, x = build(), spectrograms()
    changed = torch.where(pixels(mask().masked), x, spectrograms(seed=1))
    assert (net(x, mask()).prediction - net(changed, mask()).prediction)[mask().masked].abs().mean() > 1e-3


@each
def test_order_of_the_kept_patches_does_not_matter(build):
    encoder, x, keep = build().encoder.eval(), spectrograms(), mask().keep
    order = torch.randperm(keep.shape[1], generator=torch.Generator().manual_seed(0))
    first = int(encoder.cls_token is not None)
    expected, found = encoder(x, keep), encoder(x, keep[:, order])
    torch.testing.assert_close(found[:, first:], expected[:, first:][:, order], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[:, :first], expected[:, :first], rtol=1e-4, atol=1e-5)


@each
def test_places_matter(build):
    """Two patches with the same values are told apart, and exchanging two patches changes the others."""
    encoder = build().encoder.eval()
    with torch.no_grad():  # so that attention is far from a mean
        for parameter in encoder.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    patches = GRID.patchify(spectrograms(1))
    exchanged = patches.clone()
    exchanged[:, [4, 9]] = patches[:, [9, 4]]
    difference = (encoder(GRID.unpatchify(exchanged)) - encoder(GRID.unpatchify(patches))).abs().mean(-1)
    assert difference[:, [0, 1, -1]].min() > 1e-4
    same = encoder(torch.ones(1, 2, 24, 12))[0, -24:]
    if isinstance(encoder.positions, AxialRotary):
        return  # equal values are equally mixed, wherever they stand
    assert torch.cdist(same, same).fill_diagonal_(1).min() > 1e-3


@each
def test_every_trained_weight_gets_a_gradient(build):
    net = build().train()
    with torch.no_grad():  # gains of zero would hide what lies behind them
        for parameter in net.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    net(spectrograms(), mask()).loss.backward()
    idle = [n for n, p in net.named_parameters() if p.requires_grad and (p.grad is None or p.grad.abs().sum() == 0)]
    assert idle == []


@each
def test_items_do_not_depend_on_each_other(build):
    net, x, drawn = build().eval(), spectrograms(), mask()
    with torch.no_grad():
        together = net(x, drawn).prediction
        alone = net(x[1:2], Mask(*(part[1:2] for part in drawn))).prediction
        torch.testing.assert_close(alone, together[1:2], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(net.embed(x)[1:2], net.embed(x[1:2]), rtol=1e-4, atol=1e-5)


@each
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_trains_under_autocast(build, dtype):
    net = build()
    exact = net(spectrograms(), mask()).loss
    with torch.autocast("cpu", dtype=dtype):
        output = net(spectrograms(), mask())
    output.loss.backward()
    assert output.loss.dtype == torch.float32
    torch.testing.assert_close(output.loss, exact, rtol=0.02, atol=0.02)
    assert all(p.grad.isfinite().all() for p in net.parameters() if p.grad is not None)


@each
def test_state_dict_restores(build):
    net, x = build(), spectrograms()
    expected = net(x, mask()).prediction
    other = build()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter += 1
    other.load_state_dict(net.state_dict())
    assert torch.equal(other(x, mask()).prediction, expected)


@pytest.mark.slow
@each
def test_overfits_one_batch(build):
    net, x = build().train(), spectrograms(2)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.0)
    losses = []
    for _ in range(300):
        loss = net(x, mask(2)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.slow
@each
def test_compiles_without_a_break(build):
    net, x = build(), spectrograms()
    drawn = mask()
    expected = net(x, drawn)
    expected.loss.backward()
    gradients = [p.grad.clone() for p in net.parameters() if p.grad is not None]
    net.zero_grad()
    found = torch.compile(net, fullgraph=True, backend="aot_eager")(x, drawn)
    found.loss.backward()
    torch.testing.assert_close(found.prediction, expected.prediction, rtol=1e-4, atol=1e-5)
    for found_gradient, gradient in zip(
        (p.grad for p in net.parameters() if p.grad is not None), gradients, strict=True
    ):
        torch.testing.assert_close(found_gradient, gradient, rtol=1e-3, atol=1e-5)


@each
def test_embeddings_have_their_size_and_no_chance_in_them(build):
    net, x = build().eval(), spectrograms(2, n_frames=24 + 10)
    poolings = ("mean", "frequency", *(("cls", "cls+mean") if net.encoder.cls_token is not None else ()))
    with torch.no_grad():
        for pooling in poolings:
            embedded = net.embed(x, pooling)
            assert embedded.shape == (2, net.embedding_dim(pooling))
            assert embedded.dtype == torch.float32
            torch.manual_seed(1)
            assert torch.equal(net.embed(x, pooling), embedded)
        assert net.embed_steps(x).shape == (2, 12, 3 * 24)  # 34 frames of 3: the last step begins at frame 33


def test_a_step_shows_what_happens_at_its_time():
    """An impulse in patch row t changes step t most, in every chunk; the released order does not do that."""
    for compat, in_order in ((None, True), ("released", False)):
        net = make(partial(MACARON, compat=compat), SinCos, compat=compat).eval()
        silence = torch.zeros(1, 2, 48, 12)
        found = []
        with torch.no_grad():
            quiet = net.embed_steps(silence)
            for step in range(16):
                impulse = silence.clone()
                impulse[:, :, 3 * step : 3 * step + 3] = 3.0
                found.append((net.embed_steps(impulse) - quiet).norm(dim=-1).argmax().item())
        assert (found == list(range(16))) is in_order


def test_bands_of_the_frequency_pooling_are_those_of_the_spectrogram():
    net = make(MACARON, SinCos).eval()
    quiet = torch.zeros(1, 2, 24, 12)
    with torch.no_grad():
        for band in range(3):
            loud = quiet.clone()
            loud[..., 4 * band : 4 * band + 4] = 3.0
            change = (net.embed(loud, "frequency") - net.embed(quiet, "frequency")).view(3, 24).norm(dim=1)
            assert change.argmax() == band


def test_frames_beyond_the_end_have_no_effect():
    net, x = make(MACARON, SinCos).eval(), spectrograms(2, n_frames=60)
    n_frames = torch.tensor([60, 31])
    with torch.no_grad():
        for pooling in ("cls", "mean", "cls+mean", "frequency"):
            together = net.embed(x, pooling, n_frames)
            alone = net.embed(x[1:, :, :31], pooling)
            torch.testing.assert_close(together[1:], alone, rtol=1e-4, atol=1e-5)


def test_pooling_over_chunks_is_the_mean_over_steps():
    net, x = make(MACARON, SinCos).eval(), spectrograms(2, n_frames=40)
    with torch.no_grad():
        steps = net.embed_steps(x)
        torch.testing.assert_close(net.embed(x, "frequency"), steps.mean(1), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(net.embed(x), steps.mean(1).view(2, 3, 24).mean(1), rtol=1e-4, atol=1e-5)


def test_baseline_is_the_mean_of_the_masked_values_or_zero():
    x, drawn = spectrograms() + 2, mask()
    net = make(MACARON, SinCos)
    values = net.targets(x)[drawn.masked]
    torch.testing.assert_close(net.baseline_loss(x, drawn.masked), values.var(correction=0))
    normalised = make(MACARON, SinCos, target="patch_normalized")
    expected = (GRID.patch_values - 1) / GRID.patch_values  # the variance is the unbiased one
    assert normalised.baseline_loss(x, drawn.masked).item() == pytest.approx(expected, rel=1e-4)


def test_reconstruction_of_the_targets_is_the_input():
    x = spectrograms() * 3 + 1
    for target in ("raw", "patch_normalized"):
        net = make(MACARON, SinCos, target=target)
        output = net(x, mask())._replace(prediction=net.targets(x))
        torch.testing.assert_close(net.reconstruct(x, output), x, rtol=1e-4, atol=1e-4)


def test_draws_with_the_generator():
    net = make(MACARON, SinCos)
    draw = partial(net.draw, 4, "cpu")
    first, second = (draw(torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first.masked, second.masked)
    masked = net(spectrograms(4), generator=torch.Generator().manual_seed(3)).masked
    assert torch.equal(masked, first.masked)


def test_drop_path_leaves_branches_out_in_training_alone():
    net = make(MACARON, SinCos, drop_path=0.5)
    x, drawn = spectrograms(), mask()
    torch.manual_seed(0)
    assert not torch.equal(net(x, drawn).prediction, net(x, drawn).prediction)
    net.eval()
    assert torch.equal(net(x, drawn).prediction, make(MACARON, SinCos).eval()(x, drawn).prediction)


def test_drop_path_keeps_the_mean():
    torch.manual_seed(0)
    block = MacaronBlock(8, 2, ffn1=FeedForward, ffn2=SwiGLU, drop_path=0.5).train()
    dropped = block.drop_path(torch.ones(20_000, 2, 3))
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert (dropped == dropped[:, :1, :1]).all()
    assert dropped.mean().item() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("pooling", ["mean", "cls", "cls+mean", "frequency"])
def test_classifier(pooling):
    encoder = make(MACARON, SinCos).encoder
    net = EncoderClassifier(encoder, n_classes=5, pooling=pooling, head_std=0.02).train()
    logits = net(spectrograms(3, n_frames=30))
    assert logits.shape == (3, 5)
    assert logits.dtype == torch.float32
    logits.square().sum().backward()
    idle = [n for n, p in net.named_parameters() if p.grad is None or p.grad.abs().sum() == 0]
    assert idle == []


def test_classifier_drops_patches_in_training_alone():
    net = EncoderClassifier(make(MACARON, SinCos).encoder, n_classes=5, patch_drop=0.5, head_std=0.02)
    x = spectrograms()
    torch.manual_seed(0)
    first = net(x)
    assert not torch.equal(net(x), first)
    torch.manual_seed(0)
    assert torch.equal(net(x), first)
    with torch.no_grad():
        assert torch.equal(net.eval()(x), net(x))


def test_refusals():
    with pytest.raises(ValueError, match="needs an encoder with a class token"):
        make(MACARON, SinCos, cls=False).embed(spectrograms(), "cls")
    with pytest.raises(ValueError, match="pooling=max must be one of"):
        make(MACARON, SinCos).embedding_dim("max")
    with pytest.raises(ValueError, match="target=pixels"):
        make(MACARON, SinCos, target="pixels")
    with pytest.raises(ValueError, match="without frames"):
        make(MACARON, SinCos).embed(spectrograms(n_frames=0))
    with pytest.raises(ValueError, match="patch_drop=0"):
        EncoderClassifier(make(MACARON, SinCos).encoder, 5, "frequency", patch_drop=0.5)
    with pytest.raises(ValueError, match="compat=old"):
        make(partial(MACARON, compat="old"), SinCos)
    with pytest.raises(ValueError, match="init=zeros"):
        make(MACARON, SinCos, init="zeros")
    with pytest.raises(ValueError, match="activation=relu"):
        FeedForward(8, activation="relu")
    with pytest.raises(ValueError, match="n_heads=5 must divide"):
        PlainBlock(24, 5, ffn=FeedForward)
