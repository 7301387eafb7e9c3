"""The listening page with an emotion network: probabilities and ratings beside the labels, recordings in windows."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

NAMES = ("Angry", "Sad", "Happy", "Surprise", "Fear", "Disgust", "Contempt", "Neutral")


@pytest.fixture(scope="module")
def session(checkpoint):
    from hydraudio.report.listen.session import Session

    session = Session(log_dir=checkpoint.parents[3])
    yield session
    session.close()


def test_an_item_shows_probabilities_and_ratings_beside_the_labels(session, checkpoint):
    corpus = session.corpus(checkpoint)
    assert corpus.groups == []
    heard = session.hear_item(checkpoint, corpus, 0)
    assert [(sound.name, sound.kind) for sound in heard.sounds] == [("Waveform", "input")]
    probabilities, attributes = heard.numbers
    assert (probabilities.title, probabilities.names) == ("Probabilities / probability", NAMES)
    assert probabilities.output.sum() == pytest.approx(1.0, abs=1e-5)
    batch = corpus.batch(0)
    label = int(batch["label"][0])
    assert probabilities.reference.argmax() == label
    assert (attributes.title, attributes.names) == ("Attributes, from 1 to 7", ("arousal", "valence", "dominance"))
    np.testing.assert_allclose(attributes.reference, 1 + 6 * batch["attributes"][0].numpy(), rtol=1e-6)
    assert ((attributes.output >= 1) & (attributes.output <= 7)).all()
    assert heard.scores.columns[1:] == ("Recognised", "Label", "Negative log-likelihood")
    (row,) = heard.scores.rows
    assert row.cells[2].text == NAMES[label]
    assert row.cells[1].text == NAMES[probabilities.output.argmax()]
    assert row.cells[3].text == f"{-np.log(probabilities.output[label]):.2f} nats"
    assert any(text.startswith("speaker") for text in heard.details)


def test_a_recording_is_recognised_as_by_predict(session, checkpoint, tmp_path):
    from hydraudio.tasks.emotion.predict import recognise

    sound = 0.1 * np.random.default_rng(0).standard_normal(16000 * 15).astype(np.float32)
    soundfile.write(tmp_path / "own.wav", sound, 16000, subtype="FLOAT")
    heard = session.hear_file(checkpoint, tmp_path / "own.wav")
    expected = recognise(session.open(checkpoint), sound, 16000)
    assert len(expected.windows) > 1
    np.testing.assert_allclose(heard.numbers[0].output, expected.probabilities, atol=1e-6)
    np.testing.assert_allclose(heard.numbers[1].output, expected.attributes, atol=1e-5)
    assert [numbers.reference for numbers in heard.numbers] == [None, None]
    assert heard.scores is None


def test_another_corpus_is_opened_with_the_classes_of_the_network(session, checkpoint):
    offered = session.corpora(checkpoint)
    assert {"as trained", "emotion/crema_d", "emotion/iemocap"} <= set(offered)
    assert not [name for name in offered if name.startswith("separation/")]
    listening = session._open(checkpoint).listening
    settings = listening.corpus_settings({"classes": 4, "attributes": [], "sample_rate": 16000, "seed": 0})
    assert settings == {"sample_rate": 16000, "classes": list(NAMES), "attributes": ["arousal", "valence", "dominance"]}
    assert listening.corpus_settings({"seed": 0}) == {}


def test_the_page_says_what_the_network_is(session, checkpoint, tmp_path):
    pytest.importorskip("gradio")
    from hydraudio.report.listen.page import Page

    page = Page(session, tmp_path)
    facts, _, problem, group, item, message = page.on_checkpoint(str(checkpoint), "as trained", "")
    for words in ("Emotion", "EmotionNetwork", "Angry, Sad", "arousal, valence"):
        assert words in facts
    assert (problem.visible, group.visible, message) == (False, False, "")
    card = page.on_run_item(str(checkpoint), "as trained", "", None, group.value, item.choices[0][1])
    assert card.count("<audio") == 1
    assert "Surprise" in card


def test_a_problem_that_was_chosen_for_another_checkpoint_is_let_go(session, checkpoint, tmp_path):
    pytest.importorskip("gradio")
    from hydraudio.report.listen.page import Page

    page = Page(session, tmp_path)
    problem, group, item = page.on_checkpoint(str(checkpoint), "as trained", "")[2:5]
    assert (problem.choices, problem.value) == ([], None)
    stale = (str(checkpoint), "as trained", "", "a problem of another task")
    assert page.on_run_item(*stale, group.value, item.choices[0][1]).count("<audio") == 1
    assert page.on_search(*stale, group.value, None, "")[1] == ""
    assert page.on_surprise(*stale, group.value)[1] == ""
