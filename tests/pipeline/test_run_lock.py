"""One run at a time: from its first look at the work folder to its report."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pipeline import workflows
from pipeline.run_lock import one_run_at_a_time

CURRENT = SimpleNamespace(part=lambda _: SimpleNamespace(path="somewhere", is_blessed=False))


@pytest.mark.parametrize(
    ("kind", "steps"),
    [("train", ["_run", "_write_report"]), ("refresh", ["CurrentModel", "_run", "_write_report"])],
)
def test_a_run_holds_its_work_folder_from_what_it_starts_from_to_its_report(
    config_of, tmp_path, monkeypatch, kind, steps
):
    work, done = tmp_path / "work", []

    def step(name: str):
        def while_the_folder_is_held(*_):
            with pytest.raises(RuntimeError, match="another run is using"), one_run_at_a_time(work):
                pass
            done.append(name)
            return CURRENT

        return while_the_folder_is_held

    for name in steps:
        monkeypatch.setattr(workflows, name, step(name))
    getattr(workflows, kind)(config_of(work))
    assert done == steps
    with one_run_at_a_time(work):
        pass
