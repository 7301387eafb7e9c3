"""The encoders against transformers, alone against padded, precisions, masking, states, loading."""

from __future__ import annotations

import json
import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hydraudio.core.pretrained import pretrained_config, weights_come_later
from hydraudio.tasks.emotion.networks.upstream.encoder import Upstream, masked_group_norm, time_mask
from hydraudio.tasks.emotion.networks.upstream.loading import MINIATURE

NAMES = [f"{family}_{layout}" for family in ("wavlm", "hubert", "wav2vec2") for layout in ("base", "large")]
LENGTHS = [9000, 6100, 399, 401]


def noise(*shape: int, seed: int = 1) -> Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tiny(folder: Path, **options: Any) -> Upstream:
    return Upstream(str(folder), **{"trainable_blocks": 1, **options})


def batch() -> tuple[Tensor, Tensor]:
    """Four clips of unequal lengths with rubbish behind their ends."""
    return noise(len(LENGTHS), max(LENGTHS)), torch.tensor(LENGTHS)


@pytest.mark.parametrize(
    ("name", "attention"),
    [(name, "sdpa") for name in NAMES] + [(name, "eager") for name in ("wavlm_base", "wavlm_large", "hubert_large")],
)
def test_states_are_those_of_transformers(encoder_folders, references, name, attention):
    waveform = noise(2, 9000)
    with torch.no_grad():
        expected = references[name](waveform, output_hidden_states=True)
        states, _ = tiny(encoder_folders[name], layers="all", attention=attention).eval()(waveform)
        last, _ = tiny(encoder_folders[name], attention=attention).eval()(waveform)
    torch.testing.assert_close(states, torch.stack(expected.hidden_states, 1), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(last[:, 0], expected.last_hidden_state, atol=1e-5, rtol=1e-5)
    is_normalised_last = not torch.allclose(states[:, -1], last[:, 0], atol=1e-3)
    assert is_normalised_last == name.endswith("large")


@pytest.mark.parametrize("name", NAMES)
def test_padding_has_no_influence(encoder_folders, name):
    upstream = tiny(encoder_folders[name], layers="all").eval()
    waveform, lengths = batch()
    with torch.no_grad():
        states, n_frames = upstream(waveform, lengths)
        assert n_frames.tolist() == [27, 18, 1, 1]
        for i, length in enumerate(LENGTHS):
            alone, count = upstream(waveform[i : i + 1, :length])
            assert count.item() == n_frames[i] == alone.shape[2]
            torch.testing.assert_close(states[i, :, : n_frames[i]], alone[0], atol=1e-4, rtol=0)


def test_group_norm_of_transformers_does_depend_on_padding(encoder_folders, references):
    """What the masked norm repairs: otherwise the test above could not fail for base layouts."""
    waveform = noise(1, 6000)
    padded = torch.nn.functional.pad(waveform, (0, 12000))
    mask = torch.arange(18000).expand(1, -1) < 6000
    with torch.no_grad():
        alone = references["wavlm_base"](waveform).last_hidden_state
        masked = references["wavlm_base"](padded, attention_mask=mask.long()).last_hidden_state[:, : alone.shape[1]]
    assert (alone - masked).abs().max() > 1e-2


def test_masked_norm_of_half_precision_is_computed_in_float32():
    """The sum over a long clip is beyond float16, and its squares are beyond the precision of either."""
    norm = torch.nn.GroupNorm(2, 2)
    x = (noise(1, 2, 9000) + 20).half()
    expected = norm(x[..., :8000].float()).half()
    actual = masked_group_norm(x, torch.tensor([8000]), norm)[..., :8000]
    torch.testing.assert_close(actual, expected, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize(("name", "dtype"), [("wavlm_base", torch.float16), ("hubert_large", torch.bfloat16)])
def test_autocast_keeps_gradients_finite(encoder_folders, name, dtype):
    upstream = tiny(encoder_folders[name], trainable_blocks="all", trainable_extras=["all"])
    waveform, lengths = batch()
    with torch.autocast("cpu", dtype):
        states, n_frames = upstream(waveform, lengths)
    states[0, 0, : n_frames[0]].float().square().mean().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in upstream.parameters())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in upstream.parameters())


def test_bfloat16_weights(encoder_folders):
    upstream = tiny(encoder_folders["wavlm_base"]).eval().bfloat16()
    waveform, lengths = batch()
    with torch.no_grad():
        states, n_frames = upstream(waveform.bfloat16(), lengths)
    assert states.dtype is torch.bfloat16
    assert states[0, 0, : n_frames[0]].isfinite().all()


def test_chosen_states_and_dropped_blocks(encoder_folders):
    folder = encoder_folders["wavlm_large"]
    waveform, lengths = batch()
    with torch.no_grad():
        every, _ = tiny(folder, layers="all").eval()(waveform, lengths)
        some = tiny(folder, layers=[1, 0], trainable_blocks=1).eval()
        chosen, _ = some(waveform, lengths)
    assert some.n_blocks == 1
    assert some.n_states == 2
    torch.testing.assert_close(chosen, every[:, [1, 0]])
    with torch.no_grad():
        negative, _ = tiny(folder, layers=[-1]).eval()(waveform, lengths)
    torch.testing.assert_close(negative, every[:, -1:])


@pytest.mark.parametrize("layers", ["first", [], [3], [-4]])
def test_unknown_states_are_refused(layers):
    architecture = {**MINIATURE, "num_hidden_layers": 2}
    with pytest.raises(ValueError, match="layers="):
        Upstream(architecture=architecture, layers=layers, trainable_blocks=0)


def test_spans_are_masked_in_training_only(encoder_folders):
    architecture = {**MINIATURE, "mask_time_prob": 0.3, "mask_time_length": 4}
    upstream = Upstream(architecture=architecture)
    waveform, lengths = batch()
    torch.manual_seed(0)
    first, second = upstream(waveform, lengths)[0], upstream(waveform, lengths)[0]
    assert not torch.equal(first, second)
    upstream.eval()
    assert torch.equal(upstream(waveform, lengths)[0], upstream(waveform, lengths)[0])
    upstream.train().set_trainable(0)  # a frozen encoder's states never change: they may be cached
    assert torch.equal(upstream(waveform, lengths)[0], upstream(waveform, lengths)[0])


def test_the_configuration_says_how_much_is_masked():
    masked = {**MINIATURE, "mask_time_prob": 1e-6, "mask_time_length": 4, "mask_time_min_masks": 2}
    upstream, waveform = Upstream(architecture=masked, trainable_blocks=1), noise(1, 9000)
    assert not torch.equal(upstream(waveform)[0], upstream.eval()(waveform)[0])
    assert Upstream(architecture={**masked, "apply_spec_augment": False}).mask_time_prob == 0


def test_masking_without_an_embedding_is_refused():
    with pytest.raises(ValueError, match="masked_spec_embed"):
        Upstream(mask_time_prob=0.1)


def test_time_mask_has_whole_spans_and_spares_short_items():
    torch.manual_seed(0)
    n_frames = torch.tensor([200, 50, 9, 1])
    masks = torch.stack([time_mask(n_frames, 200, 0.5, 10) for _ in range(200)])
    assert not masks[:, 2:].any()
    assert not masks[:, 1, 50:].any()
    assert masks[:, 1, 0].any()  # spans may touch either end
    assert masks[:, 1, 49].any()
    edges = torch.nn.functional.pad(masks[:, :2].int(), (1, 1)).diff(dim=-1)
    starts, ends = (edges == 1).nonzero()[:, -1], (edges == -1).nonzero()[:, -1]
    assert (ends - starts >= 10).all()
    share = masks[:, 0].float().mean()  # 10 spans of 10 in 200 frames: 1 - (1 - 10/191)^10 of the inner frames
    assert 0.36 < share < 0.44


def test_time_mask_rounds_the_number_of_spans_up_as_often_as_the_fraction_says():
    torch.manual_seed(0)
    n_frames = torch.full((4000,), 20)
    some = time_mask(n_frames, 20, 0.15, 10).any(1).float().mean()  # 0.3 spans on average
    assert abs(some - 0.3) < 0.03
    assert time_mask(n_frames, 20, 0.0, 10, min_spans=2).any(1).all()


def test_miniature_is_seeded_and_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = Upstream(), Upstream(), Upstream(seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()
    assert first.do_normalize is False
    assert first.sample_rate == 16000


def test_fingerprint_follows_weights_and_states():
    upstream = Upstream(architecture=MINIATURE)
    before = upstream.fingerprint()
    assert Upstream(architecture=MINIATURE, layers="all").fingerprint() != before  # the same weights
    assert Upstream(architecture={**MINIATURE, "layer_norm_eps": 1e-3}).fingerprint() != before
    with torch.no_grad():
        upstream.model.feature_projection.projection.bias += 1e-3
    assert upstream.fingerprint() != before


def test_a_copy_has_its_own_weights(encoder_folders):
    upstream = tiny(encoder_folders["wavlm_base"]).eval()
    waveform, lengths = batch()
    with torch.no_grad():
        expected = upstream(waveform, lengths)[0]
        copy = deepcopy(upstream)
        upstream.model.encoder.layers[0].attention.q_proj.weight.zero_()
        assert torch.equal(copy(waveform, lengths)[0], expected)


def test_restored_from_architecture_alone(encoder_folders, tmp_path):
    folder = tmp_path / "moved"
    shutil.copytree(encoder_folders["wavlm_large"], folder)
    trained = tiny(folder, architecture=pretrained_config(str(folder)), layers="all")
    shutil.rmtree(folder)
    with weights_come_later():
        restored = tiny(folder, architecture=trained.architecture, layers="all")
    assert restored.fingerprint() != trained.fingerprint()
    restored.load_state_dict(trained.state_dict())
    assert restored.fingerprint() == trained.fingerprint()
    assert restored.do_normalize is True
    with weights_come_later(), pytest.raises(ValueError, match="architecture"):
        tiny(folder)
    with pytest.raises(FileNotFoundError, match=r"download_model\.py"):
        tiny(folder)


def changed(folder: Path, target: Path, file: str = "config.json", **values: Any) -> Path:
    shutil.copytree(folder, target)
    content = json.loads((target / file).read_text()) | values
    (target / file).write_text(json.dumps(content))
    return target


@pytest.mark.parametrize(
    ("file", "values", "message"),
    [
        ("config.json", {"model_type": "whisper"}, "whisper"),
        ("config.json", {"num_hidden_layers": 3}, "lack"),
        ("config.json", {"num_hidden_layers": 1}, "unknown"),
        ("config.json", {"intermediate_size": 32}, "other shapes"),
        ("config.json", {"add_adapter": True}, "add_adapter"),
        ("preprocessor_config.json", {"sampling_rate": 8000}, "8000 Hz"),
    ],
)
def test_folders_that_do_not_fit(encoder_folders, tmp_path, file, values, message):
    folder = changed(encoder_folders["wavlm_base"], tmp_path / "model", file, **values)
    with pytest.raises(ValueError, match=message):
        tiny(folder)


@pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
def test_weights_are_float32_whatever_the_configuration_says(encoder_folders, tmp_path, key):
    folder = changed(encoder_folders["wav2vec2_large"], tmp_path / "model", **{key: "float16"})
    loaded = tiny(folder)
    built = Upstream(architecture=loaded.architecture, trainable_blocks=1)
    assert {p.dtype for p in [*loaded.parameters(), *built.parameters()]} == {torch.float32}


def test_folder_without_weights(encoder_folders, tmp_path):
    shutil.copytree(encoder_folders["wavlm_base"], tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"pytorch_model\.bin"):
        tiny(tmp_path / "model")


def test_revision_reaches_configuration_and_weights(encoder_folders, monkeypatch):
    asked = []

    def from_hub(name: str, revision: str | None, weights: bool) -> Path:
        asked.append((name, revision, weights))
        return encoder_folders["wavlm_base"]

    monkeypatch.setattr("hydraudio.core.pretrained._from_hub", from_hub)
    Upstream("owner/name", revision="abc", trainable_blocks=1)
    assert asked == [("owner/name", "abc", False), ("owner/name", "abc", True)]


def test_architecture_of_another_model_is_refused(encoder_folders):
    with pytest.raises(ValueError, match=r"config\.json"):
        tiny(encoder_folders["wavlm_base"], architecture=MINIATURE)


def test_pickled_weights_with_old_names_and_a_head(encoder_folders, tmp_path):
    """As older repositories have them: pytorch_model.bin, weight_g and weight_v, a prefix, a pretraining head."""
    from safetensors.torch import load_file

    source = encoder_folders["wav2vec2_base"]
    weights = load_file(source / "model.safetensors")
    old = {}
    for key, value in weights.items():
        renamed = key.replace("parametrizations.weight.original0", "weight_g")
        old["wav2vec2." + renamed.replace("parametrizations.weight.original1", "weight_v")] = value
    assert any(key.endswith("weight_g") for key in old)
    old |= {"lm_head.weight": torch.zeros(4, 16), "lm_head.bias": torch.zeros(4), "project_hid.weight": torch.zeros(2)}
    folder = tmp_path / "old"
    folder.mkdir()
    shutil.copy(source / "config.json", folder)
    torch.save(old, folder / "pytorch_model.bin")
    upstream, expected = tiny(folder), tiny(source)
    for (name, value), other in zip(upstream.state_dict().items(), expected.state_dict().values(), strict=True):
        assert torch.equal(value, other), name
    assert upstream.do_normalize is None


@pytest.mark.parametrize("waveform", [torch.zeros(400), torch.zeros(1, 1, 400)])
def test_other_shapes_are_refused(waveform):
    with pytest.raises(ValueError, match=r"\(batch, time\)"):
        Upstream()(waveform)


def test_from_a_composed_configuration_and_back_from_its_text(encoder_folders, tmp_path):
    """As in a run: the architecture comes through the interpolation and is all that a checkpoint needs."""
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    from hydra_preflight.resolvers import register_resolvers

    register_resolvers()
    folder = tmp_path / "moved"
    shutil.copytree(encoder_folders["hubert_base"], folder)
    cfg = OmegaConf.load(Path(__file__).parents[4] / "configs/model/emotion/_base.yaml").net.upstream
    cfg = OmegaConf.create({"model": {"net": {"upstream": cfg}}, "seed": 1})
    cfg.model.net.upstream.update({"source": str(folder), "layers": [0, 2], "trainable_blocks": 1})
    text = OmegaConf.to_yaml(cfg, resolve=True)
    trained = instantiate(cfg.model.net.upstream)
    shutil.rmtree(folder)
    with weights_come_later():
        restored = instantiate(OmegaConf.create(text).model.net.upstream)
    restored.load_state_dict(trained.state_dict())
    assert restored.fingerprint() == trained.fingerprint()
    assert restored.n_states == 2
