"""Apple's GPU has no float64 and no complex128: no step of a short experiment makes such a tensor."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from lightning.pytorch import Trainer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hydra_preflight.compose import compose_run
from hydra_preflight.resolvers import bind_data_attributes
from hydraudio.metrics import sdr
from hydraudio.nn.layers import elementary

ROOT = Path(__file__).parents[2]
TASKS = sorted(path.stem for path in (ROOT / "configs/task").glob("*.yaml"))
EXPERIMENTS = [
    f"{task}/{path.stem}"
    for task in TASKS
    for path in (
        sorted((ROOT / "configs/experiment" / task).glob("*quick.yaml"))
        or sorted((ROOT / "configs/experiment" / task).glob("*.yaml"))
    )
]
"""Those that a task calls quick; of a task without such all, which are short on the miniature."""
LACKING = (torch.float64, torch.complex128)


class NothingDouble(TorchDispatchMode):
    """Refuses results that Apple's GPU cannot hold."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and tensor.dtype in LACKING:
                raise TypeError(f"{func} gives {tensor.dtype}")
        return result


@pytest.fixture
def as_on_mps(monkeypatch):
    """Take the ways that the code takes there, on tensors of the CPU."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(elementary, "prefers_channels_last", lambda x: False)
    monkeypatch.setattr(sdr, "widest_float", lambda device: torch.float32)


def test_the_mode_refuses_what_apple_lacks():
    with NothingDouble(), pytest.raises(TypeError, match="float64"):
        torch.ones(2).double()
    with NothingDouble(), pytest.raises(TypeError, match="float64"):
        sdr.pairwise_si_sdr(torch.randn(1, 1, 80), torch.randn(1, 1, 80))


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_no_step_makes_doubles(as_on_mps, shared, tmp_path, monkeypatch, experiment):
    monkeypatch.setenv("PROJECT_ROOT", str(ROOT))
    monkeypatch.setenv("HYDRAUDIO_DATA_DIR", str(shared / "data"))
    cfg = compose_run([f"experiment={experiment}", "trainer=mps", "data.batch_size=2"], tmp_path)
    assert cfg.data.num_workers == 0
    data = instantiate(cfg.data)
    data.prepare_data()
    data.setup("fit")
    data.setup("test")
    bind_data_attributes(data)
    task = instantiate(cfg.model)
    task.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    task.log = task.log_dict = lambda *arguments, **options: None
    batches = {split: next(iter(getattr(data, f"{split}_dataloader")())) for split in ("train", "val", "test")}
    assert not [tensor for tensor in tree_leaves([*task.state_dict().values()]) if tensor.dtype in LACKING]
    assert not [
        tensor for tensor in tree_leaves(batches) if isinstance(tensor, torch.Tensor) and tensor.dtype in LACKING
    ]
    with NothingDouble():
        task.training_step(batches["train"]).backward()
        task.eval()
        with torch.no_grad():
            task.validation_step(batches["val"])
            task.test_step(batches["test"])
