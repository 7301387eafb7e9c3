"""The best checkpoint, also of a run whose folder was moved."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import ModelCheckpoint as LightningModelCheckpoint

log = logging.getLogger(__name__)


class ModelCheckpoint(LightningModelCheckpoint):
    """Lightning's checkpoint callback; a run that continues in another place keeps what was best there.

    Lightning forgets the best score when `dirpath` is another than before, and the next model replaces a better one.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        moved = {**state_dict, "dirpath": self.dirpath}
        recorded = [state_dict["best_model_path"], *state_dict["best_k_models"]]
        places = {path: self._place(path) for path in recorded if path}
        if any(place is None for place in places.values()):
            log.warning("The best checkpoint %s is gone; the next model will be saved as the best", recorded[0])
            return
        for key in ("best_model_path", "kth_best_model_path", "last_model_path"):
            moved[key] = places.get(state_dict[key], state_dict[key])
        moved["best_k_models"] = {places[path]: score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict(moved)

    def _place(self, recorded: str) -> str | None:
        """Where a checkpoint lies now: in this run's folder, else where it was written; None if in neither."""
        here = Path(str(self.dirpath)) / Path(recorded).name
        return next((str(path) for path in (here, Path(recorded)) if path.is_file()), None)
