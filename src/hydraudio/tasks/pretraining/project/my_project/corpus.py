"""City sounds in the layout of UrbanSound8K: ``audio/fold<n>/<recording>-<class>-<occurrence>-<slice>.wav``.

Salamon, Jacoby and Bello, "A Dataset and Taxonomy for Urban Sound Research", ACM Multimedia 2014: 8,732 slices of at
most 4 s, ten classes, ten folds that keep the slices of one recording together. Beside it, a miniature of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from hydraudio.audio.io import write_audio
from hydraudio.core.defects import Defect
from hydraudio.core.generated import EmbeddedCorpus
from hydraudio.core.options import check_choice
from hydraudio.core.sampling import generator
from hydraudio.sounds.events import make_event
from hydraudio.sounds.textures import add_at, coloured_noise
from hydraudio.tasks.pretraining.corpora.base import ClipDataModule
from hydraudio.tasks.pretraining.corpora.clips import Clip, Parsed

CLASSES = (
    "air_conditioner",
    "car_horn",
    "children_playing",
    "dog_bark",
    "drilling",
    "engine_idling",
    "gun_shot",
    "jackhammer",
    "siren",
    "street_music",
)
"""In the order of the number in a file's name."""

N_FOLDS = 10

_NAME = re.compile(r"(?P<recording>\d+)-(?P<target>\d)-\d+-\d+\.wav")


class CitySounds(ClipDataModule):
    """Ten classes, ten folds.

    Args:
        test_fold: 1 to 10; the next one validates (after 10 comes 1), the others train.
        **common: see :class:`hydraudio.tasks.pretraining.corpora.base.ClipDataModule`.
    """

    corpus: ClassVar[str] = "my_project"
    layout: ClassVar[str] = "the folder that holds audio"

    def __init__(self, test_fold: int = 10, **common: Any) -> None:
        super().__init__(**common)
        self.test_fold = check_choice("test_fold", test_fold, range(1, N_FOLDS + 1))

    @classmethod
    def embedded_corpus(cls) -> type[Miniature]:
        return Miniature

    def parse(self) -> Parsed:
        """Read the names of the files; classes are those that occur."""
        found, defects = [], []
        for path in sorted(self.root.glob("audio/fold*/*.wav")):
            match, fold = _NAME.fullmatch(path.name), path.parent.name.removeprefix("fold")
            if match and fold in map(str, range(1, N_FOLDS + 1)):
                found.append((path, match["recording"], int(match["target"]), fold))
            else:
                layout = "audio/fold<1 to 10>/<recording>-<class>-<occurrence>-<slice>.wav"
                defects.append(Defect("bad_name", f"{path}: does not follow {layout}; rename or remove it"))
        if not found and not defects:
            defects.append(Defect("missing_root", f"{self.root / 'audio'}: no files; set data.root to {self.layout}"))
        present = sorted({target for _, _, target, _ in found})
        clips = [
            Clip(id=path.stem, path=path, labels=(present.index(target),), group=recording, part=fold)
            for path, recording, target, fold in found
        ]
        return Parsed(clips, [CLASSES[target] for target in present], False, defects)

    def split_of(self, clip: Clip) -> str:
        """Return the split of a clip's fold."""
        return {self.test_fold: "test", self.test_fold % N_FOLDS + 1: "val"}.get(int(clip.part), "train")


@dataclass(frozen=True, kw_only=True)
class Miniature(EmbeddedCorpus):
    """Synthetic horns, dogs and sirens in noise, in the real layout.

    Attributes:
        n_per_fold: slices of each class in each fold, every one of a recording of its own.
        sample_rate: of the files, in Hz.
    """

    n_per_fold: int = 4
    sample_rate: int = 22050

    version = 1  # raise it whenever the same attributes give other files

    def write(self, root: Path) -> None:
        recording = 100000
        for fold in range(1, N_FOLDS + 1):
            for name, event in {"car_horn": "horn", "dog_bark": "dog", "siren": "siren"}.items():
                for _ in range(self.n_per_fold):
                    recording += 1
                    path = root / "audio" / f"fold{fold}" / f"{recording}-{CLASSES.index(name)}-0-0.wav"
                    rng = generator(self.seed, recording)
                    n_samples = int(rng.uniform(2.0, 4.0) * self.sample_rate)
                    sound = 0.03 * coloured_noise(n_samples, self.sample_rate, [(100, 0), (10000, -30)], rng)
                    add_at(sound, make_event(event, self.sample_rate, rng)[:n_samples], 0)
                    write_audio(path, 0.9 * sound / abs(sound).max(), self.sample_rate)
