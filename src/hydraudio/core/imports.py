"""The import of Lightning, and of PyTorch below it, which is most of what a start costs."""

from __future__ import annotations

import gc
import sys


def import_lightning() -> None:
    """Import Lightning with the garbage collector paused, once in a process.

    The import makes 400,000 objects that stay. The collector would go through them again and again, a fifth of the time
    of the import, and through all of them at every full collection of the run. So it is paused, and what is there
    afterwards is left out of its collections (`gc.freeze`), also in the workers that are forked.
    """
    if "lightning.pytorch" in sys.modules:
        return
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        import lightning.pytorch  # noqa: F401
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
