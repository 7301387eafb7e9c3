"""The listening session on a really trained checkpoint, the page's callbacks, and the notebook."""

from __future__ import annotations

import csv
import gc
import os
import re
import shutil
import weakref
from pathlib import Path

import nbformat
import numpy as np
import pytest
import soundfile
import torch
from omegaconf import OmegaConf

ROOT = Path(__file__).parents[4]
NOTEBOOK = ROOT / "notebooks" / "listen.ipynb"

os.environ.setdefault("PROJECT_ROOT", str(ROOT))


@pytest.fixture(scope="module")
def session(tiny_run):
    from hydraudio.report.listen.session import Session

    session = Session(log_dir=tiny_run.parents[1])
    yield session
    session.close()


@pytest.fixture(scope="module")
def checkpoint(session) -> Path:
    return session.checkpoints()[0][0].path


@pytest.fixture
def page(session, tmp_path):
    pytest.importorskip("gradio")
    from hydraudio.report.listen.page import Page

    return Page(session, tmp_path / "sound")


def choices(update) -> list:
    """Values that a dropdown offers."""
    return [choice[1] if isinstance(choice, tuple) else choice for choice in update.choices]


def write_recording(path: Path, seconds: float = 1.5, rate: int = 48000) -> np.ndarray:
    """A stereo 16-bit file as browsers record it; returns (channels, time)."""
    time_s = np.arange(round(seconds * rate)) / rate
    waveform = 0.2 * np.stack([np.sin(2 * np.pi * 440 * time_s), np.sin(2 * np.pi * 700 * time_s)])
    soundfile.write(path, waveform.T, rate, subtype="PCM_16")
    return waveform


def test_checkpoints_are_found_with_what_they_are(session):
    entries, unreadable = session.checkpoints()
    assert unreadable == {}
    assert [entry.path.name for entry in entries] == ["best.ckpt", "last.ckpt"]
    assert entries[0].label.startswith("tiny · best · ConvTasNet SB · val/si_sdri ")


@pytest.mark.slow
def test_items_score_as_in_the_test_report(session, checkpoint, tiny_run):
    with (tiny_run / "report" / "items.csv").open(newline="") as file:
        report = {(row["id"], row["variant"]): row for row in csv.DictReader(file)}
    corpus = session.corpus(checkpoint)
    assert set(corpus.items) == set(report)
    labels = {"SI-SDRi": "si_sdri", "SI-SDR": "si_sdr", "PESQ": "pesq", "STOI": "stoi"}
    for number in (0, 7, len(corpus.items) - 1):
        heard = session.hear_item(checkpoint, corpus, number)
        row = report[corpus.items[number]]
        order = [int(line.cells[0].text.rpartition(" ")[2]) - 1 for line in heard.scores.rows]
        assert " ".join(map(str, order)) == row["permutation"]
        for source, line in enumerate(heard.scores.rows, 1):
            for label, cell in zip(heard.scores.columns[1:], line.cells[1:], strict=True):
                text = cell.text.removesuffix(" dB").replace("\N{MINUS SIGN}", "-").replace("\N{EN DASH}", "nan")
                expected = float(row[f"{labels[label]}_{source}"] or "nan")
                assert float(text) == pytest.approx(expected, abs=7e-3, nan_ok=True), label
        assert [sound.waveform.shape for sound in heard.sounds] == [(8000,)] * 5


def test_variants_and_tasks(session, checkpoint):
    corpus = session.corpus(checkpoint)
    assert set(corpus.groups) == {"SER", "SR", "ER", "R", "C", "SE", "S", "E"}
    assert session.problems(checkpoint) == ["SB"]  # the network has two sources
    assert corpus is session.corpus(checkpoint)


def test_another_corpus_in_a_task_that_fits(session, checkpoint, polsess_root):
    corpus = session.corpus(checkpoint, "separation/polsess", root=str(polsess_root))
    assert corpus.problem == "SB"  # though the configured one is ES
    assert session.hear_item(checkpoint, corpus, 0).scores is not None


def test_only_one_network_is_in_memory(session, checkpoint):
    first = weakref.ref(session.open(checkpoint).net)
    assert session.open(checkpoint).net is first()
    session.open(checkpoint.with_name("last.ckpt"))
    gc.collect()
    assert first() is None


def test_overwritten_checkpoint_is_opened_again(session, checkpoint):
    copy = checkpoint.with_name("copy.ckpt")
    shutil.copy(checkpoint, copy)
    before = session.open(copy)
    content = torch.load(copy, weights_only=True)
    content["state_dict"] = {key: torch.zeros_like(value) for key, value in content["state_dict"].items()}
    torch.save(content, copy)
    os.utime(copy, (2_000_000_000, 2_000_000_000))
    after = session.open(copy)
    copy.unlink()
    assert after is not before
    assert not any(parameter.any() for parameter in after.parameters())


def test_recording_is_mixed_down_and_resampled(session, checkpoint, tmp_path):
    write_recording(tmp_path / "own.wav")
    heard = session.hear_file(checkpoint, tmp_path / "own.wav")
    assert heard.sample_rate == 8000
    assert [sound.name for sound in heard.sounds] == ["Mixture", "Estimate 1", "Estimate 2"]
    assert [sound.waveform.shape for sound in heard.sounds] == [(12000,)] * 3
    assert heard.scores is None
    expected = 0.1 * sum(np.sin(2 * np.pi * hz * np.arange(12000) / 8000) for hz in (440, 700))
    np.testing.assert_allclose(heard.sounds[0].waveform[500:-500], expected[500:-500], atol=2e-3)
    assert len(heard.notes) == 2


def test_long_recording_is_separated_in_chunks(session, checkpoint, tmp_path):
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "long.flac", 0.1 * rng.standard_normal(8000 * 64), 8000)
    told = []
    heard = session.hear_file(checkpoint, tmp_path / "long.flac", told.append)
    assert [len(sound.waveform) for sound in heard.sounds] == [8000 * 64] * 3
    assert all(np.abs(sound.waveform).max() > 0 for sound in heard.sounds)
    assert len(told) == 3
    assert told == sorted(told)
    assert told[-1] == 1.0


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"no audio", "not readable as audio"), (b"", "not readable as audio"), (None, "no such audio file")],
)
def test_bad_recordings(session, checkpoint, tmp_path, content, message):
    path = tmp_path / "bad.wav"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        session.hear_file(checkpoint, path)


def test_recording_that_is_too_long_or_holds_nan(session, checkpoint, tmp_path):
    soundfile.write(tmp_path / "long.wav", np.zeros(1900 * 100, dtype=np.int16), 100)
    with pytest.raises(ValueError, match=r"32 minutes are more than a page can show.*src/predict\.py"):
        session.hear_file(checkpoint, tmp_path / "long.wav")
    soundfile.write(tmp_path / "nan.wav", np.full(100, np.nan), 8000, subtype="FLOAT")
    with pytest.raises(ValueError, match="NaN"):
        session.hear_file(checkpoint, tmp_path / "nan.wav")


def test_hostile_configuration_inside_a_checkpoint_is_refused(session, checkpoint, tmp_path):
    content = torch.load(checkpoint, weights_only=True)
    cfg = OmegaConf.create(content["hydraudio_config"])
    cfg.data = {"_target_": "os.system", "command": f"touch {tmp_path}/executed"}
    cfg.extras.trusted_targets = ["os."]
    content["hydraudio_config"] = OmegaConf.to_yaml(cfg)
    hostile = checkpoint.with_name("hostile.ckpt")
    torch.save(content, hostile)
    with pytest.raises(ValueError, match=r"os\.system"):
        session.open(hostile)
    hostile.unlink()
    assert not (tmp_path / "executed").exists()


def test_page_offers_and_separates(page, checkpoint, tmp_path):
    refreshed, message = page.on_refresh(None)
    assert (refreshed.value, message) == (str(checkpoint), "")
    facts, corpora, problem, variant, item, message = page.on_checkpoint(refreshed.value, "as trained", "")
    assert "ConvTasNet" in facts
    assert {"separation/polsess", "separation/libri2mix"} <= set(choices(corpora))
    assert not [name for name in choices(corpora) if name.startswith("emotion/")]
    assert variant.label == "Variant"
    assert (choices(problem), problem.value, variant.value, message) == (["SB"], "SB", "SER", "")
    assert len(choices(item)) == 3
    found, message = page.on_search(refreshed.value, "as trained", "", "SB", "all", None, "")
    assert len(choices(found)) == 27
    card = page.on_run_item(refreshed.value, "as trained", "", "SB", "SER", item.value)
    addresses = re.findall(r'<audio[^>]*src="/gradio_api/file=([^"]+)"', card)
    assert len(addresses) == 5
    for address in addresses:
        assert Path(address).is_relative_to(tmp_path)
        assert soundfile.info(address).frames == 8000


def test_page_stays_with_the_recording_when_the_variant_changes(page, session, checkpoint):
    where = (str(checkpoint), "as trained", "", "SB")
    items = session.corpus(checkpoint).items
    second = session.corpus(checkpoint).find("SER")[1]
    item_id = items[second][0]
    update, _ = page.on_search(*where, "R", second, "")
    assert items[update.value] == (item_id, "R")
    for variant in ("R", "all"):  # also before the page has been told the item of the variant
        card = page.on_run_item(*where, variant, second)
        assert item_id in card
        assert ("R · SB" if variant == "R" else "SER · SB") in card
    outdoor, _ = page.on_search(*where, "SE", second, "")
    assert items[outdoor.value][1] == "SE"
    assert "does not exist as SE" in page.on_run_item(*where, "SE", second)
    surprise, _ = page.on_surprise(*where, "SE")
    assert items[surprise.value][1] == "SE"


def test_page_keeps_the_sound_of_the_last_separations(page, checkpoint, tmp_path):
    write_recording(tmp_path / "own.wav", seconds=0.1)
    for _ in range(10):
        card = page.on_run_file(str(checkpoint), str(tmp_path / "own.wav"))
    assert len(list((tmp_path / "sound").iterdir())) == 8
    assert all(Path(address).is_file() for address in re.findall(r"/gradio_api/file=([^\"]+)", card))


def test_page_says_what_is_wrong(page, checkpoint, tmp_path, polsess_root):
    path = str(checkpoint)
    assert "no checkpoint is chosen" in page.on_run_file(None, "x.wav")
    assert "there is no recording" in page.on_run_file(path, None)
    assert "no item is chosen" in page.on_run_item(path, "as trained", "", "SB", "SER", None)
    assert "no such corpus folder" in page.on_checkpoint(path, "as trained", str(tmp_path / "gone"))[-1]
    assert "built for n_sources=2" in page.on_problem(path, "as trained", "", "ES")[-1]
    assert "is not one of ES, EB, SB" in page.on_search(path, "as trained", "", "XX", "all", None, "")[-1]
    assert "no item is chosen" in page.on_run_item(path, "as trained", "", "SB", "SER", 10_000)
    assert "no item is chosen" in page.on_run_item(path, "as trained", "", "SB", "SER", "typed words")
    assert "no item in XX" in page.on_surprise(path, "as trained", "", "SB", "XX")[-1]
    assert "there is no corpus" in page.on_problem(path, "x", "", "SB")[-1]
    assert "outside of" in page.on_checkpoint(str(tmp_path / "gone.ckpt"), "as trained", "")[0]
    (tmp_path / "text.wav").write_text("words")
    assert "not readable as audio" in page.on_run_file(path, str(tmp_path / "text.wav"))


@pytest.mark.slow
def test_page_names_checkpoints_that_cannot_be_read(checkpoint, tmp_path):
    pytest.importorskip("gradio")
    from hydraudio.report.listen.page import Page
    from hydraudio.report.listen.session import Session

    page = Page(Session(log_dir=tmp_path), tmp_path)
    assert "no such checkpoint" in page.on_checkpoint(str(tmp_path / "gone.ckpt"), "as trained", "")[0]
    (tmp_path / "cut.ckpt").write_bytes(checkpoint.read_bytes()[:1000])
    assert "damaged" in page.on_checkpoint(str(tmp_path / "cut.ckpt"), "as trained", "")[0]


def test_page_without_checkpoints(tmp_path):
    pytest.importorskip("gradio")
    from hydraudio.report.listen.page import Page
    from hydraudio.report.listen.session import Session

    chosen, message = Page(Session(log_dir=tmp_path), tmp_path).on_refresh(None)
    assert chosen.value is None
    assert "make train" in message


def test_unexpected_errors_go_to_the_log_as_well(page, checkpoint, monkeypatch, caplog):
    def fail(*_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(page.session, "hear_file", fail)
    assert "RuntimeError: out of memory" in page.on_run_file(str(checkpoint), "x.wav")
    assert "Traceback" in caplog.text


def test_committed_notebook_has_no_outputs():
    cells = [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]
    assert cells
    assert not any(cell.outputs or cell.execution_count for cell in cells)


@pytest.mark.slow
def test_notebook_runs(tiny_run, monkeypatch):
    client = pytest.importorskip("nbclient")
    monkeypatch.setenv("HYDRAUDIO_LOG_DIR", str(tiny_run.parents[1]))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    pages = [output.data["text/html"] for output in outputs if "text/html" in output.get("data", {})]
    assert len(pages) == 1
    assert pages[0].count("<audio") == pages[0].count('class="spectrogram"') == 5
    assert "SI-SDRi" in pages[0]
