"""What deploys the service fits the code: files that images copy, flags that containers start with, the rendered chart.

The chart is rendered and checked where helm is found, and held against Kubernetes' schemas where kubernetes-validate is
found, too.
"""

import re
import shutil
import subprocess
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import yaml

from pipeline import cli
from pipeline import config as configuration
from serving.gateway.app import create_app
from serving.model_server import flags
from tests.documented import ROOT

DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "chart"
HELM = shutil.which("helm")
SCHEMAS = shutil.which("kubernetes-validate")  # PyPI's, with the schemas of every Kubernetes
KUBERNETES = ("1.27", "1.31", "1.35")  # versions: the oldest that the chart is for, and later ones
TEMPLATE = [str(HELM), "template", "trial", str(CHART), "--kube-version", KUBERNETES[0]]
SETTINGS = {
    "plain": [],
    "everything": [
        "ingress.enabled=true", "ingress.host=example.com", "ingress.tlsSecret=tls", "serviceMonitor.enabled=true",
        "storage.data.existingClaim=tables", "gateway.pseudonymsSecret=people", "model.scann=true",
        "image.pullSecrets={registry}",
    ],
    "own store, nothing else": [
        "redis.enabled=false", "storeSecret=store", "loop.enabled=false", "networkPolicy.enabled=false",
        "gateway.maxReplicas=2", "storage.runs.existingClaim=models",
    ],
}  # fmt: skip


def test_what_the_image_copies_is_in_the_build_s_context() -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    copied = re.findall(r"^COPY (\S+) /", dockerfile, re.MULTILINE)
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8")
    let_in = set(re.findall(r"^!(\S+)$", ignored, re.MULTILINE))
    assert copied and set(copied) == let_in
    assert not [name for name in copied if not (ROOT / name).exists()]
    assert {"pipeline", "model-server", "gateway"} == set(re.findall(r"^FROM base AS (\S+)$", dockerfile, re.MULTILINE))
    assert dockerfile.index("USER 10001") < dockerfile.index("FROM base AS pipeline")


def check_model_server(arguments: list[str], folder: Path) -> None:
    """The flags of a model server are taken, with another folder in the place of the container's."""
    here = [f"--model_base_path={folder}" if word.startswith("--model_base_path=") else word for word in arguments]
    assert here != arguments and flags.parse_flags(here).models


def test_the_composed_services_start_with_flags_that_exist(tmp_path) -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["services"]
    cli.parser().parse_args(["up", *services["gateway"]["command"]])
    check_model_server(services["model-server"]["command"], tmp_path)
    assert not [name for name, service in services.items() if service.get("privileged") or not service["read_only"]]


def test_the_ingress_leads_to_all_that_the_gateway_answers_but_its_metrics() -> None:
    template = (CHART / "templates" / "gateway.yaml").read_text(encoding="utf-8")
    led_to = dict(re.findall(r'"(/\S*)" "(Exact|Prefix)"', template))
    parts = [getattr(route, "original_router", None) for route in create_app(MagicMock()).routes]
    included = [route for part in parts if part is not None for route in part.routes]
    answered = {"/openapi.json", "/page/static", *(route.path for route in included)}
    reached = {
        path
        for path in answered
        for place, kind in led_to.items()
        if path == place or (kind == "Prefix" and path.startswith(f"{place}/"))
    }
    assert {"/", "/health/live", "/v1/events"} < answered and answered - reached == {"/metrics"}


@pytest.fixture(scope="module", params=SETTINGS)
def rendered(request) -> list[dict]:
    if HELM is None:
        pytest.skip("helm is not installed")
    chosen = [word for setting in SETTINGS[request.param] for word in ("--set", setting)]
    command = [*TEMPLATE, "--set", "image.registry=registry.test/team", *chosen]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    return [document for document in yaml.safe_load_all(found.stdout) if document]


def pods(documents: list[dict]) -> list[dict]:
    """The pod specs of all workloads."""
    found = []
    for document in documents:
        spec = document.get("spec", {})
        spec = spec.get("jobTemplate", {}).get("spec", spec)
        if "template" in spec:
            found.append(spec["template"]["spec"])
    return found


@pytest.mark.skipif(HELM is None, reason="helm is not installed")
def test_helm_finds_nothing_to_say_about_the_chart() -> None:
    command = [HELM, "lint", "--strict", str(CHART), "--set", "image.registry=registry.test/team"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0 and "WARNING" not in found.stdout, found.stdout + found.stderr


@pytest.mark.skipif(HELM is None, reason="helm is not installed")
def test_a_chart_without_a_registry_says_so() -> None:
    found = subprocess.run(TEMPLATE, capture_output=True, text=True, check=False)
    assert found.returncode != 0 and "image.registry: where the images were pushed" in found.stderr


def test_every_container_runs_without_rights_and_within_limits(rendered) -> None:
    assert pods(rendered)
    for pod in pods(rendered):
        assert pod["securityContext"]["runAsNonRoot"] is True and pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True and context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"] and container["resources"]["requests"]["cpu"]
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            assert mounted <= {volume["name"] for volume in pod.get("volumes", [])} | {"data"}


@pytest.mark.skipif(SCHEMAS is None, reason="kubernetes-validate is not installed")
@pytest.mark.parametrize("version", KUBERNETES)
def test_every_object_is_one_of_kubernetes_schemas_without_a_word_too_many(rendered, version, tmp_path) -> None:
    own = [document for document in rendered if document["kind"] != "ServiceMonitor"]  # of the Prometheus operator
    for number, document in enumerate(own):
        (tmp_path / f"{number}.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    files = sorted(str(path) for path in tmp_path.iterdir())
    command = [str(SCHEMAS), "--strict", "--quiet", "--kubernetes-version", version, *files]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert files and found.returncode == 0, found.stdout + found.stderr


def test_the_configuration_that_the_chart_brings_can_be_loaded(rendered, tmp_path) -> None:
    (config,) = (document for document in rendered if document["kind"] == "ConfigMap")
    (tmp_path / "zhiyin.yaml").write_text(config["data"]["zhiyin.yaml"], encoding="utf-8")
    assert configuration.load(tmp_path / "zhiyin.yaml").name == "demo"


def test_every_container_starts_with_flags_that_exist(rendered, tmp_path) -> None:
    for pod in pods(rendered):
        for container in pod["containers"]:
            if container["name"] == "gateway":
                cli.parser().parse_args(["up", *container["args"]])
            elif container["name"] == "model-server":
                check_model_server(container["args"], tmp_path)
            elif container["name"] == "loop":
                cli.parser().parse_args(container["args"])


def test_no_secret_is_in_the_chart(rendered) -> None:
    assert not [document for document in rendered if document["kind"] == "Secret"]
    for pod in pods(rendered):
        for container in pod["containers"]:
            for variable in container.get("env", []):
                assert "valueFrom" in variable or "@" not in variable["value"]
