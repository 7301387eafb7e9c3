"""Fetch a corpus: python scripts/data/download.py [data=NAME [folder=FOLDER]]

Archives come with the checksum that is published of them, and the folder appears complete or not at all. A corpus that
needs a form, or that is generated, is answered with what to do instead. Without a name, lists what can be fetched.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from importlib import import_module
from pathlib import Path

import rootutils

ROOT = rootutils.setup_root(__file__, indicator="pyproject.toml", project_root_env_var=True, dotenv=True)

from hydraudio.core.download import Archive, Source, fetch  # noqa: E402

OTHERS = {
    "musdb18_hq": Source(
        (
            Archive(
                addresses=("https://zenodo.org/records/3338373/files/musdb18hq.zip",),
                known_hash="sha256:baac80d0483c61d74b2e5f3be75fa557eec52898339e6aa45c1fa48833c5d21d",  # of torchaudio
            ),
        ),
        terms="For education and research only; each track has its own licence.",
    ),
    "musdb18": Source(
        by_hand="MUSDB18 in its compressed form has no checksum that is known here: fetch "
        "https://zenodo.org/records/1117372 by hand, or take musdb18_hq, the same tracks as WAV files."
    ),
}
"""Corpora that no data module here reads."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", help="data=NAME or data=TASK/NAME, folder=FOLDER (default: data/NAME)")
    given = parser.parse_args().settings
    settings = dict(setting.partition("=")[::2] for setting in given)
    if not set(settings) <= {"data", "folder"}:
        parser.error(f"{' '.join(given)}: the settings are data=NAME and folder=FOLDER")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sources = _sources()
    if "data" not in settings:
        for name, source in sources.items():
            print(f"data={name:24s} {'by hand' if source.by_hand else source.terms}")
        return 0
    try:
        name, source = _chosen(settings["data"], sources)
        folder = Path(settings.get("folder") or _data_dir() / name.rpartition("/")[2]).expanduser()
        print(f"{name}: {source.terms}" if source.terms else name)
        fetch(source, folder)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(
        f"{folder} is complete. Use it with data.root={folder}, or name it in .env (.env.example lists the variables)."
    )
    if "/" in name:
        print(f"Check it with: python scripts/data/check.py data={name} data.root={folder}")
    return 0


def _sources() -> dict[str, Source]:
    """TASK/NAME of every data module's configuration, and names of others -> source."""
    import yaml

    found = {}
    for path in sorted((ROOT / "configs" / "data").glob("*/*.yaml")):
        if target := yaml.safe_load(path.read_text(encoding="utf-8")).get("_target_"):
            module, _, name = target.rpartition(".")
            found[f"{path.parent.name}/{path.stem}"] = getattr(import_module(module), name).source
    return found | OTHERS


def _chosen(wanted: str, sources: dict[str, Source]) -> tuple[str, Source]:
    names = [name for name in sources if wanted in (name, name.rpartition("/")[2])]
    if len(names) != 1:
        raise ValueError(f"data={wanted}: no such corpus; there are {', '.join(sources)}")
    return names[0], sources[names[0]]


def _data_dir() -> Path:
    return Path(os.environ.get("HYDRAUDIO_DATA_DIR") or ROOT / "data")


if __name__ == "__main__":
    sys.exit(main())
