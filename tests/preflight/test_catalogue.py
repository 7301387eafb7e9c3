"""Every option of every group is composed once where it belongs, every pair too, and what nothing reaches is named."""

import pytest

from hydra_preflight.catalogue import Case, Catalogue

GLOBAL = "# @package _global_\n"
FILES = {
    "train.yaml": (
        "defaults: [_self_, {model: null}, {extras: default}, {task: one}, {experiment: null}, "
        "{hparams_search: null}, {debug: null}]\nneeded: ???\nseed: 1\n"
    ),
    "extras/default.yaml": "trusted_targets: []\n",
    "task/one.yaml": GLOBAL + "defaults: [{override /model: one/plain}]\n",
    "task/two.yaml": GLOBAL + "defaults: [{override /model: two/rich}]\n",
    "model/one/plain.yaml": "# @package model\na: 1\n",
    "model/two/_base.yaml": "# @package model\nc: 1\n",
    "model/two/rich.yaml": "# @package model\ndefaults: [/model/two/_base, {two/head: small}, _self_]\n",
    "model/two/head/small.yaml": "# @package model.head\nsize: 1\n",
    "model/two/head/large.yaml": "# @package model.head\nsize: 2\n",
    "model/two/head/_base.yaml": "size: 0\n",
    "experiment/one/e.yaml": GLOBAL + "seed: 2\n",
    "experiment/two/f.yaml": GLOBAL + "defaults: [{override /task: two}]\nmodel: {a: 2}\n",
    "debug/fast.yaml": GLOBAL + "seed: 3\n",
    "hparams_search/two/s.yaml": (
        GLOBAL + "hydra: {sweeper: {params: {seed: 'choice(1,2,3)', model.c: 'choice(1,2)'}}}\n"
    ),
    "other/y.yaml": "c: 1\n",
}


@pytest.fixture
def catalogue(tmp_path) -> Catalogue:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return Catalogue(tmp_path)


def train(*choices: str) -> Case:
    return Case("train.yaml", choices)


def test_options_are_put_where_they_belong(catalogue):
    assert set(catalogue.first_cases()) == {
        train(),
        train("extras=default"),
        train("task=one"),
        train("task=two"),
        train("task=one", "model=one/plain"),
        train("task=two", "model=two/rich"),
        train("experiment=one/e"),
        train("experiment=two/f"),
        train("debug=fast"),
        train("experiment=one/e", "debug=fast"),
        train("experiment=two/f", "debug=fast"),
        train("task=two", "hparams_search=two/s"),
    }


def test_groups_that_an_option_brings_follow(catalogue):
    results = {case: catalogue.check(case) for case in catalogue.first_cases()}
    further = list(catalogue.further_cases(results))
    within = ("task=two", "model=two/rich")
    assert further == [train(*within, "model/two/head=large"), train(*within, "model/two/head=small")]
    results.update((case, catalogue.check(case)) for case in further)
    assert not list(catalogue.further_cases(results))
    assert results[train("task=two", "hparams_search=two/s")].n_jobs == 4
    lost = [path.relative_to(catalogue.config_dir).as_posix() for path in catalogue.unreached(results.values())]
    assert lost == ["model/two/head/_base.yaml", "other/y.yaml"]


def test_what_is_wrong_is_said(catalogue):
    failure = catalogue.check(train("experiment=two/f")).failure
    assert failure is not None
    assert "experiment/two/f.yaml:3: model.a: unknown key" in failure
    assert catalogue.check(train("experiment=one/e")).failure is None
    (catalogue.config_dir / "experiment/one/e.yaml").write_text(GLOBAL + "\n" * 40)
    assert "more than 40 lines" in str(catalogue.check(train("experiment=one/e")).failure)


def test_a_case_says_how_to_repeat_it():
    assert str(train("task=two", "model/two/head=large")) == "train.yaml task=two model/two/head=large"
    assert str(train()) == "train.yaml"
