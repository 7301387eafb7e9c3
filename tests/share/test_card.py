"""Model cards of any task: parsed back, they say what its specification, metrics.json and config.json say."""

from __future__ import annotations

import dataclasses
import json

import pytest

from hydraudio.share.card import CardOptions, read_card
from hydraudio.share.model_folder import run_metrics, write_model_folder


def section(body, title):
    return body.partition(f"\n## {title}\n")[2].partition("\n## ")[0].strip()


def test_the_metadata_is_that_of_the_specification(model_folder):
    front, _ = read_card((model_folder / "README.md").read_text())
    assert front["pipeline_tag"] == "audio-classification"
    assert front["tags"] == ["toy-hearing", "toy"]
    assert front["metrics"] == ["accuracy", "error"]
    from huggingface_hub.repocard_data import model_index_to_eval_results

    _, results = model_index_to_eval_results(front["model-index"])
    assert {(r.task_name, r.dataset_name, r.dataset_split) for r in results} == {("toy hearing", "Toy", "C")}
    assert {r.metric_name: r.metric_value for r in results} == {"Hits": 0.75, "Error": 1.25, "Error, high": 2.0}


def test_results_have_the_labels_units_digits_and_directions_of_the_specification(model_folder):
    _, body = read_card((model_folder / "README.md").read_text())
    assert section(body, "Results").splitlines()[2:] == [
        "| Hits | 0.75 [0.50, 0.90] | 12 |",
        "| Error / dB (less is better) | 1.2 [1.0, 1.5] | 12 |",
        "| Error, high / dB (less is better) | 2.0 | 6 |",
    ]


def test_every_section_speaks_of_this_task(model_folder):
    _, body = read_card((model_folder / "README.md").read_text())
    titles = [line.removeprefix("## ") for line in body.splitlines() if line.startswith("## ")]
    generic = ["Data and splits", "Output", "Preprocessing", "Use", "Intended use and limits", "Results"]
    assert titles == [*generic, "Weather", "Training", "Licence", "Citation"]
    output = section(body, "Output")
    assert "- `cleaned`: (batch, layers, time) float32, [-1, 1]" in output
    assert "kind names, in this order: low, high" in output
    assert output.endswith("Painted red.")
    assert "- `hint`: (batch, hints) float32, [0, 1]" in section(body, "Preprocessing")
    assert "mono at 8000 Hz" in section(body, "Preprocessing")
    assert section(body, "Intended use and limits") == "For tests and nothing else."
    assert section(body, "Weather") == "Fine."
    assert section(body, "Licence") == "Licence: other. Toys are free."
    data = section(body, "Data and splits")
    assert "- train: A, B\n- test: C\n- Tested on 12 items." in data
    assert "None" not in body.partition("## Training")[0]


def test_the_training_is_told_without_networks_and_places(model_folder):
    training = section(read_card((model_folder / "README.md").read_text())[1], "Training")
    assert "kind_names" in training
    assert "max_epochs: 3" in training
    for word in ("Judge", "Ear", "root", "notes"):
        assert word not in training


def test_what_a_person_says_is_taken(trained, tmp_path):
    options = CardOptions(license="cc-by-nc-4.0", language="de", title="Voices")
    front, body = read_card((write_model_folder(tmp_path, trained, options) / "README.md").read_text())
    assert (front["license"], front["language"]) == ("cc-by-nc-4.0", "de")
    assert "license_name" not in front
    assert section(body, "Licence") == "Licence: cc-by-nc-4.0."
    assert body.strip().startswith("# Voices")
    assert front["model-index"][0]["name"] == "Voices"


def test_a_run_without_a_report_has_a_card_without_metrics(trained, tmp_path):
    bare = dataclasses.replace(trained, path=tmp_path / "run" / "checkpoints" / "best.ckpt")
    folder = write_model_folder(tmp_path / "model", bare)
    front, body = read_card((folder / "README.md").read_text())
    assert "metrics" not in front
    assert "model-index" not in front
    assert not (folder / "metrics.json").exists()
    assert "no report" in section(body, "Results")
    assert section(body, "Weather") == "Unknown."


def test_scores_of_the_run_and_of_its_report_are_put_together(checkpoint, tmp_path):
    about = {"Checkpoint": str(checkpoint), "Corpus": "/somewhere/toys"}
    (tmp_path / "report").mkdir()
    (tmp_path / "metrics.json").write_text(json.dumps({"task": "toy", "scores": {"hits": {}}, "information": about}))
    assert run_metrics(checkpoint, tmp_path / "report")["scores"] == {"hits": {}}
    details = {"scores": {"hits": {"value": 1}}, "classes": 3, "information": about | {"Splits": "C"}}
    (tmp_path / "report" / "details.json").write_text(json.dumps(details))
    found = run_metrics(checkpoint, tmp_path / "report")
    assert (found["task"], found["scores"], found["classes"]) == ("toy", {"hits": {"value": 1}}, 3)
    assert found["information"]["Corpus"] == "toys"
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        run_metrics(checkpoint, tmp_path / "elsewhere" / "report")


def test_the_corpus_folder_is_not_told(model_folder):
    information = json.loads((model_folder / "metrics.json").read_text())["information"]
    assert information["Corpus"] == "toys"
    assert information["Checkpoint"] == "toys/2026-01-01_00-00-00/best.ckpt"


@pytest.mark.parametrize("text", ["# no metadata", "---\n- 1\n---\nx", "---\na: [\n---\nx", "---\nopen"])
def test_a_broken_card_is_an_error(text):
    with pytest.raises(ValueError, match="metadata"):
        read_card(text)
