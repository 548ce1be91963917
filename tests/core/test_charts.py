"""Pictures: well-formed, complete, legible, and never anything but text from outside."""

import math
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.core.charts import COLOURS, Bar, Point, forest, text, timeline

SVG = "{http://www.w3.org/2000/svg}"
anything = st.text(st.characters(exclude_categories=()), max_size=60)
numbers = st.floats(allow_nan=False)


def parsed(picture):
    return ET.fromstring(picture)


def words(root):
    return ["".join(each.itertext()) for each in root.iter(f"{SVG}text")]


def positions(root):
    for element in root.iter():
        for name in ("x", "y", "x1", "x2", "y1", "y2", "cx", "cy"):
            if name in element.attrib:
                yield float(element.attrib[name])
        for pair in element.attrib.get("points", "").split():
            yield from map(float, pair.split(","))


@st.composite
def intervals(draw):
    value = draw(st.none() | st.floats(allow_nan=False, allow_infinity=False))
    lower, upper = sorted((draw(numbers), draw(numbers)))
    return value, lower, upper


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(anything, intervals(), anything), max_size=12), anything)
def test_any_forest_is_well_formed_and_inside_of_its_frame(rows, title):
    bars = [Bar(label, *interval, note) for label, interval, note in rows]
    root = parsed(forest(bars, title=title))
    assert {element.tag for element in root.iter()} <= {
        SVG + name for name in ("svg", "title", "desc", "text", "line", "rect", "polygon")
    }
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    assert all(-10 <= each <= max(width, height) + 10 for each in positions(root))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(anything, intervals()), max_size=30), anything)
def test_any_timeline_is_well_formed_and_inside_of_its_frame(looks, title):
    root = parsed(timeline([Point(label, *interval) for label, interval in looks], title=title))
    assert all(math.isfinite(each) and -10 <= each <= 910 for each in positions(root))


@settings(max_examples=200, deadline=None)
@given(anything)
def test_any_text_may_stand_in_xml(given_text):
    root = parsed(f"<x a='{text(given_text)}'>{text(given_text)}</x>")
    expected = re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", given_text)
    assert (root.text or "") == expected.replace("\r\n", "\n").replace("\r", "\n")


def test_pictures_say_what_they_show():
    root = parsed(forest([Bar("m", 1.0, 0.5, 1.5, "+1 [0.5 to 1.5]")], title="effects"))
    assert root.attrib["role"] == "img"
    assert root.find(f"{SVG}title").text == "effects"
    assert "m: +1 [0.5 to 1.5]" in root.find(f"{SVG}desc").text
    root = parsed(timeline([Point("monday", 1.0, 0.5, 1.5)], title="over time"))
    assert "monday: 1, 0.5 to 1.5" in root.find(f"{SVG}desc").text


@pytest.mark.parametrize("count", [1, 2, 63, 64])
def test_every_row_is_there(count):
    bars = [
        Bar(f"variant {number}", float(number), number - 1.0, number + 1.0, f"note {number}") for number in range(count)
    ]
    root = parsed(forest(bars, title="all"))
    told = words(root)
    assert all(f"variant {number}" in told and f"note {number}" in told for number in range(count))
    assert len(list(root.iter(f"{SVG}rect"))) == count


def test_what_cannot_be_estimated_has_its_reason_and_no_mark():
    root = parsed(forest([Bar("m", None, note="too few units"), Bar("n", 1.0, 0.0, 2.0)], title="x"))
    assert "too few units" in words(root)
    assert len(list(root.iter(f"{SVG}rect"))) == 1
    root = parsed(forest([Bar("m", None, note="too few units")], title="x"))
    assert words(root) == ["m", "too few units"]  # and no axis of nothing


def test_nothing_is_said_to_be_nothing():
    assert words(parsed(forest([], title="x"))) == ["nothing to show"]
    assert words(parsed(timeline([], title="x"))) == ["no look has an interval yet"]
    assert words(parsed(timeline([Point("a", None)], title="x"))) == ["no look has an interval yet"]


def test_long_names_are_cut_and_whole_in_the_tooltip():
    name = "a_very_long_name_" * 10
    root = parsed(forest([Bar(name, 1.0, 0.0, 2.0)], title="x"))
    label = next(each for each in root.iter(f"{SVG}text") if each.text.startswith("a_very"))
    assert len(label.text) == 30
    assert label.text.endswith("…")
    assert label.find(f"{SVG}title").text == name


def test_infinite_ends_are_arrows():
    closed = parsed(forest([Bar("m", 1.0, 0.0, 2.0)], title="x"))
    one = parsed(forest([Bar("m", 1.0, 0.0)], title="x"))
    both = parsed(forest([Bar("m", 1.0)], title="x"))
    assert [len(list(root.iter(f"{SVG}polygon"))) for root in (closed, one, both)] == [0, 1, 2]


def test_one_very_wide_interval_does_not_make_dots_of_the_others():
    bars = [Bar(f"m{number}", 1.0, 0.0, 2.0) for number in range(5)] + [Bar("wide", 0.0, -1e6, 1e6)]
    root = parsed(forest(bars, title="x"))
    first = next(each for each in root.iter(f"{SVG}line") if each.attrib.get("stroke-width") == "2")
    assert float(first.attrib["x2"]) - float(first.attrib["x1"]) > 20
    assert len(list(root.iter(f"{SVG}polygon"))) == 2


def test_gaps_in_time_stay_gaps():
    looks = [Point("a", 1.0, 0.0, 2.0), Point("b", 1.0, 0.0, 2.0), Point("c", None), Point("d", 1.0, 0.0, 2.0)]
    root = parsed(timeline(looks, title="x"))
    assert len(list(root.iter(f"{SVG}polygon"))) == 2
    assert [label for label in words(root) if label in "abcd"] == ["a", "b", "c", "d"]


def test_hundreds_of_looks_have_a_handful_of_labels():
    root = parsed(timeline([Point(f"day {number}", 1.0, 0.0, 2.0) for number in range(400)], title="x"))
    assert 4 <= sum(label.startswith("day") for label in words(root)) <= 8
    assert len(list(root.iter(f"{SVG}circle"))) == 1


@pytest.mark.parametrize("background", ["#ffffff", "#111111"])
@pytest.mark.parametrize("colour", [*(each for each in COLOURS.values() if each != "currentColor"), "#3b7dd8"])
def test_colours_can_be_told_from_light_and_dark_pages(colour, background):
    """WCAG 2.2, 1.4.11: at least 3 to 1."""

    def luminance(code):
        parts = [int(code[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    lighter, darker = sorted((luminance(colour), luminance(background)), reverse=True)
    assert (lighter + 0.05) / (darker + 0.05) >= 3


def test_words_have_the_colour_of_the_page():
    root = parsed(forest([Bar("m", 1.0, 0.0, 2.0, "x", "good")], title="x"))
    assert {each.attrib["fill"] for each in root.iter(f"{SVG}text")} == {"currentColor"}
