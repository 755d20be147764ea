"""The two systems of the comparison as running processes: Gorse-in-one and our service, given the same events."""

from __future__ import annotations

import csv
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import httpx
import yaml

ROOT = Path(__file__).parents[2]
GORSE = "Gorse 0.4.15"
LIKED_FROM, K = 4.0, 10
AT_ONCE = 1000  # events of one call
UNHURRIED = {"X-Budget-Ms": "10000"}  # where quality is measured, no list stands in for the model's
GORSE_FITTED = ("fit ranking model complete", "fit click model complete")  # lines of its log
GORSE_LISTED = "complete ranking recommendation"
START_S, TRAIN_S = 300.0, 1800.0


@dataclass(frozen=True)
class World:
    """The tables, cut at the beginning of the test period."""

    folder: Path
    before: list[dict[str, str]]  # events, by time
    seen: dict[str, set[str]]  # person -> items of any event before
    liked_after: dict[str, set[str]]  # person -> new items liked in the test period


@dataclass(frozen=True)
class System:
    """A running system, as this benchmark uses it."""

    name: str
    pids: Callable[[], list[int]]
    folder: Path  # all that it writes
    ask: Callable[[httpx.Client, str], list[str]]  # person -> item ids
    like: Callable[[httpx.Client, str, str], None]
    path: Callable[[str], str]  # of the list of a person
    url: str
    is_answer: Callable[[httpx.Response], bool]  # whether it is a list, and not one that stands in for it


def gorse_of(program: Path):
    """Gorse-in-one with SQLite as a context: posts the world, starts it again so that it trains at once, and waits for
    everybody's list. What an earlier run has left in the folder is not posted again.
    """

    @contextmanager
    def start(world: World, folder: Path) -> Iterator[tuple[System, dict[str, float]]]:
        folder = folder / "gorse"
        folder.mkdir(parents=True, exist_ok=True)
        ports = _free_ports(2)
        (folder / "config.toml").write_text(GORSE_CONFIG.format(rpc=ports[0], http=ports[1]), encoding="utf-8")
        url = f"http://127.0.0.1:{ports[1]}"
        command, costs = [str(program), "-c", "config.toml"], {}
        if not (folder / "data.db").is_file():
            with (
                _process(command, folder, "load.log", url + "/api/health/live"),
                httpx.Client(base_url=url, timeout=120, trust_env=False) as client,
            ):
                costs["events_per_s"] = _post_to_gorse(client, world)
        started = time.monotonic()
        with _process(command, folder, "run.log", url + "/api/health/live") as process:
            _wait_for(lambda: has_trained((folder / "run.log").read_text(errors="replace")), TRAIN_S, "Gorse's lists")
            costs["seconds_to_train"] = time.monotonic() - started
            yield (
                System(GORSE, lambda: [process.pid], folder, _gorse_list, _gorse_like, _gorse_path, url, _is_list),
                costs,
            )

    return start


def has_trained(log: str) -> bool:
    """Whether Gorse has made everybody's list after it had fitted both of its models.

    The pass that ends next may have begun before them; the one after it makes anew what lacked a model.
    """
    fitted = max(log.rfind(line) for line in GORSE_FITTED) if all(line in log for line in GORSE_FITTED) else -1
    return fitted >= 0 and log.count(GORSE_LISTED, fitted) >= 2


@contextmanager
def ours(world: World, folder: Path) -> Iterator[tuple[System, dict[str, float]]]:
    """Our pipeline's run on the same events and the service of it; events are posted to see how fast they are taken.

    What an earlier run has left in the folder is taken from the pipeline's cache.
    """
    folder = folder / "ours"
    folder.mkdir(parents=True, exist_ok=True)
    config, is_first = _our_config(world, folder), not (folder / "run").is_dir()
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", "pipeline.cli", "run", "--config", str(config)], cwd=ROOT, check=True)
    costs = {"seconds_to_train": time.monotonic() - started}
    (port,) = _free_ports(1)
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "pipeline.cli", "up", "--config", str(config), "--port", str(port)]
    with _process(command, folder, "up.log", url + "/health/ready", cwd=ROOT) as process:
        if is_first:
            with httpx.Client(base_url=url, timeout=120, trust_env=False) as client:
                costs["events_per_s"] = _post_to_ours(client, world)
        yield (
            System("ours", lambda: _family(process.pid), folder, _our_list, _our_like, _our_path, url, _is_whole_list),
            costs,
        )


def _gorse_path(user: str) -> str:
    return f"/api/recommend/{user}?n={K}"


def _gorse_list(client: httpx.Client, user: str) -> list[str]:
    return client.get(_gorse_path(user)).json() or []


def _gorse_like(client: httpx.Client, user: str, item: str) -> None:
    client.post("/api/feedback", json=[_feedback("star", user, item, None)]).raise_for_status()


def _our_path(user: str) -> str:
    return f"/v1/users/{user}/recommendations?k={K}"


def _our_list(client: httpx.Client, user: str) -> list[str]:
    response = client.get(_our_path(user), headers=UNHURRIED)
    if not _is_whole_list(response):
        raise RuntimeError(f"ours: the model did not answer: {response.status_code} {response.text[:200]}")
    return [item["item_id"] for item in response.json()["items"]]


def _our_like(client: httpx.Client, user: str, item: str) -> None:
    event = {"user_id": user, "item_id": item, "event": "rating", "value": 5}
    client.post("/v1/events", json=event).raise_for_status()


def _is_list(response: httpx.Response) -> bool:
    return response.status_code == 200


def _is_whole_list(response: httpx.Response) -> bool:
    return response.status_code == 200 and response.json()["degraded"] is None


def _our_config(world: World, folder: Path) -> Path:
    settings = yaml.safe_load((ROOT / "configs" / "movielens_100k.yaml").read_text(encoding="utf-8"))
    events = folder / "events.csv"
    with events.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, world.before[0].keys())
        writer.writeheader()
        writer.writerows(world.before)
    settings["data"]["catalogue"]["path"] = str(world.folder / "catalogue.csv")
    settings["data"]["users"]["path"] = str(world.folder / "users.csv")
    settings["data"]["events"]["path"] = str(events)
    settings["work_dir"] = str(folder / "run")
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


def _post_to_gorse(client: httpx.Client, world: World) -> float:
    items = [
        {"ItemId": row["item_id"], "Labels": row["tags"].split("|"), "Comment": row["title"], "Categories": [],
         "IsHidden": False, "Timestamp": row["published_at"] or "1995-01-01T00:00:00Z"}
        for row in _rows(world.folder / "catalogue.csv")
    ]  # fmt: skip
    client.post("/api/items", json=items).raise_for_status()
    users = [
        {"UserId": row["user_id"], "Labels": [row["gender"], row["occupation"]]}
        for row in _rows(world.folder / "users.csv")
    ]
    client.post("/api/users", json=users).raise_for_status()
    feedback = []
    for event in world.before:
        kinds = ("read", "star") if float(event["value"]) >= LIKED_FROM else ("read",)
        feedback += [_feedback(kind, event["user_id"], event["item_id"], int(event["timestamp"])) for kind in kinds]
    started = time.monotonic()
    for start in range(0, len(feedback), AT_ONCE):
        client.post("/api/feedback", json=feedback[start : start + AT_ONCE]).raise_for_status()
    return len(feedback) / (time.monotonic() - started)


def _post_to_ours(client: httpx.Client, world: World) -> float:
    """New events of people and items of their own, so that what the service knows of the world stays as it is."""
    events = [
        {"user_id": f"load-{event['user_id']}", "item_id": event["item_id"], "event": "rating",
         "value": float(event["value"]), "timestamp": int(event["timestamp"])}
        for event in world.before[:20_000]
    ]  # fmt: skip
    started = time.monotonic()
    for start in range(0, len(events), AT_ONCE):
        client.post("/v1/events", json={"events": events[start : start + AT_ONCE]}).raise_for_status()
    return len(events) / (time.monotonic() - started)


def _feedback(kind: str, user: str, item: str, time_s: int | None) -> dict[str, str]:
    at = datetime.fromtimestamp(time_s, timezone.utc) if time_s else datetime.now(timezone.utc)
    return {"FeedbackType": kind, "UserId": user, "ItemId": item, "Timestamp": at.isoformat()}


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@contextmanager
def _process(
    command: Sequence[str], folder: Path, log: str, ready: str, cwd: Path | None = None
) -> Iterator[subprocess.Popen]:
    """A program that answers at an address; it is ended when it is no longer needed."""
    with (folder / log).open("wb") as output:
        process = subprocess.Popen(command, cwd=cwd or folder, stdout=output, stderr=subprocess.STDOUT)
    try:
        _wait_for(lambda: _answers(ready, process), START_S, command[0])
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(url: str, process: subprocess.Popen) -> bool:
    if process.poll() is not None:
        raise RuntimeError(f"the program ended with {process.returncode} before it answered")
    try:
        return httpx.get(url, timeout=2, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def _wait_for(is_true: Callable[[], bool], seconds: float, what: str) -> None:
    until = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > until:
            raise RuntimeError(f"{what}: not there after {seconds:.0f} s")
        time.sleep(0.2)


def _family(pid: int) -> list[int]:
    """A process and its descendants."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return [pid, *(member for child in children for member in _family(int(child)))]


def resident_mb(pid: int) -> float:
    """Memory of a process that is in use now, MB. Linux."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


GORSE_CONFIG = """
[database]
cache_store = "sqlite://cache.db"
data_store = "sqlite://data.db"
[master]
host = "127.0.0.1"
port = {rpc}
http_host = "127.0.0.1"
http_port = {http}
n_jobs = 2
[recommend]
cache_size = 100
[recommend.data_source]
positive_feedback_types = ["star"]
read_feedback_types = ["read"]
[recommend.popular]
popular_window = "876000h"
[recommend.offline]
check_recommend_period = "1m"
refresh_recommend_period = "24h"
enable_latest_recommend = true
enable_popular_recommend = true
enable_user_based_recommend = true
enable_item_based_recommend = true
enable_collaborative_recommend = true
enable_click_through_prediction = true
[recommend.online]
fallback_recommend = ["item_based", "latest"]
num_feedback_fallback_item_based = 10
"""
