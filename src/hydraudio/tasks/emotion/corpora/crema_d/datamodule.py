"""CREMA-D: 91 actors speak twelve sentences in six emotions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from hydraudio.core.defects import Defect
from hydraudio.tasks.emotion.corpora.base import EmotionDataModule
from hydraudio.tasks.emotion.corpora.crema_d.index import FOLDS, NO_SIGNAL, parse_index
from hydraudio.tasks.emotion.corpora.folds import fold_splits
from hydraudio.tasks.emotion.corpora.utterances import Utterance


class CREMADDataModule(EmotionDataModule):
    """Six acted classes (7,442 clips), no attributes, five folds by actor.

    Cao, Cooper, Keutmann, Gur, Nenkova and Verma, "CREMA-D: Crowd-sourced Emotional Multimodal Actors Dataset", IEEE
    Transactions on Affective Computing, 2014.

    Args:
        root: the folder that holds AudioWAV.
        fold: to test on, 1 to 5; the next one validates.
        classes: see :class:`EmotionDataModule`.
        attributes: none, as the corpus has none; others would be missing throughout.
        **common: see :class:`EmotionDataModule`.
    """

    corpus: ClassVar[str] = "crema_d"
    may_be_absent: ClassVar[tuple[str, ...]] = (NO_SIGNAL,)

    def __init__(
        self,
        root: str | None = None,
        fold: int = 1,
        classes: int | str | Sequence[str] = "crema_d_6",
        attributes: Sequence[str] = (),
        **common: Any,
    ) -> None:
        super().__init__(root, splits=fold_splits(FOLDS, fold), classes=classes, attributes=attributes, **common)

    def parse(self) -> tuple[list[Utterance], list[Defect]]:
        """All clips and defects of their names and tables."""
        return parse_index(self.root)
