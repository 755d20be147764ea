"""The online service as real processes: mixed load, event to effect, kills under load, overload.

DIR is the folder in which `./zhiyin demo` was run (the current one without --data-dir). `load` sends 80 % lists, 15 %
events and 5 % similar items at 100 a second, with SQLite and Redis and with one and two gateways; `effect` follows
1,000 likes into the next list; `kills` kills gateway, Redis, model server and loop 20 times each at random moments;
`overload` sends three times what is sustained. All wait for nothing: the generator is an open loop. `load` and
`overload` want a machine that does nothing else. Some 25 minutes on two cores with the minute of load that is the
default; --seconds 600 for ten minutes of each.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from benchmarks.goals import Row, check_cases, row_of
from benchmarks.service import effect, kills, load, overload
from benchmarks.service.parts import GATEWAY, LOOP, MODEL_SERVER, REDIS, Setup, service_of

EFFECTS, KILLS = 1000, 20
SETUPS = tuple(Setup(store, gateways) for store in ("SQLite", "Redis") for gateways in (1, 2))
NO_RATE_LIMIT = (("rate_limit_per_s", 1e6), ("rate_limit_burst", 1_000_000))  # one address stands for many callers
UNHURRIED = (("budget_ms", 2000.0),)  # what is degraded is so for the kill, not for a machine that is busy
RUNS_OFTEN = (("loop", {"min_new_events": 20, "poll_s": 1.0}),)
KILLED = {
    GATEWAY: Setup("SQLite", settings=UNHURRIED),
    MODEL_SERVER: Setup("SQLite", settings=UNHURRIED),
    LOOP: Setup("SQLite", settings=UNHURRIED + RUNS_OFTEN),
    REDIS: Setup("Redis", settings=UNHURRIED),
}
GOALS: list[dict[str, Any]] = [
    *({"case": f"load: {setup}", "metric": "p99_ms", "at_most": 40} for setup in SETUPS),
    *({"case": f"load: {setup}", "metric": "errors", "at_most": 0} for setup in SETUPS),
    *({"case": f"load: {setup}", "metric": "own_p50_ms", "at_most": 3} for setup in SETUPS),
    {"case": "effect", "metric": "counted_share", "at_least": 1},
    {"case": "effect", "metric": "p99_ms", "at_most": 50},
    *({"case": f"kills: {part}", "metric": metric, "at_most": 0} for part in KILLED for metric in ("lost", "twice")),
    {"case": "overload", "metric": "refusal_p99_ms", "at_most": 50},
    {"case": "overload", "metric": "goodput_share", "at_least": 0.8},
    {"case": "overload", "metric": "seconds_to_normal", "at_most": 5},
]
Metrics = dict[str, float | None]


def run(data_dir: Path | None, cases: Sequence[str] = (), seconds: float = 60.0) -> list[Row]:
    """Rows of the cases: load, effect, kills, overload, or one setup or part of them as its rows name it.

    seconds: of the load of each setup and of the overload. Raises SettingsError for another case.
    """
    demo = (data_dir or Path.cwd()).absolute()
    chosen = [name for name in _measured(seconds) if not cases or {name, name.partition(":")[0]} & set(cases)]
    known = {name.partition(":")[0] for name in _measured(seconds)} | {*_measured(seconds)}
    check_cases(cases, sorted(known))
    rows: list[Row] = []
    for name in chosen:
        with tempfile.TemporaryDirectory(prefix="zhiyin-service-") as folder:
            found = _measured(seconds)[name](demo, Path(folder))
        print(f"{name}: {found}", flush=True)
        rows += [row_of(name, "ours", metric, value) for metric, value in found.items()]
    return rows


def _measured(seconds: float) -> dict[str, Callable[[Path, Path], Metrics]]:
    """Case -> what measures it, given the folder of the demo and one to work in."""

    def loaded(setup: Setup) -> Callable[[Path, Path], Metrics]:
        return lambda demo, folder: _with(demo, folder, setup, lambda service: load.measure(service, seconds))

    def killed(part: str) -> Callable[[Path, Path], Metrics]:
        return lambda demo, folder: _kill(demo, folder, part)

    return {
        **{f"load: {setup}": loaded(setup) for setup in SETUPS},
        "effect": lambda demo, folder: _with(demo, folder, Setup(), lambda service: effect.measure(service, EFFECTS)),
        **{f"kills: {part}": killed(part) for part in KILLED},
        "overload": lambda demo, folder: _with(
            demo, folder, Setup(settings=NO_RATE_LIMIT), lambda service: overload.measure(service, seconds)
        ),
    }


def _with(demo: Path, folder: Path, setup: Setup, measure: Callable[[Any], Metrics]) -> Metrics:
    with service_of(demo, folder, setup) as service:
        return measure(service)


def _kill(demo: Path, folder: Path, part: str) -> Metrics:
    with service_of(demo, folder, KILLED[part]) as service, service.with_loop() if part == LOOP else nullcontext():
        return kills.measure(service, part, KILLS)
