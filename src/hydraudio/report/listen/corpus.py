"""The test items of a corpus to choose from.

What a datamodule needs for this:

- ``prepare_data()`` and ``setup("test")``, after which ``datasets["test"]`` is the test set;
- ``sample_rate`` (Hz) and ``n_sources``;
- the test set has ``items``, a list of (id, variant) that is made without reading audio, and ``dataset[(0, i)]`` is
  item i of it: a dict with ``mixture`` (time,) and ``target`` (n_sources, time), float32,
  ``id``, ``variant`` and ``degenerate`` (the mixture is the target);
- a corpus that can be heard in several problems has the class attribute ``problems``, problem -> number of sources, and
  the constructor argument and attribute ``problem``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

MAX_FOUND = 300
"""Items that are offered at once; more are found by their name."""


@dataclass(frozen=True)
class Item:
    """One test item: mixture (time,) and targets (n_sources, time), float32 in [-1, 1]."""

    item_id: str
    variant: str
    mixture: np.ndarray
    targets: np.ndarray
    degenerate: bool


@dataclass
class Corpus:
    """The test set of a prepared datamodule (see above)."""

    datamodule: Any
    items: list[tuple[str, str]] = field(init=False)

    def __post_init__(self) -> None:
        self.datamodule.prepare_data()
        self.datamodule.setup("test")
        self.items = list(self.datamodule.datasets["test"].items)

    @property
    def name(self) -> str:
        """Where the corpus is."""
        return str(getattr(self.datamodule, "root", type(self.datamodule).__name__))

    @property
    def problem(self) -> str | None:
        return getattr(self.datamodule, "problem", None)

    @property
    def variants(self) -> list[str]:
        """In the order in which they come."""
        return list(dict.fromkeys(variant for _, variant in self.items))

    def find(self, variant: str | None = None, text: str = "", limit: int | None = MAX_FOUND) -> list[int]:
        """Numbers of the items of a variant (None: of all) whose id contains the text, at most `limit` of them."""
        wanted = text.strip().lower()
        found = [
            number
            for number, (item_id, its_variant) in enumerate(self.items)
            if (variant is None or its_variant == variant) and wanted in item_id.lower()
        ]
        return found[:limit]

    def item(self, number: int) -> Item:
        """Reads an item."""
        raw = self.datamodule.datasets["test"][(0, number)]
        return Item(
            item_id=str(raw["id"]),
            variant=str(raw["variant"]),
            mixture=np.asarray(raw["mixture"], dtype=np.float32),
            targets=np.asarray(raw["target"], dtype=np.float32),
            degenerate=bool(raw["degenerate"]),
        )
