"""A small corpus of random parts, in PolSESS layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hydraudio.tasks.separation.corpora.polsess import layout as polsess_format
from hydraudio.tasks.separation.corpora.polsess.layout import COLUMN_OF, COLUMNS, FOLDER_OF, REVERB_COLUMNS

CONSTANTS = {
    "sp1": 0.05,
    "sp2": 0.06,
    "scene": 0.07,
    "event": 0.08,
    "sp1_reverb": 0.01,
    "sp2_reverb": 0.02,
    "ev_reverb": 0.03,
}

MakeCorpus = Callable[..., Path]


def write_corpus(
    root: Path,
    n_rows: dict[str, int] | None = None,
    *,
    constant: bool = False,
    n_samples: int = 800,
    sample_rate: int = 8000,
    rooms: tuple[bool, ...] = (True, False),
    seed: int = 0,
) -> Path:
    """Rows take their room from `rooms` in turn; every file, the mix too, is rounded by itself."""
    rng = np.random.default_rng(seed)
    for subset, count in (n_rows or {"train": 6, "val": 4, "test": 4}).items():
        polsess_format.make_folders(root, subset)
        rows = []
        for number in range(count):
            indoor = rooms[number % len(rooms)]
            names = polsess_format.draw_file_names(rng, indoor=indoor)
            parts = {}
            for part, value in CONSTANTS.items():
                if indoor or not part.endswith("reverb"):
                    noise = value * rng.standard_normal(n_samples).clip(-2, 2)
                    parts[part] = np.full(n_samples, value) if constant else noise
            parts["mix"] = np.sum(list(parts.values()), axis=0)
            for part, signal in parts.items():
                path = root / subset / FOLDER_OF[part] / names[COLUMN_OF[part]]
                polsess_format.write_audio(path, signal, sample_rate)
            rows.append(_table_row(subset, number, names))
        polsess_format.write_csv(polsess_format.csv_path(root, subset), rows)
    return root


def _table_row(subset: str, number: int, names: dict[str, str]) -> dict[str, str | int | float]:
    row: dict[str, str | int | float] = dict.fromkeys(COLUMNS, 1)
    row |= dict.fromkeys(REVERB_COLUMNS, float("nan"))
    row |= {
        "subset": subset,
        "speech1OryginalPath": f"C:\\speech\\{subset}_{2 * number}\\a.flac",
        "speech2OryginalPath": f"C:\\speech\\{subset}_{2 * number + 1}\\b.flac",
        "SSR": number - 2,
        "sceneOffsetDB": -1.5 * number,
        "sceneClass": "metro_station",
        "eventClass": "Clapping" if number % 2 else "",
    }
    return row | names


@pytest.fixture
def make_corpus(tmp_path: Path) -> MakeCorpus:
    """Writes a corpus below the test's folder: `make_corpus(name, **options)`."""
    return lambda name="corpus", **options: write_corpus(tmp_path / name, **options)


@pytest.fixture(scope="session")
def noisy_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of noise that tests read and never change."""
    return write_corpus(tmp_path_factory.mktemp("data") / "noisy", {"train": 12, "val": 8, "test": 4})


@pytest.fixture(scope="session")
def constant_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clips of constant value, one indoor and one outdoor row per subset."""
    counts = {"train": 2, "val": 2, "test": 2}
    return write_corpus(tmp_path_factory.mktemp("data") / "constant", counts, constant=True)
