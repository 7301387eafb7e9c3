"""DPRNN, SepFormer and RE-SepFormer against SpeechBrain's: forward pass and training step, side by side.

Equal weights, inputs, loss (-SI-SDR) and optimizer; the two take turns in one process, and medians are printed: first
with the memory allocator as it is, then with `keep_freed_memory`, which Hydraudio's training on a CPU switches on.

    python scripts/separation/benchmark_dual_path.py --net dprnn --steps 10
    python scripts/separation/benchmark_dual_path.py --net sepformer --steps 3 --batch-size 1
    python scripts/separation/benchmark_dual_path.py --net resepformer --steps 10
    python scripts/separation/benchmark_dual_path.py --net sepformer --size small --seconds 2

SpeechBrain's SepFormer of the default size keeps about 10 GB per item of 4 s for the backward pass.
"""

import argparse
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from benchmark_conv_tasnet import SAMPLE_RATE_HZ, measure
from torch import Tensor, nn

from hydraudio.core.cpu_memory import keep_freed_memory
from hydraudio.core.torchaudio_standin import install_torchaudio_standin
from hydraudio.tasks.separation.networks.converters.dprnn import dprnn_from_speechbrain
from hydraudio.tasks.separation.networks.converters.resepformer import resepformer_from_speechbrain
from hydraudio.tasks.separation.networks.converters.sepformer import sepformer_from_speechbrain

KERNEL_SIZE, SEGMENT_FRAMES = 16, 150


class Size(NamedTuple):
    """DPRNN's `hidden` are units per direction, those of the others hidden features of the feed-forward layers."""

    n_filters: int
    n_blocks: int
    n_layers: int
    hidden: int
    chunk_size: int
    n_heads: int


SIZES = {
    ("dprnn", "default"): Size(64, 6, 1, 128, 100, 0),
    ("dprnn", "small"): Size(64, 5, 1, 64, 100, 0),
    ("sepformer", "default"): Size(256, 2, 8, 1024, 250, 8),
    ("sepformer", "small"): Size(96, 2, 2, 384, 100, 4),
    ("resepformer", "default"): Size(128, 2, 8, 1024, SEGMENT_FRAMES, 8),
    ("resepformer", "small"): Size(128, 2, 3, 512, SEGMENT_FRAMES, 8),
}
GB_PER_ITEM = {"dprnn": 1.5, "sepformer": 10.0, "resepformer": 2.0}  # of SpeechBrain's default size and 4 s


class SpeechBrainNet(nn.Module):
    """Encoder, mask net and decoder of SpeechBrain put together as its recipes do."""

    def __init__(self, mask_net: nn.Module, n_filters: int) -> None:
        super().__init__()
        from speechbrain.lobes.models.dual_path import Decoder, Encoder

        stride = KERNEL_SIZE // 2
        self.encoder = Encoder(kernel_size=KERNEL_SIZE, out_channels=n_filters)
        self.masknet = mask_net
        self.decoder = Decoder(n_filters, out_channels=1, kernel_size=KERNEL_SIZE, stride=stride, bias=False)

    def forward(self, mixture: Tensor) -> Tensor:
        features = self.encoder(mixture)
        estimates = [self.decoder(features * mask).view(len(mixture), -1) for mask in self.masknet(features)]
        return torch.stack(estimates, dim=1)

    def parts(self) -> dict[str, dict[str, Tensor]]:
        return {name: module.state_dict() for name, module in self.named_children()}


def speechbrain_dprnn(n_sources: int, size: Size) -> nn.Module:
    from speechbrain.lobes.models.dual_path import Dual_Path_Model, SBRNNBlock

    blocks = [SBRNNBlock(size.n_filters, size.hidden, size.n_layers, bidirectional=True) for _ in range(2)]
    return Dual_Path_Model(*[size.n_filters] * 2, *blocks, size.n_blocks, K=size.chunk_size, num_spks=n_sources)


def speechbrain_sepformer(n_sources: int, size: Size) -> nn.Module:
    from speechbrain.lobes.models.dual_path import Dual_Path_Model, SBTransformerBlock

    blocks = [transformer(SBTransformerBlock, size) for _ in range(2)]
    options = {"K": size.chunk_size, "num_spks": n_sources, "linear_layer_after_inter_intra": False}
    return Dual_Path_Model(*[size.n_filters] * 2, *blocks, size.n_blocks, **options)


def speechbrain_resepformer(n_sources: int, size: Size) -> nn.Module:
    from speechbrain.lobes.models.resepformer import ResourceEfficientSeparator, SBTransformerBlock_wnormandskip

    blocks = [transformer(SBTransformerBlock_wnormandskip, size) for _ in range(2)]
    options = {"layer": size.n_blocks, "segment_size": size.chunk_size, "mem_type": "av", "unit": 256}
    options |= {"seg_model": blocks[0], "mem_model": blocks[1]}
    return ResourceEfficientSeparator(size.n_filters, causal=False, num_spk=n_sources, **options)


def transformer(block: Callable[..., nn.Module], size: Size) -> nn.Module:
    options = {"dropout": 0.0, "use_positional_encoding": True, "norm_before": True}
    return block(size.n_layers, size.n_filters, size.n_heads, size.hidden, **options)


class Pair(NamedTuple):
    speechbrain: Callable[[int, Size], nn.Module]
    convert: Callable[[Any, Size], nn.Module]


NETS = {
    "dprnn": Pair(speechbrain_dprnn, lambda parts, size: dprnn_from_speechbrain(parts, size.chunk_size, "gLN")),
    "sepformer": Pair(
        speechbrain_sepformer, lambda parts, size: sepformer_from_speechbrain(parts, size.chunk_size, size.n_heads)
    ),
    "resepformer": Pair(
        speechbrain_resepformer, lambda parts, size: resepformer_from_speechbrain(parts, size.n_heads, size.chunk_size)
    ),
}


def check_memory(args: argparse.Namespace) -> None:
    """The kernel would kill the process (or another one) without a word."""
    available_gb = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    needed_gb = GB_PER_ITEM[args.net] * args.batch_size * args.seconds / 4 * (1 if args.size == "default" else 0.2)
    if needed_gb > available_gb:
        raise SystemExit(
            f"SpeechBrain's net needs about {needed_gb:.0f} GB at --batch-size {args.batch_size}, "
            f"{available_gb:.0f} GB are free: lower --batch-size or --seconds"
        )


def print_rows(medians: dict[str, dict[str, float]], base: dict[str, float], suffix: str) -> None:
    for name, row in medians.items():
        ratios = "".join(f"{base[key] / row[key]:9.2f}x" for key in ("forward", "train step"))
        print(f"{name + suffix:34}{row['forward']:10.0f}{row['train step']:12.0f}{ratios}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", choices=NETS, required=True)
    parser.add_argument("--size", choices=("small", "default"), default="default")
    parser.add_argument("--steps", type=int, default=5, help="timed steps after one warm-up")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--sources", type=int, default=2)
    args = parser.parse_args()
    check_memory(args)
    install_torchaudio_standin()
    size, pair = SIZES[args.net, args.size], NETS[args.net]

    torch.manual_seed(0)
    reference = SpeechBrainNet(pair.speechbrain(args.sources, size), size.n_filters)
    nets = {"SpeechBrain": reference, "Hydraudio": pair.convert(reference.parts(), size)}
    mixture = 0.1 * torch.randn(args.batch_size, round(args.seconds * SAMPLE_RATE_HZ))
    target = 0.1 * torch.randn(args.batch_size, args.sources, mixture.shape[-1])
    with torch.no_grad():  # of one item: the memory of SpeechBrain's RE-SepFormer mixes the items of a batch
        difference = (reference(mixture[:1]) - nets["Hydraudio"](mixture[:1])).abs().max().item()
    plain = measure(nets, mixture, target, args.steps)
    kept = measure(nets, mixture, target, args.steps) if keep_freed_memory() else {}

    print(f"{args.net} {args.size}, {args.batch_size} x {args.seconds} s, {torch.get_num_threads()} threads, ", end="")
    print(f"torch {torch.__version__}; largest difference of the outputs before training {difference:.1e}")
    print(f"{'ms, times as fast as SpeechBrain':34}{'forward':>10}{'train step':>12}{'forward':>10}{'step':>10}")
    print_rows(plain, plain["SpeechBrain"], "")
    print_rows(kept, plain["SpeechBrain"], ", freed memory kept")


if __name__ == "__main__":
    main()
