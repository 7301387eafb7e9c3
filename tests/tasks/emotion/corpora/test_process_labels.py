"""processed_labels.csv, column for column, and back."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from hydraudio.core.defects import or_raise, raise_first
from hydraudio.tasks.emotion.corpora.labels import EmotionClasses, make_target
from hydraudio.tasks.emotion.corpora.msp_podcast.labels import parse_consensus
from hydraudio.tasks.emotion.corpora.msp_podcast.processed import apply_processed, parse_processed, rows_of_processed

SCRIPT = Path(__file__).parents[4] / "scripts" / "emotion" / "process_labels_msp.py"
EIGHT = EmotionClasses.of(8)
HEADER = "FileName,Angry,Sad,Happy,Surprise,Fear,Disgust,Contempt,Neutral,Split_Set"
CONSENSUS = """FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set
MSP-PODCAST_0001_0001.wav,N,4.2,3.833333,4.0,127,Female,Train
MSP-PODCAST_0001_0002.wav,O,4.0,4.0,4.0,127,Female,Train
MSP-PODCAST_0001_0003.wav,X,4.0,4.0,4.0,Unknown,Male,Development
MSP-PODCAST_0002_0001.wav,U,6.0,,5.0,9,Unknown,Test1
"""
DETAILED = """FileName,EmoDetail
MSP-PODCAST_0001_0001.wav,"W1; Neutral; Neutral; A:4; V:4; D:4;"
MSP-PODCAST_0001_0001.wav,"W2; Sad; Sad,Depressed,Neutral; A:4; V:4; D:4;"
MSP-PODCAST_0001_0001.wav,"W3; Neutral; A:4; V:4; D:4;"
MSP-PODCAST_0001_0001.wav,"W4; Other-tired; Other-tired; A:4; V:4; D:4;"
MSP-PODCAST_0001_0002.wav,"W1; Other-bored; Contempt; A:4; V:4; D:4;"
MSP-PODCAST_0001_0003.wav,"W1; Happy; Amused; A:4; V:4; D:4;"
MSP-PODCAST_0001_0003.wav,"W2; Angry; A:4; V:4; D:4;"
"""


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("process_labels_msp", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def root(tmp_path: Path) -> Path:
    labels = tmp_path / "msp" / "Labels"
    labels.mkdir(parents=True)
    (labels / "labels_consensus.csv").write_text(CONSENSUS)
    (labels / "labels_detailed.csv").write_text(DETAILED)
    return tmp_path / "msp"


def test_the_hard_file_is_the_original_byte_for_byte(script: ModuleType, root: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert script.main([str(root), str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "processed_labels.csv").read_bytes().decode() == (
        f"{HEADER}\n"
        "MSP-PODCAST_0001_0001.wav,0.0,0.0,0.0,0.0,0.0,0.0,0.0,1.0,Train\n"
        "MSP-PODCAST_0002_0001.wav,0.0,0.0,0.0,1.0,0.0,0.0,0.0,0.0,Test1\n"
    )
    assert (tmp_path / "out" / "processed_labels_all.csv").read_bytes().decode() == (
        f"{HEADER},EmoAct,EmoVal,EmoDom,SpkrID,Gender\n"
        "MSP-PODCAST_0001_0001.wav,0.0,0.0,0.0,0.0,0.0,0.0,0.0,1.0,Train,4.2,3.833333,4.0,127,Female\n"
        "MSP-PODCAST_0002_0001.wav,0.0,0.0,0.0,1.0,0.0,0.0,0.0,0.0,Test1,6.0,,5.0,9,Unknown\n"
    )
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "processed_labels.csv",
        "processed_labels_all.csv",
    ]
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


def test_soft_files(script: ModuleType, root: Path, tmp_path: Path) -> None:
    assert script.main([str(root), str(tmp_path), "--soft"]) == 0
    soft_p = list(csv.reader((tmp_path / "processed_labels_soft_P.csv").open()))
    assert ",".join(soft_p[0]) == HEADER
    assert [row[0][-8:-4] for row in soft_p[1:]] == ["0001", "0003"]
    assert [float(cell) for cell in soft_p[1][1:9]] == [0, 0.25, 0, 0, 0, 0, 0, 0.5]
    assert [float(cell) for cell in soft_p[2][1:9]] == [0.5, 0, 0.5, 0, 0, 0, 0, 0]
    assert [row[9] for row in soft_p[1:]] == ["Train", "Development"]
    soft_s = list(csv.reader((tmp_path / "processed_labels_soft_S.csv").open()))
    assert ",".join(soft_s[0]) == HEADER
    shares = np.array([[float(cell) for cell in row[1:9]] for row in soft_s[1:]])
    np.testing.assert_allclose(shares.sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(shares[0], [0, 2 / 6, 0, 0, 0, 0, 0, 4 / 6], rtol=1e-6)
    np.testing.assert_allclose(shares[1], [0, 0, 0, 0, 0, 0, 1, 0])


def test_nothing_is_overwritten_unasked(
    script: ModuleType, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "processed_labels_all.csv").write_text("mine")
    assert script.main([str(root), str(tmp_path)]) == 1
    assert "processed_labels_all.csv: there already; give --overwrite" in capsys.readouterr().err
    assert not (tmp_path / "processed_labels.csv").exists()
    assert script.main([str(root), str(tmp_path), "--overwrite"]) == 0
    assert (tmp_path / "processed_labels_all.csv").read_text().startswith("FileName")


def test_a_bad_label_file_is_named(
    script: ModuleType, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "Labels" / "labels_detailed.csv").unlink()
    assert script.main([str(root), str(tmp_path / "out"), "--soft"]) == 1
    assert "labels_detailed.csv: no such file" in capsys.readouterr().err
    (root / "Labels" / "labels_consensus.csv").write_text(CONSENSUS.replace(",U,", ",Q,"))
    assert script.main([str(root), str(tmp_path / "out")]) == 1
    assert "line 5 (MSP-PODCAST_0002_0001.wav): column EmoClass holds 'Q'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def read_back(path: Path) -> dict:
    rows, defects = parse_processed(path)
    raise_first(defects)
    return rows


def test_reading_back_a_hard_file(script: ModuleType, root: Path, tmp_path: Path) -> None:
    script.main([str(root), str(tmp_path)])
    rows = or_raise(parse_consensus(root))
    applied = apply_processed(rows, read_back(tmp_path / "processed_labels.csv"))
    assert [row.letter for row in applied] == ["N", "", "", "U"]
    assert applied[0] == rows[0]
    assert applied[3].attributes == {"arousal": 6.0, "dominance": 5.0}
    path = tmp_path / "processed_labels.csv"
    path.write_text(path.read_text().replace("Test1", "Validation"))
    assert apply_processed(rows, read_back(path))[3].split == "Development"


def test_reading_back_soft_files(script: ModuleType, root: Path, tmp_path: Path) -> None:
    script.main([str(root), str(tmp_path), "--soft"])
    rows = apply_processed(or_raise(parse_consensus(root)), read_back(tmp_path / "processed_labels_soft_P.csv"))
    assert [row.letter for row in rows] == ["N", "", "A", ""]
    assert rows[0].votes == pytest.approx({"S": 0.25, "N": 0.5, "O": 0.25})
    np.testing.assert_allclose(make_target(rows[0], EIGHT, "soft_p"), [0, 1 / 3, 0, 0, 0, 0, 0, 2 / 3], rtol=1e-6)
    alone = rows_of_processed(read_back(tmp_path / "processed_labels_soft_S.csv"), root / "Audios")
    assert [row.letter for row in alone] == ["N", "C", "A"]
    assert alone[0].path == root / "Audios" / "MSP-PODCAST_0001_0001.wav"
    np.testing.assert_allclose(make_target(alone[0], EIGHT, "soft_s"), [0, 1 / 3, 0, 0, 0, 0, 0, 2 / 3], rtol=1e-6)


def test_bad_processed_files(tmp_path: Path) -> None:
    path = tmp_path / "processed_labels.csv"
    with pytest.raises(FileNotFoundError, match=r"scripts/emotion/process_labels_msp\.py"):
        read_back(path)
    good = "a.wav,1,0,0,0,0,0,0,0,Train\n"
    path.write_text(
        f"{HEADER}\n{good}{good}b.wav,1,1,0,0,0,0,0,0,Train\nc.wav,0,0,0,0,0,0,0,0,Train\n"
        "d.wav,x,0,0,0,0,0,0,0,Train\ne.wav,1,0,0,0,0,0,0,0,Nowhere\n,1,0,0,0,0,0,0,0,Train\nf.wav,1\n"
    )
    rows, defects = parse_processed(path)
    assert list(rows) == ["a.wav"]
    kinds = ["duplicate_row", "bad_number", "bad_number", "bad_number", "bad_split", "bad_name", "bad_csv"]
    assert [defect.kind for defect in defects] == kinds
    assert defects[0].message.startswith(f"{path}: line 3: ")
    path.write_text("FileName,Angry\na.wav,1\n")
    with pytest.raises(ValueError, match="column Sad is missing"):
        read_back(path)


def test_a_file_of_another_release_is_refused(script: ModuleType, root: Path, tmp_path: Path) -> None:
    script.main([str(root), str(tmp_path)])
    rows = or_raise(parse_consensus(root))[1:]
    with pytest.raises(ValueError, match=r"1 turns that the corpus does not have, e\.g\. MSP-PODCAST_0001_0001\.wav"):
        apply_processed(rows, read_back(tmp_path / "processed_labels.csv"))
