"""The test items of a corpus to choose from.

What a datamodule needs for this:

- ``prepare_data()`` and ``setup("test")``, after which ``datasets["test"]`` is the test set, and ``test_dataloader()``,
  whose ``collate_fn`` makes batches of items;
- the attributes in which it must agree with the task (`TaskSpec.agree`);
- the test set has ``items``, a list of ids, or of (id, group) where items come in groups, that is made without reading
  audio, and ``dataset[(0, i)]`` is item i of it;
- a corpus that poses several problems has the constructor argument and attribute ``problem``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

MAX_FOUND = 300
"""Items that are offered at once; more are found by their name."""


@dataclass
class Corpus:
    """The test set of a prepared datamodule (see above).

    Attributes:
        items: (id, group) of every item; the group is empty where there are none.
    """

    datamodule: Any
    items: list[tuple[str, str]] = field(init=False)

    def __post_init__(self) -> None:
        self.datamodule.prepare_data()
        self.datamodule.setup("test")
        self.dataset = self.datamodule.datasets["test"]
        self.items = [(item, "") if isinstance(item, str) else (item[0], item[1]) for item in self.dataset.items]
        self._collate = self.datamodule.test_dataloader().collate_fn

    @property
    def name(self) -> str:
        """Where the corpus is."""
        return str(getattr(self.datamodule, "root", type(self.datamodule).__name__))

    @property
    def problem(self) -> str | None:
        """What the corpus is heard as, where it poses several problems."""
        return getattr(self.datamodule, "problem", None)

    @property
    def groups(self) -> list[str]:
        """In the order in which they come; empty without any."""
        return [group for group in dict.fromkeys(group for _, group in self.items) if group]

    def find(self, group: str | None = None, text: str = "", limit: int | None = MAX_FOUND) -> list[int]:
        """Numbers of the items of a group (None: of all) whose id contains the text, at most `limit` of them."""
        wanted = text.strip().lower()
        found = [
            number
            for number, (item_id, its_group) in enumerate(self.items)
            if (group is None or its_group == group) and wanted in item_id.lower()
        ]
        return found[:limit]

    def batch(self, number: int) -> dict[str, Any]:
        """Read an item as a batch of one."""
        return self._collate([self.dataset[(0, number)]])
