"""Names, semantic versions and references: every documented spelling, and nothing else."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.core.identity import ModelRef, Semver, check_file_path, check_name, new_id
from crossfade.errors import InvalidNameError, InvalidPathError, InvalidRefError, InvalidSemverError

labels = st.one_of(st.integers(0, 99).map(str), st.sampled_from(["alpha", "beta", "rc", "x-1", "0a"]))
semvers = st.builds(
    Semver,
    st.integers(0, 12),
    st.integers(0, 12),
    st.integers(0, 12),
    st.lists(labels, max_size=3).map(".".join),
)


@pytest.mark.parametrize("name", ["a", "lead_scoring", "lr-2", "a.b", "0x", "a" * 64])
def test_slugs_are_names(name):
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "A", "-a", "_a", "a/b", "a:b", "a b", "é", "a" * 65, "a\n", "a\0", "..", ".a", "a@b"]
)
def test_anything_else_is_not_a_name(name):
    with pytest.raises(InvalidNameError):
        check_name(name)


@pytest.mark.parametrize("path", ["model.onnx", "a/b/c", "weights-1_2.bin", "a..b", "/".join("abcdefgh")])
def test_file_labels(path):
    assert check_file_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "", "/etc/passwd", "../x", "a/../b", "a//b", "a/", "./a", "a\\b", "a\0b", "%2e%2e/x", "a b", "a\n",
        "C:x", "/".join("abcdefghi"), "x" * 129, "a/..", "..", ".",
    ],
)  # fmt: skip
def test_path_tricks_are_refused(path):
    with pytest.raises(InvalidPathError):
        check_file_path(path)


@pytest.mark.parametrize(
    ("text", "plain"),
    [("1.2.3", "1.2.3"), ("v1.2.3", "1.2.3"), ("0.0.0", "0.0.0"), ("2.1.0-rc.1", "2.1.0-rc.1")],
)
def test_semver_spellings(text, plain):
    assert str(Semver.parse(text)) == plain


@pytest.mark.parametrize(
    "text", ["", "1", "1.2", "01.2.3", "1.2.3.4", "1.2.x", "1.2.3-", "1.2.3-01", "1.2.3+b", "-1.0.0", "1.2.3\n"]
)
def test_not_semver(text):
    with pytest.raises(InvalidSemverError):
        Semver.parse(text)


def test_precedence_of_the_specification():
    # the chain given in semver.org 2.0.0, section 11
    chain = [
        "1.0.0-alpha",
        "1.0.0-alpha.1",
        "1.0.0-alpha.beta",
        "1.0.0-beta",
        "1.0.0-beta.2",
        "1.0.0-beta.11",
        "1.0.0-rc.1",
    ]
    versions = [Semver.parse(text) for text in [*chain, "1.0.0", "2.0.0", "2.1.0", "2.1.1"]]
    shuffled = versions[1::2] + versions[::2]
    assert sorted(shuffled) == versions


@given(semvers)
def test_semver_round_trip(version):
    assert Semver.parse(str(version)) == version


@given(semvers, semvers, semvers)
def test_precedence_is_a_total_order(a, b, c):
    assert (a < b) + (b < a) + (a == b) == 1
    if a < b < c:
        assert a < c


@given(semvers, st.sampled_from(["major", "minor", "patch"]))
def test_a_bump_is_newer(version, part):
    bumped = version.bump(part)
    assert version < bumped
    assert not bumped.prerelease


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("lead_scoring", "lead_scoring@champion"),
        ("lead_scoring:2.1.0", "lead_scoring:2.1.0"),
        ("lead_scoring:v2.1.0", "lead_scoring:2.1.0"),
        ("lead_scoring/2.1.0", "lead_scoring:2.1.0"),
        ("lead_scoring@challenger", "lead_scoring@challenger"),
        ("models:/lead_scoring/v2.1.0", "lead_scoring:2.1.0"),
        ("models:/lead_scoring/3", "models:/lead_scoring/3"),
        ("models:/lead_scoring/Production", "models:/lead_scoring/production"),
        ("models:/lead_scoring@champion", "lead_scoring@champion"),
        ("  lead_scoring ", "lead_scoring@champion"),
    ],
)
def test_reference_spellings(text, canonical):
    assert str(ModelRef.parse(text)) == canonical
    assert ModelRef.parse(canonical) == ModelRef.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "@",
        "a@",
        "@a",
        "a:",
        "a/b/c",
        "../a",
        "models:/",
        "A",
        "a:1.2:3",
        "a\\b",
        "a%2f..",
        "a\0",
        "models:/%2e%2e/x",
        "tiny:²",
        "tiny:٣",
        "tiny/\uff11\uff12",
        "models:/tiny/٣",
        "models:/tiny/%d9%a3",
        "tiny:1.0.٣",
    ],
)
def test_no_reference(text):
    with pytest.raises(InvalidRefError):
        ModelRef.parse(text)


@given(st.text(max_size=60))
def test_any_text_parses_or_is_refused(text):
    try:
        ref = ModelRef.parse(text)
    except InvalidRefError:
        return
    assert ModelRef.parse(str(ref)) == ref


def test_ids_are_unique_uuids_that_sort_by_time():
    early = [new_id() for _ in range(1000)]
    time.sleep(0.002)
    late = new_id()
    assert len(set(early)) == 1000
    assert max(early) < late
    assert late[14] == "7"
    assert late[19] in "89ab"
