"""Several models on the same items of the same variants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from hydraudio.core.spec import Metric
from hydraudio.report import comparison
from hydraudio.report.comparison import Comparison, Line, Tested
from hydraudio.report.tables import Row, floats, is_number, read_csv
from hydraudio.stats.bootstrap import Bootstrap
from hydraudio.stats.intervals import Interval, bootstrap_mean, paired_difference, wilcoxon_signed_rank
from hydraudio.tasks.separation.report.summaries import TEXT_COLUMNS, variant_key
from hydraudio.tasks.separation.spec import SPEC

ALL = "all variants"
METRICS = [metric for name in ("si_sdr", "pesq", "stoi") if (metric := SPEC.metric(name)) is not None]
Rows = Mapping[str, Sequence[Row]]
"""Name of each model -> its rows, of the same items in the same order."""


def write_comparison(
    items_by_model: Mapping[str, str | Path | Sequence[Row]],
    output_dir: str | Path,
    *,
    n_bootstrap: int = 2000,
    seed: int = 0,
    console: Console | None = None,
) -> Path:
    """Compare models item by item and print the tables.

    Degenerate items are left out. Intervals resample whole recordings; the Wilcoxon signed-rank test takes each
    recording once (its mean difference over variants); p-values are Holm-corrected over the pairs of models within
    one metric and scope.

    Args:
        items_by_model: name of each model with its items.csv, or the rows of it.
        output_dir: gets comparison.csv and index.html.
        n_bootstrap: resamples of each 95 % interval.
        seed: of the bootstrap.
        console: where the tables go; None is standard output.

    Returns:
        Path of the page.
    """
    rows, n_unpaired = pair_items(items_by_model)
    return comparison.write_comparison(compare(rows, n_unpaired, Bootstrap(n_bootstrap, seed)), output_dir, console)


def pair_items(items_by_model: Mapping[str, str | Path | Sequence[Row]]) -> tuple[Rows, int]:
    """Return the items that all models have, in one order, and how many others there are."""
    comparison.check_models(list(items_by_model))
    tables = {name: _usual_rows(items) for name, items in items_by_model.items()}
    keys = set.intersection(*(set(rows) for rows in tables.values()))
    if not keys:
        raise ValueError(
            f"the models {', '.join(tables)} have no item in common; evaluate them on the same corpus, task and "
            "variants"
        )
    ordered = sorted(keys, key=lambda key: (variant_key(key[0]), key[1]))
    n_unpaired = len(set.union(*(set(rows) for rows in tables.values()))) - len(keys)
    return {name: [rows[key] for key in ordered] for name, rows in tables.items()}, n_unpaired


def compare(rows: Rows, n_unpaired: int, bootstrap: Bootstrap) -> Comparison:
    """Return a section per metric that every model has, a line per variant and one for all of them."""
    variants = sorted({str(row["variant"]) for row in next(iter(rows.values()))}, key=variant_key)
    scopes = [*variants, ALL] if len(variants) > 1 else variants
    shared = [m for m in METRICS if all(any(is_number(row.get(m.name)) for row in r) for r in rows.values())]
    return Comparison(
        models=list(rows),
        sections={metric.title: [_line(rows, metric, scope, bootstrap) for scope in scopes] for metric in shared},
        information={
            "Models": ", ".join(rows),
            "Items": f"{len(next(iter(rows.values())))} scored for every model; {n_unpaired} others were left out",
            "Intervals": f"95 %, {bootstrap.text(SPEC.resampled)}",
            "Test": "Wilcoxon signed-rank, two-sided, Holm-corrected over the pairs of models",
        },
        scores_note="Small print: 95 % bootstrap intervals.",
        pairs_note=(
            "Positive: the model named first is better. Small print below a difference: 95 % bootstrap interval; "
            "recordings are resampled whole, with all their variants. In the test every recording counts once."
        ),
    )


def _line(rows: Rows, metric: Metric, scope: str, bootstrap: Bootstrap) -> Line:
    selected = {model: [row for row in r if scope in (ALL, row["variant"])] for model, r in rows.items()}
    recordings = [str(row["id"]) for row in next(iter(selected.values()))]

    def mean(model: str) -> Interval:
        return bootstrap_mean(floats(selected[model], metric.name), recordings, **bootstrap.settings)

    def test(first: str, second: str) -> Tested:
        pairs = zip(selected[first], selected[second], strict=True)
        scored = [(a, b) for a, b in pairs if is_number(a.get(metric.name)) and is_number(b.get(metric.name))]
        before, after = (floats(side, metric.name) for side in ([a for a, _ in scored], [b for _, b in scored]))
        common = [str(a["id"]) for a, _ in scored]
        difference = paired_difference(before, after, common, **bootstrap.settings)
        means = [sum(side) / len(side) if side else float("nan") for side in (before, after)]
        return (means[0], means[1]), difference, wilcoxon_signed_rank(before, after, common)

    return Line(
        label=scope,
        metric=metric.name,
        scope=scope,
        n_items=len(recordings),
        digits=metric.digits,
        better=metric.better,
        scores=[mean(model) for model in rows],
        pairs=comparison.tested_pairs(list(rows), test),
        is_total=scope == ALL,
    )


def _usual_rows(items: str | Path | Sequence[Row]) -> dict[tuple[str, str], Row]:
    """Rows by (variant, id), without the degenerate ones."""
    rows = read_csv(items, TEXT_COLUMNS) if isinstance(items, (str, Path)) else items
    return {(str(row["variant"]), str(row["id"])): row for row in rows if not row["degenerate"]}
