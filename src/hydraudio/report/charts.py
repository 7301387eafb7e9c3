"""Charts by matplotlib: as SVG in the colours of the page's style sheet, light and dark, or as PNG on white."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from hydraudio.report.tables import MINUS
from hydraudio.stats.intervals import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

N_COLORS = 8
_WIDTH = 420.0  # of a chart, in px; the page makes it as wide as its tile
_INKS = ("text", "muted", "rule", "card", "accent", *(f"k{index}" for index in range(N_COLORS)))
_ON_WHITE = {"text": "#1b2130", "muted": "#5d6678", "card": "#ffffff", "accent": "#2f5fd0"}
_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text, in the font of the page
    "svg.hashsalt": "hydraudio",
    "text.parse_math": False,
    "axes.autolimit_mode": "round_numbers",
    "axes.xmargin": 0,
    "axes.ymargin": 0,
    "font.size": 12,
}


@dataclass(frozen=True)
class Series:
    """Points of one colour; x and y have equal lengths."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Chart:
    """A drawing with what it shows in words, and the names of its colours where there are several."""

    svg: Markup
    label: str
    names: tuple[str, ...] = ()


def line_chart(
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    *,
    dots: bool = False,
    diagonal: str = "",
    ticks: Sequence[float] = (),
) -> Chart:
    """Curves over a common axis.

    Args:
        series: of finite points; others are left out.
        x_label: of the axis.
        y_label: of the axis.
        dots: mark the points.
        diagonal: name of the line of equal x and y; empty = not drawn.
        ticks: of both axes; empty = by the data.
    """
    return _curves(series, x_label, y_label, 270, "over", {"linewidth": 2}, "o" if dots else "", diagonal, ticks)


def scatter_chart(
    series: Sequence[Series], x_label: str, y_label: str, diagonal: str = "no change", ticks: Sequence[float] = ()
) -> Chart:
    """Points of several colours; arguments as in :func:`line_chart`."""
    points = {"linestyle": "none", "markersize": 5, "alpha": 0.6, "markeredgewidth": 0}
    return _curves(series, x_label, y_label, 310, "against", points, "o", diagonal, ticks)


def interval_chart(
    labels: Sequence[str], intervals: Sequence[Interval], x_label: str, total_labels: Sequence[str] = ()
) -> Chart:
    """One row per label: the mean as a dot, its interval as a bar; labels in total_labels are set apart."""
    names = [_short(label) for label in labels]
    left = 20 + 6.6 * max((len(name) for name in names), default=4)
    with _drawing(24 * len(labels) + 52, (left, 8, 50, 44)) as (figure, axes):
        _plain(axes, x_label)
        axes.axvline(0, color=_ink("muted"), linewidth=1)
        for row, (label, interval) in enumerate(zip(labels, intervals, strict=True)):
            is_total = label in total_labels
            color = _ink("text" if is_total else "k0")
            if math.isfinite(interval.low):
                ends = [interval.low, interval.high]
                axes.plot(ends, [row, row], color=color, linewidth=7, alpha=0.3, solid_capstyle="round")
            if math.isfinite(interval.mean):
                axes.plot([interval.mean], [row], "o", color=color, markersize=8, clip_on=False)
                text = f"{round(interval.mean, 2) + 0.0:.2f}".replace("-", MINUS)
                place: dict[str, Any] = {
                    "xycoords": ("axes fraction", "data"),
                    "textcoords": "offset points",
                    "va": "center",
                }
                weight = "bold" if is_total else "normal"
                axes.annotate(text, (1, row), (46, 0), ha="right", color=_ink("text"), weight=weight, **place)
        axes.set_yticks(range(len(names)), names, color=_ink("text"))
        for tick, label in zip(axes.get_yticklabels(), labels, strict=True):
            tick.set_fontweight("bold" if label in total_labels else "normal")
        axes.set_ylim(max(len(names), 1) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        return _chart(figure, f"{x_label} with confidence intervals")


def heat_chart(counts: NDArray[np.int64], names: Sequence[str]) -> Chart:
    """A confusion matrix (true, predicted): colour and percentages are shares of the row, counts below them."""
    with _heat(counts, names, _ink) as figure:
        return _chart(figure, "Confusion of the classes")


def heat_png(counts: NDArray[np.int64], names: Sequence[str]) -> bytes:
    """The same as a PNG on white."""
    picture = io.BytesIO()
    with _heat(counts, names, _ON_WHITE.__getitem__) as figure:
        figure.savefig(picture, format="png", dpi=96, facecolor="white")
    return picture.getvalue()


def _curves(
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    height: float,
    word: str,
    style: dict[str, Any],
    marker: str,
    diagonal: str,
    ticks: Sequence[float],
) -> Chart:
    with _drawing(height, (58 if y_label else 40, 10, 16, 46)) as (figure, axes):
        _plain(axes, x_label, y_label)
        for index, curve in enumerate(series):
            x, y = np.asarray(curve.x, dtype=np.float64), np.asarray(curve.y, dtype=np.float64)
            known = np.isfinite(x) & np.isfinite(y)
            axes.plot(x[known], y[known], color=_ink(f"k{index % N_COLORS}"), marker=marker, **style)
        if ticks:
            axes.set_xticks(ticks)
            axes.set_yticks(ticks)
            axes.set(xlim=(ticks[0], ticks[-1]), ylim=(ticks[0], ticks[-1]))
        if diagonal:
            _diagonal(axes, diagonal)
        return _chart(figure, f"{y_label or 'Curves'} {word} {x_label}", [curve.name for curve in series])


def _diagonal(axes: Axes, name: str) -> None:
    """The part of the line y = x that the axes show."""
    limits = axes.get_xlim(), axes.get_ylim()
    low, high = max(limit[0] for limit in limits), min(limit[1] for limit in limits)
    if low < high:
        axes.plot([low, high], [low, high], color=_ink("muted"), linewidth=1, linestyle=(0, (5, 4)))
        start = low + 0.06 * (high - low)
        axes.annotate(
            _text(name), (start, start), (10, -8), textcoords="offset points", color=_ink("muted"), fontsize=11
        )
        axes.set(xlim=limits[0], ylim=limits[1])


@contextmanager
def _heat(counts: NDArray[np.int64], names: Sequence[str], ink: Callable[[str], str]) -> Iterator[Figure]:
    n, cell_width, cell_height = len(names), 70, 40
    left = 40 + 7 * max(len(_short(name, 14)) for name in names)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    with _drawing(n * cell_height + 62, (left, 58, 4, 4), left + n * cell_width + 4) as (figure, axes):
        axes.set(xlim=(0, n), ylim=(n, 0), xlabel="predicted", ylabel="true")
        axes.set_yticks(np.arange(n) + 0.5, [_short(name, 14) for name in names])
        axes.set_xticks(np.arange(n) + 0.5, [_short(name, 10) for name in names])
        axes.xaxis.set_label_position("top")
        axes.xaxis.labelpad = 10
        axes.tick_params(length=0, labeltop=True, labelbottom=False, labelcolor=ink("text"))
        axes.spines[:].set_visible(False)
        for label in (axes.xaxis.label, axes.yaxis.label):
            label.set_color(ink("muted"))
        for (row, column), share in np.ndenumerate(shares):
            left_right, top_bottom = (column + 0.015, column + 0.985), (row + 0.025, row + 0.975)
            corners = [left_right[k] for k in (0, 1, 1, 0)], [top_bottom[k] for k in (0, 0, 1, 1)]
            axes.fill(*corners, color=ink("accent"), alpha=0.05 + 0.95 * share, linewidth=0)
            text: dict[str, Any] = {"ha": "center", "va": "center", "color": ink("card" if share > 0.5 else "text")}
            axes.text(column + 0.5, row + 0.37, f"{100 * share:.0f}\u2009%", weight="bold", **text)
            axes.text(column + 0.5, row + 0.74, str(counts[row, column]), fontsize=10, **text)
        yield figure


@contextmanager
def _drawing(
    height: float, margins: tuple[float, float, float, float], width: float = _WIDTH
) -> Iterator[tuple[Figure, Axes]]:
    """A figure and its axes; sizes and margins (left, top, right, bottom) in px."""
    import matplotlib
    from matplotlib.figure import Figure

    left, top, right, bottom = margins
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width / 72, height / 72), dpi=72)
        place = (left / width, bottom / height, 1 - (left + right) / width, 1 - (top + bottom) / height)
        yield figure, figure.add_axes(place)


def _plain(axes: Axes, x_label: str, y_label: str = "") -> None:
    """No frame, a grid at round numbers."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.set_xlabel(_text(x_label), color=_ink("text"))
    axes.set_ylabel(_text(y_label), color=_ink("text"))
    axes.spines[:].set_visible(False)
    axes.grid(color=_ink("rule"), linewidth=1)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, pad=7, labelcolor=_ink("muted"))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axis.set_major_formatter(FuncFormatter(_tick_text))


def _tick_text(value: float, place: int) -> str:
    return f"{value + 0.0:,.6g}".replace(",", "\u2009").replace("-", MINUS)


def _ink(name: str) -> str:
    """A colour that stands for one of the style sheet in matplotlib's output."""
    return f"#fe{_INKS.index(name):02x}ad"


def _chart(figure: Figure, label: str, names: Sequence[str] = ()) -> Chart:
    """matplotlib's SVG without its preamble and identifiers, in the colours of the style sheet."""
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg))
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r"#fe([0-9a-f]{2})ad", lambda found: f"var(--{_INKS[int(found[1], 16)]})", svg)
    return Chart(Markup(re.sub(r"\s*\n\s*", "\n", svg)), label, tuple(names))


def _text(text: str) -> str:
    """On one line and without lone surrogates, which matplotlib does not draw."""
    return " ".join(text.encode("utf-8", "replace").decode().split())


def _short(text: str, n_letters: int = 22) -> str:
    text = _text(text)
    return text if len(text) <= n_letters else f"{text[: n_letters - 1]}…"
