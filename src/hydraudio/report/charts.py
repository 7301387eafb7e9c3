"""Small charts as inline SVG. Colours come from the page's style sheet, so they follow light and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from hydraudio.report.tables import MINUS
from hydraudio.stats.intervals import Interval

N_COLORS = 8  # classes c0 ... c7 of the style sheet


@dataclass(frozen=True)
class Series:
    """Points of one colour; x and y have equal lengths."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class _Frame:
    """Plot area in SVG units and the ticks of the data range that it shows, first to last."""

    left: float
    top: float
    width: float
    height: float
    x_ticks: list[float]
    y_ticks: list[float]

    def x(self, value: float) -> float:
        low, high = self.x_ticks[0], self.x_ticks[-1]
        return self.left + self.width * (value - low) / (high - low)

    def y(self, value: float) -> float:
        low, high = self.y_ticks[0], self.y_ticks[-1]
        return self.top + self.height * (high - value) / (high - low)


def line_chart(
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    *,
    dots: bool = False,
    diagonal: str = "",
    ticks: Sequence[float] = (),
) -> str:
    """Curves over a common axis, with a legend where there is more than one.

    dots: mark the points; diagonal: name of the line of equal x and y, "" = not drawn; ticks: of both axes, () = by
    the data.
    """
    frame = _frame([value for s in series for value in s.x], [value for s in series for value in s.y], ticks=ticks)
    body = [_grid(frame), _axis_labels(frame, x_label, y_label)]
    body += [_diagonal(frame, diagonal)] if diagonal else []
    for index, curve in enumerate(series):
        points = " ".join(
            f"{frame.x(a):.1f},{frame.y(b):.1f}"
            for a, b in zip(curve.x, curve.y, strict=True)
            if math.isfinite(a) and math.isfinite(b)
        )
        body.append(f'<polyline class="line s{index % N_COLORS}" points="{points}"/>')
        body += [_dots(frame, curve, index)] if dots else []
    return _figure(_svg(480, 300, body, f"{y_label} over {x_label}"), [s.name for s in series])


def scatter_chart(
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    diagonal: str = "no change",
    ticks: Sequence[float] = (),
) -> str:
    """Points of several colours, with the named line of equal x and y; ticks: of both axes, () = by the data."""
    frame = _frame([v for s in series for v in s.x], [v for s in series for v in s.y], 400, ticks)
    body = [_grid(frame), _axis_labels(frame, x_label, y_label)]
    body.append(_diagonal(frame, diagonal))
    body += [_dots(frame, group, index) for index, group in enumerate(series)]
    return _figure(_svg(480, 400, body, f"{y_label} against {x_label}"), [s.name for s in series])


def interval_chart(
    labels: Sequence[str], intervals: Sequence[Interval], x_label: str, total_labels: Sequence[str] = ()
) -> str:
    """One row per label: the mean as a dot, its interval as a bar; labels in total_labels are set apart."""
    finite = [value for i in intervals for value in i[:3] if math.isfinite(value)]
    height = 26 * len(labels) + 60
    left = 24 + 6.6 * max((len(_short(label)) for label in labels), default=4)
    ticks = _ticks(min([0.0, *finite]), max([0.0, *finite]))
    frame = _Frame(left, 8, 480 - left - 56, 26 * len(labels), ticks, [0.0, 1.0])
    body = [_vertical_grid(frame)]
    body.append(_line(frame.x(0), frame.top, frame.x(0), frame.top + frame.height, "zero"))
    for index, (label, interval) in enumerate(zip(labels, intervals, strict=True)):
        css = "total" if label in total_labels else "c0"
        body.append(_interval_row(frame, 26 * index + 21, label, interval, css))
    body.append(_x_label(frame, x_label))
    return _figure(_svg(480, height, body, f"{x_label} with confidence intervals"), [])


def heat_chart(counts: NDArray[np.int64], names: Sequence[str]) -> str:
    """A confusion matrix (true, predicted): colour and percentages are shares of the row, counts below them."""
    n, width, height = len(names), 76, 42
    left, top = 44 + 7 * max(len(_short(name, 14)) for name in names), 44
    parts = [
        f'<text class="axis" x="{left + n * width / 2:.0f}" y="14" text-anchor="middle">predicted</text>',
        f'<text class="axis" text-anchor="middle" transform="translate(14 {top + n * height / 2:.0f}) rotate(-90)">'
        "true</text>",
    ]
    for row, name in enumerate(names):
        label, y = escape(_short(name, 14)), top + row * height
        parts.append(f'<text class="label" x="{left - 8}" y="{y + 25}" text-anchor="end">{label}</text>')
        short = escape(_short(name, 11))
        x = left + row * width + width / 2
        parts.append(f'<text class="label" x="{x:.0f}" y="{top - 9}" text-anchor="middle">{short}</text>')
        shares = counts[row] / max(counts[row].sum(), 1)
        cells = zip(shares, counts[row], strict=True)
        parts += [_heat_cell(left + c * width, y, width, height, *cell) for c, cell in enumerate(cells)]
    svg = _svg(left + n * width + 4, top + n * height + 4, parts, "Confusion of the classes")
    return f'<div class="heat">{svg}</div>'


def _heat_cell(x: float, y: float, width: int, height: int, share: float, n: int) -> str:
    middle = x + width / 2
    return (
        f'<g class="{"strong" if share > 0.5 else "weak"}"><rect x="{x + 1:.0f}" y="{y + 1:.0f}" width="{width - 2}" '
        f'height="{height - 2}" rx="4" fill-opacity="{0.05 + 0.95 * share:.3f}"/>'
        f'<text class="share" x="{middle:.0f}" y="{y + 19:.0f}" text-anchor="middle">{100 * share:.0f}\u2009%</text>'
        f'<text class="count" x="{middle:.0f}" y="{y + 33:.0f}" text-anchor="middle">{n}</text></g>'
    )


def _interval_row(frame: _Frame, y: float, label: str, interval: Interval, css: str) -> str:
    parts = [
        f'<text class="tick label" x="{frame.left - 10:.1f}" y="{y + 4:.1f}" text-anchor="end">'
        f"{escape(_short(label))}</text>"
    ]
    if math.isfinite(interval.low):
        x0, x1 = frame.x(interval.low), frame.x(interval.high)
        parts.append(
            f'<rect class="bar" x="{x0:.1f}" y="{y - 4:.1f}" width="{max(x1 - x0, 1):.1f}" height="8" rx="4"/>'
        )
    if math.isfinite(interval.mean):
        parts.append(f'<circle class="dot" cx="{frame.x(interval.mean):.1f}" cy="{y:.1f}" r="4.5"/>')
        parts.append(
            f'<text class="tick value" x="{frame.left + frame.width + 50:.1f}" y="{y + 4:.1f}" '
            f'text-anchor="end">{_tick_text(round(interval.mean, 2), 2)}</text>'
        )
    return f'<g class="{css}">{"".join(parts)}</g>'


def _dots(frame: _Frame, series: Series, index: int) -> str:
    circles = (
        f'<circle cx="{frame.x(a):.1f}" cy="{frame.y(b):.1f}" r="3"/>'
        for a, b in zip(series.x, series.y, strict=True)
        if math.isfinite(a) and math.isfinite(b)
    )
    return f'<g class="dots c{index % N_COLORS}">{"".join(circles)}</g>'


def _diagonal(frame: _Frame, name: str) -> str:
    """The part of the line y = x that the frame shows."""
    low = max(frame.x_ticks[0], frame.y_ticks[0])
    high = min(frame.x_ticks[-1], frame.y_ticks[-1])
    if low >= high:
        return ""
    label = low + 0.1 * (high - low)
    return (
        _line(frame.x(low), frame.y(low), frame.x(high), frame.y(high), "diagonal")
        + f'<text class="hint" x="{frame.x(label) + 8:.1f}" y="{frame.y(label) + 10:.1f}">{escape(name)}</text>'
    )


def _frame(x: Sequence[float], y: Sequence[float], height: float = 300, ticks: Sequence[float] = ()) -> _Frame:
    """A frame around the data, or with the same given ticks on both axes."""
    x_ticks, y_ticks = (list(ticks) or _ticks(*_extent(values)) for values in (x, y))
    return _Frame(52, 10, 480 - 52 - 20, height - 10 - 46, x_ticks, y_ticks)


def _extent(values: Sequence[float]) -> tuple[float, float]:
    finite = [value for value in values if math.isfinite(value)]
    return (min(finite), max(finite)) if finite else (0.0, 1.0)


def _ticks(low: float, high: float, n_steps: int = 5) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten that enclose the range, about n_steps apart."""
    span = high - low or max(abs(high), 1.0)
    raw = span / n_steps
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    return [float(np.round(k * step, 12)) for k in range(first, last + 1)]


def _tick_text(value: float, digits: int | None = None) -> str:
    text = f"{value:.{digits}f}" if digits is not None else f"{value:,.10g}".replace(",", "\u2009")
    return text.replace("-", MINUS)


def _grid(frame: _Frame) -> str:
    rows = [
        _line(frame.left, frame.y(tick), frame.left + frame.width, frame.y(tick), "grid")
        + f'<text class="tick" x="{frame.left - 7:.1f}" y="{frame.y(tick) + 4:.1f}" text-anchor="end">'
        f"{_tick_text(tick)}</text>"
        for tick in frame.y_ticks
    ]
    return "".join(rows) + _vertical_grid(frame)


def _vertical_grid(frame: _Frame) -> str:
    bottom = frame.top + frame.height
    return "".join(
        _line(frame.x(tick), frame.top, frame.x(tick), bottom, "grid")
        + f'<text class="tick" x="{frame.x(tick):.1f}" y="{bottom + 17:.1f}" text-anchor="middle">'
        f"{_tick_text(tick)}</text>"
        for tick in frame.x_ticks
    )


def _axis_labels(frame: _Frame, x_label: str, y_label: str) -> str:
    middle = frame.top + frame.height / 2
    return _x_label(frame, x_label) + (
        f'<text class="axis" x="13" y="{middle:.0f}" text-anchor="middle" '
        f'transform="rotate(-90 13 {middle:.0f})">{escape(y_label)}</text>'
    )


def _x_label(frame: _Frame, x_label: str) -> str:
    x, y = frame.left + frame.width / 2, frame.top + frame.height + 37
    return f'<text class="axis" x="{x:.0f}" y="{y:.0f}" text-anchor="middle">{escape(x_label)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, css: str) -> str:
    return f'<line class="{css}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _svg(width: int, height: int, body: Sequence[str], description: str) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(description)}">'
        f"{''.join(body)}</svg>"
    )


def _figure(svg: str, names: Sequence[str]) -> str:
    if len(names) < 2:
        return svg
    chips = "".join(
        f'<span class="c{index % N_COLORS}"><i></i>{escape(name)}</span>' for index, name in enumerate(names)
    )
    return f'{svg}<div class="legend">{chips}</div>'


def _short(label: str, max_chars: int = 24) -> str:
    return label if len(label) <= max_chars else label[: max_chars - 1] + "…"
