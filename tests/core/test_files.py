"""Files are whole or absent; hashes and tables are those of independent implementations."""

import csv
import errno
import hashlib
import json
import math
import os
import subprocess
import sys

import pytest
import torch

from hydraudio.core import files
from hydraudio.core.tables import read_table


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole_and_makes_its_folder(tmp_path):
    path = tmp_path / "a" / "b.txt"
    with files.whole_path(path) as partial:
        partial.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert names(path.parent) == ["b.txt"]


@pytest.mark.parametrize("durable", [False, True])
def test_a_failure_keeps_the_old_file_and_leaves_nothing(tmp_path, durable):
    path = files.write_text(tmp_path / "x.ckpt", "old")

    def fail() -> None:
        with files.whole_file(path, durable=durable) as file:
            file.write(b"half")
            assert len(list(tmp_path.glob("*.ckpt"))) == 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["x.ckpt"]
    with files.whole_file(path, durable=durable) as file:
        file.write(b"whole")
    assert path.read_bytes() == b"whole"


def test_two_writers_never_share_a_temporary_name(tmp_path):
    names = {files.partial_path(tmp_path / "x").name for _ in range(100)}
    assert len(names) == 100
    assert all(name.startswith(".x.") and name.endswith(".partial") for name in names)


def test_partial_files_of_processes_that_are_gone_are_removed(tmp_path):
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    ours = files.partial_path(tmp_path / "a" / "x")
    dead = ours.with_name(ours.name.replace(f"-{os.getpid()}-", f"-{gone.stdout.strip()}-"))
    elsewhere = ours.with_name(".x.another-machine-1-0123abcd.partial")
    for path in (ours, dead, elsewhere):
        files.write_text(path, "half")
    files.remove_dead_partials(tmp_path)
    assert dead.exists()
    files.remove_dead_partials(tmp_path, "**/.*.partial")
    assert names(tmp_path / "a") == sorted([ours.name, elsewhere.name])


@pytest.mark.parametrize("write", [lambda file: file.write(b"x"), lambda file: torch.save({"x": torch.ones(9)}, file)])
def test_a_full_disk_is_named_with_its_folder(tmp_path, write):
    def fail() -> None:
        with files.whole_path(tmp_path / "x.ckpt"), open("/dev/full", "wb", buffering=0) as full:
            write(full)

    with pytest.raises(files.FullDiskError, match=f"no space left in {tmp_path}, x.ckpt was not written") as caught:
        fail()
    assert caught.value.errno == errno.ENOSPC
    assert names(tmp_path) == []


def test_text_and_json(tmp_path):
    assert files.write_text(tmp_path / "t", "ż\udcff").read_bytes() == "ż?".encode()
    path = files.write_json(tmp_path / "j", {"ż": [1, None]}, indent=1)
    assert json.loads(path.read_text(encoding="utf-8")) == {"ż": [1, None]}
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(path, {"x": math.nan})
    assert json.loads(path.read_text(encoding="utf-8")) == {"ż": [1, None]}


def test_hashes(tmp_path):
    expected = hashlib.sha256("ż".encode()).hexdigest()
    assert files.sha256_of("ż") == files.sha256_of("ż".encode()) == expected
    assert files.sha256_of_file(files.write_text(tmp_path / "x", "ż")) == expected
    assert files.sha256_of_json({"b": 1, "a": 2}) == files.sha256_of('{"a": 2, "b": 1}')


def test_csv_round_trip(tmp_path):
    rows = [{"a": 'x, "y"\nz', "b": 1}, {"b": None, "c": "left out"}]
    path = files.write_csv(tmp_path / "t.csv", ["a", "b"], rows)
    with path.open(newline="") as file:
        assert list(csv.DictReader(file)) == files.read_csv(path) == [{"a": 'x, "y"\nz', "b": "1"}, {"a": "", "b": ""}]
    assert files.csv_text(["a", "b"], [("p", 2.5)]) == "a,b\np,2.5\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b\n1,2\n3\n", r"t\.csv: line 3: has 1 fields, the header has 2; mend"),
        (b"a,c\n1,2\n", r"t\.csv: has no column b; it has a, c"),
        (b"", r"t\.csv: has no column a, b; it has none"),
        (b"a,b\n\xff,2\n", r"t\.csv: not readable as CSV .*UTF-8"),
    ],
)
def test_broken_tables_are_named(tmp_path, content, message):
    path = files.write_bytes(tmp_path / "t.csv", content)
    with pytest.raises(ValueError, match=message):
        files.read_csv(path, ["a", "b"])


def test_a_missing_table_is_named_and_a_growing_one_ends_with_its_last_whole_line(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"t\.csv: no such table"):
        files.read_csv(tmp_path / "t.csv")
    path = files.write_text(tmp_path / "t.csv", "a,b\n1,2\n3,")
    assert files.read_csv(path, growing=True) == [{"a": "1", "b": "2"}]


FORMULAS = ["=1+1", "+1.wav", "-a.wav", "@x", "\tx", "\rx", "'=1", "''=1"]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_name_never_begins_a_formula_and_comes_back(text):
    cell = files.inert_cell(text)
    assert cell == f"'{text}"
    assert files.cell_text(cell) == text


@pytest.mark.parametrize("text", ["-3.5", "+1e-5", "-inf", "a=b", "", "'quoted'", "nan", "1-2"])
def test_numbers_and_harmless_names_stay(text):
    assert files.inert_cell(text) == files.cell_text(text) == text


@pytest.mark.parametrize("name", ["a.tar", "train/a.tar", "./a", "a..b/c", "..."])
def test_names_below_a_folder(tmp_path, name):
    assert files.path_inside(tmp_path, name) == tmp_path / name


@pytest.mark.parametrize(
    "name", ["/etc/hosts", "../a", "a/../../b", "a/..", "..", "", "C:/a", "C:a", "..\\a", "a\0b", None, 3, ["a"]]
)
def test_names_that_lead_elsewhere_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="not below this folder"):
        files.path_inside(tmp_path, name)


@pytest.mark.parametrize(("text", "name"), [("a;b\n1;2\n", "semicolons"), ("a\tb\n1\t2\n", "tabs")])
def test_a_table_with_another_separator_is_named(tmp_path, text, name):
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"table\.csv: is separated by {name}, not by commas; save it again"):
        files.read_csv(path, ("a",))
    defects = []
    assert list(read_table(path, ("a",), defects)) == []
    assert f"is separated by {name}" in defects[0].message


UNGUARDED = """
import sys
from pathlib import Path
from hydraudio.core.files import locked
from hydraudio.core.parallel import map_in_processes

with locked(Path(sys.argv[1]) / "cache"):
    print(list(map_in_processes(pow, 2, [1, 2, 3, 4], 2)))
"""


@pytest.mark.slow
def test_a_script_without_a_main_guard_is_told_so_and_does_not_hang(tmp_path):
    script = tmp_path / "mine.py"
    script.write_text(UNGUARDED)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert 'put that work below `if __name__ == "__main__":`' in done.stderr
