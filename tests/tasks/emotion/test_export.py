"""Emotion networks as ONNX files, for any length."""

import functools
import json

import numpy as np
import pytest
import torch
from torch import nn

from hydraudio.share.onnx import TOLERANCE, export_onnx
from hydraudio.tasks.emotion.networks.heads import AttributeHead, ClassifierHead
from hydraudio.tasks.emotion.networks.network import EmotionNetwork
from hydraudio.tasks.emotion.networks.normalization import WaveformNormalization
from hydraudio.tasks.emotion.networks.pooling import AttentiveStatistics, MeanStd, MultiHeadAttention
from hydraudio.tasks.emotion.networks.upstream.encoder import Upstream
from hydraudio.tasks.emotion.networks.upstream.loading import MINIATURE
from hydraudio.tasks.emotion.task import EmotionTask

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
pytestmark = pytest.mark.slow  # the exporter needs 5 s for each

CLASSES, NAMES = ["Ärger", "Sad", "Happy"], ["arousal", "valence"]
CATEGORY = functools.partial(ClassifierHead, n_classes=len(CLASSES), hidden_dim=16)
ATTRIBUTES = functools.partial(AttributeHead, attribute_names=NAMES, hidden_dim=16)
LORA = {"rank": 2, "alpha": 4, "targets": ["q_proj", "intermediate_dense"]}
BASE = {**MINIATURE, "feat_extract_norm": "group", "do_stable_layer_norm": False, "conv_bias": False}
CASES = {
    "wavlm_large": ({"layers": "all"}, AttentiveStatistics, WaveformNormalization(0.0, 0.09)),
    "wavlm_eager": ({"attention": "eager"}, MeanStd, WaveformNormalization()),
    "wavlm_base": ({"architecture": BASE, "layers": [1, 3]}, MultiHeadAttention, None),
    "hubert_base": ({"architecture": {**BASE, "model_type": "hubert"}}, MeanStd, None),
    "wav2vec2_base": ({"architecture": {**BASE, "model_type": "wav2vec2"}}, AttentiveStatistics, None),
    "lora": ({"lora": LORA, "trainable_blocks": 0}, MeanStd, None),
}


def exportable(upstream, pooling, normalization, **heads):
    torch.manual_seed(0)
    net = EmotionNetwork(Upstream(**upstream), pooling, normalization=normalization, **heads).eval()
    losses = {"category": nn.Identity(), "attributes": nn.Identity()}
    task = EmotionTask(
        net, losses, sum, CLASSES[: net.n_classes], NAMES[: net.n_attributes], optimizer=torch.optim.Adam
    )
    return net, task.export_module()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_file_equals_the_network_at_any_length(case, tmp_path):
    import onnx

    net, network = exportable(*case, category=CATEGORY, attributes=ATTRIBUTES)
    assert network.output_names == ("probabilities", "attributes")
    assert export_onnx(network, tmp_path / "net.onnx") <= TOLERANCE
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    for n_samples in (400, 719, 720, 5000, 60000):  # one frame, one still, two, ... farther than any distance bucket
        waveform = 0.1 * torch.randn(1, n_samples)
        with torch.no_grad():
            expected = net(waveform)
        probabilities, attributes = session.run(None, {"waveform": waveform.numpy()})
        np.testing.assert_allclose(probabilities, expected["logits"].softmax(-1), atol=1e-5)
        np.testing.assert_allclose(attributes, expected["attributes"], atol=1e-5)
    properties = {entry.key: entry.value for entry in onnx.load(tmp_path / "net.onnx").metadata_props}
    assert (properties["sample_rate"], properties["shortest_samples"]) == ("16000", "400")
    assert (json.loads(properties["class_names"]), json.loads(properties["attribute_names"])) == (CLASSES, NAMES)


def test_only_the_heads_that_there_are(tmp_path):
    _, network = exportable({}, MeanStd, None, attributes=ATTRIBUTES)
    assert network.output_names == ("attributes",)
    assert export_onnx(network, tmp_path / "net.onnx") <= TOLERANCE
