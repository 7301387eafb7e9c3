"""Model cards of emotion networks: what the floor adds to what is said of every task."""

from __future__ import annotations

import json

from huggingface_hub import ModelCard


def test_the_metadata_has_what_the_hub_reads(model_folder):
    data = ModelCard.load(model_folder / "README.md").data
    assert (data.license, data.license_link, data.language) == ("other", "README.md", "en")
    assert (data.pipeline_tag, data.library_name) == ("audio-classification", "hydraudio")
    assert "speech-emotion-recognition" in data.tags
    assert {"f1", "recall", "ccc"} <= set(data.metrics)
    assert {result.dataset_split for result in data.eval_results} == {"Test1"}
    assert len(data.eval_results) > 10


def test_the_results_are_those_of_the_report(model_folder):
    metrics = json.loads((model_folder / "metrics.json").read_text())
    card = ModelCard.load(model_folder / "README.md")
    body, found = card.text, {result.metric_name: result.metric_value for result in card.data.eval_results}
    assert found["Macro-F1"] == metrics["scores"]["macro_f1"]["value"]
    assert found["CCC, valence"] == metrics["scores"]["ccc_valence"]["value"]
    macro = metrics["scores"]["macro_f1"]
    assert f"| Macro-F1 | {macro['value']:.3f} [{macro['low']:.3f}, {macro['high']:.3f}] | 300 |" in body
    assert f"| Contempt | {metrics['classes']['Contempt']['precision']:.3f} |" in body
    assert "| tail | Surprise, Fear, Disgust, Contempt |" in body
    assert "| Gender | Female |" in body
    assert "1.300" in body


def test_the_body_has_every_section_and_no_empty_one(model_folder):
    body = ModelCard.load(model_folder / "README.md").text
    sections = ["Data and splits", "Output", "Preprocessing", "Use", "Intended use and limits", "Results", "Groups"]
    for title in [*sections, "Calibration", "Training", "Licence", "Citation"]:
        text = body.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
        assert len(text.strip()) > 20, title
    assert "| 7 | Neutral | N |" in body
    assert "academic" in body
    assert "train: Train" in body
    assert "None" not in body.partition("## Training")[0]
