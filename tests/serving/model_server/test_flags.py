"""The command line is TF Serving's; what it cannot use ends with code 2 and one line."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from serving.model_server.config import ModelSettings, ServerConfig
from serving.model_server.flags import parse_flags

CONFIG = """
model_config_list {
  config { name: "a" base_path: "%(base)s" model_platform: "tensorflow" }
  config {
    name: "b" base_path: "%(base)s" model_platform: "tensorflow"
    model_version_policy { specific { versions: 1 versions: 42 } }
    version_labels { key: "stable" value: 42 }
  }
  config { name: "c" base_path: "%(base)s" model_type: TENSORFLOW model_version_policy { latest { num_versions: 3 } } }
  config { name: "d" base_path: "%(base)s" model_platform: "tensorflow" model_version_policy { all {} } }
}
"""


def test_one_model(tmp_path):
    config = parse_flags(["--port=8500", "--rest_api_port=8501", "--model_name=m", f"--model_base_path={tmp_path}"])
    assert config == ServerConfig(models=(ModelSettings("m", str(tmp_path)),), grpc_port=8500, rest_port=8501)
    assert config.host == "127.0.0.1" and config.rest_timeout_s == 30


def test_defaults_are_tf_servings(tmp_path):
    config = parse_flags([f"--model_base_path={tmp_path}"])
    assert config.models[0].name == "default"
    assert (config.grpc_port, config.rest_port, config.prometheus_path) == (8500, None, None)
    assert (config.file_system_poll_wait_s, config.max_num_load_retries, config.load_retry_interval_s) == (1, 5, 60)


def test_every_other_flag(tmp_path):
    monitoring = tmp_path / "monitoring.txt"
    monitoring.write_text("prometheus_config { enable: true }")
    config = parse_flags(
        [
            "--model_base_path", str(tmp_path), "--host=0.0.0.0", "--file_system_poll_wait_seconds=5",
            "--grpc_max_threads=3", "--rest_api_num_threads=4",
            "--rest_api_timeout_in_ms=1500", "--allow_version_labels_for_unavailable_models=true", "--max_queued_requests=7",
            "--max_num_load_retries=0", "--load_retry_interval_micros=2500000", f"--monitoring_config_file={monitoring}",
        ]
    )  # fmt: skip
    assert config == ServerConfig(
        models=(ModelSettings("default", str(tmp_path)),),
        host="0.0.0.0",
        file_system_poll_wait_s=5,
        prometheus_path="/monitoring/prometheus/metrics",
        allow_labels_for_unavailable=True,
        grpc_max_threads=3,
        rest_num_threads=4,
        rest_timeout_s=1.5,
        max_queued_requests=7,
        max_num_load_retries=0,
        load_retry_interval_s=2.5,
    )


def test_model_config_file(tmp_path):
    file = tmp_path / "models.txt"
    file.write_text(CONFIG % {"base": tmp_path})
    assert parse_flags([f"--model_config_file={file}"]).models == (
        ModelSettings("a", str(tmp_path)),
        ModelSettings("b", str(tmp_path), policy="specific", specific_versions=(1, 42), labels={"stable": 42}),
        ModelSettings("c", str(tmp_path), num_versions=3),
        ModelSettings("d", str(tmp_path), policy="all"),
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("prometheus_config { enable: false, path: '/m' }", None),
        ("prometheus_config { enable: true, path: '/m' }", "/m"),
        ("prometheus_config { enable: true }", "/monitoring/prometheus/metrics"),
    ],
)
def test_monitoring_config_file(tmp_path, text, expected):
    file = tmp_path / "monitoring.txt"
    file.write_text(text)
    assert (
        parse_flags([f"--model_base_path={tmp_path}", f"--monitoring_config_file={file}"]).prometheus_path == expected
    )


ONE = 'name: "m" base_path: "/" model_platform: "tensorflow"'


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("model_config_list {", "text form"),
        ("unknown_field: 1", "unknown_field"),
        (f"model_config_list {{ config {{ {ONE} }} config {{ {ONE} }} }}", "more than once"),
        ('model_config_list { config { name: "m" base_path: "x/y" model_platform: "tensorflow" } }', "x/y"),
        ('model_config_list { config { name: "m" base_path: "/" } }', "model_platform"),
        ('model_config_list { config { name: "m" base_path: "/" model_platform: "onnx" } }', "onnx"),
        (f"model_config_list {{ config {{ {ONE} model_version_policy {{ specific {{}} }} }} }}", "names no versions"),
        ('model_config_list { config { base_path: "/" model_platform: "tensorflow" } }', "without a name"),
        ("custom_model_config {}", "custom_model_config"),
        (
            'model_config_list { config { name: "m" base_path: "/no/such/folder" model_platform: "tensorflow" } }',
            "/no/such/folder",
        ),
    ],
)
def test_a_bad_model_config_ends_with_2_and_one_line(tmp_path, capsys, text, word):
    file = tmp_path / "models.txt"
    file.write_text(text)
    with pytest.raises(SystemExit) as stop:
        parse_flags([f"--model_config_file={file}"])
    assert stop.value.code == 2 and word in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        ([], "--model_base_path"),
        (["--model_base_path=/", "--model_config_file=/x"], "--model_config_file"),
        (["--model_base_path=/no/such/folder"], "/no/such/folder"),
        (["--model_config_file=/no/such/file"], "/no/such/file"),
        (["--model_base_path=/", "--port=1", "--rest_api_port=1"], "port each"),
        (["--model_base_path=/", "--grpc_max_threads=0"], "expected 1 or more"),
        (["--model_base_path=/", "--allow_version_labels_for_unavailable_models=maybe"], "maybe"),
        (["--model_base_path=/", "--no_such_flag"], "--no_such_flag"),
        (["--model_base_path=/", "--model_nam=m"], "--model_nam"),
    ],
)
def test_bad_flags_end_with_2_and_one_line(capsys, flags, word):
    with pytest.raises(SystemExit) as stop:
        parse_flags(flags)
    assert stop.value.code == 2 and word in capsys.readouterr().err.splitlines()[-1]


def test_help_is_quick_and_needs_no_tensorflow():
    script = "import sys; from serving.model_server.server import main\ntry: main(['--help'])\nfinally: assert 'tensorflow' not in sys.modules"
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "--model_base_path" in done.stdout, done.stderr
    assert time.monotonic() - started < 5  # half a second on an idle machine; TensorFlow alone takes longer than this
