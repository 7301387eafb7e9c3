"""Networks as ONNX files: every class that a configuration names exports, or says why it does not."""

from pathlib import Path

import pytest
import torch
import yaml
from hydra.utils import get_class
from torch import nn

from hydraudio.core.exportable import Exportable, waveform_sizes
from hydraudio.core.spec import Axes
from hydraudio.losses.permutation import PermutationInvariant
from hydraudio.losses.sdr import SISDRLoss
from hydraudio.share import onnx as export
from hydraudio.share.onnx import export_onnx
from hydraudio.tasks.separation.spec import SPEC
from hydraudio.tasks.separation.task import SeparationTask

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

TINY = {
    name: size
    for name, size in yaml.safe_load(Path(__file__).with_name("tiny_networks.yaml").read_text()).items()
    if name.startswith("hydraudio.tasks.separation.networks.")
}
FAST = "ConvTasNet"  # for the others the exporter needs 5 to 60 s
NAMES = [pytest.param(n, marks=[] if n.endswith(FAST) else [pytest.mark.slow], id=n.split(".")[-1]) for n in TINY]


def separator(net, sample_rate=8000):
    task = SeparationTask(net, PermutationInvariant(SISDRLoss()), optimizer=torch.optim.Adam, sample_rate=sample_rate)
    return task.export_module()


@pytest.mark.parametrize("name", NAMES)
def test_every_network_exports(name, tmp_path):
    torch.manual_seed(0)
    net = get_class(name)(n_sources=2, **TINY[name])
    assert export_onnx(separator(net, sample_rate=2000), tmp_path / "net.onnx") <= export.TOLERANCE
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


class Gain(nn.Module):
    n_sources = 1

    def forward(self, mixture):
        return 0.5 * mixture.unsqueeze(1)


class Reader(Gain):
    """Looks at values, which no graph can."""

    def forward(self, mixture):
        return super().forward(mixture) * (2 if mixture.sum() > 0 else 1)


class Forgetful(Gain):
    """Computes something else when it is written."""

    def forward(self, mixture):
        return super().forward(mixture) * (1.0 if torch.compiler.is_exporting() else 2.0)


class Offset(Gain):
    """Adds what only quiet recordings show when it is written."""

    def forward(self, mixture):
        return super().forward(mixture) + (1e-7 if torch.compiler.is_exporting() else 0.0)


class Peak(Gain):
    """Not defined for silence when it is written, or always."""

    def __init__(self, eps):
        super().__init__()
        self.eps = eps

    def forward(self, mixture):
        scale = mixture.square().mean(-1, keepdim=True) + (0.0 if torch.compiler.is_exporting() else self.eps)
        return super().forward(mixture / scale.sqrt())


class Normalized(Gain):
    def forward(self, mixture):
        mixture = mixture - mixture.mean(-1, keepdim=True)
        return super().forward(mixture / (mixture.square().mean(-1, keepdim=True) + 1e-8).sqrt() - 1e-9)


def test_small_eps_is_kept(tmp_path):
    import onnxruntime

    net = Normalized()
    assert export_onnx(separator(net), tmp_path / "net.onnx") <= export.TOLERANCE
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    noise = torch.randn(1, 800, generator=torch.Generator().manual_seed(1))
    for gain in (0, 1e-8, 1e-4, 1):
        (found,) = session.run(None, {"mixture": (gain * noise).numpy()})
        expected = net(gain * noise)
        assert (torch.from_numpy(found) - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_metadata(tmp_path):
    import onnx

    export_onnx(separator(Gain()), tmp_path / "net.onnx")
    properties = {entry.key: entry.value for entry in onnx.load(tmp_path / "net.onnx").metadata_props}
    assert properties["sample_rate"] == "8000"
    assert properties["n_sources"] == "1"


class Pair(Gain):
    """Two outputs of very unequal size, the small one wrong when it is written."""

    def forward(self, mixture):
        return 100 * mixture, mixture.mean(1) * (1.0 if torch.compiler.is_exporting() else 1.1)


def test_every_output_is_compared_by_its_own_scale(tmp_path):
    network = Exportable(Pair(), {"mixture": SPEC.batch["mixture"]}, ("loud", "level"), waveform_sizes(8000))
    with pytest.raises(ValueError, match=r"Pair: the exported graph differs from the network by 9\.1e-02"):
        export_onnx(network, tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("net", "message"),
    [
        (Reader(), "Reader cannot be exported to ONNX: .*src/predict.py"),
        (Forgetful(), "differs from the network by 5.* for noise at 0 dB as mixture"),
        (Offset(), "differs from the network by .* for noise at -60 dB"),
        (Peak(eps=1e-6), "differs from the network by .* for noise at -20 dB"),
        (Peak(eps=1e-20), "differs from the network by nan .* for zeros"),
        (Peak(eps=0.0), "Peak itself gives values that are not finite for zeros"),
    ],
)
def test_what_cannot_be_exported_says_so_and_leaves_nothing(net, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export_onnx(separator(net), tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


class Painter(nn.Module):
    """A picture of any width and a choice, without a waveform."""

    def forward(self, picture, choice):
        return picture.mean(2) * choice[:, None]


def test_inputs_are_those_of_the_exportable(tmp_path):
    import onnx

    inputs = {"picture": Axes("batch bands frames"), "choice": Axes("batch", "int64")}
    sizes = {"batch": (2, 3), "bands": 4, "frames": (5, 9)}
    export_onnx(Exportable(Painter(), inputs, ("heights",), sizes), tmp_path / "net.onnx")
    graph = onnx.load(tmp_path / "net.onnx").graph
    shapes = {one.name: [axis.dim_value for axis in one.type.tensor_type.shape.dim] for one in graph.input}
    assert shapes == {"picture": [0, 4, 0], "choice": [0]}  # 0: any size
