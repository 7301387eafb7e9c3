"""Interpolations: the run's folder and attributes of the datamodule."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hydra_preflight import resolvers
from hydra_preflight.errors import ConfigError
from hydra_preflight.resolvers import bind_data_attributes, register_resolvers, run_dir


class DataModule:
    n_classes: int = 4

    def __init__(self) -> None:
        self.n_sources = 2
        self.labels = ("a", "b")
        self.hostile = {"_target_": "os.system"}
        self._hidden = 3

    @property
    def channels(self) -> int:
        return 1

    @property
    def fingerprint(self) -> str:
        raise FileNotFoundError("only after the files exist")

    def setup(self) -> None: ...


@pytest.fixture(autouse=True)
def restored():
    yield
    register_resolvers()
    resolvers._claimed.clear()


def test_data_attribute_reads_plain_attributes_once_bound() -> None:
    register_resolvers()
    names = ("n_sources", "labels", "n_classes", "channels")
    cfg = OmegaConf.create({name: f"${{data_attribute:{name}}}" for name in names})
    with pytest.raises(OmegaConfBaseException, match="known only after the datamodule"):
        _ = cfg.n_sources
    bind_data_attributes(DataModule())
    assert OmegaConf.to_container(cfg, resolve=True) == {
        "n_sources": 2,
        "labels": ["a", "b"],
        "n_classes": 4,
        "channels": 1,
    }


@pytest.mark.parametrize("name", ["n_source", "setup", "_hidden", "hostile", "__class__"])
def test_other_attributes_are_refused_with_the_available_ones(name: str) -> None:
    bind_data_attributes(DataModule())
    cfg = OmegaConf.create({"x": f"${{data_attribute:{name}}}"})
    with pytest.raises(OmegaConfBaseException, match="has no plain attribute") as caught:
        _ = cfg.x
    assert "n_sources" in str(caught.value)
    assert isinstance(_bottom(caught.value), ConfigError)


def _bottom(error: BaseException) -> BaseException:
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__
    return error


def test_new_runs_get_a_dated_folder(tmp_path: Path) -> None:
    folder = Path(run_dir(str(tmp_path), "name"))
    assert folder.parent == tmp_path / "name"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", folder.name)
    assert not folder.exists()


def test_runs_of_the_same_second_get_folders_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Noon(resolvers.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 1, 1, 12)

    monkeypatch.setattr(resolvers, "datetime", Noon)
    folders = []
    for _ in range(3):
        resolvers._claimed.clear()  # as a process of its own
        folders.append(Path(run_dir(str(tmp_path), "name", claim=True)).name)
    assert folders == ["2026-01-01_12-00-00", "2026-01-01_12-00-00_2", "2026-01-01_12-00-00_3"]


def test_a_claimed_folder_stays_the_same(tmp_path: Path) -> None:
    register_resolvers(claim_run_dir=True)
    cfg = OmegaConf.create({"dir": f"${{run_dir:{tmp_path},name,null}}"})
    first = cfg.dir
    assert Path(first).is_dir()
    assert OmegaConf.create({"dir": f"${{run_dir:{tmp_path},name,null}}"}).dir == first


def test_last_continues_the_newest_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run to continue"):
        run_dir(str(tmp_path), "name", "last")
    run = tmp_path / "name/2026-01-01_12-00-00"
    run.mkdir(parents=True)
    (tmp_path / "name/latest").symlink_to(run.name)
    assert run_dir(str(tmp_path), "name", "last", claim=True) == str(run.resolve())
