"""The examples of docs/service.md are run as they stand there."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHANGES_ITEMS = True
ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "service.md").read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_every_example_is_answered_as_it_should_be(gateway):
    assert len(EXAMPLES) > 10
    for example in EXAMPLES:
        command = example.replace("curl -s", "curl -s --fail-with-body --noproxy '*'")
        done = subprocess.run(
            ["sh", "-c", command],
            env={"ADDRESS": gateway.url, "PATH": "/usr/bin:/bin"},
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, (example, done.stdout)
        if done.stdout:
            answer = json.loads(done.stdout)
            assert answer.get("refused", 0) == 0, answer
            assert answer.get("degraded") is None, answer


def test_every_metric_is_in_the_docs(gateway):
    text = (ROOT / "docs" / "service.md").read_text(encoding="utf-8")
    for name in re.findall(r"^# TYPE (\S+)", gateway.http.get("/metrics").text, re.MULTILINE):
        if not name.endswith("_created"):
            assert f"`{name}" in text, name
