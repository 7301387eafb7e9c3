"""Tables of corpora that cannot be opened are defects, and nobody waits for a pipe."""

import pytest

from hydraudio.core.tables import read_header, read_json, read_table


@pytest.mark.parametrize("kind", ["pipe", "folder", "nothing"])
def test_what_is_no_file_is_a_defect(tmp_path, pipe, kind):
    path = tmp_path / "table"
    if kind == "pipe":
        pipe(path)
    elif kind == "folder":
        path.mkdir()
    words = f"{path}: no such file" if kind == "nothing" else f"{path}: a folder, a pipe or a device"
    defects = []
    assert list(read_table(path, ["name"], defects)) == []
    for found in (defects, read_header(path)[1], read_json(path)[1]):
        assert [defect.kind for defect in found] == ["missing_csv"]
        assert found[0].message.startswith(words)
