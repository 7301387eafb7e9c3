"""A listening session with a task that it has never heard of."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from omegaconf import OmegaConf

ROOT = Path(__file__).parents[3]
os.environ.setdefault("PROJECT_ROOT", str(ROOT))


@pytest.fixture(scope="module")
def session(toy_logs):
    import toy_run

    from hydraudio.report.listen.session import Session

    session = Session([toy_run.TRUSTED], toy_logs)
    yield session
    session.close()


@pytest.fixture(scope="module")
def checkpoint(session):
    (entry,), unreadable = session.checkpoints()
    assert unreadable == {}
    assert entry.label.startswith("toys · best · Judge · val/error 1.25 · ")
    return entry.path


def test_an_item_shows_inputs_references_and_outputs_by_their_axes(session, checkpoint):
    corpus = session.corpus(checkpoint)
    assert corpus.groups == ["dry", "wet"]
    heard = session.hear_item(checkpoint, corpus, 3)
    assert (heard.title, heard.details) == ("01.wav", ("wet", "0.54 s at 8000 Hz"))
    assert [(sound.name, sound.kind) for sound in heard.sounds] == [
        ("Sound", "input"),
        ("Clean 1", "reference"),
        ("Cleaned 1", "output"),
        ("Clean 2", "reference"),
        ("Cleaned 2", "output"),
    ]
    sound, clean, cleaned, *_ = (sound.waveform for sound in heard.sounds)
    assert sound.shape == clean.shape == (4300,)
    np.testing.assert_array_equal(cleaned, sound)
    (numbers,) = heard.numbers
    assert (numbers.title, numbers.names) == ("Guess / probability", ("low", "high"))
    assert numbers.output.sum() == pytest.approx(1.0)
    assert numbers.reference.tolist() == [0.0, 1.0]


def test_scores_are_those_of_the_task_with_the_words_of_the_specification(session, checkpoint):
    corpus = session.corpus(checkpoint)
    table = session.hear_item(checkpoint, corpus, 0).scores
    result = session.open(checkpoint).evaluate_batch(corpus.batch(0))
    assert table.columns == ("", "Hits", "Error")
    (row,) = table.rows
    assert [cell.text for cell in row.cells] == ["", f"{result['hits'].item():.2f}", f"{result['error'].item():.1f} dB"]


def test_a_recording_needs_everything_that_the_task_reads(session, checkpoint, tmp_path, monkeypatch):
    soundfile.write(tmp_path / "own.wav", 0.1 * np.random.default_rng(0).standard_normal(1600), 16000)
    with pytest.raises(ValueError, match="not enough for this network: it also reads hint"):
        session.hear_file(checkpoint, tmp_path / "own.wav")
    listening = session._open(checkpoint).listening
    monkeypatch.setattr(listening, "process", lambda waveform, _: {"guess": torch.tensor([[0.25, 0.75]])})
    heard = session.hear_file(checkpoint, tmp_path / "own.wav")
    assert (heard.title, heard.details) == ("own.wav", ("recording", "0.10 s at 8000 Hz"))
    assert [sound.name for sound in heard.sounds] == ["Sound"]
    assert heard.numbers[0].reference is None
    assert "Resampled" in heard.notes[0]
    monkeypatch.setattr(listening, "process", lambda waveform, _: {"guess": torch.tensor([[float("nan"), 0.75]])})
    with pytest.raises(ValueError, match="NaN or infinite"):
        session.hear_file(checkpoint, tmp_path / "own.wav")


def test_the_corpora_of_the_task_and_those_of_nobody_are_offered(session, checkpoint, tmp_path, monkeypatch):
    for option in ("mine", "toy/miniature", "other/theirs", "_base", "toy/_base"):
        (tmp_path / "configs" / "data" / option).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "configs" / "data" / f"{option}.yaml").write_text("_target_: mine.Data")
    elsewhere = OmegaConf.merge(session.cfg, {"paths": {"root_dir": str(tmp_path)}})
    monkeypatch.setattr(session, "cfg", elsewhere)
    assert session.corpora(checkpoint) == ["as trained", "mine", "toy/miniature"]


def test_the_page_offers_groups_and_names_the_parts(session, checkpoint, tmp_path):
    pytest.importorskip("gradio")
    from hydraudio.report.listen.page import Page

    facts, _, problem, group, item, message = Page(session, tmp_path).on_checkpoint(str(checkpoint), "as trained", "")
    for words in ("Judge, Ear", "low, high", "8000 Hz", "val/error 1.25"):
        assert words in facts
    assert (problem.visible, group.visible, group.label, group.value, message) == (False, True, "Weather", "dry", "")
    assert len(item.choices) == 6
