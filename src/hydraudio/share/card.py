"""Model cards: README.md with the metadata that the hub reads and what a reader must know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from hydraudio.core.spec import Axes, Metric, TaskSpec

DIVIDER = "---\n"
GENERATED_NOTE = (
    " **The recordings were generated**: a synthetic miniature in the corpus's format stood in for it, and the scores "
    "say nothing about real recordings."
)
USAGE = (
    "```python\nfrom pathlib import Path\n\nfrom hydraudio.share.model_folder import load_model_folder\n"
    "from hydraudio.share.probe import examples\n\n"
    'task = load_model_folder(Path("FOLDER"))  # of this repository\n'
    "result = task.predict(examples(task)[0])  # a synthetic clip, as a dict of what Preprocessing names\n```"
)
# Where something lies on one machine, and what stands in for a corpus.
_PRIVATE = {"root", "data_dir", "cache_dir", "embedded", "_convert_"}


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


@dataclass(frozen=True)
class CardContent:
    """What a card is written from.

    Attributes:
        spec: of the task.
        config: content of config.json.
        trained: the configuration of the run, as plain dicts, interpolations as they are.
        metrics: content of the run's metrics.json, or None.
        sections: those of the floor, see :meth:`hydraudio.share.sharing.Sharing.sections`.
        parts: names of the task's networks.
    """

    spec: TaskSpec
    config: Mapping[str, Any]
    trained: Mapping[str, Any]
    metrics: Mapping[str, Any] | None
    sections: Mapping[str, str]
    parts: Sequence[str]

    @property
    def what(self) -> str:
        """The task in words."""
        return self.spec.card.tags[0].replace("-", " ")

    @property
    def scores(self) -> list[tuple[Metric, str, Mapping[str, Any]]]:
        """Metric, label and entry of the scores that have a value, in the order of the specification."""
        given = (self.metrics or {}).get("scores", {})
        found = [(self.spec.metric(name), name, entry) for name, entry in given.items()]
        return [
            (metric, _label(metric, name), entry)
            for metric in self.spec.metrics
            for other, name, entry in sorted(found, key=lambda one: one[1] != metric.name)
            if other is metric and entry.get("value") is not None
        ]


def model_card(content: CardContent, options: CardOptions) -> str:
    """README.md of a shared model.

    Args:
        content: what is known about the model.
        options: licence, language, title.
    """
    config, own = content.config, dict(content.sections)
    title = options.title or str(config["source"]["experiment"])
    texts = {
        "Data and splits": _data(content),
        "Output": _output(content),
        "Preprocessing": _preprocessing(content),
        "Use": USAGE,
        "Intended use and limits": content.spec.card.limits,
        "Results": _results(content),
    }
    texts = {name: "\n\n".join(filter(None, (text, own.pop(name, "")))) for name, text in texts.items()}
    texts |= own
    texts |= {"Training": _training(content), "Licence": _license(content.spec, options)}
    texts["Citation"] = _citation(config, title)
    front = yaml.safe_dump(_front_matter(content, options, title), sort_keys=False, allow_unicode=True)
    body = [f"# {title}", _summary(content), *(f"## {name}\n\n{text}" for name, text in texts.items())]
    return DIVIDER + front + DIVIDER + "\n" + "\n\n".join(part.rstrip() for part in body) + "\n"


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


def card_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def interval_text(entry: Mapping[str, Any], digits: int = 3) -> str:
    """A score of metrics.json with its interval, as far as it has one."""
    if entry.get("low") is None or entry.get("high") is None:
        return number_text(entry.get("value"), digits)
    value, low, high = (number_text(entry[name], digits) for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def number_text(value: float | None, digits: int = 3) -> str:
    """A number of metrics.json; empty for null."""
    return "" if value is None else f"{value:.{digits}f}"


def _front_matter(content: CardContent, options: CardOptions, title: str) -> dict[str, Any]:
    card, config = content.spec.card, content.config
    front: dict[str, Any] = {"license": options.license}
    if options.license == "other":
        front |= {"license_name": "see-licence-section", "license_link": "README.md"}
    front["language"] = options.language
    if config["base_model"] is not None:
        front["base_model"] = config["base_model"]
    front |= {"pipeline_tag": card.pipeline_tag, "library_name": config["library_name"], "tags": list(card.tags)}
    if content.scores:
        front["metrics"] = sorted({_hub_type(content.spec, metric) for metric, *_ in content.scores})
        front["model-index"] = [{"name": title, "results": [_model_index(content)]}]
    return front


def _model_index(content: CardContent) -> dict[str, Any]:
    source = content.config["source"]
    corpus = str(source["corpus"]) + " (generated)" * source["generated_corpus"]
    split = str((content.metrics or {}).get("information", {}).get("Splits", "test"))
    metrics = [
        {"type": _hub_type(content.spec, metric), "name": label, "value": float(entry["value"])}
        for metric, label, entry in content.scores
    ]
    task = {"type": content.spec.card.pipeline_tag, "name": content.what}
    return {"task": task, "dataset": {"name": corpus, "type": corpus, "split": split}, "metrics": metrics}


def _hub_type(spec: TaskSpec, metric: Metric) -> str:
    return spec.card.metric_types.get(metric.name, metric.name)


def _label(metric: Metric | None, name: str) -> str:
    """The metric's label, with the part that the name ends with."""
    if metric is None or metric.name == name:
        return "" if metric is None else metric.label
    return f"{metric.label}, {name.removeprefix(metric.name + '_')}"


def _summary(content: CardContent) -> str:
    base, source = content.config["base_model"], content.config["source"]
    start = f", fine-tuned from [{base}](https://huggingface.co/{base})" if base else ""
    text = f"A network for {content.what}{start}, trained on {source['corpus']}."
    return text + (GENERATED_NOTE if source["generated_corpus"] else "")


def _data(content: CardContent) -> str:
    source, metrics = content.config["source"], content.metrics or {}
    lines = [f"- Corpus: {source['corpus']} (fingerprint of its labels `{source['corpus_fingerprint']}`)"]
    splits = content.trained["data"].get("splits")
    for split, names in splits.items() if isinstance(splits, Mapping) else ():
        lines.append(f"- {split}: {', '.join(names) if isinstance(names, list) else names}")
    if "n_items" in metrics:
        lines.append(f"- Tested on {metrics['n_items']} items.")
    return "\n".join(lines)


def _output(content: CardContent) -> str:
    """One line per output that the model has, and the names along its axes."""
    lines = []
    for name, axes in content.spec.outputs.items():
        keys = [content.spec.names[axis] for axis in axes.axes.split() if axis in content.spec.names]
        if any(key not in content.config for key in keys):
            continue  # a part that this model does not have
        lines.append(f"- `{name}`: {_axes(axes)}")
        lines += [f"  {key.replace('_', ' ')}, in this order: {', '.join(content.config[key])}" for key in keys]
    return "\n".join(lines)


def _preprocessing(content: CardContent) -> str:
    given = {name: content.spec.batch[name] for name in content.spec.inputs}
    lines = [f"- `{name}`: {_axes(axes)}" for name, axes in given.items()]
    if any(axes.is_waveform for axes in given.values()):
        lines.append(f"- Waveforms are mono at {content.config['sample_rate']} Hz; shorter ones are padded with zeros.")
    return "\n".join(lines)


def _axes(axes: Axes) -> str:
    return f"({axes.axes.replace(' ', ', ')}) {axes.dtype}" + (f", {axes.unit}" if axes.unit else "")


def _results(content: CardContent) -> str:
    if not content.scores:
        return "The run has no report about these weights."
    rows = [
        (_title(metric, label), interval_text(entry, metric.digits), str(entry.get("n") or ""))
        for metric, label, entry in content.scores
    ]
    convention = str((content.metrics or {}).get("convention", ""))
    table = card_table(("Score", "Value [95 % interval]", "Items"), rows)
    return "\n\n".join(filter(None, (convention, table)))


def _title(metric: Metric, label: str) -> str:
    unit = f" / {metric.unit}" if metric.unit else ""
    return f"{label}{unit}" + (" (less is better)" if metric.better == "lower" else "")


def _training(content: CardContent) -> str:
    source, trained = content.config["source"], content.trained
    facts = [
        f"- Run {source['run']}, epoch {source['epoch']}, step {source['global_step']}",
        f"- Hydraudio {source['trained_with_version']}, revision `{source['git_revision']}`",
    ]
    model = {key: value for key, value in trained["model"].items() if key not in content.parts}
    shown = {"seed": trained.get("seed"), "data": trained["data"], "model": model, "trainer": trained.get("trainer")}
    text = yaml.safe_dump(_public(shown), sort_keys=False, allow_unicode=True)
    return "\n".join(facts) + f"\n\nThe network is in config.json; everything else:\n\n```yaml\n{text}```"


def _public(node: Any) -> Any:
    """A configuration without the folders and addresses of one machine."""
    if not isinstance(node, Mapping):
        return node
    kept = {key: value for key, value in node.items() if key not in _PRIVATE and not _is_place(value)}
    return {key: _public(value) for key, value in kept.items()}


def _is_place(value: Any) -> bool:
    return isinstance(value, str) and ("/" in value or "\\" in value or "${paths." in value)


def _license(spec: TaskSpec, options: CardOptions) -> str:
    return f"Licence: {options.license}." + (f" {spec.card.license_note}" if options.license == "other" else "")


def _citation(config: Mapping[str, Any], title: str) -> str:
    key = "".join(letter for letter in title if letter.isalnum() or letter == "_")
    note = f"Trained with Hydraudio {config['library_version']}, run {config['source']['run']}"
    return f"```bibtex\n@misc{{{key},\n  title = {{{title}}},\n  note = {{{note}}}\n}}\n```"
