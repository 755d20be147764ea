"""Peers without a budget: trained until validation stops rising, then for the epochs that were best."""

import dataclasses
import functools
import json

import numpy as np
import pytest
import scipy.sparse as sp

from benchmarks import convergence
from benchmarks.goals import judged
from benchmarks.quality import bench, neural
from benchmarks.quality.methods import Scored
from benchmarks.quality.splits import Split, Stage
from benchmarks.quality.workers.shared import stopping

NUM_USERS, NUM_ITEMS = 4, 30


class Network:
    """A model whose only weight is how well it ranks."""

    def __init__(self):
        self.place = np.array([20.0])

    def state_dict(self):
        return {"place": Copied(self.place)}

    def load_state_dict(self, state):
        self.place = state["place"].array


class Copied:
    def __init__(self, array):
        self.array = array

    def clone(self):
        return Copied(self.array.copy())


@pytest.mark.parametrize("best", [3, 60])
def test_training_goes_on_until_validation_has_long_been_best(monkeypatch, best):
    """The item that is sought climbs until the best epoch and falls after it; an epoch takes a second."""
    clock, network, epochs = [0.0], Network(), []
    sought = sp.csr_matrix(np.eye(1, NUM_ITEMS))

    def run_epoch(epoch):
        clock[0] += 1
        epochs.append(epoch)
        network.place = np.array([20 * abs(epoch + 1 - best) / best])

    def scores():
        return np.where(np.arange(NUM_ITEMS) == 0, 0.0, network.place - np.arange(NUM_ITEMS))[None]

    monkeypatch.setattr(stopping.time, "process_time", lambda: clock[0])
    report = stopping.train(network, run_epoch, scores, sp.csr_matrix((1, NUM_ITEMS)), sought, "NDCG@30", None)
    found, looked = report["found"]["epochs"], [look[1] for look in report["trace"]]
    assert abs(found - best) <= 1 + 0.04 * best and network.place == 20 * abs(found - best) / best
    assert looked[:20] == [*range(1, 21)][: len(looked)] and max(np.diff(looked)) <= max(1, round(0.05 * looked[-1]))
    assert max(found + 12, 1.5 * best) <= len(epochs) < 2 * best + 14


@pytest.fixture
def split():
    rng = np.random.default_rng(0)
    train, truth, watch = (sp.csr_matrix(rng.random((NUM_USERS, NUM_ITEMS)) < 0.2, dtype=np.float32) for _ in range(3))
    truth, watch = (sp.csr_matrix(part - part.multiply(train)) for part in (truth, watch))
    stage = Stage(train, train, train, truth, np.ones(NUM_ITEMS, bool), watch=watch)
    return Split("LFM", stage, stage, ("R@20", "NDCG@20"))


def score(calls, stage, settings, seed):
    """Notes what it is given, and finds seven epochs where it may look."""
    calls.append((stage.watch is not None, dict(settings), seed))
    return Scored(
        np.asarray(stage.truth.todense(), np.float32),
        found={} if "epochs" in settings else {"epochs": 7},
        trace=[] if "epochs" in settings else [(1.0, 1, 0.1), (7.0, 7, 0.4), (9.0, 9, 0.3)],
    )


def test_a_peer_is_fitted_once_without_a_budget_and_thrice_for_the_epochs_that_it_found(split, tmp_path, monkeypatch):
    calls, peers = [], neural.neural_peers(split)
    monkeypatch.setattr(bench, "KEPT", tmp_path)
    monkeypatch.setattr(bench, "in_own_process", lambda function, *arguments: function(*arguments))
    monkeypatch.setattr(neural.Contender, "prepare", lambda self: None)
    monkeypatch.setattr(neural, "score_neural", functools.partial(score, calls))
    monkeypatch.setattr(neural, "neural_peers", lambda split: [with_score(peer, calls) for peer in peers])
    chosen = {peers[0].name: {"learning_rate": 0.1, "epochs": 3}}
    stored = tmp_path / "quality.json"
    rows = [{"case": "LFM", "contender": name, "metric": "R@20", "value": 0.1, "settings": [settings]}
            for name, settings in chosen.items()]  # fmt: skip
    ours = {"case": "LFM", "contender": "ours", "metric": "R@20", "value": 0.5, "low": 0.4, "high": 0.6, "runs": 3}
    stored.write_text(json.dumps({"commit": "abc", "rows": [*rows, ours]}))
    monkeypatch.setattr("benchmarks.quality.stored.RESULT", stored)
    monkeypatch.setattr(bench, "CASES", {"LFM": lambda folder: [split]})
    rows = convergence.run(tmp_path, ["LFM"])
    assert calls == [
        (True, {"learning_rate": 0.1, "budget_s": None}, 0),
        *((False, {"learning_rate": 0.1, "epochs": 7}, seed) for seed in range(3)),
    ]
    name = f"{peers[0].name[:-1]}, to the end)"
    told = {row["metric"]: row for row in rows if row["contender"] == name}
    assert told["epochs"]["value"] == 7 and told["cpu_seconds_to_the_end"]["value"] == 9
    assert told["R@20"]["curve"][1] == [7, 7, 0.4] and told["R@20"]["runs"] == 3
    goals = [goal for goal in convergence.GOALS if goal["case"] == "LFM"]
    judgements = {goal["of"]: judgement for goal, judgement in zip(goals, judged(goals, rows))}
    assert judgements["BPR"].is_met is False and judgements["BPR"].bound.endswith(name)
    assert judgements["LightGCN"].verdict == "peer not run"
    convergence.draw(rows, tmp_path / "curves.svg")
    assert "LFM: R@20 on validation" in (tmp_path / "curves.svg").read_text()


def with_score(peer, calls):
    return dataclasses.replace(peer, score=functools.partial(score, calls))
