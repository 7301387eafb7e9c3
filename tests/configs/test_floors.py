"""Parts of a configuration belong to one task: each mixture of two is answered in one sentence."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import pytest
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery

from hydra_preflight.compose import compose_job, compose_run, open_loader
from hydra_preflight.errors import ConfigError
from hydra_preflight.task_rules import wrong_floor

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
TASKS = sorted(path.stem for path in (CONFIGS / "task").glob("*.yaml"))


def first(group: str, task: str, sub: str = "") -> str:
    """An option of a task in a group."""
    return f"{task}/{min(path.stem for path in (CONFIGS / group / task / sub).glob('[!_]*.yaml'))}"


def mixtures() -> list[tuple[str, str, list[str], str]]:
    """A task, another one, overrides that mix them, and what the answer calls the wrong part."""
    cases = []
    for task, other in permutations(TASKS, 2):
        data, model, experiment = first("data", other), first("model", other), first("experiment", task)
        cases += [
            (task, other, [f"task={task}", f"data={data}"], f"corpus (data={data})"),
            (task, other, [f"task={task}", f"model={model}"], f"model (model={model})"),
            (task, other, [f"experiment={experiment}", f"data={data}"], f"corpus (data={data})"),
            (task, other, [f"experiment={experiment}", f"data={data}", "data.root=x"], f"corpus (data={data})"),
            (
                task,
                other,
                [f"task={task}", f"data={data}", f"model={model}"],
                f"corpus (data={data}) and the model (model={model})",
            ),
        ]
        for sub in sorted(path for path in (CONFIGS / "model" / other).glob("*") if path.is_dir()):
            group = f"model/{other}/{sub.name}"
            option = min(path.stem for path in sub.glob("[!_]*.yaml"))
            cases.append((task, other, [f"experiment={experiment}", f"{group}={option}"], f"group {group}"))
        callbacks = [
            path
            for path in sorted((CONFIGS / "callbacks" / other).glob("*.yaml"))
            if "hydraudio.tasks." in path.read_text()  # others are answered by what they monitor
        ]
        for path in callbacks:
            name = f"{other}/{path.stem}"
            cases.append((task, other, [f"task={task}", f"callbacks=[default,{name}]"], f"callback (callbacks={name})"))
    return cases


@pytest.mark.parametrize(("task", "other", "overrides", "part"), mixtures(), ids=str)
def test_a_mixture_of_tasks_is_answered_in_one_sentence(tmp_path, monkeypatch, task, other, overrides, part):
    monkeypatch.setenv("PROJECT_ROOT", str(ROOT))
    with pytest.raises(ConfigError) as caught:
        compose_run(overrides, tmp_path)
    (line,) = str(caught.value).splitlines()
    assert line.startswith("command line: ")
    assert line.endswith(wrong_floor(task, other, part))


@pytest.mark.parametrize("task", TASKS)
def test_a_task_and_the_experiment_of_another_do_not_mix(tmp_path, monkeypatch, task):
    monkeypatch.setenv("PROJECT_ROOT", str(ROOT))
    for other in (name for name in TASKS if name != task):
        experiment = first("experiment", other)
        with pytest.raises(ConfigError, match="experiment cannot use the"):
            compose_run([f"task={task}", f"experiment={experiment}", f"model={first('model', other)}"], tmp_path)


@pytest.mark.parametrize(
    ("task", "other", "part"),
    [
        (task, other, path.name)
        for task, other in permutations(TASKS, 2)
        for path in sorted((CONFIGS / "model" / other).glob("*/"))
    ],
)
def test_an_experiment_that_overrides_a_part_of_another_task_is_answered_so(tmp_path, task, other, part):
    group = f"model/{other}/{part}"
    lines = ["# @package _global_", "defaults:", f"  - override /task: {task}", f"  - override /{group}: x"]
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/mixed.yaml").write_text("\n".join(lines))
    search_path = create_config_search_path(str(CONFIGS))
    search_path.prepend("user", f"file://{tmp_path}", SearchPathQuery(provider="schema"))
    with pytest.raises(ConfigError) as caught:
        compose_job(open_loader(search_path, "train"), "train.yaml", ["experiment=mixed"])
    sentence = wrong_floor(task, other, f"group {group}")
    assert str(caught.value).endswith(f"experiment/mixed.yaml:4: override /{group}: {sentence}")


@pytest.mark.parametrize("task", TASKS)
def test_debug_options_do_not_need_the_number_of_workers_in_the_file_of_a_corpus(tmp_path, monkeypatch, task):
    monkeypatch.setenv("PROJECT_ROOT", str(CONFIGS.parent))
    lines = (CONFIGS / "data" / f"{first('data', task)}.yaml").read_text().splitlines()
    bare = [line for line in lines if not line.startswith("num_workers")]
    assert len(bare) == len(lines) - 1
    (tmp_path / "data").mkdir()
    (tmp_path / "data/bare.yaml").write_text("\n".join(bare))
    search_path = create_config_search_path(str(CONFIGS))
    search_path.prepend("user", f"file://{tmp_path}", SearchPathQuery(provider="schema"))
    overrides = [f"task={task}", "data=bare", "debug=default"]
    cfg, _ = compose_job(open_loader(search_path, "train"), "train.yaml", overrides)
    assert cfg.data.num_workers == 0


def test_packages_of_users_are_free(tmp_path, monkeypatch):
    monkeypatch.setenv("PROJECT_ROOT", str(ROOT))
    cfg = compose_run(["data._target_=mine.corpus.Corpus", "extras.trusted_targets=[mine]"], tmp_path)
    assert cfg.data._target_ == "mine.corpus.Corpus"


def test_an_experiment_may_put_a_network_of_another_floor_inside_a_model(tmp_path, monkeypatch):
    """A file that names it means it; the same on the command line is refused."""
    from hydra_preflight.sources import SourceFile, Sources
    from hydra_preflight.task_rules import foreign_parts

    target = {"_target_": "hydraudio.tasks.other.networks.net.Net"}
    tree = {"task": {"name": "one"}, "model": {"_target_": "hydraudio.tasks.one.task.Task", "net": target}}
    written = SourceFile("experiment/one/pair", "", {"model": {"net": target}}, primary=False)
    assert foreign_parts(tree, Sources([written])) == []
    (problem,) = foreign_parts(tree, Sources([SourceFile("model/one/x", "model", {"net": target})]))
    assert "cannot use the other model" in problem.text


def test_the_corpus_of_another_task_is_refused_for_a_checkpoint():
    from omegaconf import OmegaConf

    from hydra_preflight.errors import DataMismatchError
    from hydraudio.trained import restore_data

    cfg = OmegaConf.create({"data": {"_target_": "hydraudio.tasks.other.corpora.corpus.DataModule"}})
    trained = OmegaConf.create({"task": {"name": "one"}, "data": {}})
    sentence = "the data has task=other, but the model was built for task=one; choose data"
    with pytest.raises(DataMismatchError, match=sentence):
        restore_data(cfg, trained, "best.ckpt")
