"""Model cards: README.md with the metadata that the hub reads and what a reader must know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from hydra_preflight.errors import ConfigError

DIVIDER = "---\n"
LICENSE_NOTE = (
    "Emotional speech corpora such as MSP-PODCAST are given out under academic licences. Weights trained on them are "
    "usually not free for commercial use: check the licence of the corpus before you use or pass on this model."
)
GENERATED_NOTE = (
    " **The recordings were generated**: a synthetic miniature in the corpus's format stood in for it, and the scores "
    "say nothing about real speech."
)
_SHOWN_SCORES = {
    "macro_f1": ("f1", "Macro-F1"),
    "weighted_f1": ("f1", "Weighted F1"),
    "accuracy": ("accuracy", "Accuracy"),
    "uar": ("recall", "Unweighted average recall"),
    "top2": ("accuracy", "Top-2 accuracy"),
    "nll": ("nll", "Negative log-likelihood / nats"),
    "brier": ("brier", "Brier score"),
    "ece": ("ece", "Expected calibration error"),
    "ece_scaled": ("ece", "Expected calibration error after temperature"),
    "nll_scaled": ("nll", "Negative log-likelihood after temperature / nats"),
    "ccc": ("ccc", "Concordance correlation, mean of attributes"),
    "pearson": ("pearson", "Pearson correlation, mean of attributes"),
    "rmse": ("rmse", "Root mean square error, scale 1 to 7"),
}
_PIPELINES = {"EmotionTask": "audio-classification", "SeparationTask": "audio-to-audio"}
_TASK_TAGS = {
    "EmotionTask": ["speech-emotion-recognition", "emotion", "speech"],
    "SeparationTask": ["audio-source-separation", "speech-separation", "speech"],
}
# Folders and addresses of one machine.
_PRIVATE = {"root", "data_dir", "cache_dir", "label_file", "embedded", "_convert_"}


@dataclass(frozen=True)
class CardOptions:
    """What only a person knows.

    Attributes:
        license: identifier of the hub, e.g. `cc-by-nc-4.0`.
        language: of the speech.
        title: heading; None takes the name of the experiment.
        base_model: name on the hub of the model that the training started from; None takes the one of the configuration
            or that of the folder that ``scripts/share/download_model.py`` wrote.
    """

    license: str = "other"
    language: str = "en"
    title: str | None = None
    base_model: str | None = None


def model_card(config: Mapping[str, Any], trained: Any, metrics: Mapping[str, Any] | None, options: CardOptions) -> str:
    """README.md of a shared model.

    Args:
        config: content of config.json.
        trained: the configuration of the run, as plain dicts.
        metrics: content of the report's metrics.json, or None.
        options: licence, language, title.
    """
    title = options.title or str(config["source"]["experiment"])
    front = yaml.safe_dump(_front_matter(config, metrics, options, title), sort_keys=False, allow_unicode=True)
    sections = [
        f"# {title}",
        _summary(config),
        "## Data and splits\n\n" + _data(config, trained, metrics),
        "## Output\n\n" + _output(config),
        "## Preprocessing\n\n" + _preprocessing(config),
        "## Use\n\n" + _usage(),
        "## Intended use and limits\n\n" + _limits(config),
        "## Results\n\n" + _results(metrics),
        "## Groups\n\n" + _groups(metrics),
        "## Calibration\n\n" + _calibration(metrics),
        "## Training\n\n" + _training(config, trained),
        "## Licence\n\n" + _license(options),
        "## Citation\n\n" + _citation(config, title),
    ]
    return DIVIDER + front + DIVIDER + "\n" + "\n\n".join(section.rstrip() for section in sections) + "\n"


def read_card(text: str) -> tuple[dict[str, Any], str]:
    """Metadata and body of a card.

    Raises:
        ValueError: it does not begin with YAML between two lines of dashes.
    """
    if not text.startswith(DIVIDER) or DIVIDER not in text[len(DIVIDER) :]:
        raise ValueError("the card does not begin with metadata between two lines ---")
    front, _, body = text[len(DIVIDER) :].partition("\n" + DIVIDER)
    try:
        metadata = yaml.safe_load(front)
    except yaml.YAMLError as error:
        raise ValueError(f"the metadata of the card is not YAML ({str(error).splitlines()[0]})") from error
    if not isinstance(metadata, dict):
        raise ValueError("the metadata of the card is empty")
    return metadata, body


def _front_matter(
    config: Mapping[str, Any], metrics: Mapping[str, Any] | None, options: CardOptions, title: str
) -> dict[str, Any]:
    kind = config["architectures"][0]
    if kind not in _PIPELINES:
        raise ConfigError(f"a model of {kind} has no card yet; those that have one are {', '.join(_PIPELINES)}")
    front: dict[str, Any] = {"license": options.license}
    if options.license == "other":
        front |= {"license_name": "see-licence-section", "license_link": "README.md"}
    front["language"] = options.language
    if config["base_model"] is not None:
        front["base_model"] = config["base_model"]
    front |= {"pipeline_tag": _PIPELINES[kind], "library_name": config["library_name"], "tags": _TASK_TAGS[kind]}
    scores = _shown(metrics)
    if scores:
        front["metrics"] = sorted({kind for kind, *_ in scores})
        front["model-index"] = [_model_index(config, metrics or {}, scores, title)]
    return front


def _model_index(
    config: Mapping[str, Any],
    metrics: Mapping[str, Any],
    scores: Sequence[tuple[str, str, Mapping[str, Any]]],
    title: str,
) -> dict[str, Any]:
    corpus = str(config["source"]["corpus"]) + " (generated)" * config["source"]["generated_corpus"]
    kind = config["architectures"][0]
    dataset = {"name": corpus, "type": corpus, "split": str(metrics.get("information", {}).get("Splits", "test"))}
    found = [{"type": kind_, "name": name, "value": float(entry["value"])} for kind_, name, entry in scores]
    task = {"type": _PIPELINES[kind], "name": _TASK_TAGS[kind][0].replace("-", " ")}
    return {"name": title, "results": [{"task": task, "dataset": dataset, "metrics": found}]}


def _shown(metrics: Mapping[str, Any] | None) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Type, name and entry of the scores that have a value."""
    scores = (metrics or {}).get("scores", {})
    named = dict(_SHOWN_SCORES)
    for attribute in (metrics or {}).get("attribute_names", []):
        named[f"ccc_{attribute}"] = ("ccc", f"Concordance correlation, {attribute}")
    rows = ((*named[name], scores[name]) for name in named if name in scores)
    return [row for row in rows if row[2].get("value") is not None]


def _summary(config: Mapping[str, Any]) -> str:
    start = f", fine-tuned from [{config['base_model']}](https://huggingface.co/{config['base_model']})"
    what = _TASK_TAGS[config["architectures"][0]][0].replace("-", " ")
    text = f"A network for {what}{start if config['base_model'] else ''}, trained on {config['source']['corpus']}."
    return text + (GENERATED_NOTE if config["source"]["generated_corpus"] else "")


def _data(config: Mapping[str, Any], trained: Any, metrics: Mapping[str, Any] | None) -> str:
    source, data = config["source"], trained["data"]
    lines = [f"- Corpus: {source['corpus']} (fingerprint of its labels `{source['corpus_fingerprint']}`)"]
    for use, names in (data.get("splits") or {}).items():
        lines.append(f"- {use}: {', '.join(names) if isinstance(names, list) else names}")
    if config.get("max_s"):
        lines.append(f"- Utterances are cut to their first {config['max_s']:g} s.")
    if metrics and "n_items" in metrics:
        lines.append(f"- Tested on {metrics['n_items']} items, of which {metrics['n_labelled']} have a category.")
    return "\n".join(lines)


def _output(config: Mapping[str, Any]) -> str:
    parts = []
    if "class_names" in config:
        letters = config["class_letters"] or [""] * len(config["class_names"])
        rows = [
            (str(i), name, letter) for i, (name, letter) in enumerate(zip(config["class_names"], letters, strict=True))
        ]
        parts.append(
            "Probabilities of the categories, in this order:\n\n" + _table(("Index", "Category", "Letter"), rows)
        )
    if "attribute_names" in config:
        names = ", ".join(config["attribute_names"])
        parts.append(f"Attributes, in this order: {names}; in [0, 1], which stands for ratings from 1 to 7.")
    if "gender_order" in config:
        parts.append(f"Genders are indexed {', '.join(config['gender_order'])} (mode: {config['gender_mode']}).")
    return "\n\n".join(parts) or "Estimated sources, (batch, n_sources, time), at the sample rate of the input."


def _preprocessing(config: Mapping[str, Any]) -> str:
    lines = [
        f"- Mono float32 in [-1, 1] at {config['sample_rate']} Hz; shorter items of a batch are padded with zeros."
    ]
    if "normalization" in config:
        values = {key: value for key, value in config["normalization"].items() if key != "kind"}
        lines.append(
            f"- The network normalises the waveform itself: {config['normalization']['kind']} {values or ''}".rstrip()
        )
    if "frames" in config:
        frames = config["frames"]
        lines.append(
            f"- Frames: convolutions of {frames['kernels']} samples every {frames['strides']}; {frames['formula']}."
        )
    return "\n".join(lines)


def _usage() -> str:
    return (
        "```python\nfrom pathlib import Path\n\nimport torch\n\n"
        "from hydraudio.share.model_folder import load_model_folder\n\n"
        'task = load_model_folder(Path("FOLDER"))  # of this repository\n'
        "result = task.predict_waveform(torch.zeros(1, task.sample_rate))\n```"
    )


def _limits(config: Mapping[str, Any]) -> str:
    if config["architectures"][0] != "EmotionTask":
        return "For research. Recordings that are unlike the training data are separated worse."
    return (
        "For research on how emotion is perceived in speech. Labels are the perceptions of raters, not what a speaker "
        "felt. Scores differ between speakers and groups of speakers (see below) and fall on other recordings, "
        "languages and cultures. Not for decisions about people: hiring, policing, health, education, credit."
    )


def _results(metrics: Mapping[str, Any] | None) -> str:
    scores = _shown(metrics)
    if not scores:
        return "The run has no report about these weights."
    rows = [(name, _interval(entry), str(entry.get("n", ""))) for _, name, entry in scores]
    convention = str((metrics or {}).get("convention", ""))
    table = _table(("Score", "Value [95 % interval]", "Items"), rows)
    per_class = (metrics or {}).get("classes", {})
    found = [
        (name, *(_number(row[key]) for key in ("precision", "recall", "f1")), f"{row['support']:.0f}")
        for name, row in per_class.items()
    ]
    classes = _table(("Category", "Precision", "Recall", "F1", "Items"), found) if found else ""
    return "\n\n".join(part for part in (convention, table, classes) if part)


def _groups(metrics: Mapping[str, Any] | None) -> str:
    groups = (metrics or {}).get("groups", {})
    rows = [
        (
            name,
            ", ".join(group["classes"]),
            *(_number(group[key]) for key in ("accuracy", "recall", "f1")),
            str(group["n"]),
        )
        for name, group in groups.items()
    ]
    parts = [_table(("Classes", "Which", "Accuracy", "Mean recall", "Mean F1", "Items"), rows)] if rows else []
    slices = [entry for entry in (metrics or {}).get("slices", []) if not entry["suppressed"]]
    shown = [name for name in ("macro_f1", "uar", "ccc") if any(name in entry["scores"] for entry in slices)]
    found = [
        (
            entry["slice"],
            str(entry["value"]),
            *(_interval(entry["scores"].get(name, {})) for name in shown),
            str(entry["n"]),
        )
        for entry in slices
    ]
    if found:
        parts.append(_table(("Property", "Group", *(_SHOWN_SCORES[name][1] for name in shown), "Items"), found))
    return "\n\n".join(parts) or "Not reported."


def _calibration(metrics: Mapping[str, Any] | None) -> str:
    scores = (metrics or {}).get("scores", {})
    if "ece" not in scores:
        return "Not reported."
    text = f"Expected calibration error over 15 bins: {_number(scores['ece'].get('value'))}."
    temperature = (metrics or {}).get("temperature")
    if temperature is None:
        return text + " No temperature was fitted."
    after = _number(scores.get("ece_scaled", {}).get("value"))
    return f"{text} Dividing the logits by {temperature:.3f}, which was fitted on validation data, gives {after}."


def _training(config: Mapping[str, Any], trained: Any) -> str:
    source = config["source"]
    facts = [
        f"- Run {source['run']}, epoch {source['epoch']}, step {source['global_step']}",
        f"- Hydraudio {source['trained_with_version']}, revision `{source['git_revision']}`",
    ]
    data = {key: value for key, value in trained["data"].items() if key not in _PRIVATE}
    model = {key: value for key, value in trained["model"].items() if key not in {"net", "cache_dir"}}
    shown = {"seed": trained.get("seed"), "data": data, "model": model, "trainer": trained.get("trainer")}
    text = yaml.safe_dump(shown, sort_keys=False, allow_unicode=True)
    return "\n".join(facts) + f"\n\nThe network is in config.json; everything else:\n\n```yaml\n{text}```"


def _license(options: CardOptions) -> str:
    return (
        f"Licence: {options.license}. {LICENSE_NOTE}" if options.license == "other" else f"Licence: {options.license}."
    )


def _citation(config: Mapping[str, Any], title: str) -> str:
    key = "".join(letter for letter in title if letter.isalnum() or letter == "_")
    note = f"Trained with Hydraudio {config['library_version']}, run {config['source']['run']}"
    return f"```bibtex\n@misc{{{key},\n  title = {{{title}}},\n  note = {{{note}}}\n}}\n```"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _interval(entry: Mapping[str, Any]) -> str:
    if entry.get("low") is None or entry.get("high") is None:
        return _number(entry.get("value"))
    return f"{_number(entry['value'])} [{_number(entry['low'])}, {_number(entry['high'])}]"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
