"""RAVDESS: 24 actors speak two sentences in eight emotions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from hydraudio.core.defects import Defect
from hydraudio.tasks.emotion.corpora.base import EmotionDataModule
from hydraudio.tasks.emotion.corpora.folds import fold_splits
from hydraudio.tasks.emotion.corpora.ravdess.index import FOLDS, parse_index
from hydraudio.tasks.emotion.corpora.utterances import Utterance


class RAVDESSDataModule(EmotionDataModule):
    """Eight acted classes (1,440 spoken clips at 48 kHz, resampled when read), no attributes, six folds by actor.

    Livingstone and Russo, "The Ryerson Audio-Visual Database of Emotional Speech and Song (RAVDESS)", PLoS ONE, 2018.

    Args:
        root: the folder that holds Actor_01 to Actor_24.
        fold: to test on, 1 to 6; the next one validates.
        classes: see :class:`EmotionDataModule`.
        attributes: none, as the corpus has none; others would be missing throughout.
        **common: see :class:`EmotionDataModule`.
    """

    corpus: ClassVar[str] = "ravdess"
    file_rate: ClassVar[int] = 48000

    def __init__(
        self,
        root: str | None = None,
        fold: int = 1,
        classes: int | str | Sequence[str] = "ravdess_8",
        attributes: Sequence[str] = (),
        **common: Any,
    ) -> None:
        super().__init__(root, splits=fold_splits(FOLDS, fold), classes=classes, attributes=attributes, **common)

    def parse(self) -> tuple[list[Utterance], list[Defect]]:
        """All spoken clips and defects of their names."""
        return parse_index(self.root)
