"""Delete generated corpora, after a question: python scripts/data/delete_generated.py [--yes].

They lie in the data folder (``HYDRAUDIO_DATA_DIR``, else ``data/``) and are written again when a run needs them.
Corpora of recordings, caches and downloaded models are never touched.
"""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

import rootutils

from hydraudio.core.generated import MARKER


def generated_corpora(data_dir: Path) -> list[Path]:
    """Folders directly below `data_dir` that :class:`hydraudio.core.generated.EmbeddedCorpus` has written."""
    return sorted(marker.parent for marker in data_dir.glob(f"*_embedded_*/{MARKER}"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--yes", action="store_true", help="do not ask")
    given = parser.parse_args()
    root = rootutils.setup_root(__file__, indicator="pyproject.toml")
    data_dir = Path(os.environ.get("HYDRAUDIO_DATA_DIR", root / "data")).expanduser()
    folders = generated_corpora(data_dir)
    if not folders:
        print(f"There is no generated corpus in {data_dir}.")
        return
    for folder in folders:
        n_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        print(f"{folder}  {n_bytes / 1e6:.0f} MB")
    if given.yes or input(f"Delete these {len(folders)} folders? [y/N] ").strip().lower() in ("y", "yes"):
        for folder in folders:
            shutil.rmtree(folder)
        print("Deleted.")


if __name__ == "__main__":
    main()
