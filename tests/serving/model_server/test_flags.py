"""The command line is TF Serving's; what it cannot use ends with code 2 and one line."""

from __future__ import annotations

import logging
import subprocess
import sys
import time

import pytest

from serving.model_server.config import (
    BatchingConfig,
    GrpcTransport,
    ModelSettings,
    RestTransport,
    ServableOptions,
    ServerConfig,
    Tls,
)
from serving.model_server.flags import parse_flags
from serving.model_server.idle_flags import IDLE_FLAGS

# Every flag of `tensorflow_model_server --help` of TensorFlow Serving 2.16 with a value, but those tested one by one.
STOCK_FLAGS = """
--port=8500 --grpc_socket_path=/tmp/socket --rest_api_port=8501 --rest_api_num_threads=8 --rest_api_timeout_in_ms=30000
--rest_api_enable_cors_support=true --enable_batching=true --allow_version_labels_for_unavailable_models=true
--batching_parameters_file=FILE --enable_per_model_batching_parameters=false --model_config_file=
--model_config_file_poll_wait_seconds=60 --model_name=m --model_base_path=FOLDER --num_load_threads=4
--num_unload_threads=2 --max_num_load_retries=5 --load_retry_interval_micros=60000000 --file_system_poll_wait_seconds=1
--flush_filesystem_caches=true --tensorflow_session_parallelism=0 --tensorflow_session_config_file=FILE
--tensorflow_intra_op_parallelism=2 --tensorflow_inter_op_parallelism=1 --use_alts_credentials=false --ssl_config_file=
--platform_config_file= --per_process_gpu_memory_fraction=0.5 --saved_model_tags=serve
--grpc_channel_arguments=grpc.max_connection_age_ms=2000 --grpc_max_threads=8 --enable_model_warmup=true
--num_request_iterations_for_warmup=3 --monitoring_config_file=FILE --remove_unused_fields_from_bundle_metagraph=true
--prefer_tflite_model=false --num_tflite_pools=1 --num_tflite_interpreters_per_pool=1
--enable_signature_method_name_check=false --xla_cpu_compilation_enabled=false --xla_gpu_compilation_enabled=false
--enable_profiler=true --thread_pool_factory_config_file= --mixed_precision= --skip_initialize_tpu=false
--enable_grpc_healthcheck_service=true --enable_serialization_as_tensor_content=false
"""
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
            "--rest_api_timeout_in_ms=1500", "--allow_version_labels_for_unavailable_models=true",
            "--max_queued_requests=7", "--max_num_load_retries=0", "--load_retry_interval_micros=2500000",
            f"--monitoring_config_file={monitoring}",
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


def test_a_start_line_made_for_stock_tensorflow_serving_is_obeyed_or_answered(tmp_path, caplog):
    """Each flag sets something, or a line says that it does nothing here."""
    empty = tmp_path / "empty.txt"
    empty.write_text("")
    flags = STOCK_FLAGS.replace("FOLDER", str(tmp_path)).replace("FILE", str(empty)).split()
    with caplog.at_level(logging.WARNING, logger="serving.model_server"):
        parse_flags(flags)
    idle = {record.args[0] for record in caplog.records if "does nothing here" in record.msg}
    assert idle == set(IDLE_FLAGS)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--grpc_socket_path=/s", "--port=0"], {"grpc_port": None, "grpc": GrpcTransport(socket_path="/s")}),
        (["--grpc_socket_path=/s"], {"grpc_port": 8500, "grpc": GrpcTransport(socket_path="/s")}),
        (["--rest_api_enable_cors_support"], {"rest": RestTransport(cors=True)}),
        (["--rest_api_max_body_bytes=5"], {"rest": RestTransport(max_body_bytes=5)}),
        (["--use_alts_credentials"], {"grpc": GrpcTransport(alts=True)}),
        (
            ["--grpc_channel_arguments=grpc.max_connection_age_ms=2000,grpc.lb_policy_name=round_robin"],
            {
                "grpc": GrpcTransport(
                    channel_arguments=(("grpc.max_connection_age_ms", 2000), ("grpc.lb_policy_name", "round_robin"))
                )
            },
        ),
        (["--saved_model_tags=serve,gpu"], {"servables": ServableOptions(tags=("serve", "gpu"))}),
        (["--enable_model_warmup=false"], {"servables": ServableOptions(warm_up_iterations=0)}),
        (["--num_request_iterations_for_warmup=3"], {"servables": ServableOptions(warm_up_iterations=3)}),
        (["--num_request_iterations_for_warmup=0"], {"servables": ServableOptions()}),
        (["--enable_signature_method_name_check"], {"servables": ServableOptions(check_method_names=True)}),
        (["--enable_serialization_as_tensor_content"], {"servables": ServableOptions(tensor_content=True)}),
        (["--tensorflow_session_parallelism=3"], {"intra_op_threads": 3, "inter_op_threads": 3}),
        (["--tensorflow_inter_op_parallelism=2"], {"intra_op_threads": 0, "inter_op_threads": 2}),
        (["--enable_batching", "--batching_parameters_file=FILE"], {"batching": BatchingConfig(max_batch_size=7)}),
        (["--tensorflow_session_config_file=FILE"], {"intra_op_threads": 5}),
        (["--ssl_config_file=FILE"], {"grpc": GrpcTransport(tls=Tls("key", "cert"))}),
        (["--model_config_file=FILE", "--model_config_file_poll_wait_seconds=9"], {"model_config_poll_wait_s": 9}),
    ],
)
def test_what_a_flag_sets(tmp_path, flags, expected):
    texts = {
        "--batching_parameters_file": "max_batch_size { value: 7 }",
        "--tensorflow_session_config_file": "intra_op_parallelism_threads: 5",
        "--ssl_config_file": 'server_key: "key" server_cert: "cert"',
        "--model_config_file": CONFIG % {"base": tmp_path},
    }
    file = tmp_path / "file.txt"
    for flag in flags:
        if flag.endswith("=FILE"):
            file.write_text(texts[flag.removesuffix("=FILE")])
    given = [flag.replace("=FILE", f"={file}") for flag in flags]
    config = parse_flags([f"--model_base_path={tmp_path}", *given])
    assert {name: getattr(config, name) for name in expected} == expected


def test_what_files_say_that_does_nothing_here_is_told(tmp_path, caplog):
    batching, session, models = (tmp_path / name for name in ("batching", "session", "models"))
    batching.write_text('thread_pool_name { value: "p" } allowed_batch_sizes: 8 pad_variable_length_inputs: true')
    session.write_text("gpu_options { allow_growth: true } inter_op_parallelism_threads: 2")
    models.write_text(f"model_config_list {{ config {{ {ONE} logging_config {{}} }} }}")
    caplog.set_level(logging.WARNING, logger="serving.model_server")
    config = parse_flags(
        ["--enable_batching", f"--batching_parameters_file={batching}", f"--tensorflow_session_config_file={session}",
         f"--model_config_file={models}", "--model_name=ignored", "--model_base_path=/ignored"]
    )  # fmt: skip
    assert config.batching == BatchingConfig() and config.inter_op_threads == 2
    for words in ("thread_pool_name", "allowed_batch_sizes", "pad_variable_length_inputs", "gpu_options",
                  "logging_config", "beside --model_config_file"):  # fmt: skip
        assert any(words in record.getMessage() for record in caplog.records), words


@pytest.mark.parametrize(
    "text", ['server_key: "k"', 'server_key: "k" server_cert: "c" client_verify: true', "nonsense: 1"]
)
def test_a_bad_ssl_config_ends_with_2_and_one_line(tmp_path, capsys, text):
    file = tmp_path / "ssl.txt"
    file.write_text(text)
    with pytest.raises(SystemExit) as stop:
        parse_flags([f"--model_base_path={tmp_path}", f"--ssl_config_file={file}"])
    assert stop.value.code == 2 and str(file) in capsys.readouterr().err.splitlines()[-1]


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit) as stop:
        parse_flags(["--version"])
    assert stop.value.code == 0 and "TensorFlow Library: 2.16" in capsys.readouterr().out


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
        (["--model_base_path=/", "--batching_parameters_file=/x"], "--enable_batching"),
        (["--model_base_path=/", "--ssl_config_file=/x", "--use_alts_credentials"], "exclude each other"),
        (["--model_base_path=/", "--grpc_socket_path=/x", "--num_processes=2"], "one process"),
        (["--model_base_path=/", "--grpc_channel_arguments=keepalive"], "expected name=value"),
        (["--model_base_path=/", "--num_load_threads=many"], "num_load_threads"),
        (
            [
                "--model_base_path=/",
                *(f"--tensorflow_{kind}_parallelism=2" for kind in ("session", "intra_op", "inter_op")),
            ],
            "not all three",
        ),
        (["--model_base_path=/no/such/folder"], "/no/such/folder"),
        (["--model_config_file=/no/such/file"], "/no/such/file"),
        (["--model_base_path=/", "--port=1", "--rest_api_port=1"], "port each"),
        (["--model_base_path=/", "--port=65536"], "expected 65535 or less"),
        (["--model_base_path=/", "--rest_api_port=85010"], "expected 65535 or less"),
        (["--model_base_path=/", "--file_system_poll_wait_seconds=-1"], "expected 0 or more"),
        (["--model_base_path=/", "--model_config_file_poll_wait_seconds=-1"], "expected 0 or more"),
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
    script = (
        "import sys; from serving.model_server.server import main\n"
        "try: main(['--help'])\nfinally: assert 'tensorflow' not in sys.modules"
    )
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "--model_base_path" in done.stdout, done.stderr
    assert time.monotonic() - started < 5  # half a second on an idle machine; TensorFlow alone takes longer than this
