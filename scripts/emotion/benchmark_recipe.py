"""Speed of emotion training: batches and encoder against the plain recipe, fused attention, cached features.

1. One training step (forward, backward, AdamW) of a WavLM of base size with random weights on utterances as long as
   those of MSP-PODCAST. Plain: transformers' WavLMModel with eager attention, random batches of 16, frozen parts in
   train mode. Both arms train the same parameters: the top three blocks, the pooling and the head. "as published" is
   the plain arm with what the public 200AI recipe also trains, without meaning to: projection, positional convolution
   and the encoder's norm, so that a graph is kept through every block. Each arm gets the batch of its epoch that is
   most typical: mean duration closest to the corpus's, padding closest to the epoch's.
2. The fused attention alone: forward and backward of the encoder's blocks on equal clips, with what autograd keeps.
3. An epoch on cached features against an epoch through the frozen encoder, same head, same utterances.

    python scripts/emotion/benchmark_recipe.py
    python scripts/emotion/benchmark_recipe.py --small      # a tiny encoder, as a smoke test
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hydraudio.core.sampling import EpochBatchSampler, padding_share
from hydraudio.tasks.emotion.corpora.base import LENGTH_JITTER
from hydraudio.tasks.emotion.corpora.msp_podcast.datamodule import MSPPodcastDataModule
from hydraudio.tasks.emotion.networks.heads import ClassifierHead
from hydraudio.tasks.emotion.networks.network import EmotionNetwork
from hydraudio.tasks.emotion.networks.pooling import AttentiveStatistics, MeanStd
from hydraudio.tasks.emotion.networks.upstream.encoder import Upstream, frame_lengths
from hydraudio.tasks.emotion.networks.upstream.loading import build_model

RATE_HZ = 16000
N_CLASSES = 8
N_UTTERANCES = 4000
BASE: dict[str, Any] = {"model_type": "wavlm", "mask_time_prob": 0.0}  # transformers' defaults are those of base
SMALL = BASE | {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}


def durations_s(n: int, seed: int = 0) -> np.ndarray:
    """(n,) seconds with the statistics of MSP-PODCAST's development turns: 1.9 to 11.0, mean 5.7, median 5.2."""
    rng = np.random.default_rng(seed)
    return np.interp(rng.random(n), [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1], [1.9, 2.8, 3.8, 5.2, 7.2, 10.1, 11.0])


class PlainNetwork(nn.Module):
    """The recipe as it is usually written: the encoder of transformers, a frame mask, pooling and head."""

    def __init__(self, architecture: dict[str, Any], trains_projection: bool) -> None:
        super().__init__()
        self.encoder: Any = build_model(architecture, "eager")
        self.encoder.freeze_feature_encoder()
        kept = () if trains_projection else ("feature_projection", "encoder.pos_conv_embed", "encoder.layer_norm")
        top = len(self.encoder.encoder.layers) - 3
        for name, parameter in self.encoder.named_parameters():
            is_low_block = name.startswith("encoder.layers.") and int(name.split(".")[2]) < top
            parameter.requires_grad_(not (is_low_block or name.startswith(("feature_extractor", *kept))))
        dim = self.encoder.config.hidden_size
        self.pooling = AttentiveStatistics(dim)
        self.head = ClassifierHead(2 * dim, N_CLASSES, hidden_dim=dim)

    def forward(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        mask = torch.arange(waveform.shape[1], device=waveform.device) < lengths[:, None]
        frames = self.encoder(waveform, attention_mask=mask.long()).last_hidden_state
        return self.head(self.pooling(frames, frame_lengths(lengths)))


def our_network(architecture: dict[str, Any], **options: Any) -> EmotionNetwork:
    def head(in_features: int) -> ClassifierHead:
        return ClassifierHead(in_features, N_CLASSES, hidden_dim=architecture.get("hidden_size", 768))

    pooling = MeanStd if options.get("layers") == "all" else AttentiveStatistics
    return EmotionNetwork(Upstream(architecture=architecture, **options), pooling, category=head)


def timed(function: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def with_kept_bytes(function: Callable[[], Tensor]) -> tuple[Tensor, int]:
    """What `function` returns, and the bytes of the distinct tensors that autograd keeps for its backward pass."""
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = function()  # alive until the sizes are summed, so that no address is used twice
    return result, sum(sizes.values())


def typical_batch(seconds: np.ndarray, batches: list[np.ndarray], padding: float) -> np.ndarray:
    """The full batch whose mean duration and padding are closest to those of the epoch."""
    size = max(len(batch) for batch in batches)

    def distance(batch: np.ndarray) -> float:
        own = 1 - seconds[batch].mean() / seconds[batch].max()
        return abs(seconds[batch].mean() / seconds.mean() - 1) + abs(own - padding)

    return min((batch for batch in batches if len(batch) == size), key=distance)


def epoch_batches(seconds: np.ndarray, batch_size: int, bucketed: bool) -> list[np.ndarray]:
    lengths = (seconds * RATE_HZ).astype(np.int64)
    given = lengths if bucketed else None
    sampler = EpochBatchSampler(len(seconds), batch_size, shuffle=True, lengths=given, jitter=LENGTH_JITTER)
    return [np.array([index for _, index in keys]) for keys in sampler]


def waveforms(seconds: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
    """Noise of these durations, padded with zeros, and the lengths."""
    lengths = torch.from_numpy((seconds * RATE_HZ).astype(np.int64)).to(device)
    x = 0.1 * torch.randn(len(seconds), int(lengths.max()), device=device)
    return x * (torch.arange(x.shape[1], device=device) < lengths[:, None]), lengths


def benchmark_step(args: argparse.Namespace, device: torch.device) -> None:
    architecture = SMALL if args.small else BASE
    seconds = durations_s(N_UTTERANCES)
    lengths = (seconds * RATE_HZ).astype(np.int64)
    quantiles = np.percentile(seconds, [0, 50, 95, 100]).round(1)
    print(f"durations: mean {seconds.mean():.2f} s, min/median/p95/max {'/'.join(map(str, quantiles))} s")
    arms: dict[str, tuple[Callable[[], nn.Module], bool, torch.dtype]] = {
        "plain": (lambda: PlainNetwork(architecture, False), False, torch.float32),
        "ours": (lambda: our_network(architecture, trainable_blocks=3), True, torch.float32),
        "plain, as published": (lambda: PlainNetwork(architecture, True), False, torch.float32),
    }
    if device.type == "cuda":
        arms["ours, bf16"] = (arms["ours"][0], True, torch.bfloat16)
    rates: dict[str, float] = {}
    print(f"training step, {device.type}; padding is that of a whole epoch")
    for name, (build, bucketed, precision) in arms.items():
        batches = epoch_batches(seconds, args.batch_size, bucketed)
        padding = padding_share(lengths, batches)
        x, n_samples = waveforms(seconds[typical_batch(seconds, batches, padding)], device)
        step = training_step(build().to(device).train(), x, n_samples, precision)
        if args.n_repeats > 1 or args.small or device.type == "cuda":
            step()
        kept: list[int] = []
        took = [timed(lambda step=step, kept=kept: kept.append(step()), device) for _ in range(args.n_repeats)]
        rates[name] = len(x) / statistics.median(took)
        print(
            f"  {name:20s} {len(x)} utterances padded to {x.shape[1] / RATE_HZ:4.1f} s  padding {padding:6.1%}  "
            f"{rates[name]:8.3f} utterances/s  {rates[name] / rates['plain']:5.2f} x plain  "
            f"kept for backward {kept[0] / 2**30:5.2f} GiB",
            flush=True,
        )


def training_step(network: nn.Module, x: Tensor, lengths: Tensor, precision: torch.dtype) -> Callable[[], int]:
    """A function that trains for one step and returns the bytes that were kept for its backward pass."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5)
    label = torch.arange(len(x), device=x.device) % N_CLASSES

    def loss() -> Tensor:
        with torch.autocast(x.device.type, precision, enabled=precision != torch.float32):
            output = network(x, lengths)
        logits = output if isinstance(output, Tensor) else output["logits"]
        return F.cross_entropy(logits.float(), label)

    def step() -> int:
        optimizer.zero_grad()
        value, kept = with_kept_bytes(loss)
        value.backward()
        optimizer.step()
        return kept

    return step


def benchmark_attention(args: argparse.Namespace, device: torch.device) -> None:
    """Blocks of the encoder with either attention, forward and backward, all of them trained."""
    architecture = SMALL if args.small else BASE | {"num_hidden_layers": args.n_blocks}
    n_frames = frame_lengths(int(args.clip_s * RATE_HZ))
    n_clips = 2 if device.type == "cpu" else 16
    precisions = [torch.float32] if device.type == "cpu" else [torch.float32, torch.bfloat16]
    dim = architecture.get("hidden_size", 768)
    x = torch.randn(n_clips, n_frames, dim, device=device)
    for precision in precisions:
        seconds: dict[str, list[float]] = {"eager": [], "sdpa": []}
        kept, blocks = {}, {}
        for name in seconds:
            torch.manual_seed(0)
            upstream = Upstream(architecture=architecture, trainable_blocks="all", attention=name)
            blocks[name] = upstream.to(device).train()

        def forward(upstream: Upstream, precision: torch.dtype = precision) -> Tensor:
            with torch.autocast(device.type, precision, enabled=precision != torch.float32):
                return upstream._blocks(x, None, 0)

        def backward(upstream: Upstream) -> None:
            forward(upstream).float().sum().backward()

        for name in seconds:
            kept[name] = with_kept_bytes(partial(forward, blocks[name]))[1]
        for _ in range(args.n_repeats + 1):
            for name, times in seconds.items():
                times.append(timed(partial(backward, blocks[name]), device))
        median = {name: statistics.median(times[1:]) for name, times in seconds.items()}
        n_blocks = len(blocks["sdpa"].model.encoder.layers)
        print(f"{n_blocks} blocks, {n_clips} clips of {args.clip_s:g} s, {precision}, {device.type}, fwd + bwd")
        for name, took in median.items():
            ratio, memory = median["eager"] / took, kept[name] / 2**20
            print(f"  {name:8s} {1000 * took:9.1f} ms  {ratio:5.2f} x eager  kept for backward {memory:8.1f} MiB")


def benchmark_cache(args: argparse.Namespace, device: torch.device) -> None:
    """A head's epoch on mean and deviation of every state, computed anew or read from the cache on disk."""
    network = our_network(SMALL if args.small else BASE, trainable_blocks=0, layers="all").to(device).train()
    head = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(head, lr=1e-3)

    def epoch(data: MSPPodcastDataModule) -> None:
        for batch in data.train_dataloader():
            names = ("features", "frame_lengths") if "features" in batch else ("waveform", "lengths")
            first, second = (batch[name].to(device) for name in names)
            output = network.classify(first, second) if "features" in batch else network(first, second)
            optimizer.zero_grad()
            F.cross_entropy(output["logits"], batch["target"].to(device)).backward()
            optimizer.step()

    @torch.inference_mode()
    def compute(batch: dict[str, Any]) -> list[np.ndarray]:
        statistics_of = network.statistics(batch["waveform"].to(device), batch["lengths"].to(device))
        return list(statistics_of.float().cpu().numpy())

    with tempfile.TemporaryDirectory() as folder:
        data = MSPPodcastDataModule(
            embedded={"min_s": 1.9, "max_s": 9.5, "n_train": 100, "n_val": 40},
            data_dir=folder,
            cache_dir=folder,
            max_train_samples=args.n_cached,
            max_val_samples=2,
            batch_size=args.batch_size,
        )
        data.prepare_data()
        data.setup("fit")
        mean_s = float(np.mean(data.datasets["train"].lengths)) / RATE_HZ
        full = timed(lambda: epoch(data), device)
        filling = timed(lambda: data.cache_features(network.fingerprint(), "statistics", compute, folder), device)
        epoch(data)
        cached = statistics.median(timed(lambda: epoch(data), device) for _ in range(5))
    print(f"epoch of a head on {args.n_cached} utterances of {mean_s:.1f} s on average, frozen encoder, {device.type}")
    print(f"  through the encoder {full:8.3f} s    filling the cache {filling:8.3f} s    cached {cached:8.4f} s")
    print(f"  ratio {full / cached:.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a tiny encoder in place of base size")
    parser.add_argument(
        "--parts", nargs="+", default=["step", "attention", "cache"], choices=["step", "attention", "cache"]
    )
    parser.add_argument("--batch-size", type=int, default=16, help="utterances of a training step")
    parser.add_argument("--clip-s", type=float, default=8.0, help="duration of the clips of the attention part")
    parser.add_argument("--n-blocks", type=int, default=1, help="blocks of the attention part")
    parser.add_argument("--n-cached", type=int, default=32, help="utterances of the cache part")
    parser.add_argument("--n-repeats", type=int, default=1, help="timed runs of each arm; the median counts")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    device = torch.device(args.device)
    torch.manual_seed(0)
    for name, part in (("step", benchmark_step), ("attention", benchmark_attention), ("cache", benchmark_cache)):
        if name in args.parts:
            part(args, device)


if __name__ == "__main__":
    main()
