"""IEMOCAP: ten actors in five sessions of scripted and improvised dialogues."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from hydraudio.core.defects import Defect
from hydraudio.tasks.emotion.corpora.base import EmotionDataModule
from hydraudio.tasks.emotion.corpora.folds import fold_splits
from hydraudio.tasks.emotion.corpora.iemocap.index import SESSIONS, parse_index
from hydraudio.tasks.emotion.corpora.utterances import Utterance


class IEMOCAPDataModule(EmotionDataModule):
    """Four classes (5,531 turns with excited as happy) and attributes, five folds by session.

    Busso et al., "IEMOCAP: Interactive emotional dyadic motion capture database", Language Resources and Evaluation,
    2008.

    Args:
        root: the folder that holds Session1 to Session5, or the one above, which holds IEMOCAP_full_release.
        fold: session to test on, 1 to 5; the next one validates.
        merge_excited: turns labelled excited count as happy.
        classes: see :class:`EmotionDataModule`.
        **common: see :class:`EmotionDataModule`.
    """

    corpus: ClassVar[str] = "iemocap"

    def __init__(
        self,
        root: str | None = None,
        fold: int = 1,
        merge_excited: bool = True,
        classes: int | str | Sequence[str] = "iemocap_4",
        **common: Any,
    ) -> None:
        super().__init__(root, splits=fold_splits(SESSIONS, fold), classes=classes, **common)
        self.merge_excited = merge_excited

    def parse(self) -> tuple[list[Utterance], list[Defect]]:
        """Turns of all sessions and defects of their evaluations."""
        return parse_index(self.root, self.merge_excited)
