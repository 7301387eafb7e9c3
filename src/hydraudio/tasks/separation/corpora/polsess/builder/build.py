"""The corpus builder: folders of speech, scenes and events in, a corpus in the PolSESS layout out.

Every row is a pure function of the arguments, the source files and its own number, so neither the number of processes
nor a kill in between changes a bit. `<root>/build.jsonl` holds the arguments and one line per finished row; a second
call with the same arguments checks the rows' files and makes only what is missing or damaged.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hydraudio.audio.io import open_audio
from hydraudio.core.files import write_text
from hydraudio.core.parallel import map_in_processes
from hydraudio.tasks.separation.corpora.polsess.builder.plan import BuildConfig, Plan, make_plan
from hydraudio.tasks.separation.corpora.polsess.builder.row import make_row
from hydraudio.tasks.separation.corpora.polsess.layout import (
    COLUMN_OF,
    FOLDER_OF,
    Value,
    csv_path,
    make_folders,
    write_csv,
)

JOURNAL = "build.jsonl"

_VERSION = 1  # raise it whenever the same arguments give other samples

Progress = Callable[[int, int], None]


def build_corpus(
    config: BuildConfig, root: str | Path, n_processes: int | None = None, progress: Progress | None = None
) -> Path:
    """Builds, continues or repairs a corpus.

    Args:
        config: what and how.
        root: folder of the corpus, made if needed.
        n_processes: None takes the CPUs that there are.
        progress: called with (rows done, rows in all).

    Returns:
        The root, as an absolute path.

    Raises:
        ValueError, FileNotFoundError: unusable sources or arguments, or a root that holds another corpus.
    """
    root = Path(os.path.abspath(root))
    plan = make_plan(config, root)
    header = _header(plan)
    finished = _open_journal(root, header)
    for subset in config.subsets:
        make_folders(root, subset)
        _remove_torn_files(root / subset)
    jobs = [(subset, row) for subset in config.subsets for row in range(config.rows[subset])]
    rows = {job: finished[job] for job in jobs if job in finished and _is_whole(plan, finished[job])}
    todo = [job for job in jobs if job not in rows]
    with (root / JOURNAL).open("a", encoding="utf-8") as journal:
        for job, row in zip(todo, map_in_processes(make_row, plan, todo, n_processes), strict=True):
            rows[job] = row
            journal.write(_journal_line(job, row))
            journal.flush()
            if progress is not None:
                progress(len(rows), len(jobs))
    for subset in config.subsets:
        write_csv(csv_path(root, subset), [rows[job] for job in jobs if job[0] == subset])
    _write_journal(root, header, {job: rows[job] for job in jobs})
    return root


# --- restarting ---


def _header(plan: Plan) -> dict[str, Any]:
    """What every sample depends on: the arguments, and names and lengths of the sources."""
    config = {key: value for key, value in asdict(plan.config).items() if key not in ("speech", "scenes", "events")}
    if plan.matches is not None:  # what the matrix says, not where it lies
        config["match"] = {scene: sorted(events) for scene, events in plan.matches.items()}
    pools = {subset: asdict(plan.pools[subset]) for subset in plan.config.subsets}
    for recording in _walk_recordings(pools):
        del recording["path"]
    header = {
        "builder": "hydraudio.tasks.separation.corpora.polsess.builder.build",
        "version": _VERSION,
        "config": config,
        "sources": pools,
    }
    return dict(json.loads(json.dumps(header, default=_plain, sort_keys=True)))


def _walk_recordings(node: Any) -> list[dict[str, Any]]:
    if isinstance(node, list):
        return node
    return [recording for child in node.values() for recording in _walk_recordings(child)]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)


def _open_journal(root: Path, header: dict[str, Any]) -> dict[tuple[str, int], dict[str, Value]]:
    """Rows that an earlier call finished; starts the journal if there is none."""
    path = root / JOURNAL
    if not path.is_file():
        if root.is_dir() and any(root.iterdir()):
            raise ValueError(f"{root} is not empty and was not built by this builder (no {JOURNAL}); use another")
        root.mkdir(parents=True, exist_ok=True)
        _write_journal(root, header, {})
        return {}
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    found = json.loads(lines[0])
    if found != header:
        raise ValueError(f"{root} was built differently: {_difference(found, header)}; remove it or use another")
    # a kill may have cut the last line off; its row is made again
    rows = [json.loads(line) for line in lines[1:] if line.endswith("\n")]
    finished = {(row["subset"], row["row"]): row["columns"] for row in rows}
    _write_journal(root, header, finished)
    return finished


def _remove_torn_files(folder: Path) -> None:
    """Half-written files that a kill left under temporary names."""
    for path in folder.rglob(".*.partial*"):
        path.unlink()


def _difference(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    old, new = found.get("config", {}), wanted["config"]
    changed = [f"{key} {old.get(key)} -> {new[key]}" for key in new if old.get(key) != new[key]]
    return ", ".join(changed) or "the source files changed"


def _write_journal(root: Path, header: dict[str, Any], rows: Mapping[tuple[str, int], dict[str, Value]]) -> None:
    lines = [json.dumps(header, sort_keys=True) + "\n", *(_journal_line(job, row) for job, row in rows.items())]
    write_text(root / JOURNAL, "".join(lines))


def _journal_line(job: tuple[str, int], row: dict[str, Value]) -> str:
    return json.dumps({"subset": job[0], "row": job[1], "columns": row}) + "\n"


def _is_whole(plan: Plan, row: Mapping[str, Value]) -> bool:
    """All files of a finished row are there, of the right length, and the mix is their sum."""
    total = np.zeros(plan.config.n_samples, np.int64)
    for component, column in COLUMN_OF.items():
        if not row[column]:
            continue
        path = plan.root / str(row["subset"]) / FOLDER_OF[component] / str(row[column])
        try:
            with open_audio(path) as file:
                codes, sample_rate = file.read(dtype="int16"), file.sample_rate
        except (ValueError, FileNotFoundError):
            return False
        if codes.shape != (len(total), 1) or sample_rate != plan.config.sample_rate:
            return False
        total += -codes[:, 0].astype(np.int64) if component == "mix" else codes[:, 0]
    return not total.any()
