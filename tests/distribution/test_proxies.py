"""Proxies: which one leads where, and registries behind one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lamina.builder.fetching import Fetcher
from lamina.distribution.client import Registries
from lamina.distribution.proxies import InvalidProxy, Proxies
from lamina.distribution.transport import RegistryOptions, RegistryUnreachable, TlsFailed, Transport, discard
from lamina.registry.server import RegistryServer
from tests.registry.servers import host, started

from .proxy import Proxy
from .test_client import CERTIFICATES, client_of, fetched, put_image

BOTH = Proxies("http://plain:3128", "http://secure:3128")


def test_each_scheme_has_its_proxy() -> None:
    assert BOTH.of("http://registry.test/v2/") == "http://plain:3128"
    assert BOTH.of("https://registry.test/v2/") == "http://secure:3128"
    assert Proxies(https="http://secure:3128").of("http://registry.test/v2/") == ""
    assert Proxies(http="plain:3128").of("http://registry.test/") == "http://plain:3128"


@pytest.mark.parametrize("place", ["localhost", "127.0.0.1:5000", "127.8.9.1", "[::1]:5000"])
def test_this_machine_is_asked_directly(place: str) -> None:
    assert BOTH.of(f"http://{place}/v2/") == ""


@pytest.mark.parametrize(
    ("exempt", "direct", "proxied"),
    [
        ("*", ["a.test", "10.0.0.1"], []),
        ("example.com", ["example.com", "a.example.com", "EXAMPLE.com."], ["anexample.com", "example.org"]),
        (".example.com", ["a.example.com", "a.b.example.com"], ["example.com"]),
        ("*.example.com", ["a.example.com"], ["example.com"]),
        ("example.com:5000", ["example.com:5000", "a.example.com:5000"], ["example.com", "example.com:5001"]),
        ("example.com:443", ["example.com"], ["example.com:5000"]),
        (" a.test , b.test,", ["a.test", "b.test"], ["c.test"]),
        ("10.0.0.1", ["10.0.0.1", "10.0.0.1:5000"], ["10.0.0.2"]),
        ("10.0.0.1:5000", ["10.0.0.1:5000"], ["10.0.0.1"]),
        ("10.0.0.0/8", ["10.1.2.3:5000"], ["11.0.0.1", "10.test"]),
        ("2001:db8::1,fd00::/8", ["[2001:db8::1]:5000", "[fd00::7]"], ["[2001:db8::2]"]),
        ("[2001:db8::1]:5000", ["[2001:db8::1]:5000"], ["[2001:db8::1]"]),
        ("nonsense/8,:5,.,", [], ["a.test", "10.0.0.1"]),
    ],
)
def test_who_is_exempt_is_asked_directly(exempt: str, direct: list[str], proxied: list[str]) -> None:
    proxies = replace(BOTH, exempt=exempt)
    assert [place for place in direct if proxies.of(f"https://{place}/v2/")] == []
    assert [place for place in proxied if not proxies.of(f"https://{place}/v2/")] == []


def test_the_environment_and_what_a_setting_says_before_it() -> None:
    found = Proxies.from_environment({"HTTP_PROXY": "http://a:1", "http_proxy": "http://b:1", "https_proxy": "http://c:1", "no_proxy": "d"})
    assert found == Proxies("http://a:1", "http://c:1", "d")
    assert Proxies(https="http://e:1").or_else(found) == Proxies("http://a:1", "http://e:1", "d")
    assert found.environment() == {"http_proxy": "http://a:1", "https_proxy": "http://c:1", "no_proxy": "d"}
    assert Proxies().environment() == {}


@pytest.mark.parametrize("text", ["socks5://a:1", "http://", "http://a:port", "http://a:0", "ftp://a", "://"])
def test_an_address_that_is_not_one_is_refused(text: str) -> None:
    with pytest.raises(InvalidProxy, match="invalid address of a proxy"):
        Proxies(http=text).check()
    with pytest.raises(InvalidProxy):
        Proxies(http=text).of("http://registry.test/")


def test_passwords_are_not_shown() -> None:
    proxies = Proxies("http://me:secret@proxy:3128", "me:secret@proxy:3128", "a.test")
    assert proxies.shown() == {"HttpProxy": "http://xxxxx:xxxxx@proxy:3128", "HttpsProxy": "xxxxx:xxxxx@proxy:3128", "NoProxy": "a.test"}
    with pytest.raises(InvalidProxy) as refused:
        Proxies(http="socks5://me:secret@proxy:3128").check()
    assert "secret" not in str(refused.value)


@pytest.fixture(params=["plain", "tls"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RegistryServer]:
    files = {"tls_certificate": str(CERTIFICATES / "engine.pem"), "tls_key": str(CERTIFICATES / "engine-key.pem")}
    server = started(tmp_path / "registry", **(files if request.param == "tls" else {}))
    yield server
    server.close()


@pytest.fixture
def proxy(registry: RegistryServer) -> Iterator[Proxy]:
    made = Proxy(host(registry))
    yield made
    made.close()


def test_a_registry_that_only_the_proxy_knows(registry: RegistryServer, proxy: Proxy) -> None:
    name, address = "registry.test:5000", f"http://me:it%27s@{proxy.place}"
    registries = Registries(RegistryOptions(insecure=(name,), retries=1, proxies=Proxies(address, address)))
    client = client_of(registries, name)
    row, layer = put_image(client)
    assert fetched(client, row) == layer
    registries.close()
    assert all(name in line for line in proxy.asked)
    assert proxy.authorizations == {"Basic bWU6aXQncw=="}


def test_an_address_of_a_build_and_where_it_leads(registry: RegistryServer, proxy: Proxy, tmp_path: Path) -> None:
    if registry._tls is not None:
        pytest.skip("there is no insecure way to such an address")
    fetcher = Fetcher(Forgetful(), lambda: None, Proxies(http=f"http://{proxy.place}"))
    fetched = fetcher.fetch("http://files.test/v2/", str(tmp_path))
    assert Path(fetched.path).read_bytes() == b"{}"
    fetcher.close()
    assert proxy.asked == ["GET http://files.test/v2/ HTTP/1.1"]


class Forgetful:
    def remote(self, address: str) -> None:
        return None

    def put_remote(self, address: str, facts: dict[str, object]) -> None:
        pass


def test_authorities_and_certificates_lie_in_a_folder_of_the_registrys_name(tmp_path: Path) -> None:
    server = started(tmp_path / "registry", tls_certificate=str(CERTIFICATES / "engine.pem"), tls_key=str(CERTIFICATES / "engine-key.pem"))
    other, place = tmp_path / "other", tmp_path / "certs.d"
    url = f"https://{host(server)}/v2/"
    transport = Transport(RegistryOptions(certificates=(str(other), str(place)), retries=1))
    with pytest.raises(TlsFailed):
        transport.send("GET", url)
    (place / host(server)).mkdir(parents=True)
    shutil.copy(CERTIFICATES / "ca.pem", place / host(server) / "ca.crt")
    answer = transport.send("GET", url)
    assert answer.status == 200
    discard(answer)
    transport.close()
    server.close()


def test_a_proxy_that_is_not_there_is_named_as_the_reason(proxy: Proxy) -> None:
    proxy.close()
    registries = Registries(RegistryOptions(insecure=("registry.test",), retries=1, proxies=Proxies(*[f"http://{proxy.place}"] * 2)))
    with pytest.raises(RegistryUnreachable, match="unreachable through the proxy"):
        put_image(client_of(registries, "registry.test"))
    registries.close()
