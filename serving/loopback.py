"""Clients of servers on this machine: what goes to a loopback address never goes through a proxy of the environment."""

from __future__ import annotations

import ipaddress
import urllib.request


def is_loopback(address: str) -> bool:
    """Whether `host`, `host:port`, `[IPv6]:port` or `unix:path` is on this machine."""
    if address.startswith("unix:"):
        return True
    bare = address[1 : address.index("]")] if address.startswith("[") and "]" in address else address
    host = bare.rpartition(":")[0] if bare.count(":") == 1 else bare
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def grpc_options(address: str) -> list[tuple[str, int]]:
    """Options of a gRPC channel to `address`; gRPC would use http_proxy and grpc_proxy for loopback addresses, too."""
    return [("grpc.enable_http_proxy", 0)] if is_loopback(address) else []


def direct_opener() -> urllib.request.OpenerDirector:
    """Opens http addresses without any proxy."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))
