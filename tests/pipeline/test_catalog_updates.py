"""What comes and goes between two runs, in the served versions themselves. C07, C10, C35."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from components.config import DataConfig, TableConfig
from components.settings import SettingsError
from pipeline import catalog_updates, cli, workflows
from pipeline.config import Config
from pipeline.local_model import CurrentModel
from serving.config import EvaluationConfig
from serving.export import catalog_updates as version_updates
from serving.export.catalog_updates import AddedItem
from tests.serving import tiny, world

pytestmark = pytest.mark.slow  # loads SavedModels over and over
NUM_ITEMS = 12


@pytest.fixture
def config(pushed_version, tmp_path):
    table = TableConfig("")
    evaluation = EvaluationConfig(min_gain_over_popularity=0, max_loss_to_last=0)
    config = Config("tiny", DataConfig(table, table), evaluation, work_dir=str(tmp_path))
    push(config, pushed_version, 1)
    return config


def push(config, made, version):
    for name in ("tiny", "tiny-scann"):
        shutil.copytree(made, config.serving_path / name / str(version))


def items(*ids):
    vectors = tiny.vectors_of(len(ids), seed=3)
    return {item_id: AddedItem(vector) for item_id, vector in zip(ids, vectors)}


def add(config, some):
    return catalog_updates.add(config, some, catalog_updates.newest(config), ())


def listed(config):
    (answer,) = CurrentModel(config).recommend(["nobody"], 100)
    return answer.item_ids


def test_what_came_and_went_is_in_the_version(config):
    assert add(config, items("new", "i3")) == 2
    catalog_updates.withdraw(config, ["i5"], ())
    assert set(listed(config)) == {f"i{row}" for row in range(NUM_ITEMS)} - {"i5"} | {"new"}
    assert len(listed(config)) == len(set(listed(config)))


def test_what_a_version_has_no_room_for_leaves_it_as_it_was(config):
    """A change that cannot be made again when the version is loaded would keep it from being served at all."""
    add(config, items("a"))
    with pytest.raises(RuntimeError, match="no row is free"):
        add(config, items("b", "c"))
    assert "a" in listed(config) and "b" not in listed(config)


def test_what_comes_is_shown_from_its_date_on_also_when_it_is_restored(config):
    def listed_at(at_s):
        (answer,) = CurrentModel(config).recommend(["nobody"], 100, at_s)
        return answer.item_ids

    add(config, {"new": AddedItem(tiny.vectors_of(1)[0], published_at_s=1000)})
    assert ("new" in listed_at(999), "new" in listed_at(1000)) == (False, True)
    catalog_updates.withdraw(config, ["new"], ())
    assert "new" not in listed_at(1000)
    catalog_updates.restore(config, ["new"], ())
    assert ("new" in listed_at(999), "new" in listed_at(1000)) == (False, True)


def test_rows_of_what_is_withdrawn_are_kept_for_its_return(config):
    """Two rows are free: what could not be restored would keep the version from being loaded."""
    add(config, items("a", "b"))
    catalog_updates.withdraw(config, ["a"], ())
    with pytest.raises(RuntimeError, match="no row is free"):
        add(config, items("c"))
    catalog_updates.restore(config, ["a"], ())
    assert {"a", "b"} <= set(listed(config)) and "c" not in listed(config)


def test_encoded_items_have_the_dates_of_their_table(config, tmp_path):
    rows = [{"item_id": [name], "numeric": [1.0, 0.0, 0.0, 0.0], **dates}
            for name, dates in (("new", {"published_at": [1000]}), ("undated", {}))]  # fmt: skip
    world.examples(tmp_path / "items", {"train": rows})
    model = CurrentModel(config)
    found = model.encode(str(tmp_path / "items" / "Split-train"))
    assert {item_id: item.published_at_s for item_id, item in found.items()} == {"new": 1000, "undated": 0}
    add = SimpleNamespace(structured_input_signature=((), {"item_id": None}))  # of an earlier release
    model.signatures = {"encode_item": model.signatures["encode_item"], "add_items": add}
    found = model.encode(str(tmp_path / "items" / "Split-train"))
    assert [item.published_at_s for item in found.values()] == [0, 0]


def test_withdrawn_items_cannot_be_added_and_come_back_as_they_were(config):
    add(config, items("new"))
    with pytest.raises(SettingsError, match="no item 'of no catalogue'"):
        catalog_updates.withdraw(config, ["i5", "of no catalogue"], ())
    assert "i5" in listed(config) and not catalog_updates.withdrawn(config)
    catalog_updates.withdraw(config, ["new", "i5"], ())
    catalog_updates.withdraw(config, ["i5"], ())
    assert not {"new", "i5"} & set(listed(config))
    with pytest.raises(SettingsError, match="restore them first: new"):
        add(config, items("new"))
    catalog_updates.restore(config, ["new", "i5"], ())
    assert {"new", "i5"} <= set(listed(config))
    np.testing.assert_array_equal(
        catalog_updates.added(catalog_updates.newest(config))["new"].vector, items("new")["new"].vector
    )
    with pytest.raises(SettingsError, match="not withdrawn: i4"):
        catalog_updates.restore(config, ["i4"], ())


def test_a_run_does_not_undo_what_changed_while_it_went_on(config, pushed_version):
    """Withdrawn during the run: gone from its version. Added during it: kept. Added before it: the catalogue's
    affair."""
    add(config, items("early"))
    before, came_before = catalog_updates.newest(config), catalog_updates.added(catalog_updates.newest(config))
    add(config, items("early", "late"))
    catalog_updates.withdraw(config, ["i5"], ())
    push(config, pushed_version, 2)
    assert "i5" in listed(config)
    catalog_updates.carry_over(config, before, came_before, ())
    assert catalog_updates.newest(config).name == "2"
    assert "i5" not in listed(config) and "late" in listed(config) and "early" not in listed(config)


def test_another_model_does_not_take_over_vectors(config, pushed_version):
    before = catalog_updates.newest(config)
    add(config, items("late"))
    push(config, pushed_version, 2)
    catalog_updates.carry_over(config, None, {}, ())
    assert before.name == "1" and "late" not in listed(config)


def test_what_was_restored_while_a_run_went_on_is_shown_by_its_version(config, pushed_version):
    """The run had left it out, since it was withdrawn when the run began; nothing else comes back with it."""
    catalog_updates.withdraw(config, ["i5", "i6"], ())
    gone_before = catalog_updates.withdrawn(config)
    catalog_updates.restore(config, ["i5"], ())
    push(config, pushed_version, 2)
    state = catalog_updates_of_version(config)
    state.withdraw(gone_before)  # as the version of the run is made
    catalog_updates_of_version(config, state)
    catalog_updates.carry_over(config, None, {}, gone_before)
    assert set(listed(config)) == {f"i{row}" for row in range(NUM_ITEMS)} - {"i6"}


def test_vectors_of_a_version_go_into_no_other(config, pushed_version):
    """A run may push a model of another space while `add` decodes media."""
    version = catalog_updates.newest(config)
    push(config, pushed_version, 2)
    with pytest.raises(RuntimeError, match="another version than 1 was pushed meanwhile"):
        catalog_updates.add(config, items("new"), version, ())
    assert "new" not in listed(config)


def test_the_index_is_not_built_anew_over_a_catalogue_without_what_was_added(config, pushed_version, tmp_path, capsys):
    """The refresh reads the catalogue alone: what is not in it would be gone from the answer."""
    (tmp_path / "items.csv").write_text("item_id\n" + "\n".join(f"i{row}" for row in range(NUM_ITEMS)) + "\n")
    (tmp_path / "new.csv").write_text("item_id\nnew\n")
    settings = {
        "name": "tiny",
        "work_dir": str(tmp_path),
        "data": {"catalogue": {"path": str(tmp_path / "items.csv")}, "events": {"path": "events.csv"}},
        "evaluation": {"min_gain_over_popularity": 0, "max_loss_to_last": 0},
        "serving": {"index": {"rebuild_after_inserts": 1}},
    }
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(settings))
    refreshed = []
    with pytest.MonkeyPatch.context() as patched:
        encoded = catalog_updates.Encoded(items("new"), [], catalog_updates.newest(config))
        patched.setattr(catalog_updates, "encode", lambda *_: encoded)
        patched.setattr(workflows, "refresh", lambda config: refreshed.append(config.name) or {})
        patched.setattr(workflows, "server_refusal", lambda stages: "")
        words = ["add", "--config", str(tmp_path / "tiny.yaml"), "--catalogue", str(tmp_path / "new.csv")]
        assert cli.main(words) == 0
        assert "1 of them are not in data.catalogue.path, as 'new': put them there" in capsys.readouterr().out
        assert not refreshed and "new" in listed(config)
        with (tmp_path / "items.csv").open("a") as file:
            file.write("new\n")
        assert cli.main(words) == 0
        assert "it is built anew" in capsys.readouterr().out and refreshed == ["tiny"]


def catalog_updates_of_version(config, state=None):
    """What the newest version has been told; or tell it something else, both variants."""
    names = [config.served_name(kind) for kind in catalog_updates.KINDS]
    folders = [str(config.serving_path / name / catalog_updates.newest(config).name) for name in names]
    for folder in folders if state else ():
        version_updates.write(folder, state)
    return version_updates.read(folders[0])


def test_rejects_of_media_are_told_whatever_line_ends_are_in_ids(tmp_path, monkeypatch):
    """U+2028 and U+0085 end lines of texts, but not of JSON lines."""
    monkeypatch.setattr(catalog_updates, "CurrentModel", lambda _: SimpleNamespace(encode=lambda _: {}, path=tmp_path))
    table = TableConfig("")
    evaluation = EvaluationConfig(min_gain_over_popularity=0, max_loss_to_last=0)
    (tmp_path / "new.csv").write_text("item_id,media_uri\na\u2028b\u0085c,x.mp3\n", encoding="utf-8")
    config = Config("tiny", DataConfig(table, table), evaluation, work_dir=str(tmp_path))
    rejects = catalog_updates.encode(config, tmp_path / "new.csv").rejects
    assert [(one["item_id"], one["reason"]) for one in rejects] == [("a\u2028b\u0085c", "outside_media_roots")]
