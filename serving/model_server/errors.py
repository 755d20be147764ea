"""The one error a request can end with: a canonical code and a message, as gRPC and HTTP clients see it."""

from __future__ import annotations

from grpc import StatusCode

MAX_MESSAGE_BYTES = 1024  # longer details are cut, as TF Serving does: they travel in a header

_CODES = {code.value[0]: code for code in StatusCode}
_HTTP_STATUS = {
    StatusCode.OK: 200,
    StatusCode.CANCELLED: 499,
    StatusCode.INVALID_ARGUMENT: 400,
    StatusCode.FAILED_PRECONDITION: 400,
    StatusCode.OUT_OF_RANGE: 400,
    StatusCode.UNAUTHENTICATED: 401,
    StatusCode.PERMISSION_DENIED: 403,
    StatusCode.NOT_FOUND: 404,
    StatusCode.ALREADY_EXISTS: 409,
    StatusCode.ABORTED: 409,
    StatusCode.UNIMPLEMENTED: 501,
    StatusCode.RESOURCE_EXHAUSTED: 503,
    StatusCode.UNAVAILABLE: 503,
    StatusCode.DEADLINE_EXCEEDED: 504,
}


class ServingError(Exception):
    """A request, a version or a configuration that cannot be served: a canonical code and what to do about it."""

    def __init__(self, code: StatusCode, message: str) -> None:
        self.code = code
        raw = message.encode(errors="backslashreplace")
        whole = len(raw) <= MAX_MESSAGE_BYTES
        self.message = raw.decode() if whole else raw[: MAX_MESSAGE_BYTES - 3].decode(errors="ignore") + "..."
        super().__init__(self.message)

    @property
    def http_status(self) -> int:
        """The HTTP status code of this error; 500 where no other fits."""
        return _HTTP_STATUS.get(self.code, 500)


def invalid(message: str) -> ServingError:
    """The caller's mistake: INVALID_ARGUMENT, 400."""
    return ServingError(StatusCode.INVALID_ARGUMENT, message)


def not_found(message: str) -> ServingError:
    """No such model or version: NOT_FOUND, 404."""
    return ServingError(StatusCode.NOT_FOUND, message)


def failed_precondition(message: str) -> ServingError:
    """Not now, or not with this model: FAILED_PRECONDITION, 400."""
    return ServingError(StatusCode.FAILED_PRECONDITION, message)


def from_code(number: int, message: str) -> ServingError:
    """An error from TensorFlow's numeric code, which is gRPC's; UNKNOWN where it has no name."""
    return ServingError(_CODES.get(number, StatusCode.UNKNOWN), message)
