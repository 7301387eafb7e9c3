"""Several models on the same items: paired differences, intervals and tests, as a page, a CSV file and a table."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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
    floats,
    interval_cell,
    interval_columns,
    interval_entries,
    is_number,
    p_value_cell,
    read_csv,
    rich_table,
    write_csv,
)
from hydraudio.stats.bootstrap import Bootstrap
from hydraudio.stats.intervals import (
    Interval,
    bootstrap_mean,
    holm,
    paired_difference,
    wilcoxon_signed_rank,
)
from hydraudio.tasks.separation.report.summaries import TEXT_COLUMNS, variant_key

ALL = "all variants"
METRICS = {"si_sdr": "SI-SDR / dB", "pesq": "PESQ", "stoi": "STOI"}
_DIGITS = {"si_sdr": 2, "pesq": 2, "stoi": 3}
_COLUMNS = (
    *("metric", "scope", "model_a", "model_b", "n_items", "mean_a", "mean_b"),
    *interval_columns(["difference"]),
    *("p_value", "p_holm"),
)


@dataclass(frozen=True)
class PairResult:
    """Two models on the items that both scored; `difference` is second minus first."""

    metric: str
    scope: str
    first: str
    second: str
    mean_first: float
    mean_second: float
    difference: Interval
    p_value: float
    p_holm: float


@dataclass(frozen=True)
class Comparison:
    """Paired items of all models: `rows[model][k]` is the same item and variant for every model."""

    rows: Mapping[str, list[Row]]
    n_unpaired: int

    def scopes(self) -> list[str]:
        """The variants and, for more than one, all of them together."""
        first = next(iter(self.rows.values()))
        variants = sorted({str(row["variant"]) for row in first}, key=variant_key)
        return [*variants, ALL] if len(variants) > 1 else variants

    def select(self, model: str, scope: str) -> list[Row]:
        """The model's rows of one scope."""
        return [row for row in self.rows[model] if scope in (ALL, row["variant"])]

    def metrics(self) -> list[str]:
        """Metrics that every model has."""
        return [m for m in METRICS if all(_has_scores(rows, m) for rows in self.rows.values())]


def write_comparison(
    items_by_model: Mapping[str, str | Path | Sequence[Row]],
    output_dir: str | Path,
    *,
    n_bootstrap: int = 2000,
    seed: int = 0,
    console: Console | None = None,
) -> Path:
    """Compares models item by item and prints the table.

    Degenerate items are left out. Intervals resample whole recordings; the Wilcoxon signed-rank test takes each
    recording once (its mean difference over variants); p-values are Holm-corrected over the pairs of models within
    one metric and scope.

    Args:
        items_by_model: name of each model with its items.csv, or the rows of it.
        output_dir: gets comparison.csv and index.html.
        n_bootstrap: resamples of each 95 % interval.
        seed: of the bootstrap.
        console: where the table goes; None is standard output.

    Returns:
        Path of the page.
    """
    comparison = pair_items(items_by_model)
    bootstrap = Bootstrap(n_bootstrap, seed)
    results = compare(comparison, bootstrap)
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / "comparison.csv", [_csv_row(result) for result in results], _COLUMNS)
    path = write_text(folder / "index.html", _page(comparison, results, bootstrap))
    _print(console or get_console(), comparison, results, bootstrap, path)
    return path


def pair_items(items_by_model: Mapping[str, str | Path | Sequence[Row]]) -> Comparison:
    """The items that all models have, in one order."""
    if len(items_by_model) < 2:
        raise ValueError(f"a comparison needs at least two models, got {list(items_by_model)}")
    tables = {name: _usual_rows(items) for name, items in items_by_model.items()}
    keys = set.intersection(*(set(rows) for rows in tables.values()))
    if not keys:
        raise ValueError(
            f"the models {', '.join(tables)} have no item in common; evaluate them on the same corpus, task and "
            "variants"
        )
    ordered = sorted(keys, key=lambda key: (variant_key(key[0]), key[1]))
    n_unpaired = len(set.union(*(set(rows) for rows in tables.values()))) - len(keys)
    return Comparison({name: [rows[key] for key in ordered] for name, rows in tables.items()}, n_unpaired)


def compare(comparison: Comparison, bootstrap: Bootstrap) -> list[PairResult]:
    """Every pair of models on every metric and scope."""
    results = []
    for metric, scope in itertools.product(comparison.metrics(), comparison.scopes()):
        pairs = list(itertools.combinations(comparison.rows, 2))
        tests = [_test(comparison, metric, scope, pair, bootstrap) for pair in pairs]
        corrected = holm([p_value for *_, p_value in tests])
        for (first, second), (means, difference, p_value), p_holm in zip(pairs, tests, corrected, strict=True):
            result = PairResult(metric, scope, first, second, means[0], means[1], difference, p_value, float(p_holm))
            results.append(result)
    return results


def _test(
    comparison: Comparison, metric: str, scope: str, pair: tuple[str, str], bootstrap: Bootstrap
) -> tuple[tuple[float, ...], Interval, float]:
    """Means of both models over the items that both scored, interval of the difference, p-value."""
    selected = [comparison.select(model, scope) for model in pair]
    pairs = zip(*selected, strict=True)
    scored = [(a, b) for a, b in pairs if is_number(a.get(metric)) and is_number(b.get(metric))]
    first, second = (floats(rows, metric) for rows in ([a for a, _ in scored], [b for _, b in scored]))
    recordings = [str(a["id"]) for a, _ in scored]
    difference = paired_difference(first, second, recordings, **bootstrap.settings)
    means = tuple(sum(scores) / len(scores) if scores else math.nan for scores in (first, second))
    return means, difference, wilcoxon_signed_rank(first, second, recordings)


def _usual_rows(items: str | Path | Sequence[Row]) -> dict[tuple[str, str], Row]:
    """Rows by (variant, id), without the degenerate ones."""
    rows = read_csv(items, TEXT_COLUMNS) if isinstance(items, (str, Path)) else items
    return {(str(row["variant"]), str(row["id"])): row for row in rows if not row["degenerate"]}


def _print(
    console: Console, comparison: Comparison, results: Sequence[PairResult], bootstrap: Bootstrap, path: Path
) -> None:
    main = comparison.metrics()[0]
    means = means_table(comparison, main, bootstrap)
    console.print(rich_table(f"{METRICS[main]}: means with 95 % intervals", means))
    last = comparison.scopes()[-1]
    shown = [result for result in results if result.scope == last]
    console.print(rich_table(f"Paired differences, {last}", pairs_table(shown)))
    console.print(Text(f"Report: {path}"), soft_wrap=True)


def means_table(comparison: Comparison, metric: str, bootstrap: Bootstrap) -> TableData:
    """Scopes down, models across, with intervals."""
    rows = []
    for scope in comparison.scopes():
        first = comparison.select(next(iter(comparison.rows)), scope)
        cells = [Cell(scope), Cell(str(len(first)))]
        for model in comparison.rows:
            selected = comparison.select(model, scope)
            cells.append(interval_cell(_mean(selected, metric, bootstrap), _DIGITS[metric]))
        rows.append(TableRow(tuple(cells), "total" if scope == ALL else ""))
    return TableData(("Variant", "Items", *comparison.rows), tuple(rows))


def pairs_table(results: Sequence[PairResult]) -> TableData:
    """One line per pair, metric and scope."""
    rows = []
    for r in results:
        digits = _DIGITS[r.metric]
        label = Cell(f"{r.second} {MINUS} {r.first}", f"{METRICS[r.metric]}, {r.scope}")
        cells = (label, Cell(str(r.difference.n)), interval_cell(r.difference, digits), p_value_cell(r.p_holm))
        rows.append(TableRow(cells, "total" if r.scope == ALL else ""))
    return TableData(("Pair", "Items", "Difference", "p (Holm)"), tuple(rows))


def _has_scores(rows: Sequence[Row], metric: str) -> bool:
    return any(is_number(row.get(metric)) for row in rows)


def _mean(rows: Sequence[Row], metric: str, bootstrap: Bootstrap) -> Interval:
    recordings = [str(row["id"]) for row in rows]
    return bootstrap_mean(floats(rows, metric), recordings, **bootstrap.settings)


def _csv_row(result: PairResult) -> Row:
    difference = result.difference
    return {
        "metric": result.metric,
        "scope": result.scope,
        "model_a": result.first,
        "model_b": result.second,
        "n_items": difference.n,
        "mean_a": result.mean_first,
        "mean_b": result.mean_second,
        **interval_entries({"difference": difference}),
        "p_value": result.p_value,
        "p_holm": result.p_holm,
    }


def _page(comparison: Comparison, results: Sequence[PairResult], bootstrap: Bootstrap) -> str:
    sections = [
        Section(metric, METRICS[metric], _metric_section(comparison, metric, results, bootstrap))
        for metric in comparison.metrics()
    ]
    sections.append(Section("about", "What was compared", card(facts(_facts(comparison, bootstrap)))))
    title = f"Comparison of {len(comparison.rows)} models"
    return page(title, " · ".join(comparison.rows), "", sections)


def _metric_section(comparison: Comparison, metric: str, results: Sequence[PairResult], bootstrap: Bootstrap) -> str:
    means = card(table(means_table(comparison, metric, bootstrap)), "Means")
    found = [result for result in results if result.metric == metric]
    pairs = itertools.combinations(comparison.rows, 2)
    groups = {pair: [r for r in found if (r.first, r.second) == pair] for pair in pairs}
    charts = [_pair_chart(first, second, metric, group) for (first, second), group in groups.items()]
    ordered = pairs_table([result for group in groups.values() for result in group])
    differences = card(table(ordered) + paragraph(_EXPLANATION), "Paired differences")
    return means + grid(charts) + differences


def _pair_chart(first: str, second: str, metric: str, found: Sequence[PairResult]) -> str:
    chart = interval_chart(
        [result.scope for result in found],
        [result.difference for result in found],
        f"difference in {METRICS[metric]}",
        total_labels=(ALL,),
    )
    return card(chart, f"{second} {MINUS} {first}")


def _facts(comparison: Comparison, bootstrap: Bootstrap) -> dict[str, str]:
    n_paired = len(next(iter(comparison.rows.values())))
    return {
        "Models": ", ".join(comparison.rows),
        "Items": f"{n_paired} scored for every model; {comparison.n_unpaired} others were left out",
        "Intervals": f"95 %, {bootstrap.n_bootstrap} bootstrap resamples, seed {bootstrap.seed}",
        "Test": "Wilcoxon signed-rank, two-sided, Holm-corrected over the pairs of models",
    }


_EXPLANATION = (
    "Positive: the model named first is better. Small print below a difference: 95 % bootstrap interval; recordings "
    "are resampled whole, with all their variants. In the test every recording counts once."
)
