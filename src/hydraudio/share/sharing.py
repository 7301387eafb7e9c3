"""What a floor says about its models when they are shared; the ground floor asks for it under one name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from lightning.pytorch import LightningDataModule

from hydraudio.core.spec import TaskSpec, find
from hydraudio.core.task import Task


class Sharing:
    """Facts and results of a model that its specification does not know; this base has none.

    A floor names its subclass in ``Card.sharing``.
    """

    training_only: ClassVar[Mapping[str, Any]] = {}
    """Arguments of the task that a shared model does without -> what stands in their place."""

    def facts(self, task: Task, trained: Mapping[str, Any], datamodule: LightningDataModule) -> dict[str, Any]:
        """Further entries of config.json, of plain JSON values.

        Args:
            task: the restored task.
            trained: its configuration as plain dicts, resolved.
            datamodule: of that configuration; nothing was read yet.
        """
        return {}

    def check(self, task: Task, config: Mapping[str, Any]) -> None:
        """Look whether the network does what its config.json says of it.

        Raises:
            ValueError: naming the key.
        """

    def sections(self, config: Mapping[str, Any], metrics: Mapping[str, Any] | None) -> dict[str, str]:
        """Sections of the card: title -> Markdown; the text of a section that is there already is added to it.

        Args:
            config: content of config.json.
            metrics: content of the run's metrics.json, or None.
        """
        return {}


def sharing_of(spec: TaskSpec) -> Sharing:
    """What the floor of a specification says."""
    return find(spec.card.sharing)() if spec.card.sharing else Sharing()
