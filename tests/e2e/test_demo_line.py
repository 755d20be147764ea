"""The whole line on a small made world: a TFX run, a server, plain clients with the same answers, and a second run from
the cache."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import grpc
import numpy as np
import pytest
import yaml

from pipeline.run_history import read_runs

ROOT = Path(__file__).parents[2]
SETTINGS = {
    "name": "tiny",
    "retrieval": {"embedding_dim": 8, "epochs": 3, "content_epochs": 0, "encoder": {"width": 8, "heads": 2}},
    "evaluation": {"min_gain_over_popularity": -1.0, "max_loss_to_last": 1.0},
    "ground_truth": "world/truth.npz",
}


def zhiyin(*words: str, cwd: Path) -> subprocess.CompletedProcess:
    environment = {"PYTHONPATH": str(ROOT), "TF_USE_LEGACY_KERAS": "1", "PATH": "/usr/bin:/bin", "HOME": str(cwd)}
    return subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *words],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


@pytest.fixture
def ask(line: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """`ask("similar", "--item", "i1")`: a command as `zhiyin` runs it, in this process: exit code, stdout, stderr.

    The commands that only ask a version share one load of it.
    """
    from pipeline import cli
    from serving.export import saved_model
    from serving.loaded import load_once

    monkeypatch.chdir(line)
    monkeypatch.setattr(saved_model, "load", load_once)

    def asked(*words: str) -> subprocess.CompletedProcess:
        code = cli.main([words[0], "--config", "tiny.yaml", *words[1:]])
        told = capsys.readouterr()
        return subprocess.CompletedProcess(words, code, told.out, told.err)

    return asked


def plain(array: np.ndarray) -> list:
    """An array as JSON takes it."""
    return np.char.decode(array.astype("S"), "utf-8").tolist() if array.dtype == object else array.tolist()


def ran(output: str) -> dict[str, bool]:
    """Stage -> whether it was answered from the cache."""
    stages = [text.split("] ")[1].split() for text in output.splitlines() if text.startswith("  [")]
    return {words[0]: words[1] == "cached" for words in stages}


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the line has run once, on a world of 40 items."""
    from pipeline.sources.demo.dataset import DemoConfig, write_demo

    folder = tmp_path_factory.mktemp("line")
    write_demo(folder / "world", DemoConfig(seed=1, num_items=40, num_people=60, num_events=1500))
    broken = next(path for path in sorted((folder / "world" / "media").iterdir()) if path.suffix == ".mp3")
    broken.write_bytes(b"")
    settings = SETTINGS | {
        "data": {
            "catalogue": {"path": "world/catalogue.csv"},
            "events": {"path": "world/events.csv"},
            "media_root": "world",
            "max_reject_share": 0.2,
        }
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump(settings))
    done = zhiyin("run", "--config", "tiny.yaml", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "first.txt").write_text(done.stdout)
    return folder


@pytest.mark.e2e
@pytest.mark.slow
class TestLine:
    def test_every_stage_says_what_it_did_and_the_last_line_where_the_result_is(self, line: Path) -> None:
        lines = (line / "first.txt").read_text().splitlines()
        assert sum(text.startswith("  [") for text in lines) == 24
        assert "rejects: empty_file 1" in (line / "first.txt").read_text()
        assert "linear on true traits" in (line / "first.txt").read_text()
        assert lines[-1].startswith("model in ") and "NDCG@10" in lines[-1]

    @pytest.mark.skipif(os.cpu_count() == 1, reason="one processor: nodes run one after the other")
    def test_nodes_that_do_not_wait_for_each_other_ran_side_by_side(self, line: Path) -> None:
        (first, *_) = read_runs(line / "runs" / "tiny")
        nodes = sorted(first.nodes.values(), key=lambda node: node.started_s)
        pairs = list(itertools.pairwise(nodes))
        assert any(later.started_s < node.started_s + node.seconds - 0.1 for node, later in pairs)
        assert all(node.processor_seconds is not None and node.peak_memory_bytes for node in nodes)

    def test_the_second_run_is_all_cache_hits(self, line: Path) -> None:
        done = zhiyin("run", "--config", "tiny.yaml", cwd=line)
        stages = ran(done.stdout)
        assert len(stages) == 24 and {name for name, cached in stages.items() if not cached} <= {"LastBlessedRanker"}, (
            done.stdout
        )

    def test_plain_clients_get_the_answers_of_the_model_in_process(self, line: Path) -> None:
        """C36, C38 to C40: known, unknown and empty-history users, batch and single, over gRPC with the stubs alone and
        REST with curl."""
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

        from components.config import DEFAULT_EVENTS
        from serving.export import saved_model
        from serving.model_server.config import ModelSettings, ServerConfig
        from serving.model_server.server import start

        base = line / "runs" / "tiny" / "serving" / "tiny"
        (version,) = (path for path in base.iterdir() if path.name.isdigit())
        users, history = ["u0001", "u0002", "nobody", ""], ["i0003", "i0007"]
        width = len(history)
        inputs = {
            "user_id": tf.constant(users),
            "history_ids": tf.constant([[""] * width] * 3 + [history]),
            "history_events": tf.fill([4, width], ""),
            "history_age_s": tf.zeros([4, width]),
            "exclude_ids": tf.fill([4, 1], "i0001"),
            "allow_ids": tf.fill([4, 1], ""),
            "domain": tf.fill([4], ""),
            "k": tf.fill([4], 5),
            "objective_weights": tf.zeros([4, len(DEFAULT_EVENTS)]),
            **{name: tf.zeros([4]) for name in ("diversity", "explore_share")},
            **{name: tf.zeros([4], tf.int32) for name in ("max_per_creator", "seed")},
            **{name: tf.zeros([4], tf.int64) for name in ("max_item_age_s", "time_s")},
        }
        expected = saved_model.load(str(version)).signatures["recommend"](**inputs)
        with start(ServerConfig(models=(ModelSettings("tiny", str(base)),), grpc_port=0, rest_port=0)) as server:
            for rows in (slice(0, 4), slice(0, 1), slice(2, 3), slice(3, 4)):
                request = predict_pb2.PredictRequest()
                request.model_spec.name, request.model_spec.signature_name = "tiny", "recommend"
                for name, value in inputs.items():
                    request.inputs[name].CopyFrom(tf.make_tensor_proto(value[rows]))
                with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
                    response = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=30)
                assert (
                    list(response.outputs["item_ids"].string_val) == expected["item_ids"].numpy()[rows].ravel().tolist()
                )
                np.testing.assert_allclose(
                    response.outputs["scores"].float_val, expected["scores"].numpy()[rows].ravel(), atol=1e-5
                )
            body = {name: plain(value.numpy()) for name, value in inputs.items()}
            answer = json.loads(self._curl(server.rest_port, {"signature_name": "recommend", "inputs": body}))[
                "outputs"
            ]
            assert [[item.encode() for item in row] for row in answer["item_ids"]] == expected[
                "item_ids"
            ].numpy().tolist()
            np.testing.assert_allclose(answer["scores"], expected["scores"].numpy(), atol=1e-5)
            assert answer["fallback"] == [False, False, True, False]
            refused = json.loads(
                self._curl(
                    server.rest_port, {"signature_name": "recommend_user", "instances": [{"user_id": "u", "k": 0}]}
                )
            )
            assert "k must be at least 1" in refused["error"]

    def _curl(self, port: int, body: dict) -> str:
        curl = shutil.which("curl") or pytest.skip("curl is not installed")
        url = f"http://127.0.0.1:{port}/v1/models/tiny:predict"
        return subprocess.run(
            [curl, "-s", "-d", "@-", url], input=json.dumps(body), capture_output=True, text=True, check=True
        ).stdout

    def test_bulk_and_single_answers_agree_and_a_stranger_is_told_so(self, line: Path, ask) -> None:
        done = zhiyin(
            "recommend", "--config", "tiny.yaml", "--all-users", "--k", "3", "--output", "lists.csv", cwd=line
        )
        assert done.returncode == 0, done.stderr
        rows = [text.split(",") for text in (line / "lists.csv").read_text().splitlines()]
        assert rows[0] == ["user_id", "rank", "item_id", "score"]
        user = rows[1][0]
        single = ask("recommend", "--user", user, "--k", "3").stdout
        assert [text.split()[2] for text in single.splitlines()] == [row[2] for row in rows[1:4]]
        assert "nothing is known of 'nobody'" in ask("recommend", "--user", "nobody").stdout

    def test_a_score_is_told_by_the_history_and_by_what_is_known_of_the_item(self, ask) -> None:
        """Both add up to the score that is printed: to 1e-4, and in print to the rounding of the lines."""
        from pipeline import attribution
        from pipeline import config as configuration
        from pipeline.local_model import CurrentModel

        config = configuration.load(Path("tiny.yaml"))
        model = CurrentModel(config)
        score = float(model.explain("u0001", "i0003")["score"][0])
        names, parts = attribution.score_parts(model, "i0003", model.query("u0001"), score)
        assert {"listeners", "text", "shared"} <= set(names) and abs(parts.sum() - score) < 1e-4

        done = ask("explain", "--user", "u0001", "--item", "i0003", "--top", "3")
        assert done.returncode == 0, done.stderr
        told = {}
        for block in done.stdout.strip().split("\n\n"):
            head, *lines = block.splitlines()
            if lines:
                told[head.split(":")[0]] = (float(head.split(":")[1]), sum(float(text.split()[0]) for text in lines))
        assert (
            told["similarity to the taste"][0]
            == told["the same by what is known of the item"][0]
            == pytest.approx(score, abs=1e-4)
        )
        assert all(abs(total - by_lines) < 1e-3 for total, by_lines in told.values())

    def test_similar_names_an_unknown_item(self, ask) -> None:
        assert len(ask("similar", "--item", "i0003", "--k", "4").stdout.splitlines()) == 5
        unknown = ask("similar", "--item", "nope")
        assert unknown.returncode == 2 and "no item 'nope'" in unknown.stderr

    def test_a_changed_medium_reruns_what_depends_on_it_and_nothing_else(self, line: Path) -> None:
        medium = next(path for path in sorted((line / "world" / "media").iterdir()) if path.suffix == ".wav")
        content = medium.read_bytes()
        medium.write_bytes(content[: len(content) // 2])
        done = zhiyin("run", "--config", "tiny.yaml", cwd=line)
        assert done.returncode == 0, done.stderr
        stages = ran(done.stdout)
        assert {name for name, cached in stages.items() if not cached} >= {
            "MediaFeatures",
            "ItemTransform",
            "RetrievalTrainer",
            "Recommender",
        }
        assert {name for name, cached in stages.items() if cached} >= {
            "CatalogGen",
            "EventGen",
            "DataGate",
            "Interactions",
        }

    def test_a_failed_run_exits_with_1_stage_and_cause(self, line: Path) -> None:
        settings = yaml.safe_load((line / "tiny.yaml").read_text())
        (line / "broken.csv").write_text("user;item\n1;2\n")
        settings["data"]["events"] = {"path": "broken.csv"}
        (line / "broken.yaml").write_text(yaml.safe_dump(settings | {"name": "broken"}))
        done = zhiyin("run", "--config", "broken.yaml", cwd=line)
        assert done.returncode == 1
        assert (
            done.stderr.strip().splitlines()[-1].startswith("zhiyin: EventGen failed:") and "broken.csv" in done.stderr
        )
        assert not (line / "runs" / "broken" / "serving").exists()
