"""The nodes from vectors to push, called as TFX calls them, on a world with an obvious right answer."""

import dataclasses
import json
import shutil
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
import tensorflow as tf
from tfx.components.util import model_utils
from tfx.proto import pusher_pb2
from tfx.types import standard_artifacts
from tfx.utils import proto_utils

import zhiyin_artifacts
from components.config import DataConfig, TableConfig
from components.settings import SettingsError, to_json
from pipeline.nodes.item_index import ItemIndex
from pipeline.nodes.model_pusher import ModelPusherExecutor, next_version
from pipeline.nodes.recommender import Recommender, RecommenderSettings
from pipeline.nodes.retrieval_evaluator import RetrievalEvaluator
from serving.config import EvaluationConfig, IndexConfig, ServingConfig
from serving.export import saved_model
from serving.index import load_views
from serving.offline.blessing import ComparisonError, LastBlessed, mark_gone, read_last
from serving.offline.build_index import RecallError
from tests.serving import tiny, world
from trainer.config.ranking import RankingConfig

DATA = DataConfig(TableConfig(""), TableConfig(""), history_length=5)
SERVING = ServingConfig(IndexConfig(kind="scann", candidates=10))
EVALUATION = EvaluationConfig(
    cutoffs=(2, 5, 10), metric="NDCG@10", min_gain_over_popularity=0.0, max_loss_to_last=0.01, active_from=8
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    return {
        "items": world.items(folder / "items"),
        "transformed": world.transformed(folder / "transformed"),
        "sequences": world.sequences(folder / "sequences"),
        "good": world.save_model(world.GoodModel(), folder / "good"),
        "bad": world.save_model(world.BadModel(), folder / "bad"),
    }


def run_index(data, folder, model, serving=SERVING):
    index = world.artifact(zhiyin_artifacts.ItemIndex, folder)
    ItemIndex.test_call(
        model=model,
        items=data["transformed"],
        sequences=data["sequences"],
        index=index,
        serving=to_json(serving),
        history_length=5,
        code="",
        beam_pipeline=beam.Pipeline(),
    )
    return index


@pytest.fixture(scope="module")
def index(data, tmp_path_factory):
    return run_index(data, tmp_path_factory.mktemp("index"), data["good"])


@pytest.fixture(scope="module")
def bad_index(data, tmp_path_factory):
    return run_index(data, tmp_path_factory.mktemp("bad_index"), data["bad"])


class TestItemIndex:
    def test_every_item_is_there_in_order_with_its_own_vector(self, index):
        """C10: the four items that nobody took too."""
        assert json.loads(Path(index.uri, "item_ids.json").read_text("utf-8")) == world.ITEM_IDS
        numbers = world.content()
        np.testing.assert_allclose(
            np.load(Path(index.uri, "vectors.npy")), numbers / np.linalg.norm(numbers, axis=1, keepdims=True), atol=1e-6
        )

    def test_what_an_item_is_by_content_and_by_behaviour_alone_stands_beside(self, index):
        numbers = world.content()
        vectors = numbers / np.linalg.norm(numbers, axis=1, keepdims=True)
        views = load_views(index.uri)
        np.testing.assert_allclose(views["content"], vectors[:, ::-1], atol=1e-6)
        assert not views["behaviour"][list(world.COLD)].any()
        np.testing.assert_allclose(views["behaviour"][:36], -vectors[:36], atol=1e-6)

    def test_report(self, index):
        """C34."""
        report = json.loads(Path(index.uri, "report.json").read_text())
        assert report["kind"] == "scann" and report["queries"] == world.NUM_USERS - 2
        assert report["recall"]["10"] >= 0.95 and index.get_float_custom_property("recall_10") == report["recall"]["10"]
        assert sorted(path.name for path in Path(index.uri).iterdir()) == [
            "behaviour.npy",
            "content.npy",
            "item_ids.json",
            "report.json",
            "scann",
            "vectors.npy",
        ]

    def test_below_the_limit_nothing_is_written(self, data, tmp_path):
        """C34: a ScaNN that looks into one of six leaves finds too little."""
        config = ServingConfig(IndexConfig(kind="scann", candidates=30, leaves_to_search=1, min_recall=0.95))
        with pytest.raises(RecallError, match=r"recall@10 is 0\.\d+ on 22 user vectors, below the limit of 0.95"):
            run_index(data, tmp_path, data["good"], config)
        assert not Path(tmp_path, "report.json").exists()

    def test_a_vector_that_is_not_finite_is_named(self, data, tmp_path):
        with pytest.raises(ValueError, match=f"1 item vectors are not finite: '{world.ITEM_IDS[3]}'"):
            run_index(data, tmp_path / "index", world.save_model(world.BrokenModel(), tmp_path / "broken"))


def evaluate(data, folder, model, index, sequences=None, evaluation=EVALUATION):
    """Returns the blessing and the report. The memory of the last blessed model is `folder`/blessed."""
    runs = len(list(Path(folder).glob("evaluation*")))
    made = world.artifact(standard_artifacts.ModelEvaluation, Path(folder, f"evaluation{runs}"))
    blessing = world.artifact(standard_artifacts.ModelBlessing, Path(folder, f"blessing{runs}"))
    RetrievalEvaluator.test_call(
        model=model,
        index=index,
        items=data["items"],
        sequences=sequences or data["sequences"],
        evaluation=made,
        blessing=blessing,
        settings=to_json(evaluation),
        data=to_json(DATA),
        blessed_dir=str(Path(folder, "blessed")),
        code="",
    )
    return blessing, json.loads(Path(made.uri, "metrics.json").read_text())


@pytest.fixture(scope="module")
def first_run(data, index, tmp_path_factory):
    """The good model judged where none was blessed before: folder, blessing and report."""
    folder = tmp_path_factory.mktemp("first_run")
    return folder, *evaluate(data, folder, data["good"], index)


@pytest.fixture
def judged_before(first_run, tmp_path):
    """A folder in which that has happened, to go on from."""
    shutil.copytree(first_run[0] / "blessed", tmp_path / "blessed")
    return tmp_path


def value(report, contender, metric, part="all"):
    (row,) = (
        row for row in report["rows"] if (row["contender"], row["metric"], row["slice"]) == (contender, metric, part)
    )
    return row


class TestRetrievalEvaluator:
    def test_the_table(self, first_run):
        """Ours knows the groups, so it beats popularity and random on warm and on cold items."""
        _, blessing, report = first_run
        assert {row["contender"] for row in report["rows"]} == {
            "ours",
            "popularity",
            "recent_popularity",
            "random",
            "item_knn",
            "text_knn",
        }
        slices = {
            "all",
            "warm items",
            "cold items",
            "cold items among cold",
            "active users",
            "new users",
            "domain film",
            "domain music",
        }
        assert {row["slice"] for row in report["rows"]} == slices
        assert {"R@5", "NDCG@10", "HR@10", "MRR@5", "coverage@10", "gini@10"} <= {
            row["metric"] for row in report["rows"]
        }
        ours, popular = value(report, "ours", "NDCG@10"), value(report, "popularity", "NDCG@10")
        assert (
            ours["low"] <= ours["value"] <= ours["high"]
            and ours["users"] == world.NUM_USERS
            and report["users_without_truth"] == 0
        )
        assert ours["value"] > 1.5 * popular["value"]
        assert value(report, "ours", "HR@10", "new users")["users"] == 2
        new, recent = (value(report, name, "NDCG@10", "new users")["value"] for name in ("ours", "recent_popularity"))
        assert new >= recent - 0.05, "the list for new people is what is popular now"
        ours, knn = (value(report, name, "R@5", "cold items")["value"] for name in ("ours", "item_knn"))
        assert ours > knn + 0.05, "nobody took them, so ItemKNN finds them by chance alone"
        # Of four candidates, lists of five and ten rank nothing and are left out.
        among_cold = {
            row["metric"].partition("@")[2] for row in report["rows"] if row["slice"] == "cold items among cold"
        }
        assert among_cold == {"2"}
        assert model_utils.is_model_blessed(blessing)

    def test_first_run_is_blessed_and_a_worse_second_one_is_not(self, data, index, bad_index, first_run, judged_before):
        """C44 b and c: TFX's own check and its files; the reason shows both numbers, and the good model stays the one
        to beat."""
        _, blessing, first = first_run
        assert Path(blessing.uri, "BLESSED").exists() and "no model was blessed before" in first["decision"]["reason"]
        blessing, second = evaluate(data, judged_before, data["bad"], bad_index)
        assert Path(blessing.uri, "NOT_BLESSED").exists() and not model_utils.is_model_blessed(blessing)
        good, bad = first["decision"]["value"], second["decision"]["value"]
        assert second["decision"]["last"] == good > bad
        assert f"{good:.4f}" in second["decision"]["reason"] and f"{bad:.4f}" in second["decision"]["reason"]
        blessing, third = evaluate(data, judged_before, data["good"], index)
        assert model_utils.is_model_blessed(blessing) and third["decision"]["last"] == good

    def test_on_other_data_the_last_model_is_judged_again(self, data, index, judged_before):
        """From raw item features, by the transform that it carries: the same model again has the same number."""
        others = world.sequences(judged_before / "others", seed=1)
        _, report = evaluate(data, judged_before, data["good"], index, others)
        assert report["decision"]["last"] == pytest.approx(report["decision"]["value"], abs=1e-6)

    def test_a_last_model_that_is_gone_is_said(self, data, index, judged_before):
        record = judged_before / "blessed" / "last_blessed.json"
        record.write_text(json.dumps(json.loads(record.read_text()) | {"model": "/nowhere", "data": "other"}))
        blessing, report = evaluate(data, judged_before, data["good"], index)
        assert (
            model_utils.is_model_blessed(blessing)
            and "/nowhere cannot be compared with: it is gone" in report["decision"]["reason"]
        )

    def test_after_a_purge_no_model_is_taken_for_the_last_one_by_its_folder(self, data, index, judged_before):
        """Executions are numbered from one again, so that the judged model may lie where the last one did."""
        mark_gone(str(judged_before / "blessed"))
        others = world.sequences(judged_before / "others", seed=1)
        blessing, report = evaluate(data, judged_before, data["good"], index, others)
        assert model_utils.is_model_blessed(blessing) and report["decision"]["last"] is None
        assert "the last blessed model cannot be compared with: it is gone" in report["decision"]["reason"]

    def test_after_a_purge_what_was_scored_on_the_same_data_counts(self, data, judged_before, bad_index):
        mark_gone(str(judged_before / "blessed"))
        blessing, report = evaluate(data, judged_before, data["bad"], bad_index)
        assert not model_utils.is_model_blessed(blessing) and report["decision"]["last"] > report["decision"]["value"]

    def test_a_comparison_that_breaks_fails_the_run_and_blesses_nothing(self, data, index, judged_before):
        """The last blessed model is there and cannot be asked: its folder is said, and the record stays as it was."""
        broken = judged_before / "broken"
        broken.mkdir()
        Path(broken, "saved_model.pb").write_bytes(b"cut off")
        record = judged_before / "blessed" / "last_blessed.json"
        record.write_text(json.dumps(json.loads(record.read_text()) | {"model": str(broken), "data": "other"}))
        before = record.read_text()
        with pytest.raises(ComparisonError, match=f"{broken} cannot be judged on the present data"):
            evaluate(data, judged_before, data["good"], index)
        assert record.read_text() == before

    def test_another_metric_is_not_compared_with_the_number_of_the_last_one(
        self, data, index, first_run, judged_before
    ):
        first = first_run[2]
        by_recall = dataclasses.replace(EVALUATION, metric="R@5")
        _, second = evaluate(data, judged_before, data["good"], index, evaluation=by_recall)
        assert second["decision"]["last"] == pytest.approx(value(second, "ours", "R@5")["value"], abs=1e-6)
        assert second["decision"]["last"] != first["decision"]["value"]

    def test_a_record_of_the_last_version_is_read(self, tmp_path):
        old = {"model": "m", "metric": "NDCG@10", "value": 0.5, "data": "d", "problem": ""}
        Path(tmp_path, "last_blessed.json").write_text(json.dumps(old))
        assert read_last(str(tmp_path)) == LastBlessed("m", "NDCG@10", 0.5, "d")

    def test_without_thresholds_it_is_refused_at_the_start(self, data, index, tmp_path):
        """C44 a."""
        with pytest.raises(ValueError, match="no threshold is set for min_gain_over_popularity and max_loss_to_last"):
            EvaluationConfig()
        with pytest.raises(SettingsError, match="max_loss_to_last"):
            RetrievalEvaluator.test_call(
                model=data["good"],
                index=index,
                items=data["items"],
                sequences=data["sequences"],
                evaluation=world.artifact(standard_artifacts.ModelEvaluation, tmp_path / "e"),
                blessing=world.artifact(standard_artifacts.ModelBlessing, tmp_path / "b"),
                settings='{"min_gain_over_popularity": 0.0}',
                data=to_json(DATA),
                blessed_dir=str(tmp_path),
                code="",
            )


def not_blessed(folder):
    blessing = world.artifact(standard_artifacts.ModelBlessing, folder)
    blessing.set_int_custom_property("blessed", 0)
    return blessing


@pytest.fixture(scope="module")
def bundle(data, index, tmp_path_factory):
    """With a ranker that is not blessed: it is not even looked at, and the order is that of retrieval."""
    folder = tmp_path_factory.mktemp("bundle")
    made = {name: world.artifact(standard_artifacts.Model, folder / name) for name in ("exact", "scann")}
    Recommender.test_call(
        model=data["good"],
        index=index,
        items=data["items"],
        sequences=data["sequences"],
        ranker=world.artifact(standard_artifacts.Model, folder / "ranker"),
        ranker_blessing=not_blessed(folder / "ranker_blessing"),
        settings=to_json(RecommenderSettings(SERVING, DATA, RankingConfig())),
        code="",
        **made,
    )
    return made


@pytest.fixture(scope="module")
def loaded(bundle):
    """The same, read back."""
    return {name: saved_model.load(f"{made.uri}/Format-Serving") for name, made in bundle.items()}


class TestRecommender:
    def test_both_answer_known_people_from_their_own_group(self, bundle, loaded):
        """All that was taken in any split is hidden; what is left of the own group comes first."""
        for name in ("exact", "scann"):
            answer = loaded[name].signatures["recommend_user"](
                user_id=tf.constant(["u00", "u01", "nobody"]), k=tf.constant([9, 9, 9])
            )
            positions = [[world.ITEM_IDS.index(item.decode()) for item in ids] for ids in answer["item_ids"].numpy()]
            assert [{world.group_of(position) for position in shown} for shown in positions[:2]] == [{0}, {1}]
            assert answer["fallback"].numpy().tolist() == [False, False, True]
        assert saved_model.needs_scann(f"{bundle['scann'].uri}/Format-Serving") and not saved_model.needs_scann(
            f"{bundle['exact'].uri}/Format-Serving"
        )

    def test_similar_items_by_content_and_by_behaviour(self, loaded):
        """Beside numpy; a cold item has a list by both instead. By behaviour the vectors are only turned round."""
        numbers = world.content()
        vectors = numbers / np.linalg.norm(numbers, axis=1, keepdims=True)
        warm = [row for row in range(world.NUM_ITEMS) if row not in world.COLD]
        names = [world.ITEM_IDS[row] for row in (3, 5, world.COLD[0])]
        asked = tiny.similar_to(*names, k=40, by=["content", "behaviour", "behaviour"], time_s=[10**9] * 3)
        for signatures in (one.signatures for one in loaded.values()):
            answer = signatures["similar"](**asked)
            assert answer["by"].numpy().tolist() == [b"content", b"behaviour", b"both"]
            whole, contents = range(world.NUM_ITEMS), tiny.from_mean(vectors[:, ::-1])
            oracles = ((3, contents, whole), (5, vectors, warm), (world.COLD[0], vectors, whole))
            for (found, _), (row, space, among) in zip(tiny.answers(answer), oracles):
                order = sorted(set(among) - {row}, key=lambda other: -(space[other] @ space[row]))  # noqa: B023
                assert found == [world.ITEM_IDS[other] for other in order]

    def test_domains_come_from_the_items(self, loaded):
        page = tiny.request(k=(40,), domain=["film"], weights=[[0.0] * len(DATA.event_rules)])
        answer = loaded["exact"].signatures["recommend"](**page)
        assert set(answer["reasons"].numpy()[0]) == {b"new_person", b""}
        shown = {world.ITEM_IDS.index(item.decode()) for item in answer["item_ids"].numpy()[0] if item}
        assert shown == {row for row in range(world.NUM_ITEMS) if row % 3 and row % 2}


def push(model, folder, blessed=1):
    blessing = world.artifact(standard_artifacts.ModelBlessing, Path(folder, "blessing"))
    blessing.set_int_custom_property("blessed", blessed)
    pushed = world.artifact(standard_artifacts.PushedModel, Path(folder, "pushed"))
    destination = pusher_pb2.PushDestination(
        filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=str(Path(folder, "versions")))
    )
    ModelPusherExecutor().Do(
        {"model": [model], "model_blessing": [blessing]},
        {"pushed_model": [pushed]},
        {"push_destination": proto_utils.proto_to_json(destination)},
    )
    return pushed


class TestModelPusher:
    def test_versions_are_complete_and_grow(self, data, tmp_path):
        """C41: pushed twice within a second: two plain integers, the second larger; nothing else is left in the
        folder."""
        versions = [push(data["good"], tmp_path).get_string_custom_property("pushed_version") for _ in range(2)]
        assert int(versions[1]) > int(versions[0])
        assert sorted(path.name for path in Path(tmp_path, "versions").iterdir()) == sorted(versions)
        roots = [
            Path(data["good"].uri, "Format-Serving"),
            *(Path(tmp_path, "versions", version) for version in versions),
        ]
        original, *copies = [{str(path.relative_to(root)) for path in root.rglob("*")} for root in roots]
        assert copies == [original, original]

    def test_a_version_appears_whole(self, data, tmp_path, monkeypatch):
        """At the moment of the rename, the hidden copy is complete and no version is there yet."""
        from tfx.dsl.io import fileio

        seen = []
        rename = fileio.rename

        def watch(source, target, *options):
            seen.append(
                (
                    Path(source, "saved_model.pb").exists(),
                    [p.name for p in Path(target).parent.iterdir() if p.name.isdigit()],
                )
            )
            return rename(source, target, *options)

        monkeypatch.setattr(fileio, "rename", watch)
        push(data["good"], tmp_path)
        assert seen == [(True, [])]

    def test_not_blessed_is_not_pushed(self, data, tmp_path):
        pushed = push(data["good"], tmp_path, blessed=0)
        assert pushed.get_int_custom_property("pushed") == 0 and not list(Path(tmp_path).glob("versions/*"))

    def test_next_version(self):
        assert next_version(["99999999999", "00000123", "v2", "0.3", "tmp", ".incoming"]) == 100000000000
        assert next_version([]) > 1_600_000_000
