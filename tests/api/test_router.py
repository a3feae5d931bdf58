"""Paths, versions and methods."""

from __future__ import annotations

import socket

import pytest

from lamina.api.body import Body, Wire
from lamina.api.message import InvalidParameter, Query, Reply, Request
from lamina.api.router import NoSuchRoute, Route, Router, WrongMethod
from lamina.spec.framing import Sized


def _named(name: str):  # type: ignore[no-untyped-def]
    return lambda engine, request: Reply(body=f"{engine} {name} {dict(request.parameters)}".encode())


ROUTER = Router(
    "engine",
    [
        Route("GET", "/images/json", _named("list")),
        Route("GET", "/images/{name:path}/json", _named("inspect")),
        Route("DELETE", "/images/{name:path}", _named("remove")),
    ],
)


def _ask(method: str, path: str) -> str:
    request = Request(method, path, Query(), {}, Body(Wire(socket.socket()), Sized(0)))
    reply = ROUTER(request)
    assert isinstance(reply, Reply)
    return reply.body.decode()


def test_a_name_may_hold_slashes() -> None:
    assert _ask("GET", "/v1.51/images/docker.io/library/x:1/json") == "engine inspect {'name': 'docker.io/library/x:1'}"


def test_the_first_template_wins_and_head_is_a_get() -> None:
    assert _ask("HEAD", "/images/json") == "engine list {}"


def test_an_unknown_path_and_a_wrong_method_differ() -> None:
    with pytest.raises(NoSuchRoute):
        _ask("GET", "/nothing")
    with pytest.raises(WrongMethod):
        _ask("PUT", "/images/x")


def test_requests_older_than_what_is_advertised_are_answered_all_the_same() -> None:
    assert _ask("GET", "/v1.22/images/x:1/json") == _ask("GET", "/images/x:1/json")


@pytest.mark.parametrize("version", ["v1.11", "v1.52", "v2.0"])
def test_versions_outside_the_served_ones_are_refused(version: str) -> None:
    with pytest.raises(InvalidParameter, match=r"Minimum|Maximum"):
        _ask("GET", f"/{version}/images/json")
