"""Several models on the same items: scores side by side, paired differences of macro-F1, UAR and CCC."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich import get_console
from rich.console import Console
from rich.text import Text

from hydraudio.core.files import write_text
from hydraudio.report.charts import interval_chart
from hydraudio.report.page import Section, card, facts, grid, page, paragraph, table
from hydraudio.report.tables import (
    MINUS,
    Cell,
    Row,
    TableData,
    TableRow,
    count,
    interval_cell,
    interval_columns,
    interval_entries,
    is_number,
    number,
    p_value_cell,
    rich_table,
    write_csv,
)
from hydraudio.stats.clustered import ScoreSums, paired_intervals, score_intervals
from hydraudio.stats.intervals import Interval, holm
from hydraudio.tasks.emotion.report.predictions import PredictionTable, load_predictions
from hydraudio.tasks.emotion.report.scores import CATEGORY_METRICS, LESS_IS_BETTER, Options, all_sums, convention
from hydraudio.tasks.emotion.report.tables import DIGITS, metric_title

TESTED = ("macro_f1", "uar", "accuracy", "ccc")  # and ccc_<attribute>
_COLUMNS = (
    *("metric", "model_a", "model_b", "n_items", "score_a", "score_b"),
    *interval_columns(["difference"]),
    *("p_value", "p_holm"),
)


@dataclass(frozen=True)
class Pair:
    """Two models on the same items; `difference` is second minus first."""

    metric: str
    first: str
    second: str
    scores: tuple[float, float]
    difference: Interval
    p_value: float
    p_holm: float


@dataclass(frozen=True)
class Comparison:
    """Sums per speaker of every model over the same items, and the scores made of them."""

    sums: Mapping[str, ScoreSums]
    scores: Mapping[str, Mapping[str, Interval]]
    n_items: int
    n_unpaired: int
    convention: str

    def metrics(self) -> list[str]:
        """What any of the models has a score of, apart from single classes."""
        found = dict.fromkeys(metric for scores in self.scores.values() for metric in scores)
        order = [*CATEGORY_METRICS, *(metric for metric in found if metric not in CATEGORY_METRICS)]
        return [metric for metric in order if metric in found and "/" not in metric]


def write_comparison(
    predictions_by_model: Mapping[str, str | Path | PredictionTable],
    output_dir: str | Path,
    *,
    n_bootstrap: int = 2000,
    seed: int = 0,
    console: Console | None = None,
) -> Path:
    """Compares models and prints the tables.

    Every model is scored on the items that all have. Intervals and p-values come from the same resamples of speakers
    for all models; p-values are Holm-corrected over the pairs of models within one metric.

    Args:
        predictions_by_model: name of each model with its predictions.npz, or its content.
        output_dir: gets comparison.csv and index.html.
        n_bootstrap: resamples.
        seed: of the bootstrap.
        console: where the tables go; None is standard output.

    Returns:
        Path of the page.
    """
    options = Options(n_bootstrap, seed)
    comparison = compare(predictions_by_model, options)
    pairs = tested_pairs(comparison, options)
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / "comparison.csv", [_csv_row(pair) for pair in pairs], _COLUMNS)
    path = write_text(folder / "index.html", _page(comparison, pairs, options))
    out = console or get_console()
    out.print(rich_table("Scores with 95 % intervals", scores_table(comparison)))
    out.print(rich_table("Paired differences", pairs_table(pairs)))
    out.print(Text(f"Report: {path}"), soft_wrap=True)
    return path


def compare(predictions_by_model: Mapping[str, str | Path | PredictionTable], options: Options) -> Comparison:
    """Scores every model on the items that all have."""
    if len(predictions_by_model) < 2:
        raise ValueError(f"a comparison needs at least two models, got {list(predictions_by_model)}")
    loaded = {
        name: found if isinstance(found, PredictionTable) else load_predictions(found)
        for name, found in predictions_by_model.items()
    }
    paired, n_unpaired = _paired(loaded)
    sums = {name: all_sums(predictions) for name, predictions in paired.items()}
    scores = {name: score_intervals(each, **options.settings) for name, each in sums.items()}
    named = next((p for p in paired.values() if p.class_names), None)
    n_items = len(next(iter(paired.values())))
    return Comparison(sums, scores, n_items, n_unpaired, convention(named) if named else "")


def tested_pairs(comparison: Comparison, options: Options) -> list[Pair]:
    """Every pair of models on every tested metric that both have."""
    models = list(itertools.combinations(comparison.sums, 2))
    found = {(a, b): paired_intervals(comparison.sums[a], comparison.sums[b], **options.settings) for a, b in models}
    results = []
    for metric in (m for m in comparison.metrics() if m in TESTED or m.startswith("ccc_")):
        tested = [pair for pair in models if metric in found[pair]]
        corrected = holm([found[pair][metric][1] for pair in tested])
        for (a, b), p_holm in zip(tested, corrected, strict=True):
            difference, p_value = found[a, b][metric]
            scores = comparison.scores[a][metric].mean, comparison.scores[b][metric].mean
            results.append(Pair(metric, a, b, scores, difference, p_value, float(p_holm)))
    return results


def scores_table(comparison: Comparison) -> TableData:
    """Metrics down, models across; the best of each line stands out by a star."""
    rows = []
    for metric in comparison.metrics():
        intervals = [scores.get(metric) for scores in comparison.scores.values()]
        values = [i.mean if i else np.nan for i in intervals]
        best = _best(metric, values)
        cells = [interval_cell(i, DIGITS) if i else Cell(number(None)) for i in intervals]
        starred = [Cell(f"{cell.text} ★", cell.note) if k == best else cell for k, cell in enumerate(cells)]
        rows.append(TableRow((Cell(_title(metric)), *starred)))
    return TableData(("Score", *comparison.sums), tuple(rows))


def pairs_table(pairs: Sequence[Pair]) -> TableData:
    """One line per pair and metric."""
    rows = []
    for pair in pairs:
        label = Cell(f"{pair.second} {MINUS} {pair.first}", _title(pair.metric))
        n_items = count(pair.difference.n)
        rows.append(TableRow((label, Cell(n_items), interval_cell(pair.difference, DIGITS), p_value_cell(pair.p_holm))))
    return TableData(("Pair", "Items", "Difference", "p (Holm)"), tuple(rows))


def _paired(loaded: Mapping[str, PredictionTable]) -> tuple[dict[str, PredictionTable], int]:
    """The items that all models have, in one order, and how many others there are."""
    ids = [set(p.ids.tolist()) for p in loaded.values()]
    common = set.intersection(*ids)
    if not common:
        raise ValueError(f"the models {', '.join(loaded)} have no item in common; evaluate them on the same split")
    paired = {}
    for name, p in loaded.items():
        kept = p.select(np.isin(p.ids, list(common)))
        paired[name] = kept.select(np.argsort(kept.ids))
    _check_same_truth(paired)
    return paired, len(set.union(*ids)) - len(common)


def _check_same_truth(paired: Mapping[str, PredictionTable]) -> None:
    """Models with categories must mean the same classes and have the same labels."""
    with_classes = {name: p for name, p in paired.items() if p.class_names}
    names = list(with_classes)
    for first, second in itertools.pairwise(names):
        a, b = with_classes[first], with_classes[second]
        if a.class_names != b.class_names:
            raise ValueError(f"{first} knows {', '.join(a.class_names)}, {second} {', '.join(b.class_names)}: no pair")
        if not np.array_equal(a.labels, b.labels):
            raise ValueError(f"{first} and {second} were tested with different labels; evaluate both on the same data")


def _best(metric: str, values: Sequence[float]) -> int | None:
    numbers = [value for value in values if is_number(value)]
    if len(numbers) < 2:
        return None
    less = metric in LESS_IS_BETTER or metric.startswith("rmse_")
    return list(values).index(min(numbers) if less else max(numbers))


def _title(metric: str) -> str:
    return CATEGORY_METRICS.get(metric) or metric_title(metric).replace("\n", ", ")


def _csv_row(pair: Pair) -> Row:
    return {
        "metric": pair.metric,
        "model_a": pair.first,
        "model_b": pair.second,
        "n_items": pair.difference.n,
        "score_a": pair.scores[0],
        "score_b": pair.scores[1],
        **interval_entries({"difference": pair.difference}),
        "p_value": pair.p_value,
        "p_holm": pair.p_holm,
    }


def _page(comparison: Comparison, pairs: Sequence[Pair], options: Options) -> str:
    scores = card(table(scores_table(comparison)) + paragraph(f"★ best. {comparison.convention}"))
    groups = [(a, b, [p for p in pairs if (p.first, p.second) == (a, b)]) for a, b in _model_pairs(pairs)]
    charts = grid([_pair_chart(a, b, found) for a, b, found in groups])
    differences = card(table(pairs_table(pairs)) + paragraph(_EXPLANATION))
    sections = [
        Section("scores", "Scores", scores),
        Section("differences", "Paired differences", charts + differences),
        Section("about", "What was compared", card(facts(_facts(comparison, options)))),
    ]
    title = f"Comparison of {len(comparison.sums)} models"
    return page(title, " · ".join(comparison.sums), "", sections)


def _model_pairs(pairs: Sequence[Pair]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((pair.first, pair.second) for pair in pairs))


def _pair_chart(first: str, second: str, found: Sequence[Pair]) -> str:
    labels, intervals = [_title(pair.metric) for pair in found], [pair.difference for pair in found]
    return card(interval_chart(labels, intervals, "difference"), f"{second} {MINUS} {first}")


def _facts(comparison: Comparison, options: Options) -> dict[str, str]:
    n_speakers = next(iter(comparison.sums.values())).n_clusters
    return {
        "Models": ", ".join(comparison.sums),
        "Items": f"{count(comparison.n_items)} of every model; {count(comparison.n_unpaired)} others were left out",
        "Intervals": f"95 %, {options.n_bootstrap} bootstrap resamples of {n_speakers} speakers, seed {options.seed}",
        "Test": "paired bootstrap, two-sided, Holm-corrected over the pairs of models within one metric",
    }


_EXPLANATION = (
    "Positive: the model named first is better. Small print: 95 % bootstrap interval; speakers are resampled whole, "
    "the same ones for both models."
)
