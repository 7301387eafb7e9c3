"""SepFormer: transformers within and across chunks.

Subakan et al., "Attention is all you need in speech separation", ICASSP 2021; letters in brackets below are the
paper's. Layer by layer as SpeechBrain's, so that its weights fit.
"""

from torch import nn

from hydraudio.nn.layers.transformer import TransformerEncoder
from hydraudio.tasks.separation.networks.dual_path import DualPathMaskNet
from hydraudio.tasks.separation.networks.tasnet import TasNet


class SepFormer(TasNet):
    """SepFormer: (batch, time) -> (batch, n_sources, time), any length.

    Args:
        n_sources: estimated sources [Ns].
        n_filters: encoder filters, also the channels of the transformers [F].
        kernel_size: encoder and decoder window in samples; the hop is half of it.
        chunk_size: frames of a chunk [C]; chunks overlap by half.
        n_blocks: dual-path layers, each an intra and an inter transformer [N].
        n_layers: layers of each transformer [K].
        n_heads: attention heads; must divide `n_filters`.
        feedforward_channels: hidden units of the feed-forward layers.
        dropout: inside the transformers.
        positional_encoding: add sinusoids to the input of each transformer.
    """

    def __init__(
        self,
        n_sources: int,
        n_filters: int = 256,
        kernel_size: int = 16,
        chunk_size: int = 250,
        n_blocks: int = 2,
        n_layers: int = 8,
        n_heads: int = 8,
        feedforward_channels: int = 1024,
        dropout: float = 0.0,
        positional_encoding: bool = True,
    ) -> None:
        arguments = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        for name in ("n_sources", "n_filters", "n_blocks", "n_layers", "n_heads", "feedforward_channels"):
            if arguments[name] < 1:
                raise ValueError(f"{name}={arguments[name]} must be at least 1")

        def block() -> nn.Module:
            return TransformerEncoder(n_layers, n_filters, n_heads, feedforward_channels, dropout, positional_encoding)

        mask_net = DualPathMaskNet(n_sources, n_filters, n_filters, block, block, n_blocks, chunk_size)
        super().__init__(mask_net, n_sources, n_filters, kernel_size)
        self.arguments = arguments
