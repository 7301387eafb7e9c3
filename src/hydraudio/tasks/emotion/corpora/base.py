"""What all corpora of emotional speech share: selection, batches, statistics of the training set, cached features."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence, Sized
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import lightning.pytorch as pl
import numpy as np
from torch.utils.data import Dataset

from hydraudio.core.corpus import CorpusDataModule
from hydraudio.core.defects import Defect, raise_first
from hydraudio.core.feature_cache import FeatureCache, fill_cache
from hydraudio.core.options import check_choice, check_positive
from hydraudio.core.sampling import SAMPLINGS, ResumableLoader, sampling_weights
from hydraudio.tasks.emotion.corpora.audio import (
    WaveformStatistics,
    read_lengths,
    waveform_statistics,
    write_statistics,
)
from hydraudio.tasks.emotion.corpora.check import corpus_defects
from hydraudio.tasks.emotion.corpora.dataset import EmotionDataset, Labelling, collate
from hydraudio.tasks.emotion.corpora.utterances import (
    ATTRIBUTES,
    Splits,
    Utterance,
    check_rated,
    check_splits,
    manifest_fingerprint,
    of_splits,
    shared_speakers,
    without,
)

log = logging.getLogger(__name__)

N_AXES_OF_FEATURES = {"frames": 3, "statistics": 2}
"""Kind of cached features -> axes of an item's array: (layers, frames, dimensions), or (layers, 2 * dimensions) for
mean and deviation."""

LENGTH_JITTER = 0.03
"""Of the bucketing: at the durations of MSP-PODCAST less than 3 % of a batch is padding."""


class EmotionDataModule(CorpusDataModule):
    """Base of the corpora; a subclass implements :meth:`parse` and names itself in `corpus`.

    Args:
        cache_dir: where lengths, statistics and hashes of the audio files are kept; never the corpus folder.
        splits: {train, val, test} -> names of the corpus's splits, one or several.
        classes: 4, 5, 6, 8, 9 or 10, the name of a set, or a list of names, in the order of the class index.
        attributes: of arousal, valence, dominance, in the order of the columns; may be empty.
        targets: category target: hard (the consensus), soft_p (shares of the raters' primary labels), soft_s (shares
            of all labels they named) or merged (`merge_weights` of both).
        merge_weights: of P and S, for merged.
        smoothing: e in q (1 - e) + (1 - q) e / (C - 1), of the targets in training.
        exclude: names of files that play no part, e.g. because they are damaged.
        unlabelled: drop utterances without a category target from training, and those whose consensus is none of the
            classes from validation and test; or keep them: their label is -1 and their target zero.
        sample_rate: in Hz; files of another rate are resampled.
        max_s: longer utterances are cut to their first so many seconds; None takes all whole.
        random_crop: in training cut at a random place instead.
        batch_s: seconds of a training batch, padding included: as many items as fit, at most `batch_size`; None for no
            such limit.
        eval_batch_s: of validation and testing, None for `batch_s`.
        bucketing: make batches of utterances of similar length, in training and evaluation.
        sampling: natural (every utterance once per epoch), sqrt or balanced: an epoch is a draw with replacement in
            which a class of n utterances takes part in proportion to sqrt(n), or all classes equally. With soft targets
            the class is that of the consensus, or else the largest share.
        **common: see :class:`hydraudio.core.corpus.CorpusDataModule`.

    Attributes:
        class_names: names of the classes, in the order of the class index; `class_letters` likewise.
        attribute_names: in the order of the columns.
        n_classes: number of classes.
    """

    file_rate: ClassVar[int] = 16000
    """Sample rate of the corpus's files, in Hz."""
    may_be_absent: ClassVar[tuple[str, ...]] = ()
    """Files that `exclude` may name although a copy of the corpus does not have them."""
    task: ClassVar[str] = "emotion"

    def __init__(
        self,
        splits: Splits,
        cache_dir: str = "data/cache",
        classes: int | str | Sequence[str] = 8,
        attributes: Sequence[str] = ATTRIBUTES,
        targets: Literal["hard", "soft_p", "soft_s", "merged"] = "hard",
        merge_weights: Sequence[float] = (0.9, 0.1),
        smoothing: float = 0.0,
        exclude: Sequence[str] = (),
        unlabelled: Literal["drop", "keep"] = "drop",
        sample_rate: int = 16000,
        max_s: float | None = 12.0,
        random_crop: bool = False,
        batch_s: float | None = None,
        eval_batch_s: float | None = None,
        bucketing: bool = True,
        sampling: Literal["natural", "sqrt", "balanced"] = "natural",
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.splits, self.sample_rate = check_splits(splits), sample_rate
        self.labelling = Labelling.of(classes, attributes, targets, merge_weights, smoothing)
        self.class_names = list(self.labelling.classes.names)
        self.class_letters = list(self.labelling.classes.letters)
        self.n_classes, self.attribute_names = len(self.class_names), list(self.labelling.attributes)
        self.exclude = frozenset([exclude] if isinstance(exclude, str) else exclude)
        self.unlabelled = check_choice("unlabelled", unlabelled, ("drop", "keep"))
        self.sampling = check_choice("sampling", sampling, SAMPLINGS)
        max_s = check_positive("max_s", max_s)
        self.max_samples = None if max_s is None else max(1, round(max_s * sample_rate))
        self.random_crop, self.bucketing = random_crop, bucketing
        self.batch_s = check_positive("batch_s", batch_s)
        self.eval_batch_s = check_positive("eval_batch_s", eval_batch_s) or batch_s
        if not bucketing and self.eval_batch_s is not None:
            raise ValueError(
                "batch_s and eval_batch_s need bucketing=true: only batches of similar lengths fill a budget; or set "
                "them to null"
            )
        self.cache_dir = Path(cache_dir)
        self._kept: dict[str, list[Utterance]] = {}

    def parse(self) -> tuple[list[Utterance], list[Defect]]:
        """Return the utterances of the corpus that can be used, of all splits, and every defect of the label files."""
        raise NotImplementedError

    @cached_property
    def utterances(self) -> list[Utterance]:
        """Every utterance of the corpus, labelled or not, but those that `exclude` names.

        Raises:
            FileNotFoundError: no corpus folder or label file.
            ValueError: the first defect of the label files, or `exclude` names a file that the corpus does not have.
        """
        self.prepare_data()
        rows, defects = self.parse()
        raise_first([defect for defect in defects if defect.severity == "error"])
        return without(rows, self.exclude, self.may_be_absent)

    def chosen(self, split: str) -> list[Utterance]:
        """Return the utterances of train, val or test that take part."""
        if split not in self._kept:
            rows = of_splits(self.utterances, self.splits[split])
            kept = rows if self.unlabelled == "keep" else [row for row in rows if self._is_labelled(row, split)]
            if not kept:
                raise ValueError(
                    f"{self.root}: none of the {len(rows)} utterances of {', '.join(self.splits[split])} has a "
                    f"{self.labelling.targets} target in {', '.join(self.class_names)}; choose other classes, or keep "
                    "them with data.unlabelled=keep"
                )
            self._kept[split] = [kept[number] for number in self._chosen(len(kept), split).tolist()]
        return self._kept[split]

    def _is_labelled(self, row: Utterance, split: str) -> bool:
        if split == "train":
            return self.labelling.target(row, training=False) is not None
        return self.labelling.classes.label_of(row.letter) >= 0

    @property
    def class_counts(self) -> list[int]:
        """Utterances of each class in the training set: the sum of their targets (without smoothing), rounded.

        For hard targets these are plain counts; for soft ones the expected counts of a random rater's labels.
        """
        return list(self._class_counts)

    @cached_property
    def _class_counts(self) -> list[int]:
        targets = (self.labelling.target(row, training=False) for row in self.chosen("train"))
        total = sum((target.astype(np.float64) for target in targets if target is not None), np.zeros(self.n_classes))
        return np.rint(total).astype(int).tolist()

    @property
    def waveform_mean(self) -> float:
        """Mean of all samples of the training set, as they are cut for training."""
        return self._statistics.mean

    @property
    def waveform_std(self) -> float:
        """Standard deviation of all samples of the training set, as they are cut for training."""
        return self._statistics.std

    @cached_property
    def _statistics(self) -> WaveformStatistics:
        paths = [row.path for row in self.chosen("train")]
        cut = None if self.random_crop else self.max_samples
        return waveform_statistics(paths, sample_rate=self.sample_rate, max_samples=cut, cache_dir=self.cache_dir)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) over everything that the label files say of the splits in use."""
        names = {name for names in self.splits.values() for name in names}
        return manifest_fingerprint(row for row in self.utterances if row.split in names)

    def setup(self, stage: str | None = None) -> None:
        """Read the labels and the lengths of the audio files of the stage.

        Where the network is normalised with `waveform_mean` and `waveform_std`, a training keeps them beside its
        checkpoints, in `<run folder>/checkpoints/waveform_statistics.json`.

        Raises:
            FileNotFoundError: a file does not exist.
            ValueError: a file is not readable, or no training utterance has a rating of an attribute.
        """
        self.prepare_data()
        super().setup(stage)
        if stage in ("fit", None):
            check_rated(self.chosen("train"), self.attribute_names)
            self._keep_statistics()
            for sentence in self._shared_speakers():
                log.warning("%s: %s", self.root, sentence)

    def _keep_statistics(self) -> None:
        if self.trainer is not None and self.trainer.is_global_zero and "_statistics" in vars(self):
            folder = Path(self.trainer.default_root_dir) / "checkpoints"
            write_statistics(self._statistics, self.chosen("train"), folder / "waveform_statistics.json")

    def _make_dataset(self, split: str) -> EmotionDataset:
        rows = self.chosen(split)
        known = [(row.n_samples, row.sample_rate) if row.n_samples and row.sample_rate else None for row in rows]
        lengths = read_lengths([row.path for row in rows], known, self.sample_rate, self.cache_dir)
        return EmotionDataset(
            rows,
            lengths,
            self.labelling,
            sample_rate=self.sample_rate,
            max_samples=self.max_samples,
            random_crop=self.random_crop and split == "train",
            training=split == "train",
            seed=self.seed,
        )

    def _shared_speakers(self) -> list[str]:
        existing = {row.split for row in self.utterances}
        there = {split: names for split, names in self.splits.items() if existing.issuperset(names)}
        return shared_speakers({split: of_splits(self.utterances, names) for split, names in there.items()})

    def _loader(self, split: str) -> ResumableLoader:
        dataset, training = self.datasets[split], split == "train"
        of_one_size = dataset.features is not None and dataset.features.what == "statistics"
        weights = self._weights(dataset.strata()) if training else None
        return self._build(dataset, None if of_one_size else dataset.lengths, training, self.trainer, weights)

    def _weights(self, strata: np.ndarray) -> np.ndarray | None:
        """Of the draws of an epoch; strata: (n,) class of each item, -1 = none."""
        return sampling_weights(strata[:, None] == np.arange(strata.max(initial=-1) + 1), self.sampling)

    def _build(
        self,
        items: Dataset,
        lengths: np.ndarray | None,
        training: bool = False,
        trainer: pl.Trainer | None = None,
        weights: np.ndarray | None = None,
    ) -> ResumableLoader:
        """A loader; without a trainer of all items in this one process.

        Where the last batch of training would be one item, over which some losses have no value, the epoch leaves an
        item out, each time another.
        """
        batch_size, batch_s = (self.batch_size, self.batch_s) if training else (self.eval_batch_size, self.eval_batch_s)
        unequal = lengths is not None and (batch_s is not None or len(np.unique(lengths)) > 1)
        bucketed = self.bucketing and unequal and batch_size > 1
        budget = round(batch_s * self.sample_rate) if bucketed and batch_s is not None else None
        assert isinstance(items, Sized)
        one_is_left = len(items) > batch_size > 1 == len(items) % batch_size
        alone = trainer is None or trainer.world_size == 1
        return self._build_loader(
            items,
            training=training,
            trainer=trainer,
            collate_fn=collate,
            lengths=lengths if bucketed else None,
            batch_samples=budget,
            drop_last=training and alone and one_is_left and budget is None,
            weights=weights,
            jitter=LENGTH_JITTER,
        )

    def cache_features(
        self,
        key: str,
        what: Literal["frames", "statistics"],
        compute: Callable[[dict[str, Any]], list[np.ndarray]],
        cache_dir: str | Path | None = None,
    ) -> None:
        """From now on the datasets that are set up give features of a frozen network instead of waveforms.

        Args:
            key: says which network, layers and normalisation the features come from.
            what: frames, (layers, frames, dimensions) per item, or statistics, (layers, 2 * dimensions): mean and
                standard deviation over the frames.
            compute: batch -> one array per item; called for what is not on disk yet.
            cache_dir: None for that of the datamodule.

        Raises:
            ValueError: crops are random, or the cache is damaged.
        """
        if self.random_crop and "train" in self.datasets:
            raise ValueError("features cannot be cached for random crops: set data.random_crop=false")
        n_axes = N_AXES_OF_FEATURES[check_choice("what", what, N_AXES_OF_FEATURES)]
        cache = FeatureCache(Path(cache_dir or self.cache_dir), key, what, n_axes)
        for split, dataset in self.datasets.items():
            if dataset.features is None:
                identities = dataset.audio_identities(self.cache_dir)
                fill_cache(cache, dataset, identities, compute, self._build, split)
                dataset.features, dataset.identities = cache, identities

    def _find_defects(self, n_processes: int, on_row: Callable[[int, int], None] | None) -> list[Defect]:
        rows, defects = self.parse()
        return defects + corpus_defects(
            self.root,
            rows,
            self.splits,
            sample_rate=self.file_rate,
            exclude=self.exclude,
            may_be_absent=self.may_be_absent,
            n_processes=n_processes,
            on_row=on_row,
        )
