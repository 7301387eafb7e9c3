"""Model cards: README.md with the metadata that the hub reads and what a reader must know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from hydraudio.core.spec import Axes, Metric, TaskSpec

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCard

TEMPLATE = Path(__file__).parent / "templates" / "model_card.md.jinja"
# Where something lies on one machine, and what stands in for a corpus.
_PRIVATE = {"root", "data_dir", "cache_dir", "embedded", "_convert_"}
# What the card says of a test elsewhere.
_SAID = {"Checkpoint", "Corpus", "Corpus fingerprint", "Sample rate"}


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
        metrics: content of the run's metrics.json; empty without any.
        sections: those of the floor, see :meth:`hydraudio.share.sharing.Sharing.sections`.
        parts: names of the task's networks.
    """

    spec: TaskSpec
    config: Mapping[str, Any]
    trained: Mapping[str, Any]
    metrics: Mapping[str, Any]
    sections: Mapping[str, str]
    parts: Sequence[str]

    @property
    def what(self) -> str:
        """The task in words."""
        return self.spec.card.tags[0].replace("-", " ")

    @property
    def scores(self) -> list[tuple[Metric, str, Mapping[str, Any]]]:
        """Metric, label and entry of the scores that have a value, in the order of the specification."""
        given = [(name, entry) for name, entry in self.metrics.get("scores", {}).items() if entry["value"] is not None]
        found = [(self.spec.metric(name), name, entry) for name, entry in given]
        return [
            (metric, _label(metric, name), entry)
            for metric in self.spec.metrics
            for other, name, entry in sorted(found, key=lambda one: one[1] != metric.name)
            if other is metric
        ]

    @property
    def outputs(self) -> list[tuple[str, Axes, list[str]]]:
        """Name and axes of each output that the model has, and the keys of config.json that name what lies along it."""
        names = self.spec.names
        found = [(n, a, [names[x] for x in a.axes.split() if x in names]) for n, a in self.spec.outputs.items()]
        return [(name, axes, keys) for name, axes, keys in found if all(key in self.config for key in keys)]


def model_card(content: CardContent, options: CardOptions) -> ModelCard:
    """README.md of a shared model: the template ``templates/model_card.md.jinja`` below the metadata of the hub.

    Args:
        content: what is known about the model.
        options: licence, language, title.
    """
    from huggingface_hub import ModelCard, ModelCardData

    spec, config, source = content.spec, content.config, content.config["source"]
    title, results = options.title or str(source["experiment"]), eval_results(content)
    in_words = options.license == "other"
    data = ModelCardData(
        license=options.license,
        license_name="see-licence-section" if in_words else None,
        license_link="README.md" if in_words else None,
        language=options.language,
        base_model=config["base_model"],
        pipeline_tag=spec.card.pipeline_tag,
        library_name=config["library_name"],
        tags=list(spec.card.tags),
        metrics=sorted({result.metric_type for result in results}) or None,
        model_name=title if results else None,
        eval_results=results or None,
    )
    splits = content.trained["data"].get("splits")
    tested = content.metrics.get("information", {})
    return ModelCard.from_template(
        data,
        template_path=str(TEMPLATE),
        title=title,
        key="".join(letter for letter in title if letter.isalnum() or letter == "_"),
        what=content.what,
        spec=spec,
        config=config,
        source=source,
        splits=splits if isinstance(splits, Mapping) else {},
        outputs=content.outputs,
        own=dict(content.sections),
        convention=content.metrics.get("convention", ""),
        results=_results(content),
        tested={name: value for name, value in tested.items() if name not in _SAID},
        training=_training(content),
    )


def eval_results(content: CardContent) -> list[EvalResult]:
    """The scores as the hub lists them: types in its words, names as in the tables of the task."""
    from huggingface_hub import EvalResult

    source, card = content.config["source"], content.spec.card
    corpus = str(source["corpus"]) + " (generated)" * source["generated_corpus"]
    return [
        EvalResult(
            task_type=card.pipeline_tag,
            task_name=content.what,
            dataset_type=corpus,
            dataset_name=corpus,
            dataset_split=str(content.metrics.get("information", {}).get("Splits", "test")),
            metric_type=card.metric_types.get(metric.name, metric.name),
            metric_name=label,
            metric_value=float(entry["value"]),
        )
        for metric, label, entry in content.scores
    ]


def card_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown.

    >>> print(card_table(("Score", "Value"), [("a|b", "1.0")]))
    | Score | Value |
    | --- | --- |
    | a\\|b | 1.0 |
    """
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def interval_text(entry: Mapping[str, Any], digits: int = 3) -> str:
    """A score of metrics.json with its interval, as far as it has one.

    >>> interval_text({"value": 0.5, "low": 0.25, "high": 0.75}, digits=2)
    '0.50 [0.25, 0.75]'
    """
    if entry.get("low") is None or entry.get("high") is None:
        return number_text(entry.get("value"), digits)
    value, low, high = (number_text(entry[name], digits) for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def number_text(value: float | None, digits: int = 3) -> str:
    """A number of metrics.json; empty for null."""
    return "" if value is None else f"{value:.{digits}f}"


def _label(metric: Metric, name: str) -> str:
    """The metric's label, with the part that the name ends with."""
    return metric.label if metric.name == name else f"{metric.label}, {name.removeprefix(metric.name + '_')}"


def _results(content: CardContent) -> str:
    """Markdown table of the scores; empty without any."""
    rows = [
        (
            label + (f" / {metric.unit}" if metric.unit else "") + " (less is better)" * (metric.better == "lower"),
            interval_text(entry, metric.digits),
            str(entry.get("n") or ""),
        )
        for metric, label, entry in content.scores
    ]
    return card_table(("Score", "Value [95 % interval]", "Items"), rows) if rows else ""


def _training(content: CardContent) -> str:
    """YAML of the run's configuration without its networks."""
    trained = content.trained
    model = {key: value for key, value in trained["model"].items() if key not in content.parts}
    shown = {"seed": trained.get("seed"), "data": trained["data"], "model": model, "trainer": trained.get("trainer")}
    return yaml.safe_dump(_public(shown), sort_keys=False, allow_unicode=True).rstrip()


def _public(node: Any) -> Any:
    """A configuration without the folders and addresses of one machine."""
    if not isinstance(node, Mapping):
        return node
    kept = {key: value for key, value in node.items() if key not in _PRIVATE and not _is_place(value)}
    return {key: _public(value) for key, value in kept.items()}


def _is_place(value: Any) -> bool:
    return isinstance(value, str) and ("/" in value or "\\" in value or "${paths." in value)
