"""A list of experiments, each composed from the same base, and what has become of each."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hydra_preflight.errors import ConfigError
from hydra_preflight.foreign import read_text
from hydra_preflight.resolvers import latest_run
from hydraudio.core.files import read_csv, sha256_of_json

_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+-]+")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Experiment:
    """One run to be made.

    Args:
        name: its runs go to ``logs/<name>/``.
        overrides: for ``src/train.py``, as on the command line.
    """

    name: str
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class State:
    """How far an experiment has come.

    Args:
        status: ``finished``, ``interrupted`` (can be continued) or ``new``.
        folder: of the run that says so; None for new ones.
    """

    status: str
    folder: Path | None = None


def read_experiments(path: Path) -> list[Experiment]:
    """Read a file of experiments, YAML or (``.toml``) TOML.

    Either a list of options of ``configs/experiment``, each run under the last part of its name, or a mapping with
    ``base``, the overrides that all share, and ``experiments``, a list of options or of mappings with ``name`` and
    ``overrides``. An override is ``key: value`` where
    the command line has ``key=value``; an experiment's own replaces the base's of the same key, there only. In TOML, a
    table stands for the keys below it, as do keys with dots; a key in quotes that has dots keeps a table as its value.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it has another form; the message says where.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file")
    form = "TOML" if path.suffix == ".toml" else "YAML"
    try:
        content = (_read_toml if form == "TOML" else _read_yaml)(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, tomllib.TOMLDecodeError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no {form} file: {error}") from error
    if isinstance(content, list):
        content = {"experiments": content}
    if not isinstance(content, dict) or not isinstance(content.get("experiments"), list) or not content["experiments"]:
        raise ValueError(f"{path}: expected a list of experiments, or a mapping with the list `experiments`")
    _only_known(content, {"base", "experiments"}, str(path))
    base = _overrides(content.get("base"), f"{path}: base")
    experiments = [
        _experiment(entry, base, f"{path}: experiment {number}")
        for number, entry in enumerate(content["experiments"], start=1)
    ]
    repeated = [name for name, count in Counter(each.name for each in experiments).items() if count > 1]
    if repeated:
        raise ValueError(
            f"{path}: the name {repeated[0]} is given to several experiments; runs are found by their name"
        )
    return experiments


def override_text(key: str, value: Any) -> str:
    """Write ``key=value`` in Hydra's grammar, so that the value keeps its type; ``~key`` for a key that begins so."""
    if key.startswith("~"):
        return key if value is None else f"{key}={_value_text(value)}"
    return f"{key}={_value_text(value)}"


def digest(cfg: DictConfig) -> str:
    """Identify a composed configuration by a hash of all that it says.

    Raises:
        ConfigError: the run would not train and test.
    """
    if not (cfg.train and cfg.test):
        raise ConfigError("train=false or test=false: experiments are trained and tested, the table shows test metrics")
    return _digest(OmegaConf.to_yaml(cfg), cfg.data.get("root"))


def find_state(log_dir: Path, name: str, wanted: str) -> State:
    """Look for a run of a name with the digest `wanted`: a finished one, else the newest if it can be continued."""
    parent = log_dir / name
    runs = [path for path in parent.iterdir() if path.is_dir() and not path.is_symlink()] if parent.is_dir() else []
    same = [run for run in sorted(runs) if _digest_of_run(run) == wanted]
    finished = [run for run in same if (run / "report" / "index.html").is_file()]
    if finished:
        return State("finished", finished[-1])
    latest = latest_run(parent)
    is_same = latest is not None and latest.resolve() in [run.resolve() for run in same]
    if latest is not None and is_same and (latest / "checkpoints" / "last.ckpt").is_file():
        return State("interrupted", latest)
    return State("new")


def metrics_of_test(run: Path) -> dict[str, float]:
    """Return the test metrics that a run logged last, without the prefix ``test/``; none without ``metrics.csv``."""
    path = run / "metrics.csv"
    if not path.is_file():
        return {}
    rows = read_csv(path, growing=True)
    tested = [{key: value for key, value in row.items() if key.startswith("test/") and value} for row in rows]
    last: dict[str, str] = next((row for row in reversed(tested) if row), {})
    return {key.removeprefix("test/"): float(value) for key, value in last.items()}


def last_line(log: Path) -> str:
    """Return the last line of a log that is not empty: what a failed command said."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "no output"


def _experiment(entry: Any, base: Mapping[str, Any], where: str) -> Experiment:
    if isinstance(entry, str):
        entry = {"name": entry.rpartition("/")[2], "overrides": {"experiment": entry}}
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise ValueError(f"{where} must be a name of configs/experiment, or a mapping with `name` and `overrides`")
    _only_known(entry, {"name", "overrides"}, where)
    name = entry["name"]
    if not _NAME.fullmatch(name):
        raise ValueError(f"{where}: name {name!r} must consist of letters, digits, '_', '-' and '.': a folder gets it")
    own = _overrides(entry.get("overrides"), f"{where} ({name})")
    for key in ("name", "ckpt_path"):
        if key in base or key in own:
            raise ValueError(f"{where} ({name}): {key} is set for every experiment and cannot be overridden")
    merged = {**base, **own, "name": name}
    return Experiment(name, tuple(override_text(key, value) for key, value in merged.items()))


def _overrides(given: Any, where: str) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, dict) or not all(isinstance(key, str) for key in given):
        raise ValueError(f"{where}: overrides are a mapping, one `key: value` for each `key=value` of the command line")
    return dict(given)


def _only_known(mapping: Mapping[str, Any], known: set[str], where: str) -> None:
    unknown = sorted(str(key) for key in mapping if key not in known)
    if unknown:
        raise ValueError(f"{where}: unknown key {unknown[0]!r}; there are {', '.join(sorted(known))}")


def _value_text(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, list):
        return "[" + ",".join(map(_value_text, value)) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_value_text(item)}" for key, item in value.items()) + "}"
    text = str(value)
    if _reads_as_text(text) or (text.startswith("${") and text.endswith("}")):
        return text
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")  # only a backslash before a quote is special
    return f"'{escaped if text.endswith(chr(92)) or chr(39) in text else text}'"


def _reads_as_text(text: str) -> bool:
    """Whether Hydra reads the bare word as this very string."""
    return bool(_PLAIN.fullmatch(text)) and isinstance(yaml.safe_load(text), str) and not _is_number(text)


def _is_number(text: str) -> bool:
    try:
        float(text.replace("_", ""))
    except ValueError:
        return False
    return True


def _digest_of_run(run: Path) -> str | None:
    """The digest of what Hydra composed for a run; None where it left nothing readable."""
    path = run / ".hydra" / "config.yaml"
    if not path.is_file():
        return None
    try:
        resolved = read_text((run / "config.yaml").read_text(encoding="utf-8"), "configuration")
        return _digest(path.read_text(encoding="utf-8"), resolved["data"].get("root"))
    except (FileNotFoundError, KeyError, ValueError):
        return None


def _digest(text: str, root: str | None) -> str:
    """Hash of a composed configuration, as Hydra writes it, with the folder that its ``data.root`` stood for."""
    content = {key: value for key, value in read_text(text, "configuration").items() if key != "ckpt_path"}
    return sha256_of_json({**content, "data": {**content["data"], "root": root}}, default=str)


def _read_toml(text: str) -> Any:
    """Content of a TOML text, the overrides in it by their full keys."""
    content = tomllib.loads(text)
    experiments = content.get("experiments")
    for place in (content, *(experiments if isinstance(experiments, list) else ())):
        for key in ("base", "overrides"):
            if isinstance(place, dict) and isinstance(place.get(key), dict):
                place[key] = _full_keys(place[key])
    return content


def _full_keys(table: Mapping[str, Any]) -> dict[str, Any]:
    """Join the keys of tables within tables by dots, down to what is no table, an empty one, or has a quoted key."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict) and value and "." not in key:
            found |= {f"{key}.{inner}": each for inner, each in _full_keys(value).items()}
        else:
            found[key] = value
    return found


def _read_yaml(text: str) -> Any:
    """Plain content of a YAML text by the rules of Hydra's files, in which 1e-5 is a number."""
    return OmegaConf.to_container(OmegaConf.create(text), resolve=False)
