"""MSP-PODCAST: turns of podcasts, rated by at least five people each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from hydraudio.core.defects import Defect
from hydraudio.core.download import Source
from hydraudio.core.tables import find_file
from hydraudio.tasks.emotion.corpora.base import EmotionDataModule
from hydraudio.tasks.emotion.corpora.msp_podcast.embedded import EmbeddedMSPPodcast
from hydraudio.tasks.emotion.corpora.msp_podcast.labels import (
    CONSENSUS_NAMES,
    LABEL_FOLDERS,
    audio_folder,
    parse_consensus,
)
from hydraudio.tasks.emotion.corpora.msp_podcast.processed import apply_processed, parse_processed, rows_of_processed
from hydraudio.tasks.emotion.corpora.msp_podcast.votes import add_votes, find_votes, parse_votes
from hydraudio.tasks.emotion.corpora.utterances import Splits, Utterance
from hydraudio.tasks.emotion.corpora.webdataset.reader import check_webdataset, is_webdataset, read_index

SPLITS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"train": ("Train",), "val": ("Development",), "test": ("Test1", "Test2")}
)


class MSPPodcastDataModule(EmotionDataModule):
    """Classes and attributes of MSP-PODCAST, of any release.

    Lotfian and Busso, "Building Naturalistic Emotionally Balanced Speech Corpus by Retrieving Emotional Speech From
    Existing Podcast Recordings", IEEE Transactions on Affective Computing, 2019.

    Args:
        labels_dir: folder of the label files, where they are not in the root.
        audio_dir: folder of the recordings, where they are not in the root.
        label_file: a processed_labels*.csv: class and split of every turn are taken from there, everything else from
            the consensus labels where the corpus has them. None takes the consensus labels.
        votes: read every rater's label (an error where there are none); None: where they are there, or where soft
            targets need them.
        splits: see :class:`EmotionDataModule`.
        **common: see :class:`EmotionDataModule`.
    """

    corpus: ClassVar[str] = "msp_podcast"
    layout: ClassVar[str] = (
        "the folder that holds Labels/ and Audios/, or one that `scripts/emotion/write_webdataset.py` wrote"
    )
    source: ClassVar[Source] = Source(
        by_hand="MSP-PODCAST needs a form: its laboratory gives it to institutions that sign an academic licence. "
        "Unpack what comes, and set data.root to the folder that holds Labels/ and Audios/."
    )

    def __init__(
        self,
        labels_dir: str | None = None,
        audio_dir: str | None = None,
        label_file: str | None = None,
        votes: bool | None = None,
        splits: Splits = SPLITS,
        **common: Any,
    ) -> None:
        super().__init__(splits=splits, **common)
        self.apart = {"labels_dir": labels_dir, "audio_dir": audio_dir}
        given = [name for name, folder in self.apart.items() if folder is not None]
        if given and self._embedded is not None:
            raise ValueError(f"data.{given[0]} needs data.root: the folder that holds the other part of the corpus")
        self.label_file = None if label_file is None else Path(label_file)
        self.votes = votes

    @classmethod
    def embedded_corpus(cls) -> type[EmbeddedMSPPodcast]:
        return EmbeddedMSPPodcast

    def parse(self) -> tuple[list[Utterance], list[Defect]]:
        """Return the turns and defects of the label files, with the raters' votes where they are wanted."""
        defects = self._misplaced()
        if defects:
            return [], defects
        rows, defects = self._parse_corpus()
        if self.label_file is None:
            return rows, defects
        processed, found = parse_processed(self.label_file)
        if not rows and not defects:
            return rows_of_processed(processed, self._audio()), found
        try:
            return apply_processed(rows, processed), defects + found
        except ValueError as error:
            return rows, [*defects, *found, Defect("other_release", f"{self.label_file}: {error}")]

    def _parse_corpus(self) -> tuple[list[Utterance], list[Defect]]:
        """Nothing of a folder without consensus labels where a label file stands in for them."""
        if is_webdataset(self.root):
            return _parse_shards(self.root)
        if self.label_file is not None and find_consensus(self._labels()) is None:
            return [], []
        rows, defects = parse_consensus(self._labels(), self._audio())
        if not self._wants_votes():
            return rows, defects
        votes, found = parse_votes(self._labels())
        return add_votes(rows, votes), defects + found

    def _labels(self) -> Path:
        """The folder that holds the label files, in `Labels` or itself."""
        return Path(self.apart["labels_dir"] or self.root)

    def _audio(self) -> Path:
        """The folder of the recordings."""
        folder = self.apart["audio_dir"]
        found = audio_folder(Path(folder or self.root))
        return found if folder is None or found.is_dir() else Path(folder)

    def _misplaced(self) -> list[Defect]:
        """Folders beside the root that do not exist, or that shards cannot use."""
        given = {name: Path(folder) for name, folder in self.apart.items() if folder is not None}
        if given and is_webdataset(self.root):
            name = next(iter(given))
            return [Defect("two_places", f"{self.root}: shards hold labels and recordings; set data.{name} to null")]
        return [
            Defect("missing_root", f"{folder}: no such folder; check data.{name}")
            for name, folder in given.items()
            if not folder.is_dir()
        ]

    def _wants_votes(self) -> bool:
        if self.votes is not None:
            return self.votes
        soft = self.labelling.targets != "hard" and self.label_file is None
        return soft or find_votes(self._labels()) is not None

    def _find_defects(self, n_processes: int, on_row: Callable[[int, int], None] | None) -> list[Defect]:
        """Of shards also their hashes."""
        shards = check_webdataset(self.root) if is_webdataset(self.root) else []
        return super()._find_defects(n_processes, on_row) + shards


def find_consensus(root: Path) -> Path | None:
    """Return the consensus labels; None where the folder has none."""
    return find_file(root, LABEL_FOLDERS, CONSENSUS_NAMES)


def _parse_shards(root: Path) -> tuple[list[Utterance], list[Defect]]:
    try:
        return read_index(root), []
    except FileNotFoundError as error:
        return [], [Defect("missing_file", str(error))]
    except ValueError as error:
        return [], [Defect("bad_index", str(error))]
