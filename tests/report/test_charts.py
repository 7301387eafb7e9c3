"""Charts are well-formed, put data where it belongs and take their colours from the style sheet."""

import io
import math
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from hydraudio.report.charts import Chart, Series, heat_chart, heat_png, interval_chart, line_chart, scatter_chart
from hydraudio.report.page import asset
from hydraudio.stats.intervals import Interval

USE = "{http://www.w3.org/2000/svg}use"
PATH = "{http://www.w3.org/2000/svg}path"


def parse(chart: Chart) -> ElementTree.Element:
    return ElementTree.fromstring(chart.svg)


def texts(chart: Chart) -> list[str]:
    return [element.text for element in parse(chart).iter() if element.tag.endswith("}text") and element.text]


def points(chart: Chart) -> list[tuple[float, float]]:
    """Places of the markers in data colours."""
    uses = [use for use in parse(chart).iter(USE) if "var(--k" in use.get("style", "")]
    return [(float(use.get("x", 0)), float(use.get("y", 0))) for use in uses]


def test_lines_skip_what_is_not_finite_and_keep_the_order() -> None:
    chart = line_chart([Series("a", [0, 1, 2], [0, math.nan, 10])], "step", "loss", dots=True)
    (first, last) = points(chart)
    assert first[0] < last[0]
    assert first[1] > last[1]  # larger values are higher up
    assert chart.label == "loss over step"


def test_scatter_draws_every_finite_point_and_names_the_groups() -> None:
    chart = scatter_chart([Series("SER", [1, 2], [3, 4]), Series("<b>", [1, math.inf], [0, 0])], "x", "y <i>")
    assert len(points(chart)) == 3
    assert chart.names == ("SER", "<b>")
    assert "y <i>" in texts(chart)


def test_an_identity_point_lies_on_the_diagonal() -> None:
    chart = scatter_chart([Series("a", [0, 4, 10], [2, 4, 30])], "x", "y", "equal")
    dashed = next(path for path in parse(chart).iter(PATH) if "dasharray" in path.get("style", ""))
    x1, y1, x2, y2 = (float(value) for value in re.findall(r"[\d.]+", dashed.get("d", "")))
    x, y = points(chart)[1]
    assert y == pytest.approx(y1 + (y2 - y1) * (x - x1) / (x2 - x1), abs=0.2)
    assert "equal" in texts(chart)


def test_intervals_show_bar_and_value() -> None:
    intervals = [Interval(5, 4, 7, 9), Interval(-1, math.nan, math.nan, 1)]
    chart = interval_chart(["SER", "a $x$ & b"], intervals, "dB", ["a $x$ & b"])
    bars = [path for path in parse(chart).iter(PATH) if "stroke-width: 7" in path.get("style", "")]
    assert len(bars) == 1
    assert {"5.00", "\N{MINUS SIGN}1.00", "SER", "a $x$ & b"} <= set(texts(chart))


def test_nothing_to_draw_is_still_a_chart() -> None:
    for chart in (line_chart([], "x", "y"), scatter_chart([], "x", "y"), interval_chart([], [], "x")):
        parse(chart)


def test_a_confusion_is_drawn_with_shares_of_the_row_and_counts() -> None:
    chart = heat_chart(np.array([[3, 1], [0, 0]]), ["<b>", "calm"])
    assert {"<b>", "calm", "75\u2009%", "25\u2009%", "3", "1"} <= set(texts(chart))
    styles = [path.get("style", "") for path in parse(chart).iter(PATH)]
    opacities = [float(found[1]) for style in styles if (found := re.search(r"accent\); opacity: ([\d.]+)", style))]
    assert len(opacities) == 4
    assert opacities == sorted(opacities, reverse=True)  # the empty row is as light as no share at all


def test_the_picture_of_the_confusion_shows_every_cell() -> None:
    image_module = pytest.importorskip("PIL.Image")
    picture = heat_png(np.array([[90, 10], [0, 50]]), ["Angry", "Neutral"])
    image = np.asarray(image_module.open(io.BytesIO(picture)).convert("RGB"))
    full = np.argwhere((image == (47, 95, 208)).all(-1))  # 100 % has the accent's colour
    assert len(full) > 3000
    assert full[:, 0].min() > image.shape[0] / 2  # and lies in the lower row
    assert full[:, 1].min() > image.shape[1] / 2  # and the right column


def test_both_axes_have_the_given_ticks_and_the_diagonal_its_name() -> None:
    curve = Series("a", [0.2, 0.3], [0.1, 0.4])
    for chart in (
        line_chart([curve], "x", "y", dots=True, diagonal="equal", ticks=[0, 0.5, 1]),
        scatter_chart([curve], "x", "y", "equal", ticks=[0, 0.5, 1]),
    ):
        assert sorted(texts(chart)) == sorted([*["0", "0.5", "1"] * 2, "x", "y", "equal"])
        assert len(points(chart)) == 2


def test_colours_are_those_of_the_style_sheet_which_has_them_for_light_and_dark() -> None:
    series = [Series(str(k), [0, 1], [k, k]) for k in range(9)]
    drawn = [line_chart(series, "x", "y"), interval_chart(["a"], [Interval(1, 0, 2, 3)], "x", ["a"])]
    svg = "".join(chart.svg for chart in [*drawn, heat_chart(np.eye(2, dtype=int), ["a", "b"])])
    used = set(re.findall(r"var\((--\w+)\)", svg))
    assert {"--k0", "--k7", "--text", "--muted", "--rule", "--card", "--accent"} <= used
    assert used <= set(re.findall(r"(--\w+): light-dark\(", asset("style.css")))
    assert set(re.findall(r"#[0-9a-f]{6}", svg)) <= {"#000000", "#ffffff"}


def test_a_chart_leaves_no_trace_in_a_page_with_others() -> None:
    svg = line_chart([Series("a", [0, 1], [0, 1])], "x", "y").svg
    assert svg.startswith("<svg")
    assert "<style" not in svg
    assert "<metadata" not in svg
    assert "<g id" not in svg


def test_charts_need_no_state_of_pyplot() -> None:
    import sys

    line_chart([Series("a", [0, 1], [0, 1])], "x", "y")
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
