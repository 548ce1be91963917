"""Models and their aliases over REST."""

import pytest

from crossfade import errors
from tests import control


def test_an_empty_registry_lists_nothing(client):
    page = client.models()
    assert (page.items, page.next_cursor) == ((), "")


def test_models_are_listed_in_pages(client, tmp_path):
    for name in ("c", "a", "b"):
        control.register(client, tmp_path, "1.0.0", name=name)
    first = client.models(limit=2)
    second = client.models(limit=2, cursor=first.next_cursor)
    assert [model.name for model in (*first.items, *second.items)] == ["a", "b", "c"]
    assert second.next_cursor == ""
    assert [model.name for model in client.models(prefix="b").items] == ["b"]


@pytest.mark.parametrize("limit", [0, -1, 1001])
def test_a_page_has_one_to_a_thousand_items(client, limit):
    with pytest.raises(errors.InvalidInputError, match="limit"):
        client.models(limit=limit)


def test_a_foreign_cursor_is_refused(client):
    with pytest.raises(errors.InvalidPageError):
        client.models(cursor="bm9uc2Vuc2U=")


def test_a_model_shows_its_aliases(client, tmp_path):
    control.register(client, tmp_path, "1.0.0", "1.0.1")
    client.move_alias("tiny", "champion", "1.0.1")
    model = client.model("tiny")
    assert (model.version_count, model.latest_version, model.aliases) == (2, "1.0.1", {"champion": "1.0.1"})
    assert model.created_by == "tester"


def test_an_unknown_model_is_not_found_and_suggests_a_similar_one(client, tmp_path):
    control.register(client, tmp_path, "1.0.0", name="lead_scoring")
    with pytest.raises(errors.ModelNotFoundError) as caught:
        client.model("lead_scorin")
    assert "did you mean `lead_scoring`" in caught.value.hint


def test_an_impossible_name_is_invalid(client):
    with pytest.raises(errors.InvalidNameError):
        client.model("Not A Name")


# --- aliases -------------------------------------------------------------------------------------------------------


def test_an_alias_moves_and_rolls_back_with_a_history(client, tmp_path):
    control.register(client, tmp_path, "1.0.0", "1.0.1")
    client.move_alias("tiny", "champion", "1.0.0", reason="first")
    moved = client.move_alias("tiny", "champion", "1.0.1", reason="better").move
    assert (moved.source, moved.target, moved.moved_by, moved.reason) == ("1.0.0", "1.0.1", "tester", "better")
    back = client.rollback("tiny", reason="worse").move
    assert (back.source, back.target) == ("1.0.1", "1.0.0")
    history = client.alias_history("tiny", "champion").items
    assert [(move.source, move.target, move.reason) for move in history] == [
        ("1.0.1", "1.0.0", "worse"),
        ("1.0.0", "1.0.1", "better"),
        (None, "1.0.0", "first"),
    ]


def test_the_history_of_one_alias_leaves_the_others_out(client, tmp_path):
    control.register(client, tmp_path, "1.0.0")
    client.move_alias("tiny", "champion", "1.0.0")
    client.move_alias("tiny", "challenger", "1.0.0")
    client.remove_alias("tiny", "challenger")
    first = client.alias_history("tiny", "challenger", limit=1)
    second = client.alias_history("tiny", "challenger", limit=1, cursor=first.next_cursor)
    assert [(move.alias, move.target) for move in (*first.items, *second.items)] == [
        ("challenger", None),
        ("challenger", "1.0.0"),
    ]
    assert second.next_cursor == ""


def test_the_history_of_a_model_has_its_aliases_and_its_stages(client, tmp_path):
    control.register(client, tmp_path, "1.0.0")
    client.transition("tiny:1.0.0", "staging", reason="reviewed")
    client.move_alias("tiny", "champion", "1.0.0", reason="first")
    newest = client.history("tiny", limit=2)
    oldest = client.history("tiny", cursor=newest.next_cursor)
    entries = [*newest.items, *oldest.items]
    assert [(entry.kind, entry.subject, entry.source, entry.target, entry.reason) for entry in entries] == [
        ("alias", "champion", None, "1.0.0", "first"),
        ("stage", "1.0.0", "registered", "staging", "reviewed"),
        ("stage", "1.0.0", None, "registered", ""),
    ]
    assert {(entry.model, entry.by) for entry in entries} == {("tiny", "tester")}
    assert [entry.seq for entry in entries] == sorted((entry.seq for entry in entries), reverse=True)
    with pytest.raises(errors.ModelNotFoundError):
        client.history("nothing")


def test_a_move_can_insist_on_where_the_alias_is(client, tmp_path):
    control.register(client, tmp_path, "1.0.0", "1.0.1")
    client.move_alias("tiny", "champion", "1.0.0")
    with pytest.raises(errors.AliasMovedError):
        client.move_alias("tiny", "champion", "1.0.1", expected="1.0.1")
    assert client.model("tiny").aliases == {"champion": "1.0.0"}


def test_an_alias_can_be_removed(client, tmp_path):
    control.register(client, tmp_path, "1.0.0")
    client.move_alias("tiny", "champion", "1.0.0")
    removed = client.remove_alias("tiny", "champion", reason="not needed").move
    assert (removed.source, removed.target) == ("1.0.0", None)
    assert client.model("tiny").aliases == {}
    with pytest.raises(errors.AliasNotFoundError):
        client.remove_alias("tiny", "champion")


def test_nothing_to_roll_back_to_is_a_conflict(client, tmp_path):
    control.register(client, tmp_path, "1.0.0")
    client.move_alias("tiny", "champion", "1.0.0")
    with pytest.raises(errors.NoPreviousVersionError):
        client.rollback("tiny")


def test_a_principal_with_odd_characters_is_cleaned(http, platform, client, tmp_path):
    control.register(client, tmp_path, "1.0.0")
    answer = http.put(
        "/api/v1/models/tiny/aliases/champion",
        json={"version": "1.0.0"},
        headers={"x-principal": "J%C3%BCrg%0Aroot"},
    )
    assert answer.json()["move"]["moved_by"] == "Jürgroot"
