"""SepFormer: transformers within and across chunks.

Subakan et al., "Attention is all you need in speech separation", ICASSP 2021; letters in brackets below are the
paper's. Layer by layer as SpeechBrain's, so that its weights fit.
"""

from functools import partial
from typing import Any

from hydraudio.core.options import check_sizes
from hydraudio.nn.layers.transformer import TransformerEncoder
from hydraudio.tasks.separation.networks.dual_path import DualPathMaskNet
from hydraudio.tasks.separation.networks.tasnet import TasNet


class SepFormer(TasNet):
    """SepFormer: (batch, time) -> (batch, n_sources, time), any length.

    Args:
        chunk_size: frames of a chunk [C]; chunks overlap by half.
        n_blocks: dual-path layers, each an intra and an inter transformer [N].
        n_layers: layers of each transformer [K].
        n_heads: attention heads; must divide `n_filters`.
        feedforward_channels: hidden units of the feed-forward layers.
        dropout: inside the transformers.
        positional_encoding: add sinusoids to the input of each transformer.
        frame: `n_sources` [Ns], `n_filters` [F, also the channels of the transformers] and `kernel_size` of `TasNet`.
    """

    def __init__(
        self,
        *,
        chunk_size: int = 250,
        n_blocks: int = 2,
        n_layers: int = 8,
        n_heads: int = 8,
        feedforward_channels: int = 1024,
        dropout: float = 0.0,
        positional_encoding: bool = True,
        **frame: Any,
    ) -> None:
        check_sizes(n_blocks=n_blocks, n_layers=n_layers, n_heads=n_heads, feedforward_channels=feedforward_channels)

        def mask_net(n_sources: int, n_filters: int) -> DualPathMaskNet:
            block = partial(
                TransformerEncoder,
                dim=n_filters,
                n_layers=n_layers,
                n_heads=n_heads,
                ffn_dim=feedforward_channels,
                dropout=dropout,
                positional_encoding=positional_encoding,
            )
            return DualPathMaskNet(
                n_sources, n_filters, intra=block, inter=block, n_layers=n_blocks, chunk_size=chunk_size
            )

        super().__init__(mask_net, **frame)
        self.positional_encoding = positional_encoding
