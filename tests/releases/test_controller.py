"""A rollout from its beginning to each of its ends, on a clock of its own."""

from crossfade.releases.rollout import RolloutStatus


def test_a_good_version_gets_everything_step_by_step(stage):
    rollout = stage.begin()
    assert (rollout.status, rollout.weight, rollout.name) == (RolloutStatus.PREPARING, 0.0, "m-1")
    weights = []
    while rollout.active:
        rollout = stage.second(old=90, new=10)
        weights.append(rollout.weight)
    assert rollout.status is RolloutStatus.COMPLETED
    assert sorted(set(weights)) == [0.1, 0.5, 1.0]
    assert weights == sorted(weights)
    assert stage.champion == "1.0.1"
    kinds = [each.kind for each in stage.store.history("m")]
    assert kinds == ["step", "step", "step", "complete"]
    assert stage.told[-1] == ("completed", 2)


def test_a_bad_version_loses_its_traffic_at_once_and_says_why(stage):
    stage.begin()
    rollout = stage.reach("rolled_back", old=90, new=10, old_bad=1, new_bad=5)
    assert rollout.weight == 0.0
    assert rollout.latched
    assert "check `errors` failed" in rollout.reason
    assert "of 1.0.1 failed or were refused" in rollout.reason
    assert stage.champion == "1.0.0"
    assert [each.kind for each in stage.store.history("m")].count("rollback") == 1
