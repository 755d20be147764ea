"""What long benchmarks keep is made anew where the measured code or what it reads has changed."""

import numpy as np
import pytest

from benchmarks import cold_demo
from benchmarks.ann import bench as ann
from benchmarks.pictures import frames
from benchmarks.quality import environments
from benchmarks.soundtracks import sound
from pipeline import fingerprint


@pytest.mark.parametrize(
    ("module", "made"),
    [
        (frames, lambda digest: frames.Frames([], {}, *(np.zeros(0),) * 4, digest)),
        (sound, lambda digest: sound.Sound([], {}, [], *(np.zeros(0),) * 4, digest)),
    ],
)
def test_vectors_are_those_of_the_code_and_of_the_files(module, made, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "KEPT", tmp_path)
    monkeypatch.setattr(module, "code_fingerprint", lambda *names: "as it is")
    read = made("files")
    assert read.kept("statistics", lambda: np.array([1.0])) == read.kept("statistics", lambda: np.array([2.0])) == [1.0]
    assert made("other files").kept("statistics", lambda: np.array([3.0])) == [3.0]
    monkeypatch.setattr(module, "code_fingerprint", lambda *names: "edited")
    assert made("other files").kept("statistics", lambda: np.array([4.0])) == [4.0]


def test_a_part_is_of_the_benchmarks_code_and_of_what_it_reads(tmp_path, monkeypatch):
    measured = []

    def found(inputs):
        return cold_demo.kept("privacy", "ML100K-R, seed 7", inputs, lambda: measured.append(1) or {"AUC": 0.5}).what

    monkeypatch.setattr(cold_demo, "KEPT", tmp_path)
    assert found("data") == found("data") == {"AUC": 0.5} and len(measured) == 1
    found("other data")
    assert len(measured) == 2
    monkeypatch.setattr(cold_demo, "code_fingerprint", lambda *modules: "edited")
    found("other data")
    assert len(measured) == 3


@pytest.mark.parametrize(
    ("benchmark", "measured"),
    [
        ("privacy", "trainer.retrieval.train_privately"),
        ("attack", "trainer.retrieval.train"),
        ("pretraining", "trainer.content.run_pretraining"),
        ("pretrained_weights", "trainer.encoders.pretrained"),
        ("training_speed", "trainer.content.fit"),
        ("pictures.contenders", "trainer.encoders.video"),
        ("soundtracks.contenders", "trainer.encoders.codebook"),
        ("ann.ours", "serving.index"),
    ],
)
def test_the_code_of_a_benchmark_reaches_what_it_measures(benchmark, measured):
    reached = fingerprint._closure((f"benchmarks.{benchmark}",))
    assert any(module == measured or module.startswith(f"{measured}.") for module in reached)


def test_searches_are_run_anew_where_code_requirements_or_vectors_have_changed(tmp_path, monkeypatch):
    """Of ours and of the peers, each by its own code; a peer's requirements and the vectors count, too."""
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "ann.txt").write_text("hnswlib==1\nfaiss-cpu==1\n")
    (tmp_path / "peers.py").write_text("1")
    ran, vectors = [], ["vectors"]
    report = {"curve": [{"recall": 1.0, "qps": 9.0}], "build_seconds": 1.0, "peak_mb": 1.0}
    monkeypatch.setattr(ann, "HERE", tmp_path)
    monkeypatch.setattr(ann, "KEPT", tmp_path / "kept")
    monkeypatch.setattr(ann, "SIZES", {"100k": 100})
    monkeypatch.setattr(ann, "_write_vectors", lambda folder, num_items: vectors[0])
    monkeypatch.setattr(ann, "_run", lambda size, name, folder: ran.append(name) or report)
    monkeypatch.setattr(ann, "code_fingerprint", lambda *modules: "as it is")
    monkeypatch.setattr(environments, "HERE", tmp_path)

    def anew():
        ran.clear()
        rows = ann.run_cases()
        assert {row["contender"] for row in rows} == {
            *("ours", "ours, exact", "ours, scann", "hnswlib 1", "faiss IVF 1", "faiss IVF-PQ 1"),
        }
        assert all(row["commit"] for row in rows)
        return ran.copy()

    assert anew() == [*ann.OURS, *ann.PEERS] and anew() == []
    (tmp_path / "peers.py").write_text("2")
    assert anew() == [*ann.PEERS]
    monkeypatch.setattr(ann, "code_fingerprint", lambda *modules: "edited")
    assert anew() == [*ann.OURS]
    (tmp_path / "requirements" / "ann.txt").write_text("hnswlib==1\nfaiss-cpu==1\npackaging==2\n")
    assert anew() == [*ann.PEERS]
    vectors[0] = "others"
    assert anew() == [*ann.OURS, *ann.PEERS]
