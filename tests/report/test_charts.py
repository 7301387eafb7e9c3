"""Charts are well-formed and put data where it belongs."""

import math
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from hydraudio.report.charts import Series, _ticks, heat_chart, interval_chart, line_chart, scatter_chart
from hydraudio.stats.intervals import Interval


def _parse(fragment: str) -> ElementTree.Element:
    return ElementTree.fromstring(f"<root>{fragment}</root>")


@pytest.mark.parametrize(
    ("low", "high"), [(0, 10), (-7.3, 21.9), (0.001, 0.0042), (3, 3), (0, 0), (-1e6, 5), (9.99, 10.01)]
)
def test_ticks_enclose_the_range_in_few_round_steps(low: float, high: float) -> None:
    ticks = _ticks(low, high)
    assert ticks[0] <= low
    assert ticks[-1] >= high
    assert 2 <= len(ticks) <= 8
    step = ticks[1] - ticks[0]
    mantissa = step / 10 ** math.floor(math.log10(step * 1.0001))
    assert round(mantissa, 6) in (1, 2, 5)


def test_lines_skip_what_is_not_finite_and_keep_the_order() -> None:
    chart = line_chart([Series("a", [0, 1, 2], [0, math.nan, 10])], "step", "loss")
    points = re.search(r'polyline class="line s0" points="([^"]+)"', chart)
    assert points is not None
    pairs = [tuple(map(float, pair.split(","))) for pair in points[1].split()]
    assert len(pairs) == 2
    assert pairs[0][0] < pairs[1][0]
    assert pairs[0][1] > pairs[1][1]  # larger values are higher up
    _parse(chart)


def test_scatter_draws_every_finite_point_and_names_the_groups() -> None:
    chart = scatter_chart([Series("SER", [1, 2], [3, 4]), Series("<b>", [1, math.inf], [0, 0])], "x", "y")
    assert chart.count("<circle") == 3
    assert "<b>" not in chart
    _parse(chart)


def test_an_identity_point_lies_on_the_diagonal() -> None:
    chart = scatter_chart([Series("a", [0, 4, 10], [2, 4, 30])], "x", "y")
    line = re.search(r'class="diagonal" x1="([\d.]+)" y1="([\d.]+)" x2="([\d.]+)" y2="([\d.]+)"', chart)
    assert line is not None
    x1, y1, x2, y2 = map(float, line.groups())
    x, y = (float(v) for v in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', chart)[1])
    assert y == pytest.approx(y1 + (y2 - y1) * (x - x1) / (x2 - x1), abs=0.2)


def test_intervals_show_bar_and_value() -> None:
    chart = interval_chart(
        ["SER", "a & b"], [Interval(5, 4, 7, 9), Interval(-1, math.nan, math.nan, 1)], "dB", ["a & b"]
    )
    assert chart.count('class="bar"') == 1
    assert "\N{MINUS SIGN}1.00" in chart
    assert "a &amp; b" in chart
    _parse(chart)


def test_nothing_to_draw_is_still_a_chart() -> None:
    for chart in (line_chart([], "x", "y"), scatter_chart([], "x", "y"), interval_chart([], [], "x")):
        _parse(chart)


def test_a_confusion_is_drawn_with_shares_of_the_row_and_counts() -> None:
    svg = heat_chart(np.array([[3, 1], [0, 0]]), ["<b>", "calm"])
    root = _parse(svg)
    texts = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert {"<b>", "calm", "75\u2009%", "25\u2009%", "3", "1"} <= set(texts)
    opacities = [float(e.get("fill-opacity", 0)) for e in root.iter() if e.tag.endswith("rect")]
    assert opacities == sorted(opacities, reverse=True)  # the empty row is as light as no share at all


def test_both_axes_have_the_given_ticks_and_the_diagonal_its_name() -> None:
    curve = Series("a", [0.2, 0.3], [0.1, 0.4])
    for svg in (
        line_chart([curve], "x", "y", dots=True, diagonal="equal", ticks=[0, 0.5, 1]),
        scatter_chart([curve], "x", "y", "equal", ticks=[0, 0.5, 1]),
    ):
        root = _parse(svg)
        ticks = [e.text for e in root.iter() if e.tag.endswith("text") and "tick" in e.get("class", "")]
        assert sorted(ticks) == sorted(["0", "0.5", "1"] * 2)
        assert "equal" in [e.text for e in root.iter() if e.tag.endswith("text")]
        assert sum(e.tag.endswith("circle") for e in root.iter()) == 2
