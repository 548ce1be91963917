"""Experiments leave as Parquet: as events, or as a log of decisions on which other policies are judged."""

import asyncio
import json

import pytest
from click.testing import CliRunner

from crossfade.cli.main import main
from crossfade.client import AsyncClient, Client
from crossfade.errors import ExperimentConflictError, ExperimentNotFoundError
from crossfade.experiments.judging import Judge
from crossfade.experiments.spec import ExperimentSpec, Variant
from crossfade.ledger import export as module
from crossfade.ledger.decisions import export_decisions
from crossfade.ledger.store import add_exposures, add_outcomes
from crossfade.platform import open_platform
from crossfade.settings import Settings
from crossfade.web.app import create_app
from crossfade.web.inprocess import InProcessTransport
from tests.experiments.bandits import spec
from tests.ledger.durability.streams import an_exposure, an_outcome

parquet = pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def filled(casino):
    """Twenty decisions by two variants; `new` earns 2, `old` nothing, and one decision earns twice."""
    made = [
        an_exposure(
            number,
            variant=("old", "new")[number % 2],
            propensity=(0.25, 0.75)[number % 2],
            dimensions={"country": "DE", "reward": "gold"},
            context={"x": float(number)},
        )
        for number in range(20)
    ]
    earned = [an_outcome(f"d{each.id}", name="click", decision=each.id, value=2.0) for each in made[1::2]]
    earned.append(an_outcome("again", name="click", decision=made[1].id, value=1.0))
    earned.append(an_outcome("elsewhere", name="other", decision=made[0].id, value=9.0))
    with casino.database.write() as connection:
        add_exposures(connection, [*made, an_exposure(99, experiment="another")])
        add_outcomes(connection, earned)
    return casino.database


@pytest.mark.parametrize("rows", [1, 7, 10_000])
def test_decisions_come_with_what_they_earned(filled, tmp_path, monkeypatch, rows):
    monkeypatch.setattr(module, "ROWS", rows)
    target = tmp_path / "log.parquet"
    names = ("country", "reward", "planet")
    exported = export_decisions(filled, "late", target, reward="click", dimensions=names, features=("x", "y"))
    assert (exported.exposures, exported.outcomes, exported.incomplete) == (20, 11, ())
    table = sorted(parquet.read_table(target).to_pylist(), key=lambda row: row["x"])
    assert [row["action"] for row in table] == ["old", "new"] * 10
    assert [row["propensity"] for row in table] == [0.25, 0.75] * 10
    assert [row["reward"] for row in table] == [0.0, 3.0] + [0.0, 2.0] * 9
    assert [row["x"] for row in table] == [float(number) for number in range(20)]
    assert {(row["country"], row["context.reward"], row["planet"], row["y"]) for row in table} == {
        ("DE", "gold", None, None)
    }


def test_nothing_is_an_empty_table(casino, tmp_path):
    exported = export_decisions(casino.database, "nobody", tmp_path / "x.parquet", reward="click")
    assert exported.exposures == 0
    assert parquet.read_table(tmp_path / "x.parquet").num_rows == 0


def test_the_judge_exports_only_what_there_is(casino, tmp_path):
    judge = Judge(casino.store, casino.database, None, casino.clock)
    with pytest.raises(ExperimentNotFoundError):
        judge.export("nobody", tmp_path / "x.parquet")
    casino.begin(spec())
    casino.wait(10)
    casino.play("a", 3, 7)
    assert judge.export("coins", tmp_path / "events.parquet").exposures == 10
    assert parquet.read_table(tmp_path / "events.parquet").num_rows == 13
    judge.export("coins", tmp_path / "log.parquet", reward="click")
    rewards = parquet.read_table(tmp_path / "log.parquet").column("reward").to_pylist()
    assert sorted(rewards) == [0.0] * 7 + [1.0] * 3


def test_a_log_that_would_be_wrong_is_refused(casino, tmp_path):
    casino.begin(spec())
    played = casino.play("a", 3, 7)
    judge = Judge(casino.store, casino.database, None)
    target = tmp_path / "log.parquet"
    with pytest.raises(ExperimentConflictError, match="has no outcome `clicks` to be the reward"):
        judge.export("coins", target, reward="clicks")
    with casino.database.write() as connection:
        add_outcomes(connection, [an_outcome("huge", name="click", decision=played[9].id, value=1e300)])
    judge.export("coins", target, reward="click")
    assert sorted(parquet.read_table(target).column("reward").to_pylist()) == [0.0] * 7 + [1.0] * 3
    with casino.database.write() as connection:
        add_outcomes(connection, [an_outcome("o", name="click", decision="", experiment="coins", unit="u")])
    with pytest.raises(ExperimentConflictError, match="1 outcomes `click` that were reported by unit"):
        judge.export("coins", target, reward="click")


@pytest.fixture
def platform(tmp_path):
    with open_platform(Settings(home=tmp_path / "home")) as platform:
        both = (Variant("old", 0.5), Variant("new", 0.5))
        platform.experiments.create(ExperimentSpec("late", both, dimensions=("country",)))
        made = [an_exposure(n, variant=("old", "new")[n % 2], propensity=0.5) for n in range(400)]
        earned = [an_outcome(f"o{n}", name="click", decision=each.id) for n, each in enumerate(made) if n % 4 == 1]
        with platform.database.write() as connection:
            add_exposures(connection, made)
            add_outcomes(connection, earned)
        yield platform


def test_every_surface_gives_the_same_file(platform, tmp_path):
    transport = InProcessTransport(create_app(platform))
    with Client("http://localhost", transport=transport) as client:
        target = client.export_experiment("late", tmp_path / "a.parquet")
        assert parquet.read_table(target).num_rows == 500
        body = client.experiment_events("late", reward="click")
        client.export_experiment("late", tmp_path / "b.parquet", reward="click")
        assert (tmp_path / "b.parquet").read_bytes() == body
        with pytest.raises(ExperimentNotFoundError):
            client.export_experiment("nobody", tmp_path / "c.parquet")
    assert not list(tmp_path.glob(".*"))
    assert not (tmp_path / "c.parquet").exists()


def test_a_policy_is_judged_by_an_exported_log(platform, tmp_path, monkeypatch):
    monkeypatch.setenv("CROSSFADE_HOME", str(tmp_path / "home"))
    target = str(tmp_path / "log.parquet")
    runner = CliRunner()
    done = runner.invoke(main, ["experiments", "export", "late", "--to", target, "--reward", "click"])
    assert done.exit_code == 0, done.output
    assert "evaluate-policy" in done.stderr
    arguments = ["experiments", "evaluate-policy", target, "--weights", "old=0,new=1", "--format", "json"]
    judged = runner.invoke(main, arguments)
    assert judged.exit_code == 0, judged.output
    values = json.loads(judged.stdout)["values"]
    assert {name: values[name]["value"] for name in ("ips", "snips")} == pytest.approx({"ips": 0.5, "snips": 0.5})


def test_the_asynchronous_client_exports_too(platform, tmp_path):
    import httpx

    async def export():
        transport = httpx.ASGITransport(create_app(platform))
        async with AsyncClient("http://localhost", transport=transport) as client:
            return await client.export_experiment("late", tmp_path / "a.parquet", reward="click")

    target = asyncio.run(export())
    assert parquet.read_table(target).num_rows == 400
