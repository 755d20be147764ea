"""Calls of a model server over gRPC: one channel, deadlines, and the server's errors sorted into theirs and ours."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc
import numpy as np

from components.contract import BOTH, CONTENT
from serving.gateway import messages
from serving.gateway.tracing import outgoing

_CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_http_proxy", 0),  # the model server is named by its address, not by the environment
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)
_REFUSED = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.OUT_OF_RANGE)


NONE = -1  # what a served option takes for "none", since 0 leaves it to the operator
N = TypeVar("N", int, float)


def option_of(value: N | None) -> N:
    """A value as the served options take it: None leaves it to the operator, 0 is none."""
    if value is None:
        return 0
    return value or NONE


class ModelUnavailable(RuntimeError):
    """The model server is away, too late, overloaded, or serves no such model."""

    def __init__(self, cause: str, message: str) -> None:
        """cause: a word for metrics and answers."""
        super().__init__(message)
        self.cause = cause


class ModelRefused(ValueError):
    """The model server finds a fault in the request."""


@dataclass(frozen=True)
class History:
    """Interactions of one person, oldest first."""

    item_ids: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    age_s: tuple[float, ...] = ()  # seconds before the request, 0 where unknown


@dataclass(frozen=True)
class Rules:
    """What may be in a list."""

    exclude: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()  # nothing else; anything where empty
    domain: str = ""  # any where empty
    max_per_creator: int = 0  # 0 = as the operator has configured, NONE = any number
    max_item_age_s: int = 0  # 0 = any age


@dataclass(frozen=True)
class RecommendRequest:
    """One person's request."""

    user_id: str
    k: int
    history: History = History()
    rules: Rules = Rules()
    objective_weights: tuple[float, ...] = ()  # by kind of event in the order of their names; none = as configured
    diversity: float = 0.0  # 0 = as the operator has configured, NONE = none; likewise:
    exploration_rate: float = 0.0
    seed: int = 0
    time_s: int = 0  # 0 = the last event known to the model
    model: str = ""  # the client's where empty
    version_label: str = ""


@dataclass(frozen=True)
class ListAnswer:
    """A ranked list from the model."""

    item_ids: list[str]
    scores: list[float]
    version: int
    probabilities: list[list[float]] = field(default_factory=list)  # by item, by kind of event
    reasons: list[str] = field(default_factory=list)
    is_new_user: bool = False
    is_full_scan: bool = False
    by: str = ""  # of similar items: what orders them


@dataclass(frozen=True)
class ExplainAnswer:
    """What one item's score is made of."""

    score: float
    utility: float
    history: list[tuple[str, float]]  # item of the history -> what it adds to the score
    history_rest: float
    fields: list[tuple[str, float]]  # field of the ranker -> what it adds to the utility
    field_rest: float
    version: int


class ModelClient:
    """One model on one server."""

    def __init__(self, address: str, model: str) -> None:
        """address: host:port of the server's gRPC. model: the served model's name."""
        self.address, self.model = address, model
        self._channel = grpc.aio.insecure_channel(address, options=_CHANNEL_OPTIONS)
        self._predict = self._channel.unary_unary(
            messages.PREDICT, messages.PredictRequest.SerializeToString, messages.PredictResponse.FromString
        )
        self._status = self._channel.unary_unary(
            messages.GET_MODEL_STATUS,
            messages.GetModelStatusRequest.SerializeToString,
            messages.GetModelStatusResponse.FromString,
        )
        self._metadata = self._channel.unary_unary(
            messages.GET_MODEL_METADATA,
            messages.GetModelMetadataRequest.SerializeToString,
            messages.GetModelMetadataResponse.FromString,
        )

    async def close(self) -> None:
        """Let go of the channel."""
        await self._channel.close()

    async def recommend(self, request: RecommendRequest, timeout_s: float) -> ListAnswer:
        """A list for one person."""
        rules = request.rules
        inputs = _person(request.user_id, request.history) | _rules(rules, request.k, request.time_s)
        inputs["objective_weights"] = np.array([request.objective_weights], np.float32)
        inputs["diversity"] = np.array([request.diversity], np.float32)
        inputs["explore_share"] = np.array([request.exploration_rate], np.float32)
        inputs["seed"] = np.array([request.seed], np.int32)
        outputs, version = await self._call(
            "recommend", inputs, timeout_s, request.model or self.model, request.version_label
        )
        count = int(outputs["count"][0])
        return ListAnswer(
            **_list(outputs, count, version),
            probabilities=outputs["probabilities"][0, :count].tolist(),
            reasons=[reason.decode() for reason in outputs["reasons"][0, :count]],
            is_new_user=bool(outputs["fallback"][0]),
            is_full_scan=bool(outputs["widened"][0]),
        )

    async def similar(self, item_id: str, by: str, k: int, rules: Rules, time_s: int, timeout_s: float) -> ListAnswer:
        """The items nearest to one, by content, behaviour or both; none for an item that the model does not know."""
        inputs = {"item_id": _texts([item_id])} | _rules(rules, k, time_s)
        if by != BOTH:  # models of earlier releases do not know the input
            inputs["by"] = _texts([by])
        outputs, version = await self._call("similar", inputs, timeout_s)
        told_by = outputs["by"][0].decode() if "by" in outputs else BOTH
        return ListAnswer(**_list(outputs, int(outputs["count"][0]), version), by=told_by)

    async def explain(
        self, user_id: str, history: History, item_id: str, time_s: int, timeout_s: float
    ) -> ExplainAnswer:
        """Why an item has its score for a person."""
        inputs = _person(user_id, history) | {
            "item_ids": _row([item_id]),
            "objective_weights": np.zeros((1, 0), np.float32),
            "time_s": np.array([time_s], np.int64),
        }
        outputs, version = await self._call("explain", inputs, timeout_s)
        steps = [item.decode() for item in outputs["history_ids"][0]]
        return ExplainAnswer(
            score=float(outputs["score"][0, 0]),
            utility=float(outputs["utility"][0, 0]),
            history=[(step, part) for step, part in zip(steps, outputs["history_parts"][0, 0].tolist()) if step],
            history_rest=float(outputs["history_rest"][0, 0]),
            fields=list(
                zip((name.decode() for name in outputs["field_names"][0]), outputs["field_parts"][0, 0].tolist())
            ),
            field_rest=float(outputs["field_rest"][0, 0]),
            version=version,
        )

    async def encode_items(self, inputs: Mapping[str, np.ndarray], timeout_s: float) -> dict[str, np.ndarray]:
        """What items are added with, from their raw features as `encode_item` takes them: `vector` and, by models that
        tell it, `content`, float32 [B, D] each.
        """
        outputs, _ = await self._call("encode_item", inputs, timeout_s)
        return {name: outputs[name] for name in ("vector", CONTENT) if name in outputs}

    async def add_items(
        self,
        item_ids: Sequence[str],
        vectors: Mapping[str, np.ndarray],
        domains: Sequence[str],
        creators: Sequence[str],
        timeout_s: float,
    ) -> None:
        """Show these items from the next request on. vectors: of `encode_items`."""
        inputs = {
            "item_id": _texts(item_ids),
            **{name: values.astype(np.float32) for name, values in vectors.items()},
            "domain": _texts(domains),
            "creator": _texts(creators),
        }
        await self._call("add_items", inputs, timeout_s)

    async def withdraw_items(self, item_ids: Sequence[str], timeout_s: float) -> None:
        """Show these items no more."""
        await self._call("withdraw_items", {"item_id": _texts(item_ids)}, timeout_s)

    async def signatures(self, timeout_s: float) -> dict[str, dict[str, messages.TensorSpec]]:
        """The inputs of every signature of the newest version."""
        request = messages.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = self.model
        return messages.signature_inputs(await self._awaited(self._metadata(request, timeout=timeout_s)))

    async def version(self, timeout_s: float) -> int:
        """The newest version that is available."""
        request = messages.GetModelStatusRequest()
        request.model_spec.name = self.model
        response = await self._awaited(self._status(request, timeout=timeout_s))
        available = [one.version for one in response.model_version_status if one.state == messages.AVAILABLE]
        if not available:
            raise ModelUnavailable("no_version", f"{self.address}: no version of {self.model} is available")
        return max(available)

    async def wait_for_change(self) -> None:
        """Returns when the connection has been lost or made since it was looked at last."""
        await self._channel.wait_for_state_change(self._channel.get_state(try_to_connect=True))

    async def _call(
        self, signature: str, inputs: Mapping[str, np.ndarray], timeout_s: float, model: str = "", label: str = ""
    ) -> tuple[dict[str, np.ndarray], int]:
        if timeout_s <= 0:
            raise ModelUnavailable("deadline", "nothing is left of the request's time")
        request = messages.predict_request(model or self.model, signature, inputs)
        if label:
            request.model_spec.version_label = label
        response = await self._awaited(self._predict(request, timeout=timeout_s, metadata=outgoing()))
        outputs = {name: messages.array_of(tensor) for name, tensor in response.outputs.items()}
        return outputs, response.model_spec.version.value

    async def _awaited(self, call: Any) -> Any:
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            code, details = error.code(), error.details() or ""
            if code in _REFUSED:
                raise ModelRefused(details) from error
            raise ModelUnavailable(code.name.lower(), f"{self.address}: {code.name} {details}") from error
        except asyncio.CancelledError:
            call.cancel()
            raise


def _texts(values: Sequence[str]) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = [value.encode() for value in values]
    return array


def _row(values: Sequence[str]) -> np.ndarray:
    return _texts(values)[np.newaxis]


def _person(user_id: str, history: History) -> dict[str, np.ndarray]:
    return {
        "user_id": _texts([user_id]),
        "history_ids": _row(history.item_ids),
        "history_events": _row(history.events),
        "history_age_s": np.array([history.age_s], np.float32),
    }


def _rules(rules: Rules, k: int, time_s: int) -> dict[str, np.ndarray]:
    return {
        "exclude_ids": _row(rules.exclude),
        "allow_ids": _row(rules.allow),
        "domain": _texts([rules.domain]),
        "k": np.array([k], np.int32),
        "max_per_creator": np.array([rules.max_per_creator], np.int32),
        "max_item_age_s": np.array([rules.max_item_age_s], np.int64),
        "time_s": np.array([time_s], np.int64),
    }


def _list(outputs: Mapping[str, np.ndarray], count: int, version: int) -> dict[str, Any]:
    return {
        "item_ids": [item.decode() for item in outputs["item_ids"][0, :count]],
        "scores": outputs["scores"][0, :count].tolist(),
        "version": version,
    }
