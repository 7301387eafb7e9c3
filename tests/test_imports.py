"""Imports go one way through the house (CONTRIBUTING.md); an import against it is a defect."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src"
PACKAGE = SRC / "hydraudio"
GROUND = sorted(path for path in PACKAGE.rglob("*.py") if "tasks" not in path.relative_to(PACKAGE).parts)
FLOORS = sorted(path for path in PACKAGE.rglob("tasks/*/**/*.py"))
TASKS = sorted(path.name for path in (PACKAGE / "tasks").iterdir() if (path / "spec.py").is_file())

ALLOWED = {  # room of the ground floor -> rooms, or modules of rooms, that it may import from beside itself
    "nn": set(),
    "metrics": set(),
    "sounds": set(),
    "losses": {"nn", "metrics"},
    "stats": {"metrics"},
    "audio": {"core.files", "core.defects", "core.parallel"},
    "core": {"audio", "nn"},
    "report": {"core", "audio", "metrics", "stats", "prepare", "trained"},
    "share": {"core", "audio", "metrics", "stats", "report", "trained"},
    "trained": {"core"},
    "prepare": {"core"},
    "run": {"core", "report", "prepare", "trained"},
    "testing": {"core"},
    "project": {"testing"},
    "train": {"core", "run"},
    "eval": {"run"},
    "predict": {"run"},
    "__init__": {"core", "prepare", "trained", "share"},
}
WITH_HYDRA = {"run", "prepare", "trained", "testing"}
PLAIN = {"nn", "audio", "losses", "metrics", "stats", "sounds"}
LIGHT = ["hydraudio", "hydraudio.core", "hydraudio.core.spec", "hydraudio.tasks"]
LIGHT += [name for task in TASKS for name in (f"hydraudio.tasks.{task}", f"hydraudio.tasks.{task}.spec")]


def imported(path: Path) -> set[str]:
    """Dotted names of the modules, and of what is taken from them, that a file imports anywhere."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def tops(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imported(path)}


def below(path: Path) -> str:
    return path.relative_to(SRC).as_posix()


@pytest.mark.parametrize("path", GROUND, ids=below)
def test_ground_floor(path):
    """It imports no floor, each room only what the table allows, and few rooms import hydra."""
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    ours = {name.removeprefix("hydraudio.") for name in imported(path) if name.startswith("hydraudio.")}
    ours = {name for name in ours if name != "__version__" and name.split(".")[0] != room}
    allowed = ALLOWED.get(room, set())
    against = {name for name in ours if not any(f"{name}.".startswith(f"{other}.") for other in allowed)}
    assert against == set()
    if room in PLAIN:
        assert not tops(path) & {"lightning", "hydra", "omegaconf", "hydra_preflight"}
    if room not in WITH_HYDRA:
        assert "hydra" not in tops(path)


@pytest.mark.parametrize("path", FLOORS, ids=below)
def test_floors(path):
    """They import the ground floor and themselves, never another floor, the run or hydra."""
    task = path.relative_to(PACKAGE / "tasks").parts[0]
    tasks = {name.split(".")[2] for name in imported(path) if name.startswith("hydraudio.tasks.")}
    assert tasks <= {task}
    above = ("hydraudio.run", "hydraudio.prepare", "hydraudio.trained")
    assert not any(name.startswith(above) for name in imported(path))
    assert "hydra" not in tops(path)
    networks = {"networks", "losses.py", "losses", "metrics.py"}
    if path.relative_to(PACKAGE / "tasks" / task).parts[0] in networks:
        assert not tops(path) & {"omegaconf", "hydra_preflight"}


@pytest.mark.parametrize("path", sorted((SRC / "hydra_preflight").rglob("*.py")), ids=below)
def test_preflight_knows_no_audio(path):
    assert "hydraudio" not in tops(path)


def test_nothing_light_imports_anything_heavy():
    """The specifications are read before the configuration is checked, which answers within a second."""
    code = (
        f"import importlib, sys\nfor name in {LIGHT!r}:\n    importlib.import_module(name)\n"
        "print(sorted({'torch', 'lightning', 'numpy', 'hydra', 'hydra_preflight', 'omegaconf'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=SRC, capture_output=True, text=True, timeout=60)
    assert result.stdout == "[]\n", result.stdout + result.stderr


def test_commands_import_nothing_heavy_before_the_check():
    for verb in ("train", "eval", "predict"):
        light = {"__future__", "pathlib", "typing", "hydra_preflight.project"}
        for path, expected in ((SRC, {f"hydraudio.{verb}"}), (PACKAGE, set())):
            tree = ast.parse((path / f"{verb}.py").read_text())
            top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
            names = {a.name for n in top if isinstance(n, ast.Import) for a in n.names}
            names |= {n.module for n in top if isinstance(n, ast.ImportFrom)}
            assert names - light == {*expected, "hydra_preflight.launch"}


def test_scripts_of_all_tasks_name_none():
    """What is in scripts/<task> may import that floor; the others find a floor through its specification."""
    scripts = ROOT / "scripts"
    shared = [path for path in scripts.rglob("*.py") if path.relative_to(scripts).parts[0] not in TASKS]
    naming = {path.name for path in shared if any(name.startswith("hydraudio.tasks.") for name in imported(path))}
    assert naming == set()


def test_tests_of_the_ground_floor_use_no_floor():
    """So that they pass when any floor is removed."""
    files = [path for path in (ROOT / "tests").rglob("*.py") if "tasks" not in path.relative_to(ROOT / "tests").parts]
    using = {path.name for path in files if any(name.startswith("hydraudio.tasks.") for name in imported(path))}
    assert using == set()


def module_file(name: str) -> Path | None:
    """The source of a module or package of ours."""
    base = ROOT / "src" / name.replace(".", "/")
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def defined(body: list[ast.stmt]) -> set[str]:
    """Names that the statements of a module bind."""
    names: set[str] = set()
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)}
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.If | ast.Try):
            names |= defined([*node.body, *node.orelse])
    return names


def test_every_import_of_ours_resolves():
    """Also those inside functions, which only the command that needs them would run into."""
    broken = []
    for path in sorted([*ROOT.glob("src/**/*.py"), *ROOT.glob("scripts/**/*.py"), *ROOT.glob("tests/**/*.py")]):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith(("hydraudio", "hydra_pref")):
                continue
            file = module_file(str(node.module))
            there = defined(ast.parse(file.read_text()).body) if file else set()
            for alias in node.names:
                if alias.name not in there and module_file(f"{node.module}.{alias.name}") is None:
                    broken.append(f"{path.relative_to(ROOT)}:{node.lineno}: {node.module}.{alias.name}")
    assert broken == []
