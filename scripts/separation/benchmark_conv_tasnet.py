"""Conv-TasNet against SpeechBrain's: construction, forward pass and training step, side by side in one process.

Equal weights, inputs, loss (-SI-SDR) and optimizer; the two take turns, and medians are printed.

    python scripts/separation/benchmark_conv_tasnet.py --size small --steps 10
    python scripts/separation/benchmark_conv_tasnet.py --size default --steps 5 --batch-size 1

SpeechBrain's net of the default size keeps about 6 GB per item of 4 s for the backward pass.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from hydraudio.core.torchaudio_standin import install_torchaudio_standin
from hydraudio.tasks.separation.networks.conv_tasnet import ConvTasNet
from hydraudio.tasks.separation.networks.converters.conv_tasnet import conv_tasnet_from_speechbrain

SAMPLE_RATE_HZ = 8000
SIZES = {
    "small": {"n_filters": 128, "bottleneck_channels": 128, "hidden_channels": 256, "n_blocks": 6, "n_repeats": 3},
    "default": {"n_filters": 256, "bottleneck_channels": 256, "hidden_channels": 512, "n_blocks": 8, "n_repeats": 4},
}
GB_PER_ITEM = {"small": 1.0, "default": 6.5}  # of SpeechBrain's net and 4 s, measured


class SpeechBrainConvTasNet(nn.Module):
    """Encoder, MaskNet and decoder of SpeechBrain put together as its recipes do."""

    def __init__(self, n_sources: int, size: dict[str, int]) -> None:
        super().__init__()
        from speechbrain.lobes.models.conv_tasnet import MaskNet
        from speechbrain.lobes.models.dual_path import Decoder, Encoder

        n, b, h, x, r = size.values()
        self.encoder = Encoder(kernel_size=16, out_channels=n)
        self.masknet = MaskNet(N=n, B=b, H=h, P=3, X=x, R=r, C=n_sources, norm_type="gLN", causal=False)
        self.decoder = Decoder(in_channels=n, out_channels=1, kernel_size=16, stride=8, bias=False)

    def forward(self, mixture: Tensor) -> Tensor:
        features = self.encoder(mixture)
        return torch.stack([self.decoder(features * mask) for mask in self.masknet(features)], dim=1)

    def parts(self) -> dict[str, dict[str, Tensor]]:
        return {name: module.state_dict() for name, module in self.named_children()}


def negative_si_sdr(estimate: Tensor, target: Tensor) -> Tensor:
    """Mean over sources and items, dB."""
    scale = (estimate * target).sum(-1, keepdim=True) / target.square().sum(-1, keepdim=True)
    projection = scale * target
    ratio = projection.square().sum(-1) / (projection - estimate).square().sum(-1)
    return -10 * torch.log10(ratio).mean()


def elapsed_ms(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return 1000 * (time.perf_counter() - start)


def train_step(net: nn.Module, optimizer: torch.optim.Optimizer, mixture: Tensor, target: Tensor) -> None:
    optimizer.zero_grad()
    negative_si_sdr(net(mixture), target).backward()
    optimizer.step()


def check_memory(size: str, batch_size: int) -> None:
    """The kernel would kill the process (or another one) without a word."""
    available_gb = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    needed_gb = GB_PER_ITEM[size] * batch_size
    if needed_gb > available_gb:
        raise SystemExit(
            f"SpeechBrain's net needs about {needed_gb:.0f} GB at --batch-size {batch_size}, "
            f"{available_gb:.0f} GB are free: lower --batch-size"
        )


def measure(nets: dict[str, nn.Module], mixture: Tensor, target: Tensor, steps: int) -> dict[str, dict[str, float]]:
    """Medians in ms per net: forward pass without gradients, and training step."""
    optimizers = {name: torch.optim.Adam(net.parameters(), 1e-3) for name, net in nets.items()}
    times: dict[str, dict[str, list[float]]] = {n: {"forward": [], "train step": []} for n in nets}
    for step in range(steps + 1):
        for name, net in nets.items():
            with torch.no_grad():
                forward_ms = elapsed_ms(lambda net=net: net(mixture))
            step_ms = elapsed_ms(lambda net=net, name=name: train_step(net, optimizers[name], mixture, target))
            if step > 0:  # the first is a warm-up
                times[name]["forward"].append(forward_ms)
                times[name]["train step"].append(step_ms)
    return {n: {k: statistics.median(v) for k, v in rows.items()} for n, rows in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--steps", type=int, default=5, help="timed steps after one warm-up")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--sources", type=int, default=2)
    args = parser.parse_args()
    check_memory(args.size, args.batch_size)
    install_torchaudio_standin()
    size = SIZES[args.size]

    torch.manual_seed(0)
    SpeechBrainConvTasNet(args.sources, size)  # imports SpeechBrain
    build = {
        "SpeechBrain": lambda: SpeechBrainConvTasNet(args.sources, size),
        "Hydraudio": lambda: ConvTasNet(n_sources=args.sources, **size),
    }
    construction = {name: statistics.median(elapsed_ms(make) for _ in range(3)) for name, make in build.items()}

    reference = SpeechBrainConvTasNet(args.sources, size)
    net = conv_tasnet_from_speechbrain(reference.parts(), norm="gLN", causal=False)
    mixture = 0.1 * torch.randn(args.batch_size, round(args.seconds * SAMPLE_RATE_HZ))
    target = 0.1 * torch.randn(args.batch_size, args.sources, mixture.shape[-1])
    with torch.no_grad():
        difference = (reference(mixture) - net(mixture)).abs().max().item()
    zero = ConvTasNet(n_sources=args.sources, **size)
    nets = {"SpeechBrain": reference, "Hydraudio": net, "Hydraudio, padding zero": zero}
    medians = measure(nets, mixture, target, args.steps)

    print(f"size {args.size}, {args.batch_size} x {args.seconds} s, {torch.get_num_threads()} threads, ", end="")
    print(f"torch {torch.__version__}; largest difference of the outputs before training {difference:.1e}")
    print(f"{'ms':28}{'construction':>14}{'forward':>10}{'train step':>12}")
    for name, row in medians.items():
        built = construction.get(name, construction["Hydraudio"])
        print(f"{name:28}{built:14.1f}{row['forward']:10.0f}{row['train step']:12.0f}")
    base = medians["SpeechBrain"]
    for name in list(nets)[1:]:
        ratios = [construction["SpeechBrain"] / construction["Hydraudio"]]
        ratios += [base[key] / medians[name][key] for key in ("forward", "train step")]
        print(f"{'times faster, ' + name[9:].lstrip(', '):28}{ratios[0]:13.0f}x{ratios[1]:9.1f}x{ratios[2]:11.1f}x")


if __name__ == "__main__":
    main()
