"""Checking submission files; writing them is tested with a trained checkpoint in tests/integration."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ATTRIBUTES = "FileName,EmoAct,EmoVal,EmoDom"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = Path(__file__).parents[3] / "scripts" / "emotion" / "write_submission.py"
    spec = importlib.util.spec_from_file_location("write_submission", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def submission(folder: Path, *lines: str) -> Path:
    path = folder / "submission.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def names(folder: Path, *files: str) -> Path:
    path = folder / "names.txt"
    path.write_text("\n".join(files) + "\n")
    return path


def test_good_files_pass(script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    wanted = names(tmp_path, "a.wav", "b.wav")
    categories = submission(tmp_path, "FileName,EmoClass", "b.wav,N", "a.wav,U")
    assert script.main(["--check", str(categories), "--names", str(wanted)]) == 0
    ratings = submission(tmp_path, ATTRIBUTES, "a.wav,1,7.0,3.25", "b.wav,2,2,2")
    assert script.main(["--check", str(ratings), "--names", str(wanted)]) == 0
    assert capsys.readouterr().out.count("ready to submit") == 2


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["Filename,Prediction", "a.wav,N"], "the columns are Filename,Prediction"),
        (["FileName,EmoClass", "a.wav,N", "b.wav,X"], "row 3 (b.wav): EmoClass 'X' is none of A, S"),
        (["FileName,EmoClass", "a.wav,N"], "1 files missing: b.wav"),
        (["FileName,EmoClass", "a.wav,N", "b.wav,N", "c.wav,N"], "1 files that do not belong there: c.wav"),
        (["FileName,EmoClass", "a.wav,N", "b.wav,N", "a.wav,S"], "1 files more than once: a.wav"),
        (["FileName,EmoClass", "a.wav,N,A", "b.wav,N"], "row 2: 3 fields, expected 2"),
        ([ATTRIBUTES, "a.wav,1,2,3", "b.wav,0.9,2,3"], "row 3 (b.wav): EmoAct '0.9' is no number from 1 to 7"),
        ([ATTRIBUTES, "a.wav,1,2,3", "b.wav,1,nan,3"], "EmoVal 'nan'"),
        ([ATTRIBUTES, "a.wav,1,2,3", "b.wav,1,2,high"], "EmoDom 'high'"),
        ([], "the columns are missing"),
    ],
)
def test_every_defect_is_named(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture, lines: list[str], message: str
) -> None:
    path = submission(tmp_path, *lines) if lines else tmp_path / "empty.csv"
    path.touch()
    wanted = names(tmp_path, "a.wav", "b.wav")
    assert script.main(["--check", str(path), "--names", str(wanted)]) == 1
    assert message in capsys.readouterr().out


def test_names_may_come_from_a_folder_of_audio(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    audio = tmp_path / "Audios"
    audio.mkdir()
    for name in ("a.wav", "b.WAV", "notes.txt"):
        (audio / name).touch()
    path = submission(tmp_path, "FileName,EmoClass", "a.wav,N")
    assert script.main(["--check", str(path), "--names", str(audio)]) == 1
    assert "1 files missing: b.WAV" in capsys.readouterr().out


def test_wrong_usage_is_explained(script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert script.main(["--check", str(tmp_path / "absent.csv")]) == 1
    assert "there is no submission" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        script.main([])
    assert "give ckpt_path=FILE" in capsys.readouterr().err
