"""The quality benchmark's contenders on data with an obvious answer, its choice of settings, its rows and its
memory."""

import dataclasses
import json
import time

import numpy as np
import pytest
import scipy.sparse as sp

from benchmarks import quality
from benchmarks.quality import bench, environments, methods, neural
from benchmarks.quality.methods import TRIALS, Contender, Scored, peers_for
from benchmarks.quality.splits import Split, Stage, matrix
from components.settings import SettingsError

NUM_USERS, NUM_ITEMS = 24, 16


@pytest.fixture(autouse=True)
def here(monkeypatch):
    """Contenders run in this process: a fresh one cannot always import the test module that defines them."""

    monkeypatch.setattr(bench, "in_own_process", lambda function, *arguments: function(*arguments))


def checkerboard(missing):
    """Even people took all even items but one, odd people the odd ones; what is missing is to be found."""
    users, items = np.array(
        [(user, item) for user in range(NUM_USERS) for item in range(NUM_ITEMS) if (user + item) % 2 == 0]
    ).T
    sought = items // 2 == (users + missing) % (NUM_ITEMS // 2)
    shape = (NUM_USERS, NUM_ITEMS)
    train, truth = matrix(users[~sought], items[~sought], shape), matrix(users[sought], items[sought], shape)
    return Stage(train, train, train, truth, np.ones(NUM_ITEMS, bool))


@pytest.fixture
def split():
    parity = np.stack([np.arange(NUM_ITEMS) % 2, 1 - np.arange(NUM_ITEMS) % 2], axis=1) + 0.01
    tags = tuple((("odd", "even")[1 - item % 2],) for item in range(NUM_ITEMS))
    return Split("checkerboard", checkerboard(0), checkerboard(1), ("R@1", "NDCG@1"), {"parity": parity}, tags)


@pytest.mark.parametrize("name", ["ItemKNN", "EASE", "parity KNN", "all content KNN", "tag TF-IDF KNN"])
def test_contenders_find_the_missing_square(split, name):
    (contender,) = [peer for peer in peers_for(split) if peer.name == name]
    settings = contender.trials()[0] | ({"centred": True, "neighbours": 0} if "centred" in contender.grid else {})
    scored = contender.score(split.test, settings, 0)
    assert bench.per_user(split, split.test, scored.scores)["R@1"].mean() == 1.0


def test_ease_is_the_solution_of_its_own_equations(split):
    """With the diagonal held at zero, the gradient G B + ridge B - G vanishes off the diagonal."""
    stage, ridge = split.test, 5
    unit_histories = dataclasses.replace(
        stage,
        train=sp.csr_matrix(
            np.vstack([stage.train.toarray()[:NUM_ITEMS], np.zeros((NUM_USERS - NUM_ITEMS, NUM_ITEMS))])
        ),
        history=sp.csr_matrix(np.eye(NUM_USERS, NUM_ITEMS)),
        truth=sp.csr_matrix((NUM_USERS, NUM_ITEMS)),
    )
    weights = methods.score_ease(unit_histories, {"ridge": ridge}, 0).scores[:NUM_ITEMS]
    gram = (unit_histories.train.T @ unit_histories.train).toarray()
    gradient = gram @ weights + ridge * weights - gram
    assert np.allclose(np.diag(weights), 0)
    assert np.allclose(gradient[~np.eye(NUM_ITEMS, dtype=bool)], 0, atol=1e-4)


def test_content_knn_by_hand():
    """Two train items and two new ones; the person knows item 0 only."""
    content = np.array([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6], [0.6, 0.8]])
    train = matrix(np.array([0, 1]), np.array([0, 1]), (2, 4))
    stage = Stage(train, train, sp.csr_matrix((2, 4)), sp.csr_matrix((2, 4)), np.array([False, False, True, True]))
    everything = methods.score_content_knn(content, stage, {"centred": False, "neighbours": 0}, 0).scores
    assert np.allclose(everything[0], [0.0, 0.0, 0.8, 0.6])
    nearest = methods.score_content_knn(content, stage, {"centred": False, "neighbours": 1}, 0).scores
    assert np.allclose(nearest[0], [0.0, 0.0, 0.8, 0.0]), "item 3's nearest train item is item 1"


def test_cold_cases_have_no_contender_that_knows_ids_alone(split):
    cold = np.zeros(NUM_ITEMS, bool)
    cold[:4] = True
    train, truth = (
        sp.csr_matrix(table.toarray() * keep) for table, keep in ((split.test.train, ~cold), (split.test.truth, cold))
    )
    stage = Stage(train, train, sp.csr_matrix(train.shape), truth, cold)
    names = [contender.name for contender in peers_for(dataclasses.replace(split, test=stage))]
    assert names == ["random", "parity KNN", "all content KNN", "tag TF-IDF KNN"]


def test_everybody_may_try_as_many_settings(split):
    for contender in peers_for(split):
        trials = contender.trials()
        assert 1 <= len(trials) <= TRIALS
        assert len({json.dumps(settings, sort_keys=True) for settings in trials}) == len(trials)


def score_by_knob(stage, settings, seed):
    """Right where the knob is 3."""
    return Scored(
        np.asarray((stage.truth if settings["knob"] == 3 else -stage.truth).todense(), np.float32), parameters=7
    )


def score_by_seed(stage, settings, seed):
    """Right where the seed is even."""
    return Scored(np.asarray((stage.truth if seed % 2 == 0 else -stage.truth).todense(), np.float32))


def test_settings_are_chosen_on_validation_and_kept(split, tmp_path, monkeypatch):
    contender = Contender("knob", score_by_knob, {"knob": (1, 2, 3, 4)})
    settings, found = bench.choose(split, contender)
    assert settings == {"knob": 3}
    ((spent, epoch, quality),) = found["trace"]
    assert (epoch, quality) == (0, 1)
    assert spent >= 0
    monkeypatch.setattr(bench, "KEPT", tmp_path)
    outcome = bench.run_contender([(split, contender)])
    assert outcome.values["R@1"].tolist() == [1.0] * NUM_USERS
    assert outcome.settings == [{"knob": 3}]
    assert outcome.costs["parameters"] == 7
    assert outcome.costs["peak_mb"] > 10

    monkeypatch.setattr(bench, "in_own_process", lambda *run: pytest.fail("was kept"))
    again = bench.run_contender([(split, contender)])
    assert np.array_equal(again.values["NDCG@1"], outcome.values["NDCG@1"])
    assert (again.costs, again.runs, again.commit) == (outcome.costs, 1, outcome.commit)
    assert outcome.users.tolist() == [*range(NUM_USERS)] and outcome.sought.tolist() == [1.0] * NUM_USERS
    nothing, later = sp.csr_matrix(split.test.hidden.shape), split.test.train * 2.0
    others = [
        dataclasses.replace(split, test=dataclasses.replace(split.test, **changed))
        for changed in ({"hidden": nothing}, {"watch": nothing}, {"times_s": split.test.train}, {"times_s": later})
    ]
    keys = [bench._key(other, contender) for other in (split, *others, dataclasses.replace(split, tags=()))]
    assert len(set(keys)) == len(keys), "other data, another key"


def test_a_run_that_was_cut_off_goes_on_with_what_is_missing(split, tmp_path, monkeypatch):
    """The second of three runs dies: the next call repeats neither the choice of settings nor the first run."""
    monkeypatch.setattr(bench, "KEPT", tmp_path)
    contender, done = Contender("chance", score_by_seed, {"knob": (1, 2)}, runs=3), []

    def dies(function, *arguments):
        if arguments[-1] == 1:  # the seed of the second test run
            raise KeyboardInterrupt
        return function(*arguments)

    monkeypatch.setattr(bench, "in_own_process", dies)
    with pytest.raises(KeyboardInterrupt):
        bench.run_contender([(split, contender)])
    monkeypatch.setattr(bench, "in_own_process", lambda function, *run: done.append(run[-1]) or function(*run))
    assert bench.run_contender([(split, contender)]).runs == 3
    assert done == [1, 2]


def score_with_cost(stage, settings, seed):
    """Costs 50 processor seconds."""
    clock[0] += 50
    return Scored(np.asarray(stage.truth.todense(), np.float32) * settings["knob"])


clock = [0.0]


def test_no_setting_is_started_once_the_budget_is_spent(split, monkeypatch):
    """120 seconds at 50 a setting: the third starts at 100, the fourth would at 150."""
    monkeypatch.setattr(bench, "_cpu_s", lambda: clock[0])
    monkeypatch.setattr(methods, "BUDGET_ELSEWHERE_S", 120.0)
    tried = bench._tried(split, Contender("slow", score_with_cost, {"knob": tuple(range(1, 9))}))
    assert len(tried) == 3


def test_a_fit_that_stops_itself_is_told_what_is_left(split, monkeypatch):
    told = []

    def score(stage, settings, seed):
        told.append(settings["budget_s"])
        clock[0] += 30
        return Scored(np.asarray(stage.truth.todense(), np.float32), found={"epochs": 1})

    monkeypatch.setattr(bench, "_cpu_s", lambda: clock[0])
    monkeypatch.setattr(methods, "BUDGET_ELSEWHERE_S", 50.0)
    bench._tried(split, Contender("stopping", score, {"knob": (1, 2, 3)}, stops_early=True))
    assert told == pytest.approx([50, 20])


def test_what_validation_found_is_used_in_the_test(split, tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "KEPT", tmp_path)
    contender = Contender("epochs", score_with_epochs, stops_early=True)
    assert bench.run_contender([(split, contender)]).settings == [{"epochs": 4}]


def score_with_epochs(stage, settings, seed):
    """Finds that four epochs are best."""
    return Scored(np.asarray(stage.truth.todense(), np.float32), found={"epochs": settings.get("epochs", 4)})


def test_runs_by_chance_have_a_mean_and_a_spread(split, tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "KEPT", tmp_path)
    outcome = bench.run_contender([(split, Contender("chance", score_by_seed, runs=3))])
    assert outcome.runs == 3
    assert outcome.values["R@1"] == pytest.approx(np.full(NUM_USERS, 2 / 3))
    assert outcome.spread["R@1"] == pytest.approx(np.std([1, 0, 1]))


def test_accuracy_weighs_users_by_their_pairs(split):
    """One user has three pairs of which one is found, another has one that is found: 2 of 4, not the mean of 1/3 and
    1."""
    truth = sp.csr_matrix(([1.0] * 4, ([0, 0, 0, 1], [0, 1, 2, 3])), (2, 6))
    nothing = sp.csr_matrix((2, 6))
    stage = Stage(nothing, nothing, nothing, truth, np.ones(6, bool))
    scores = np.array([[9, 0, 0, 5, 4, 3], [0, 0, 0, 9, 1, 1]], np.float32)
    assert bench.per_user(dataclasses.replace(split, metrics=("accuracy@1",)), stage, scores)[
        "accuracy@1"
    ].mean() == pytest.approx(0.5)


def score_in_environment(stage, settings, seed):
    """As a peer with an environment of its own does."""
    environments.ensure("ials")
    return score_by_knob(stage, settings, seed)


def test_what_an_environment_costs_to_make_is_nobodys(split, monkeypatch):
    """It burns a third of a second on first use; a fit, and the choice of settings, next to nothing."""
    made = []

    def ensure(name):
        until = time.process_time() + (0 if made else 0.3)
        while time.process_time() < until:
            pass
        made.append(name)

    monkeypatch.setattr(environments, "ensure", ensure)
    contender = Contender("knob", score_in_environment, {"knob": (1, 3)}, environment="ials")
    _, costs = bench.timed(contender, split.test, {"knob": 3}, 0)
    assert costs["cpu_seconds"] < 0.2 and costs["seconds"] < 0.25
    made.clear()
    assert all(trace[-1, 0] < 0.2 for _, _, trace in bench._tried(split, contender))


def test_peers_with_environments_name_them(split):
    for contender in (*peers_for(split), *neural.neural_peers(split)):
        assert bool(contender.environment) == any(
            name in contender.name for name in ("implicit", "RecBole", "RecTools")
        )


def test_a_choice_on_the_edge_of_its_grid_is_told(split, capsys):
    bench.choose(split, Contender("inside", score_by_knob, {"knob": (1, 3, 4)}))
    assert "edge" not in capsys.readouterr().out
    bench.choose(split, Contender("outside", score_by_knob, {"knob": (1, 2, 3)}))
    assert "checkerboard: outside: knob 3 lies on the edge of its grid" in capsys.readouterr().out
    contender = Contender(
        "x", score_by_knob, {"knob": (3,), "centred": (False, True), "pair": ((1, 2), (3, 4), (5, 6))}
    )
    assert contender.edges({"knob": 3, "centred": True, "pair": (3, 4)}) == []
    assert contender.edges({"knob": 3, "centred": True, "pair": (5, 6)}) == ["pair"]


def test_a_part_that_was_kept_in_another_shape_is_not_used(split, monkeypatch):
    contender = Contender("knob", score_by_knob, {"knob": (1, 3)})
    key = bench._key(split, contender)
    monkeypatch.setattr(bench, "KEPT_AS", bench.KEPT_AS + 1)
    assert bench._key(split, contender) != key


def test_without_data_the_command_says_what_to_get():
    with pytest.raises(SettingsError, match="--data-dir: got None, expected a folder with ml1m/"):
        quality.run(None)


def test_every_requirement_of_a_peer_is_pinned():
    for path in (environments.HERE / "requirements").glob("*.txt"):
        assert all("==" in line for line in path.read_text().splitlines()), path
    for worker in (environments.HERE / "workers").glob("*.py"):
        assert (environments.HERE / "requirements" / f"{worker.stem}.txt").is_file()


def test_a_failing_worker_is_an_error_with_its_last_words(tmp_path, split, monkeypatch):
    worker = tmp_path / "workers"
    worker.mkdir()
    (worker / "broken.py").write_text("raise SystemExit('no such matrix')")
    monkeypatch.setattr(environments, "HERE", tmp_path)
    monkeypatch.setattr(environments, "ensure", lambda name: environments.sys.executable)
    with pytest.raises(RuntimeError, match="worker broken failed: no such matrix"):
        environments.score_in("broken", split.test, {}, 0)
