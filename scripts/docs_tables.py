"""Write the tables of the docs from the YAMLs and the tasks' specifications: python scripts/docs_tables.py [--check].

A table stands between `<!-- table: NAME -->` and `<!-- end table -->` in a page of docs/ and is never edited by hand:

    corpora TASK; experiments TASK      each with the first comment of its YAML
    batch TASK; metrics TASK            what the task's specification says
    networks TASK; TITLE: OVERRIDES; TITLE: OVERRIDES
                                        trainable parameters of every network, a column per title;
                                        `+frozen` among its overrides counts the frozen ones too
"""

from __future__ import annotations

import argparse
import importlib
import re
import sys
from functools import cache

import rootutils
import yaml

ROOT = rootutils.setup_root(__file__, indicator="pyproject.toml", project_root_env_var=True, dotenv=True)
CONFIGS = ROOT / "configs"
TASKS = sorted(path.stem for path in (CONFIGS / "task").glob("*.yaml"))
TABLE = re.compile(r"(?P<begin><!-- table: (?P<name>[^\n]*?) -->\n).*?(?P<end><!-- end table -->)", re.DOTALL)


def main() -> int:
    """Write or check all tables; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit status 1 if a table is not fresh")
    arguments = parser.parse_args()
    stale = []
    for page in sorted((ROOT / "docs").rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        fresh = TABLE.sub(lambda found: found["begin"] + table(found["name"]) + found["end"], text)
        if fresh != text:
            stale.append(page.relative_to(ROOT).as_posix())
            if not arguments.check:
                page.write_text(fresh, encoding="utf-8")
    for name in stale:
        print(f"{name}: {'a table is not fresh: run python scripts/docs_tables.py' if arguments.check else 'written'}")
    return 1 if stale and arguments.check else 0


def table(name: str) -> str:
    """The Markdown of a table, e.g. of ``corpora separation``.

    Raises:
        ValueError: there is no such table or task.
    """
    head, *columns = (part.strip() for part in name.split(";"))
    kind, _, task = head.partition(" ")
    makers = {"corpora": corpora, "experiments": experiments, "batch": batch, "metrics": metrics}
    if kind == "networks" and task in TASKS:
        rows = networks(task, dict(tuple(part.strip() for part in column.split(":", 1)) for column in columns))
    elif kind in makers and task in TASKS:
        rows = makers[kind](task)
    else:
        raise ValueError(f"there is no table {name!r}: see scripts/docs_tables.py --help; tasks: {', '.join(TASKS)}")
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:], ""])


def options(group: str, task: str = "") -> list[str]:
    """Options of a group in the folder of a task, or of none; those with a leading underscore are bases."""
    return sorted(path.stem for path in (CONFIGS / group / task).glob("*.yaml") if not path.stem.startswith("_"))


def about(group: str, option: str) -> str:
    """The first sentence or line that a YAML says about itself, for a cell."""
    lines = (CONFIGS / group / f"{option}.yaml").read_text(encoding="utf-8").splitlines()
    comment = next((line for line in lines if line.startswith("# ") and not line.startswith("# @")), "# ")
    return comment[2:].replace("|", "\\|")


def corpora(task: str) -> list[list[str]]:
    """What to write on the command line, and what the corpus is."""
    found = [f"{task}/{option}" for option in options("data", task)]
    return [["corpus", "what it is"], *([f"`data={option}`", about("data", option)] for option in found)]


def experiments(task: str) -> list[list[str]]:
    """What to write on the command line, and what the question is."""
    found = [f"{task}/{option}" for option in options("experiment", task)]
    rows = [[f"`experiment={option}`", about("experiment", option)] for option in found]
    return [["experiment", "what it does"], *rows]


def batch(task: str) -> list[list[str]]:
    """Tensors of a batch: key, axes, type and range."""
    axes = specification(task).batch
    rows = [
        [f"`{key}`", f"({', '.join(a.axes.split())})", ", ".join(filter(None, [a.dtype, a.unit]))]
        for key, a in axes.items()
    ]
    return [["key", "axes", "values"], *rows]


def metrics(task: str) -> list[list[str]]:
    """Metrics that a run logs as stage/name."""
    found = specification(task).metrics
    rows = [[f"`{m.name}`", m.label, m.unit, m.better] for m in found]
    return [["metric", "in tables", "unit", "better"], *rows]


def networks(task: str, columns: dict[str, str]) -> list[list[str]]:
    """Networks with their parameters; a column is overrides of the configuration."""
    rows = []
    for option in options("model", task):
        counts = [f"{count(task, option, overrides.split()):,}" for overrides in columns.values()]
        rows.append([f"`{option}`", *counts, about("model", f"{task}/{option}")])
    return [["network", *columns, "what it is"], *rows]


def specification(task: str):
    """The specification that the task's YAML names."""
    module, _, name = yaml.safe_load((CONFIGS / "task" / f"{task}.yaml").read_text())["task"]["spec"].rpartition(".")
    return getattr(importlib.import_module(module), name)


def count(task: str, option: str, overrides: list[str]) -> int:
    """Parameters of a network; nothing is allocated and no corpus is read."""
    import torch
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    from hydra_preflight.resolvers import bind_data_attributes

    values = [override for override in overrides if "." in override.partition("=")[0]]
    choices = tuple(override for override in overrides if override not in values and override != "+frozen")
    cfg = OmegaConf.merge(composed(default("data", task), f"{task}/{option}", *choices), OmegaConf.from_dotlist(values))
    bind_data_attributes(instantiate(cfg.data))
    with torch.device("meta"):
        net = instantiate(cfg.model.net, _convert_="all")
    return sum(parameter.numel() for parameter in net.parameters() if "+frozen" in overrides or parameter.requires_grad)


def default(group: str, task: str) -> str:
    """The option of a group that the task's YAML chooses."""
    entries = yaml.safe_load((CONFIGS / "task" / f"{task}.yaml").read_text(encoding="utf-8"))["defaults"]
    return next(entry[f"override /{group}"] for entry in entries if f"override /{group}" in entry)


@cache
def composed(data: str, model: str, *choices: str):
    """Corpus and model alone, which is five times as fast as a whole run; others check the configuration."""
    from hydra import compose, initialize_config_dir

    from hydra_preflight.resolvers import register_resolvers

    register_resolvers(read_sources=False)
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose(None, ["+paths=default", "+seed=0", f"+data={data}", f"+model={model}", *choices])


if __name__ == "__main__":
    sys.exit(main())
