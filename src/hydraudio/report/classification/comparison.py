"""Several models on the same items: scores side by side, paired differences of their main scores."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from rich.console import Console

from hydraudio.report import comparison
from hydraudio.report.classification.predictions import PredictionTable, Table
from hydraudio.report.classification.scores import LESS_IS_BETTER, METRICS, Options, convention
from hydraudio.report.classification.tables import DIGITS, metric_title
from hydraudio.report.comparison import Comparison, Line, Tested
from hydraudio.report.tables import count
from hydraudio.stats.clustered import paired_intervals, score_intervals

TESTED = ("macro_f1", "uar", "accuracy", "ccc")  # and ccc_<attribute>


def write_comparison(
    predictions_by_model: Mapping[str, Path | Table],
    output_dir: str | Path,
    kind: type[Table],
    resampled: str,
    *,
    n_bootstrap: int = 2000,
    seed: int = 0,
    console: Console | None = None,
) -> Path:
    """Compare models and print the tables.

    Every model is scored on the items that all have. Intervals and p-values come from the same resamples for
    all models; p-values are Holm-corrected over the pairs of models within one metric.

    Args:
        predictions_by_model: name of each model with its predictions.npz, or its content.
        output_dir: gets comparison.csv and index.html.
        kind: of the predictions, as the floor keeps them.
        resampled: what a bootstrap draws, e.g. item.
        n_bootstrap: resamples.
        seed: of the bootstrap.
        console: where the tables go; None is standard output.

    Returns:
        Path of the page.
    """
    loaded = {
        name: kind.load(found) if isinstance(found, Path) else found for name, found in predictions_by_model.items()
    }
    found = compare(loaded, Options(n_bootstrap, seed), resampled)
    return comparison.write_comparison(found, output_dir, console)


def compare(loaded: Mapping[str, Table], options: Options, resampled: str) -> Comparison:
    """Score every model on the items that all have: a line per metric, apart from those of single classes."""
    models = list(loaded)
    comparison.check_models(models)
    paired, n_unpaired = _paired(loaded)
    n_items = len(next(iter(paired.values())))
    sums = {name: predictions.sums() for name, predictions in paired.items()}
    scores = {name: score_intervals(each, **options.settings) for name, each in sums.items()}
    differences = {
        (first, second): paired_intervals(sums[first], sums[second], **options.settings)
        for first, second in itertools.combinations(models, 2)
    }

    def line(metric: str) -> Line:
        def test(first: str, second: str) -> Tested | None:
            if metric not in differences[first, second]:
                return None
            return (scores[first][metric].mean, scores[second][metric].mean), *differences[first, second][metric]

        is_tested = metric in TESTED or metric.startswith("ccc_")
        return Line(
            label=METRICS.get(metric) or metric_title(metric).replace("\n", ", "),
            metric=metric,
            scope="",
            n_items=n_items,
            digits=DIGITS,
            better="lower" if metric in LESS_IS_BETTER or metric.startswith("rmse_") else "higher",
            scores=[found.get(metric) for found in scores.values()],
            pairs=comparison.tested_pairs(models, test) if is_tested else [],
        )

    there = dict.fromkeys(metric for found in scores.values() for metric in found if "/" not in metric)
    order = [*(m for m in METRICS if m in there), *(m for m in there if m not in METRICS)]
    named = next((p for p in paired.values() if p.class_names), None)
    drawn = f"{options.n_bootstrap} bootstrap resamples of {next(iter(sums.values())).n_clusters} {resampled}s"
    return Comparison(
        models=models,
        sections={"Scores": [line(metric) for metric in order]},
        information={
            "Models": ", ".join(models),
            "Items": f"{count(n_items)} of every model; {count(n_unpaired)} others were left out",
            "Intervals": f"95 %, {drawn}, seed {options.seed}",
            "Test": "paired bootstrap, two-sided, Holm-corrected over the pairs of models within one metric",
        },
        scores_note=convention(named) if named else "",
        pairs_note=(
            "Positive: the model named first is better. Small print: 95 % bootstrap interval; "
            f"{resampled}s are resampled whole, the same ones for both models."
        ),
    )


def _paired(loaded: Mapping[str, Table]) -> tuple[dict[str, Table], int]:
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
