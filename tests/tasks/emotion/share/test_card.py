"""Model cards of emotion networks: what the floor adds to what is said of every task."""

from __future__ import annotations

import json

from hydraudio.share.card import read_card


def test_the_metadata_has_what_the_hub_reads(model_folder):
    front, _ = read_card((model_folder / "README.md").read_text())
    assert front["license"] == "other"
    assert front["license_link"] == "README.md"
    assert front["language"] == "en"
    assert front["pipeline_tag"] == "audio-classification"
    assert front["library_name"] == "hydraudio"
    assert "speech-emotion-recognition" in front["tags"]
    assert {"f1", "recall", "ccc"} <= set(front["metrics"])
    from huggingface_hub import ModelCardData
    from huggingface_hub.repocard_data import model_index_to_eval_results

    _, results = model_index_to_eval_results(front["model-index"])
    assert {result.dataset_split for result in results} == {"Test1"}
    assert len(results) > 10
    assert ModelCardData(**{key: value for key, value in front.items() if key != "model-index"}).license == "other"


def test_the_results_are_those_of_the_report(model_folder):
    metrics = json.loads((model_folder / "metrics.json").read_text())
    front, body = read_card((model_folder / "README.md").read_text())
    found = {row["name"]: row["value"] for row in front["model-index"][0]["results"][0]["metrics"]}
    assert found["Macro-F1"] == metrics["scores"]["macro_f1"]["value"]
    assert found["CCC, valence"] == metrics["scores"]["ccc_valence"]["value"]
    macro = metrics["scores"]["macro_f1"]
    assert f"| Macro-F1 | {macro['value']:.3f} [{macro['low']:.3f}, {macro['high']:.3f}] | 300 |" in body
    assert f"| Contempt | {metrics['classes']['Contempt']['precision']:.3f} |" in body
    assert "| tail | Surprise, Fear, Disgust, Contempt |" in body
    assert "| Gender | Female |" in body
    assert "1.300" in body


def test_the_body_has_every_section_and_no_empty_one(model_folder):
    _, body = read_card((model_folder / "README.md").read_text())
    sections = ["Data and splits", "Output", "Preprocessing", "Use", "Intended use and limits", "Results", "Groups"]
    for title in [*sections, "Calibration", "Training", "Licence", "Citation"]:
        text = body.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
        assert len(text.strip()) > 20, title
    assert "| 7 | Neutral | N |" in body
    assert "academic" in body
    assert "train: Train" in body
    assert "None" not in body.partition("## Training")[0]
