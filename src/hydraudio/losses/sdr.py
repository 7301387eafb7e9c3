"""Negative signal-to-distortion ratios as losses; definitions and corner cases: `hydraudio.metrics.sdr`."""

from torch import Tensor

from hydraudio.losses.base import SourceLoss
from hydraudio.metrics import sdr


class _SDRLoss(SourceLoss):
    """What the three share.

    Args:
        zero_mean: subtract each signal's mean over its valid samples first
        threshold_db: an item that is better than this has the constant loss -threshold_db, hence no gradient,
            so that training spends itself on the items that are still bad (SpeechBrain's separation recipes
            use 30 dB). The permutation search does not see it. None switches it off.
    """

    def __init__(self, zero_mean: bool = False, threshold_db: float | None = None) -> None:
        super().__init__()
        self.zero_mean = zero_mean
        self.threshold_db = threshold_db

    def _loss(self, ratio_db: Tensor) -> Tensor:
        return -ratio_db if self.threshold_db is None else (-ratio_db).clamp_min(-self.threshold_db)


class SISDRLoss(_SDRLoss):
    """Negate the scale-invariant SDR in dB, mean over sources (Le Roux et al. 2019, eq. 3): (batch,)."""

    def forward(self, estimate: Tensor, target: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self._loss(sdr.si_sdr(estimate, target, lengths, self.zero_mean).mean(-1))

    def pairwise(self, estimate: Tensor, target: Tensor, lengths: Tensor | None = None) -> Tensor:
        return -sdr.pairwise_si_sdr(estimate, target, lengths, self.zero_mean)


class SNRLoss(_SDRLoss):
    """Negate the signal-to-noise ratio in dB, mean over sources: (batch,). Unlike SI-SDR it keeps the level."""

    def forward(self, estimate: Tensor, target: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self._loss(sdr.snr(estimate, target, lengths, self.zero_mean).mean(-1))

    def pairwise(self, estimate: Tensor, target: Tensor, lengths: Tensor | None = None) -> Tensor:
        return -sdr.pairwise_snr(estimate, target, lengths, self.zero_mean)


class SASDRLoss(_SDRLoss):
    """Negate the source-aggregated SDR in dB (von Neumann et al. 2022): (batch,). Single targets may be silent.

    The loss is no mean over sources; its best permutation is the one with the least summed residual energy.
    """

    sums_over_sources = False

    def forward(self, estimate: Tensor, target: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self._loss(sdr.sa_sdr(estimate, target, lengths, self.zero_mean))

    def pairwise(self, estimate: Tensor, target: Tensor, lengths: Tensor | None = None) -> Tensor:
        return sdr.pairwise_residual_energy(estimate, target, lengths, self.zero_mean)
