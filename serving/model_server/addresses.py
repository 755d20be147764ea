"""Addresses to listen on: one spelling of a host for both ports, IPv4 and IPv6 alike."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Sequence

_BACKLOG = 1024  # connections that may wait to be accepted


def resolve(host: str) -> list[str]:
    """The numeric addresses of `host`: its own, or those of a name; `localhost` has both families'.

    Raises OSError where the name is unknown.
    """
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    with contextlib.suppress(ValueError):
        return [str(ipaddress.ip_address(bare))]
    if bare == "localhost":
        return ["127.0.0.1", *(["::1"] if _has_ipv6_loopback() else [])]
    try:
        found = socket.getaddrinfo(bare, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise OSError(f"cannot listen on the host {host!r}: {error.strerror}") from error
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def url_host(address: str) -> str:
    """A numeric address as it stands in `host:port`: IPv6 in brackets."""
    return f"[{address}]" if ":" in address else address


def bind(addresses: Sequence[str], port: int, *, shared: bool = False, listen: bool = True) -> list[socket.socket]:
    """A TCP socket for each address, all on the same port.

    port: 0 takes one that is free on all addresses. shared: other processes may bind the same (SO_REUSEPORT).
    listen: whether connections are taken. The address `::` takes IPv4 connections, too.
    Raises OSError naming the address where the port is taken.
    """
    with contextlib.ExitStack() as opened:
        sockets: list[socket.socket] = []
        for address in addresses:
            one = opened.enter_context(_bound(address, port, shared))
            port = one.getsockname()[1]
            if listen:
                one.listen(_BACKLOG)
            sockets.append(one)
        opened.pop_all()
        return sockets


def _bound(address: str, port: int, shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    one = socket.socket(family, socket.SOCK_STREAM)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address != "::"))
        one.bind((address, port))
    except OSError as error:
        one.close()
        raise OSError(error.errno, f"cannot bind {url_host(address)}:{port}: {error.strerror}") from error
    return one


def _has_ipv6_loopback() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True
