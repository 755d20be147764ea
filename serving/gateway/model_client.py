"""Calls of a model server over gRPC: one channel, deadlines, and the server's errors sorted into theirs and ours."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import grpc
import numpy as np

from components.contract import BOTH, CONTENT
from serving.gateway import messages
from serving.gateway.batching import Batcher
from serving.gateway.model_requests import (
    ExplainAnswer,
    History,
    ListAnswer,
    RecommendRequest,
    Rules,
    list_in,
    of_lists,
    of_people,
    of_requests,
    recommended_in,
    rows_of,
    texts,
)
from serving.gateway.tracing import outgoing

_CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_http_proxy", 0),  # the model server is named by its address, not by the environment
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)
CALLS_AT_ONCE = 2  # for lists of a kind; who comes meanwhile shares the next call
MOST_TOGETHER = 16  # lists of a call
TOO_LATE = "deadline"  # the cause where the model was not asked
_REFUSED = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.OUT_OF_RANGE)


class ModelUnavailable(RuntimeError):
    """The model server is away, too late, overloaded, or serves no such model."""

    def __init__(self, cause: str, message: str) -> None:
        """cause: a word for metrics and answers."""
        super().__init__(message)
        self.cause = cause


class ModelRefused(ValueError):
    """The model server finds a fault in the request, or answers it with what is no number."""


class ModelClient:
    """One model on one server."""

    def __init__(self, address: str, model: str) -> None:
        """address: host:port of the server's gRPC. model: the served model's name."""
        self.address, self.model = address, model
        self._lists: Batcher[RecommendRequest, ListAnswer] = Batcher(
            self._recommend, CALLS_AT_ONCE, MOST_TOGETHER, ModelRefused
        )
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
        """A list for one person, perhaps in one call with others'."""
        if timeout_s <= 0:
            raise _too_late()
        try:
            return await self._lists(_kind_of(request), request, timeout_s)
        except asyncio.TimeoutError as error:
            raise ModelUnavailable("deadline_exceeded", f"{self.address}: no answer in {timeout_s:.3f} s") from error

    async def _recommend(self, requests: Sequence[RecommendRequest], timeout_s: float) -> list[ListAnswer]:
        """A list for each of these requests of one kind."""
        model, label = requests[0].model or self.model, requests[0].version_label
        outputs, version = await self._call("recommend", of_requests(requests), timeout_s, model, label)
        return [recommended_in(outputs, row, version) for row in range(len(requests))]

    async def similar(self, item_id: str, by: str, k: int, rules: Rules, time_s: int, timeout_s: float) -> ListAnswer:
        """The items nearest to one, by content, behaviour or both; none for an item that the model does not know."""
        inputs = {"item_id": texts([item_id])} | of_lists([rules], [k], [time_s])
        if by != BOTH:  # models of earlier releases do not know the input
            inputs["by"] = texts([by])
        outputs, version = await self._call("similar", inputs, timeout_s)
        told_by = outputs["by"][0].decode() if "by" in outputs else BOTH
        return ListAnswer(**list_in(outputs, 0, version), by=told_by)

    async def explain(
        self, user_id: str, history: History, item_id: str, time_s: int, timeout_s: float
    ) -> ExplainAnswer:
        """Why an item has its score for a person."""
        inputs = of_people([user_id], [history]) | {
            "item_ids": rows_of([[item_id]]),
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
        published_at_s: Sequence[int] | None,
        timeout_s: float,
    ) -> None:
        """Show these items from the next request on, or from their dates on.

        vectors: of `encode_items`. published_at_s: seconds since 1970, 0 = unknown; None for a model of an earlier
        release, which takes no dates.
        """
        inputs = {
            "item_id": texts(item_ids),
            **{name: values.astype(np.float32) for name, values in vectors.items()},
            "domain": texts(domains),
            "creator": texts(creators),
        }
        if published_at_s is not None:
            inputs["published_at_s"] = np.array(published_at_s, np.int64)
        await self._call("add_items", inputs, timeout_s)

    async def withdraw_items(self, item_ids: Sequence[str], timeout_s: float) -> None:
        """Show these items no more."""
        await self._call("withdraw_items", {"item_id": texts(item_ids)}, timeout_s)

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
            raise _too_late()
        request = messages.predict_request(model or self.model, signature, inputs)
        if label:
            request.model_spec.version_label = label
        response = await self._awaited(self._predict(request, timeout=timeout_s, metadata=outgoing()))
        outputs = {name: messages.array_of(tensor) for name, tensor in response.outputs.items()}
        for name, array in outputs.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():  # nothing to order by, and no JSON
                raise ModelRefused(f"{signature}: the model's {name} are not all finite")
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


def _too_late() -> ModelUnavailable:
    return ModelUnavailable(TOO_LATE, "nothing is left of the request's time")


def _kind_of(request: RecommendRequest) -> Hashable:
    """What requests that share a call have in common: rows of "" would allow nothing, and weights are all or none."""
    return request.model, request.version_label, bool(request.rules.allow), len(request.objective_weights)
