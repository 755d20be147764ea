"""Settings of the online service. Standard library only."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from components.config import DataConfig
from components.media.addresses import MediaRoots
from serving.config import ListDefaults


@dataclass(frozen=True)
class VariantConfig:
    """One arm of an experiment: what it changes in a request that does not say it itself."""

    share: float  # of the people, together 1
    model: str = ""  # name of the served model; the configuration's where empty
    version_label: str = ""  # of the served model, such as canary
    objective_weights: dict[str, float] = field(default_factory=dict)  # kind of event -> weight
    diversity: float | None = None  # 0 to 1
    exploration_rate: float | None = None  # 0 to 1
    max_per_creator: int | None = None  # 0 = any number


@dataclass(frozen=True)
class ExperimentConfig:
    """An experiment: each person is in one variant, always the same."""

    variants: dict[str, VariantConfig]
    salt: str = ""  # another salt is another split; the experiment's name where empty

    def __post_init__(self) -> None:
        total = math.fsum(variant.share for variant in self.variants.values())
        if not self.variants or abs(total - 1) > 1e-6 or any(one.share < 0 for one in self.variants.values()):
            raise ValueError(f"variants: the shares add up to {total:g}, expected 1 and none below 0")


@dataclass(frozen=True)
class PrivacyConfig:
    """How ids of people are kept."""

    pseudonyms: bool = False  # keep HMAC-SHA256(operator's key, id) in place of every person's id
    key_file: str = ""  # holds the operator's key, at least 32 bytes; not in the store


@dataclass(frozen=True)
class LoopConfig:
    """When `zhiyin loop` trains again."""

    min_new_events: int = 1000  # run when so many events are new since the last run
    max_wait_s: float = 86_400.0  # or when so much time has gone by and there is any new event
    poll_s: float = 10.0  # how often the store is asked


@dataclass(frozen=True)
class GatewayConfig:
    """The gateway: budgets, limits, fallbacks, access."""

    budget_ms: float = 100.0  # of a request, unless it says X-Budget-Ms
    explain_budget_ms: float = 5000.0  # of an explanation, which integrates gradients
    history_events: int = 500  # most recent events of a person that go into a request
    max_in_flight: int = 64  # lists under way at once, fewer while answers come late; more are refused at once with 503
    rate_limit_per_s: float = 500.0  # requests of one key (or address), on average
    rate_limit_burst: int = 1000  # requests that may come at once
    breaker_failures: int = 5  # failures in a row after which the model is left alone
    breaker_retry_s: float = 2.0  # until it is tried again
    last_list_s: float = 600.0  # how long a person's last good list may stand in
    last_lists: int = 10_000  # people whose last list is kept
    catalog_poll_s: float = 1.0  # how often a gateway looks for items that others changed
    tell_s: float = (
        5.0  # how long a change of items waits for the model servers before it says that they are being told
    )
    allow_hosts: tuple[str, ...] = ()  # values of the Host header beside loopback's; any where keys are needed
    cors_origins: tuple[str, ...] = ()  # pages of other origins that may call; none by default
    experiments: dict[str, ExperimentConfig] = field(default_factory=dict)
    privacy: PrivacyConfig = PrivacyConfig()
    loop: LoopConfig = LoopConfig()
    traces_endpoint: str = ""  # OTLP over HTTP, such as http://localhost:4318/v1/traces; off where empty
    log_level: Literal["debug", "info", "warning", "error"] = "info"  # of the log lines on stderr

    def __post_init__(self) -> None:
        for name in (
            "budget_ms",
            "explain_budget_ms",
            "max_in_flight",
            "rate_limit_per_s",
            "rate_limit_burst",
            "breaker_failures",
        ):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: got {getattr(self, name)}, expected more than 0")
        if self.history_events < 1:
            raise ValueError(f"history_events: got {self.history_events}, expected at least 1")


@dataclass(frozen=True)
class ServerSettings:
    """Everything that one gateway process needs."""

    model_name: str
    data: DataConfig  # the catalogue's and the people's columns, the event rules, media_root
    gateway: GatewayConfig = GatewayConfig()
    show_unreleased: bool = False  # as serving.show_unreleased
    list_defaults: ListDefaults = ListDefaults()  # as serving.defaults
    model_servers: tuple[str, ...] = ("127.0.0.1:8500",)  # host:port of gRPC; the first answers, all are told of items
    store: str = ""  # a file, or redis://host:port/db
    host: str = "127.0.0.1"
    port: int = 8080  # 0 = a free one
    tls_certificate: str = ""  # PEM files
    tls_key: str = ""

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of events in the order of the model's objectives (by their names)."""
        return tuple(sorted(self.data.event_rules))

    @property
    def media(self) -> MediaRoots:
        """From where the items' media may be read."""
        return MediaRoots(self.data.media_root, self.data.media_roots)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the gateway."""
        return self.host in ("127.0.0.1", "::1", "localhost")


def column_types(columns: Any) -> dict[str, str]:
    """Column name -> kind (components.contract.Kind)."""
    return {column.name: column.kind for column in columns}
