"""The door for configurations that others wrote: probes of many shapes, each of which would leave a mark."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import instantiate

from hydra_preflight import foreign
from hydra_preflight.errors import ConfigError
from hydra_preflight.foreign import admit, read_file, read_text
from hydra_preflight.kinds import _OF_A_TRAINER, _PLACES, kinds_at

PATHS = {"output_dir": "/here/run", "cache_dir": "/here/cache", "data_dir": "/here/data", "log_dir": "/here/logs"}
PACKAGE = """
from pathlib import Path
import lightning.pytorch as pl
import torch
from hydraudio.audio.files import FilePredictor
from hydraudio.core.task import Task

def touch(path="MARK", *args, **kwargs):
    Path("MARK").touch()

class Toucher:
    def __init__(self, *args, **kwargs):
        touch()

class Objective(Task):
    def __init__(self, **kwargs):
        torch.nn.Module.__init__(self)
        self.given = kwargs

class Net(torch.nn.Module):
    def __init__(self, **kwargs):
        super().__init__()
        self.given = kwargs

class Data(pl.LightningDataModule):
    def __init__(self, **kwargs):
        super().__init__()
        self.given = kwargs

class Player(FilePredictor):
    def __init__(self, **kwargs):
        self.given = kwargs
"""
TASK = {"_target_": "foreign_here.Objective"}
NET = {"_target_": "foreign_here.Net"}
TOUCH = {"_target_": "foreign_here.touch"}
TOUCHER = {"_target_": "foreign_here.Toucher"}
BUILT = {"model": {"_target_": "foreign_here.Toucher"}}


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that a probe makes when it runs; the package of the probes is trusted."""
    path = tmp_path / "mark"
    (tmp_path / "foreign_here.py").write_text(PACKAGE.replace("MARK", str(path)))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield path
    sys.modules.pop("foreign_here", None)


def opened(content: dict[str, Any], **options: Any) -> Any:
    options = {"paths": PATHS, "trusted_prefixes": ["foreign_here"], **options}
    return admit(content, "probe.ckpt", **options)


def inside(node: Any) -> dict[str, dict[str, Any]]:
    """The node at many places of a model and of other parts."""
    return {
        "argument of the task": {"model": {**TASK, "net": node}},
        "argument of a network": {"model": {**TASK, "net": {**NET, "norm": node}}},
        "in a list": {"model": {**TASK, "net": {**NET, "layers": [NET, node]}}},
        "in a list in a list": {"model": {**TASK, "net": {**NET, "layers": [[{"x": [node]}]]}}},
        "positional": {"model": {**TASK, "net": {"_target_": "torch.nn.Sequential", "_args_": [node]}}},
        "in a plain mapping": {"model": {**TASK, "options": {"deep": {"deeper": node}}}},
        "not recursive": {"model": {**TASK, "_recursive_": False, "net": node}},
        "of the data": {"data": {"_target_": "foreign_here.Data", "embedded": node}},
        "of the predictor": {"predict": {"_target_": "foreign_here.Player", "x": node}},
        "as the model": {"model": node},
        "as the data": {"data": node},
        "as the report": {"report": node},
        "as the predictor": {"predict": node},
        "as the trainer": {"trainer": node},
        "in the trainer": {"trainer": {"_target_": "lightning.pytorch.Trainer", "plugins": [node]}},
        "beside all": {"name": node},
    }


NODES = {
    "function": TOUCH,
    "partial": {**TOUCH, "_partial_": True},
    "class of no kind": TOUCHER,
    "partial class of no kind": {**TOUCHER, "_partial_": True},
    "function of ours": {"_target_": "hydraudio.core.files.write_text", "path": "MARK", "text": "x"},
    "partial of ours": {"_target_": "hydraudio.core.files.write_text", "_partial_": True, "path": "MARK", "text": "x"},
    "instantiates a text": {
        "_target_": "hydraudio.trained.build_task",
        "trained": {"model": {"_target_": "os.system"}},
    },
    "corpus writer": {"_target_": "hydraudio.core.generated.EmbeddedCorpus", "_partial_": True, "seed": 0},
    "class of ours": {"_target_": "hydraudio.report.listen.session.Session"},
    "checkpoint callback": {"_target_": "lightning.pytorch.callbacks.ModelCheckpoint", "dirpath": "MARK"},
    "logger": {"_target_": "lightning.pytorch.loggers.CSVLogger", "save_dir": "MARK"},
    "profiler": {"_target_": "lightning.pytorch.profilers.SimpleProfiler", "dirpath": "MARK"},
    "command": {"_target_": "os.system", "command": "touch MARK"},
    "method": {"_target_": "foreign_here.Net.load_state_dict"},
    "what a module imports": {"_target_": "foreign_here.Path"},
    "Hydra itself": {"_target_": "hydra.utils.instantiate", "config": {"_target_": "os.system"}},
    "no name": {"_target_": ["os", "system"]},
    "name behind a reference": {"_target_": "${name}"},
    "name of a resolver": {"_target_": "${oc.env:PROBE}"},
}
PLACES = tuple(inside(None))
FITS = {("in the trainer", "checkpoint callback"), ("in the trainer", "logger"), ("in the trainer", "profiler")}
"""What may stand there: it is of the run that wrote it and is never instantiated from its checkpoint."""


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", NODES)
def test_no_probe_passes_the_door(mark: Path, monkeypatch: pytest.MonkeyPatch, place: str, name: str) -> None:
    monkeypatch.setenv("PROBE", "foreign_here.touch")
    if (place, name) in FITS:
        return
    content = {"name": "foreign_here.touch", **inside(NODES[name])[place]}
    with pytest.raises(ConfigError, match=r"probe\.ckpt"):
        instantiate(opened(content))
    assert not mark.exists()


def test_the_probes_would_leave_a_mark(mark: Path) -> None:
    instantiate({"x": [TOUCHER]})
    assert mark.exists()


def test_what_a_configuration_needs_passes(mark: Path) -> None:
    adam = {"_target_": "torch.optim.Adam", "_partial_": True, "lr": 0.1}
    schedule = {"_target_": "hydraudio.nn.schedules.warmup_cosine", "_partial_": True}
    own = {"_target_": "foreign_here.touch", "_partial_": True}
    net = {**NET, "layers": [{"_target_": "torch.nn.Linear", "_args_": [1, 2]}], "rate": "${data.rate}"}
    model = {**TASK, "net": net, "optimizer": adam, "scheduler": schedule, "schedulers": [own]}
    cfg = opened({"model": model, "data": {"_target_": "foreign_here.Data", "rate": 8000, "splits": {"a": [1]}}})
    task = instantiate(cfg.model)
    assert task.given["net"].given["rate"] == 8000
    assert instantiate(cfg.data).given["splits"] == {"a": [1]}
    assert not mark.exists()


@pytest.mark.parametrize(
    ("target", "given"),
    [("torch.optim.Adam", {"params": []}), ("hydraudio.nn.schedules.warmup_cosine", {"optimizer": 1})],
)
def test_what_a_task_makes_is_partial(target: str, given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="set _partial_: true"):
        admit({"model": {"optimizer": {"_target_": target, **given}}}, "probe.ckpt", paths=PATHS)


RESOLVERS = [
    "${oc.env:HOME}",
    "${oc.create:{_target_:os.system}}",
    "${oc.decode:'{_target_: os.system}'}",
    "${oc.select:name}",
    "${existing_dir:MARK}",
    "${run_dir:MARK,x}",
    "${pretrained_config:owner/name}",
    "${data_attribute:root}",
    "${hydra:runtime.cwd}",
    "${model}",
    "${model.net}",
    "${nothing.there}",
    "${${name}}",
    "text ${oc.env:HOME} text",
    "text ${name} text",
    "text ${paths.data_dir} ${oc.env:HOME}",
    "${paths.${name}}",
    "${.net}",
    "\\${oc.env:HOME}",
]


@pytest.mark.parametrize("text", RESOLVERS)
def test_nothing_is_resolved_but_references_to_values(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "made"
    content = {"name": "model", "model": {"net": {"x": text.replace("MARK", str(folder))}}}
    with pytest.raises(ConfigError, match=r"refused|refers"):
        opened(content)
    assert not folder.exists()


def test_where_something_is_written_is_said_by_this_machine() -> None:
    there = {"output_dir": "/there/run", "cache_dir": "/there/cache", "data_dir": "/there/data", "log_dir": "/there"}
    content = {
        "paths": {**there, "further_dir": "/there"},
        "data": {"data_dir": "/there/data", "cache_dir": "${paths.cache_dir}", "options": [{"cache_dir": "/there"}]},
        "model": {"cache_dir": None, "net": {"cache_dir": "../there", "text": "${paths.data_dir}/x"}},
        "report": {"output_dir": "${paths.output_dir}/report", "cache_dir": "~/there"},
    }
    cfg = opened(content)
    assert cfg.paths == PATHS
    assert cfg.data == {"data_dir": "/here/data", "cache_dir": "/here/cache", "options": [{"cache_dir": "/here/cache"}]}
    assert cfg.model == {"cache_dir": None, "net": {"cache_dir": "/here/cache", "text": "/here/data/x"}}
    assert cfg.report == {"output_dir": "/here/run", "cache_dir": "/here/cache"}


def test_without_folders_there_is_nowhere_to_write() -> None:
    node = {"cache_dir": "/there", "output_dir": "${paths.output_dir}/x", "root": "${paths.data_dir}/corpus", "n": 1}
    cfg = opened({"model": node}, paths=None)
    assert cfg == {"model": {"cache_dir": None, "output_dir": None, "root": None, "n": 1}}


def test_what_is_not_used_is_left_behind() -> None:
    """Callbacks and loggers of the run, and what it trusted."""
    cfg = opened({"callbacks": {"x": TOUCH}, "logger": {"x": TOUCH}, "extras": {"trusted_targets": ["os"]}, "seed": 1})
    assert set(cfg) == {"seed", "paths"}


def test_what_is_read_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    foreign._say_what_is_read.cache_clear()
    content = {"data": {"root": "corpora/x", "table": "/t.csv"}, "model": {"net": {"source": "owner/name"}, "x": "a/b"}}
    with caplog.at_level(logging.INFO):
        opened(content), opened(content)
    (line,) = [record.message for record in caplog.records]
    assert line == "probe.ckpt reads data.root=corpora/x, data.table=/t.csv, model.net.source=owner/name"


def laughs(levels: int) -> str:
    """A text of a line per level whose value doubles with each."""
    lines = ["a0: &a0 [x, x]", *(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, levels))]
    return "\n".join(lines)


COSTLY = {
    "aliases": laughs(60),
    "one alias": "a: &x 1\nb: *x",
    "anchor": "a: &x 1",
    "recursive alias": "a: &x [*x]",
    "flow depth": "a: " + "[" * 500 + "]" * 500,
    "mapping depth": "a: " + "{a: " * 500 + "1" + "}" * 500,
    "length": "a: " + "x" * 2_000_000,
    "values": "a: [" + "1," * 60_000 + "]",
    "a list": "[1, 2]",
    "python": "a: !!python/object/apply:os.system [true]",
    "a long number": "a: " + "1" * 5000,
    "no yaml": "a: [",
    "bytes": "a: !!binary aGVsbG8=",
    "a set": "a: !!set {x, y}",
    "a strange key": "? [1, 2]\n: 3",
    "no key": "null: 1",
    "empty": "",
}


@pytest.mark.parametrize("name", COSTLY)
def test_costly_and_strange_texts_are_refused_at_once(name: str) -> None:
    with pytest.raises(ConfigError, match="probe"):
        read_text(COSTLY[name], "probe")


@pytest.mark.parametrize("text", [None, b"a: 1", {"a": 1}, 3])
def test_only_text_is_read(text: Any) -> None:
    with pytest.raises(ConfigError, match="no text"):
        read_text(text, "probe")


@pytest.mark.parametrize("content", ["[1]", "{", '{"a": ' + "[" * 100_000, '{"a": ' + "[" * 100 + "]" * 100 + "}"])
def test_strange_json_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"config\.json"):
        read_file(path)
    path.write_text('{"a": "' + "x" * 1_000_000 + '"}')
    with pytest.raises(ConfigError, match="bytes"):
        read_file(path)


def test_names_of_kinds_exist() -> None:
    """The base of a kind is known by its full name, which another version of Lightning may change."""
    from importlib import import_module

    names = {name for kinds in _PLACES.values() for part in kinds for name in part} | set(_OF_A_TRAINER)
    for name in [*names, *kinds_at("callbacks.x"), *kinds_at("logger.x")]:
        module, _, attribute = name.rpartition(".")
        found = getattr(import_module(module), attribute)
        assert f"{found.__module__}.{found.__qualname__}" == name


def test_a_pipe_in_place_of_a_configuration_is_refused(tmp_path: Path, pipe: Callable[[Path], Path]) -> None:
    with pytest.raises(FileNotFoundError, match=r"config\.yaml: no such file that can be read"):
        read_file(pipe(tmp_path / "config.yaml"))
