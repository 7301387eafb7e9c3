"""Imports go one way through the house (CONTRIBUTING.md); an import against it is a defect."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "hydraudio"
FILES = sorted(PACKAGE.rglob("*.py"))

ALLOWED = {  # room -> rooms of the package that it may import from, beside itself and utils
    "audio": set(),
    "models": set(),
    "losses": {"metrics"},
    "metrics": set(),
    "frontends": set(),
    "synthesis": {"audio"},
    "reports": {"audio", "metrics"},
    "data": {"audio", "synthesis"},
    "tasks": {"models", "losses", "metrics", "frontends"},
    "callbacks": {"audio", "metrics", "reports"},
    "inference": {"audio", "metrics"},
    "demo": {"audio", "inference", "metrics", "reports", "run"},
    "sharing": {"audio", "inference", "metrics", "reports", "run"},
    "utils": set(),
}
PLAIN = {"audio", "models", "losses", "metrics", "frontends", "synthesis", "reports"}
HYDRA_FILES = {"run.py", "utils/launch.py", "utils/config_check", "utils/resolvers.py", "utils/compose.py"}


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    relative = path.relative_to(PACKAGE)
    room, names = relative.parts[0], imported(path)
    if room in ALLOWED:
        rooms = {name.split(".")[1] for name in names if name.startswith("hydraudio.")} - {"__version__"}
        assert rooms <= ALLOWED[room] | {room, "utils"}
    tops = {name.split(".")[0] for name in names}
    if room in PLAIN:
        assert not tops & {"lightning", "hydra", "omegaconf"}
    if not any(str(relative).startswith(file) for file in HYDRA_FILES):
        assert "hydra" not in tops


def test_shims_import_only_hydra_and_rootutils():
    for shim in ("train.py", "eval.py", "predict.py"):
        tree = ast.parse((ROOT / "src" / shim).read_text())
        top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = {a.name for n in top if isinstance(n, ast.Import) for a in n.names}
        names |= {n.module for n in top if isinstance(n, ast.ImportFrom)}
        assert names == {"hydra", "rootutils", "omegaconf", "hydra_preflight.launch"}
