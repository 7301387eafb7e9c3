"""SPMamba: a grid network whose sequence nets are bidirectional Mamba blocks.

Li et al., "SPMamba: State-space model is all you need in speech separation", 2024. It is TF-GridNet
(`models.separation.grid`) with two residual Mamba blocks, one per direction, in place of each LSTM; attention
over frames stays, so the cost still grows with the square of the length. Parameters correspond one to one to the
reference's; its windows order their features by (channel, position), these by (position, channel).
"""

from hydraudio.nn.layers.mamba import ConcatenatedBiMamba
from hydraudio.tasks.separation.networks.grid import GridNet, check_grid_sizes


class SPMamba(GridNet):
    """(batch, time) -> (batch, n_sources, time). Defaults: the reference's network for 8 kHz, 6.09 M parameters.

    Args:
        n_sources: estimated sources.
        n_fft: window of the STFT in samples, even.
        hop: of the STFT in samples.
        n_blocks: grid blocks.
        n_channels: of the features, a multiple of n_heads.
        kernel_size: neighbouring bins or frames that a Mamba block sees in a step.
        stride: bins or frames from step to step.
        d_state: states per channel of a Mamba block.
        d_conv: taps of its convolution.
        expand: its inner channels per feature of a window.
        n_heads: of the attention over frames.
        key_size: features of a frame's key and query, rounded up to a multiple of the bins.
        eps: added to every variance.
        activation_checkpointing: in training keep the activations of one path at a time and compute them twice.
    """

    def __init__(
        self,
        n_sources: int,
        n_fft: int = 256,
        hop: int = 64,
        n_blocks: int = 6,
        n_channels: int = 16,
        kernel_size: int = 8,
        stride: int = 1,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 4,
        n_heads: int = 4,
        key_size: int = 512,
        eps: float = 1e-5,
        activation_checkpointing: bool = False,
    ) -> None:
        check_grid_sizes({name: value for name, value in locals().items() if name not in ("self", "__class__")})
        super().__init__(
            n_sources,
            n_fft,
            hop,
            n_blocks,
            n_channels,
            kernel_size,
            stride,
            n_heads,
            key_size,
            lambda n_features: ConcatenatedBiMamba(n_features, d_state, d_conv, expand),
            2 * kernel_size * n_channels,
            eps,
            activation_checkpointing,
        )
