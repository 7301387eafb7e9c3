"""Model cards of any task: parsed back, they say what its specification, metrics.json and config.json say."""

from __future__ import annotations

import dataclasses
import json

import pytest
from huggingface_hub import EvalResult, ModelCard

from hydraudio.share.card import CardOptions
from hydraudio.share.model_folder import run_metrics, write_model_folder


def section(body, title):
    return body.partition(f"\n## {title}\n")[2].partition("\n## ")[0].strip()


def test_the_metadata_is_that_of_the_specification(model_folder):
    data = ModelCard.load(model_folder / "README.md").data
    assert (data.pipeline_tag, data.library_name) == ("audio-classification", "hydraudio")
    assert data.tags == ["toy-hearing", "toy"]
    assert data.metrics == ["accuracy", "error"]
    assert (data.license, data.license_name, data.license_link) == ("other", "see-licence-section", "README.md")
    shared = {"task_type": "audio-classification", "task_name": "toy hearing", "dataset_split": "C"}
    corpus = {"dataset_type": "Toy", "dataset_name": "Toy"}
    found = [("accuracy", "Hits", 0.75), ("error", "Error", 1.25), ("error", "Error, high", 2.0)]
    assert data.eval_results == [
        EvalResult(**shared, **corpus, metric_type=kind, metric_name=name, metric_value=value)
        for kind, name, value in found
    ]


def test_results_have_the_labels_units_digits_and_directions_of_the_specification(model_folder):
    body = ModelCard.load(model_folder / "README.md").text
    table, tested = section(body, "Results").split("\n\n")
    assert table.splitlines()[2:] == [
        "| Hits | 0.75 [0.50, 0.90] | 12 |",
        "| Error / dB (less is better) | 1.2 [1.0, 1.5] | 12 |",
        "| Error, high / dB (less is better) | 2.0 | 6 |",
    ]
    assert tested == "- Splits: C\n- Items: 12"


def test_every_section_speaks_of_this_task(model_folder):
    body = ModelCard.load(model_folder / "README.md").text
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
    assert section(body, "Data and splits").endswith("\n- train: A, B\n- test: C")
    assert "\n\n\n" not in body
    assert "None" not in body.partition("## Training")[0]


def test_the_training_is_told_without_networks_and_places(model_folder):
    training = section(ModelCard.load(model_folder / "README.md").text, "Training")
    assert "kind_names" in training
    assert "max_epochs: 3" in training
    for word in ("Judge", "Ear", "root", "notes"):
        assert word not in training


def test_what_a_person_says_is_taken(trained, tmp_path):
    options = CardOptions(license="cc-by-nc-4.0", language="de", title="Voices")
    card = ModelCard.load(write_model_folder(tmp_path, trained, options) / "README.md")
    assert (card.data.license, card.data.language, card.data.model_name) == ("cc-by-nc-4.0", "de", "Voices")
    assert card.data.license_name is None
    assert section(card.text, "Licence") == "Licence: cc-by-nc-4.0."
    assert card.text.strip().startswith("# Voices")
    assert "@misc{Voices,\n  title = {Voices},\n" in section(card.text, "Citation")


def test_a_run_without_a_report_has_a_card_without_metrics(trained, tmp_path):
    bare = dataclasses.replace(trained, path=tmp_path / "run" / "checkpoints" / "best.ckpt")
    folder = write_model_folder(tmp_path / "model", bare)
    card = ModelCard.load(folder / "README.md")
    assert not {"metrics", "model-index", "model_name"} & set(card.data.to_dict())
    assert not (folder / "metrics.json").exists()
    assert section(card.text, "Results") == "The run has no report about these weights."
    assert section(card.text, "Weather") == "Unknown."


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
