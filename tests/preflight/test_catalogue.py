"""Every option of every group is found, also of groups that only some option of another group brings."""

from pathlib import Path

import pytest

from hydra_preflight.catalogue import Case, cases, unreachable

FILES = {
    "train.yaml": "defaults: [_self_, {model: plain}]\nneeded: ???\n",
    "model/plain.yaml": "a: 1\n",
    "model/rich.yaml": "defaults: [{head: small}, _self_]\n",
    "model/head/small.yaml": "size: 1\n",
    "model/head/large.yaml": "size: 2\n",
    "model/head/_base.yaml": "size: 0\n",
    "model/lost/x.yaml": "b: 1\n",
    "other/y.yaml": "c: 1\n",
}


@pytest.fixture
def config_dir(tmp_path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_cases(config_dir):
    assert list(cases(config_dir)) == [
        Case("train.yaml"),
        Case("train.yaml", "model", "plain"),
        Case("train.yaml", "model", "rich"),
        Case("train.yaml", "model/head", "large", within="model=rich"),
        Case("train.yaml", "model/head", "small", within="model=rich"),
    ]


def test_a_case_says_how_to_repeat_it():
    assert (
        str(Case("train.yaml", "model/head", "large", within="model=rich")) == "train.yaml model=rich model/head=large"
    )
    assert str(Case("train.yaml")) == "train.yaml"


def test_unreachable(config_dir):
    lost = unreachable(config_dir, list(cases(config_dir)))
    assert [path.relative_to(config_dir).as_posix() for path in lost] == ["model/lost/x.yaml", "other/y.yaml"]
