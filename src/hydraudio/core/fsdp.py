"""Training with weights, gradients and optimizer state sharded over all devices (FSDP2)."""

from __future__ import annotations

import types
from typing import Any

from lightning.pytorch.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

from hydraudio.core.task import Task


class FullyShardedStrategy(ModelParallelStrategy):
    """Shard a task's networks over all devices; checkpoints are ordinary single files with the whole weights.

    Args:
        **strategy_arguments: see lightning.pytorch.strategies.ModelParallelStrategy.
    """

    def __init__(self, **strategy_arguments: Any) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False, **strategy_arguments)

    def setup_environment(self) -> None:
        self._data_parallel_size = self.num_processes * self.num_nodes
        super().setup_environment()
        # The hook in which Lightning wants a module to shard itself; tasks need not know about sharding.
        self.lightning_module.configure_model = types.MethodType(shard, self.lightning_module)  # type: ignore


def shard(task: Task) -> None:
    """Shard the networks block by block, so that only one block's weights are whole at a time.

    A block is an element of a ModuleList or Sequential that has parts of its own. A network that was sharded before,
    for training, stays as it is.
    """
    assert task.device_mesh is not None, "the strategy makes the mesh before it calls this"
    for network in task.networks().values():
        if not isinstance(network, FSDPModule):
            _shard_network(network, task.device_mesh["data_parallel"])


def _shard_network(network: nn.Module, mesh: DeviceMesh) -> None:
    containers = [module for module in network.modules() if isinstance(module, nn.ModuleList | nn.Sequential)]
    for block in (block for container in containers for block in container):
        if list(block.children()) and not isinstance(block, nn.ModuleList | nn.Sequential):
            fully_shard(block, mesh=mesh)
            for name in dir(block):
                if name.startswith("forward_"):  # called without the hooks that gather the weights
                    register_fsdp_forward_method(block, name)
    fully_shard(network, mesh=mesh)
