"""How reports are told; nothing from outside gets through as anything but text."""

import math
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import msgspec
import numpy as np
import pytest

from crossfade.experiments.analysis import analyze
from crossfade.experiments.analysis_spec import AnalysisSpec
from crossfade.experiments.question import Question
from crossfade.experiments.report import AnalysisReport
from crossfade.experiments.reports import pictures, sections, words
from crossfade.experiments.reports.markdown import plain
from crossfade.ledger.evidence import Cell, Evidence
from crossfade.ledger.metrics import MetricSpec
from crossfade.methods.stats.moments import Moments
from tests.experiments.support import START, after, arrivals, cells, day, evidence

HOSTILE = (
    "<script>alert(1)</script>",
    "'\"><img src=x onerror=alert(1)>",
    "a|b\n# c\r\n- d `e` **f**",
    "]](javascript:alert(1))",
    "\x00\x0b\ud800\ufffe",
    "</svg></title><b>",
    "&lt;&amp;",
    "x" * 5000,
    "``` `` `",
    "",
)


def made(names=("control", "treatment", "b"), metrics=("m", "g"), segments=("DE",), days=6, **more):
    random = np.random.default_rng(4)
    parts = []
    for number, metric in enumerate(metrics):
        rows = {
            name: random.gamma(4.0, 1.0, 400) + 0.5 * (place == 1) * (number == 0) for place, name in enumerate(names)
        }
        parts += cells(metric, rows, days=days)
        for value in segments:
            parts += cells(metric, rows, days=days, dimension="country", value=value)
    came = arrivals(dict.fromkeys(names, 400), dict.fromkeys(names, 1 / len(names)), days=days)
    specs = [
        MetricSpec(name, role="guardrail" if number == 1 else "primary", margin=0.2 if number == 1 else None)
        for number, name in enumerate(metrics)
    ]
    values = {"experiment": "late", "dimensions": ("country",), "started_at": START} | more
    asked = Question(variants=tuple(names), metrics=tuple(specs), **values)
    refused = tuple((name, 1) for name in segments)
    found = Evidence("late", tuple(parts), tuple(came), refused=refused, incomplete=refused and (segments[0],))
    return analyze(found, asked, after(days))


@pytest.fixture(scope="module")
def report():
    return made()


@pytest.fixture(scope="module")
def hostile():
    """Every name that there is, is hostile; more so than servers let them be."""
    return made(
        names=("control", *HOSTILE[:5]),
        metrics=(HOSTILE[0], HOSTILE[1], HOSTILE[5]),
        segments=HOSTILE,
        experiment=HOSTILE[0] + HOSTILE[4],
    )


class Elements(HTMLParser):
    def __init__(self, document):
        super().__init__()
        self.found, self.attributes = set(), set()
        self.feed(document)

    def handle_starttag(self, tag, attrs):
        self.found.add(tag)
        self.attributes |= {name for name, _ in attrs}


def test_html_is_well_formed_and_has_only_our_elements(hostile):
    document = hostile._repr_html_()
    ET.fromstring(document)
    found = Elements(document)
    assert found.found <= {
        "div", "h3", "p", "strong", "ul", "li", "table", "caption", "thead", "tbody", "tr", "th", "td", "small", "code",
        "svg", "title", "desc", "line", "text", "polygon", "polyline", "circle", "rect",
    }  # fmt: skip
    assert not [name for name in found.attributes if name.startswith("on")]
    assert "javascript:" not in re.sub(r">[^<]*<", "><", document)


def test_pictures_are_well_formed(hostile):
    named = [(each.metric, each.treatment.variant) for each in hostile.comparisons]
    for picture in (hostile.to_svg(), *(hostile.to_timeline_svg(*names) for names in named)):
        root = ET.fromstring(picture)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert {element.tag.split("}")[1] for element in root.iter()} <= {
            "svg", "title", "desc", "line", "text", "polygon", "polyline", "circle", "rect",
        }  # fmt: skip


def test_a_hostile_name_is_still_readable(hostile):
    root = ET.fromstring(hostile._repr_html_())
    told = "".join(root.itertext())
    assert "<script>alert(1)</script>" in told
    assert "\ufffd" in told  # what XML does not have is replaced, not dropped


def test_markdown_tables_keep_their_shape(hostile):
    lines = hostile.to_markdown().splitlines()
    tables = [line for line in lines if line.startswith("|")]
    assert tables
    width = 0
    for line in lines:
        if not line.startswith("|"):
            width = 0
            continue
        columns = len(re.findall(r"(?<!\\)\|", line))
        assert width in {0, columns}
        width = columns


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain words", "plain words"),
        ("a|b", r"a\|b"),
        ("<b>", r"\<b\>"),
        ("two\nlines\r\n# no heading", r"two lines \# no heading"),
        ("`a_b` is **x**", r"`a_b` is \*\*x\*\*"),
        ("`a|b`", r"`a\|b`"),
        ("one ` alone", r"one \` alone"),
        ("snake_case and _this_", r"snake_case and \_this\_"),
        ("[x](y)", r"\[x\](y)"),
    ],
)
def test_markdown_means_itself(text, shown):
    assert plain(text) == shown


def test_markdown_has_every_part(report):
    page = report.to_markdown()
    for title in (
        "# late",
        "## Effects",
        "## Chance to be better",
        "## Guardrails",
        "## Probability of being the best",
    ):
        assert title in page
    assert "## Units" in page
    assert "## Segments" in page
    assert "Exploratory" in page
    assert "always_valid (valid however often one looks)" in page


def test_html_has_every_part(report):
    document = report._repr_html_()
    for table in sections.tables(report):
        assert f">{table.title}</caption>" in document
        assert all(table.headings)
    assert document.count("<svg") == 3  # all effects, and the primary metric of two treatments over time
    assert "<code>" in document
    assert "http" not in document.replace("http://www.w3.org/2000/svg", "")  # nothing is fetched


def test_rows_are_flat_and_alike(report):
    rows = report.to_dicts()
    assert len(rows) == len(report.comparisons) + len(report.segments)
    assert len({tuple(row) for row in rows}) == 1
    assert all(value is None or isinstance(value, str | float | int | bool) for row in rows for value in row.values())
    first = rows[0]
    assert (first["metric"], first["treatment"], first["n_control"]) == ("m", "treatment", 400)
    assert first["absolute_lower"] < first["absolute"] < first["absolute_upper"]
    assert rows[-1]["dimension"] == "country"


def test_rows_become_a_frame(report):
    frame = report.to_pandas()
    assert frame.shape == (len(report.to_dicts()), len(report.to_dicts()[0]))
    assert frame.loc[0, "p_value"] == report.comparisons[0].p_value


def test_a_missing_package_is_named(report, monkeypatch):
    import sys

    from crossfade.errors import MissingExtraError

    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtraError, match="pandas"):
        report.to_pandas()


def test_reports_are_json(report):
    body = msgspec.json.encode(report)
    assert msgspec.json.decode(body, type=AnalysisReport) == report
    assert b"NaN" not in body


def test_the_reason_of_what_cannot_be_estimated_is_shown(report):
    few = made(days=1, metrics=("m",), segments=())
    assert "not estimable" not in few.to_markdown()
    alone = analyze(evidence({"m": {"control": [1.0, 2.0], "treatment": [2.0, 3.0]}}), asked_about("m"), after(1))
    assert "the always-valid interval starts at 100" in alone.to_markdown()
    assert "the always-valid interval starts at 100" in alone._repr_html_()
    assert alone.to_dicts()[0]["reason"]


def asked_about(*metrics):
    return Question("late", ("control", "treatment"), tuple(MetricSpec(name) for name in metrics), started_at=START)


def test_a_report_of_nothing_is_a_report():
    nothing = analyze(Evidence("late"), asked_about("m"), after(1))
    for told in (nothing.to_markdown(), nothing._repr_html_()):
        assert "no units yet" in told
    assert nothing.to_svg()
    assert "no look has an interval yet" in nothing.to_timeline_svg("m", "treatment")
    with pytest.raises(KeyError):
        nothing.to_timeline_svg("m", "control")
    ET.fromstring(nothing._repr_html_())


def test_no_metrics_at_all():
    nothing = analyze(Evidence("late"), asked_about(), after(1))
    ET.fromstring(nothing._repr_html_())
    assert nothing.to_dicts() == []


def test_the_variance_that_a_covariate_took_away_is_told():
    random = np.random.default_rng(1)
    before = random.normal(size=(2, 300))
    cut = [
        Cell(1, name, day(0), "", "", "m", Moments.of(np.stack([each + random.normal(0, 0.5, 300) + 9, each], axis=1)))
        for name, each in zip(("control", "treatment"), before, strict=True)
    ]
    came = arrivals({"control": 300, "treatment": 300}, {"control": 0.5, "treatment": 0.5})
    asked = msgspec.structs.replace(asked_about("m"), metrics=(MetricSpec("m", covariate="before"),))
    told = analyze(Evidence("late", tuple(cut), tuple(came)), asked, after(1)).to_markdown()
    assert re.search(r"variance -[78]\d(\.\d)? %", told)


def test_segments_have_a_picture(report):
    root = ET.fromstring(pictures.forest_of_segments(report, report.segments, "by country"))
    assert "country = DE" in "".join(root.itertext())
    ET.fromstring(pictures.forest_of_segments(report, (), "nothing"))


def test_of_many_segments_the_telling_ones_are_shown():
    many = made(
        names=("control", "treatment"), metrics=("m",), segments=[f"v{number}" for number in range(130)], days=1
    )
    assert len(many.segments) == 130
    (table,) = [each for each in sections.tables(many) if each.title == "Segments"]
    assert len(table.rows) == 100
    assert "100 of 130" in table.note
    few = made(segments=("DE", "FR"))
    (table,) = [each for each in sections.tables(few) if each.title == "Segments"]
    assert len(table.rows) == len(few.segments)


@pytest.mark.parametrize(
    ("method", "words_of_it"),
    [("fixed", "once, at the planned end"), ("group_sequential", "at planned looks")],
)
def test_the_method_is_told(method, words_of_it):
    told = made(analysis=AnalysisSpec(method=method, planned_units=1000)).to_markdown()
    assert words_of_it in told
    assert "corrected by holm" in told


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "-"),
        (math.inf, "∞"),
        (-math.inf, "-∞"),
        (math.nan, "-"),
        (0.0, "0"),
        (-1234.5, "-1,234"),
        (1e20, "1e+20"),
    ],
)
def test_numbers_as_people_read_them(value, told):
    assert words.number(value) == told


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "0 seconds"), (1, "1 second"), (60, "1 minute"), (119, "119 seconds"), (7200, "2 hours"), (86_400, "1 day"),
     (1.5 * 86_400, "36 hours"), (1e9, "11,574 days"), (math.inf, "ever"), (-5, "0 seconds")],
)  # fmt: skip
def test_durations_as_people_read_them(seconds, told):
    assert words.duration(seconds) == told


@pytest.mark.parametrize(
    ("count", "told"),
    [(0, "0"), (99, "99"), (101, "100"), (149, "150"), (12_345, "12,000"), (98_765, "99,000"), (999, "1,000")],
)
def test_units_as_roughly_as_they_are_known(count, told):
    assert words.rounded(count) == told


def test_where_p_is_corrected_the_table_says_that_its_intervals_are_not():
    assert "corrected for how many" in made().to_markdown()
    assert "corrected for how many" not in made(("control", "treatment"), ("m",)).to_markdown()
