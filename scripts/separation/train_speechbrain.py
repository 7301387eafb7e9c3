"""SpeechBrain's Conv-TasNet in a bare loop on our data, for a given time: the peer of an experiment of ours.

Network sizes, batches, loss, learning rate and clipping are those of the composed configuration; test and report
are those of `src/train.py`, so that the comparison of `src/eval.py` can read both.

    python scripts/separation/train_speechbrain.py --minutes 10 --output logs/speechbrain_es \\
        experiment=separation/polsess_conv_tasnet_es model=separation/conv_tasnet_small \\
        data.root=data/polsess_recordings
"""

import argparse
import time
from pathlib import Path

import rootutils
import torch
from benchmark_conv_tasnet import SpeechBrainConvTasNet
from hydra.utils import instantiate
from lightning.pytorch import Trainer, seed_everything
from omegaconf import DictConfig
from torch import Tensor, nn

rootutils.setup_root(__file__, indicator="pyproject.toml", project_root_env_var=True, dotenv=True)

from hydra_preflight.compose import compose_run  # noqa: E402
from hydra_preflight.resolvers import bind_data_attributes  # noqa: E402
from hydraudio.core.callbacks.progress import RunProgressBar  # noqa: E402
from hydraudio.core.torchaudio_standin import install_torchaudio_standin  # noqa: E402
from hydraudio.tasks.separation.task import SeparationTask  # noqa: E402


class Peer(nn.Module):
    """SpeechBrain's network behind our interface: (batch, time) -> (batch, n_sources, time)."""

    def __init__(self, cfg: DictConfig, n_sources: int) -> None:
        super().__init__()
        self.n_sources = n_sources
        keys = ("n_filters", "bottleneck_channels", "hidden_channels", "n_blocks", "n_repeats")
        self.net = SpeechBrainConvTasNet(n_sources, {key: cfg[key] for key in keys})

    def forward(self, mixture: Tensor) -> Tensor:
        estimate = self.net(mixture)
        return nn.functional.pad(estimate, (0, mixture.shape[-1] - estimate.shape[-1]))


def train(task: SeparationTask, cfg: DictConfig, data: object, minutes: float) -> int:
    """Train for the given time; return the number of steps."""
    optimizer = instantiate(cfg.model.optimizer)(task.net.parameters())
    loader = data.train_dataloader()  # type: ignore[attr-defined]
    end_s, n_steps, epoch = time.monotonic() + 60 * minutes, 0, 0
    while True:
        loader.batch_sampler.set_epoch(epoch)
        for batch in loader:
            if time.monotonic() > end_s:
                return n_steps
            loss = task.loss(task.net(batch["mixture"]), batch["target"], batch["lengths"])[0].mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(task.net.parameters(), cfg.trainer.gradient_clip_val)
            optimizer.step()
            n_steps += 1
        epoch += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, required=True, help="time of training, without the test")
    parser.add_argument("--output", type=Path, required=True, help="folder of weights and report")
    parser.add_argument("overrides", nargs="*", help="of configs/train.yaml")
    arguments = parser.parse_args()
    install_torchaudio_standin()
    cfg = compose_run(arguments.overrides, arguments.output)
    seed_everything(cfg.seed, verbose=False)
    data = instantiate(cfg.data)
    bind_data_attributes(data)
    data.prepare_data()
    data.setup("fit")
    peer = Peer(cfg.model.net, data.n_sources)
    task = SeparationTask(peer, instantiate(cfg.model.loss), optimizer=torch.optim.Adam, sample_rate=data.sample_rate)
    n_steps = train(task, cfg, data, arguments.minutes)
    arguments.output.mkdir(parents=True, exist_ok=True)
    torch.save(peer.state_dict(), arguments.output / "weights.pt")
    print(f"{n_steps} steps of {cfg.data.batch_size} items in {arguments.minutes} minutes")
    report = instantiate(cfg.report)
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, callbacks=[RunProgressBar(), report])
    trainer.test(task, datamodule=data, verbose=False)


if __name__ == "__main__":
    main()
