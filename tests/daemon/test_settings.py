"""Flags and daemon.json in dockerd's spelling."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from lamina.api.errors import failure
from lamina.api.http import Server
from lamina.api.listen import AddressInUse
from lamina.api.message import Reply
from lamina.daemon.main import _listening, _pidfile, main
from lamina.daemon.settings import _IGNORED, _KEYS, InvalidSettings, parse, parser
from lamina.distribution.proxies import Proxies
from lamina.errors import InvalidArgument
from lamina.runtime.launch import Program
from lamina.runtime.runtimes import UnknownRuntime


def _config(tmp_path: Path, **values: object) -> list[str]:
    path = tmp_path / "daemon.json"
    path.write_text(json.dumps({key.replace("_", "-"): value for key, value in values.items()}))
    return ["--config-file", str(path)]


def test_flags_and_file_come_together(tmp_path: Path) -> None:
    file = _config(tmp_path, data_root="/data", registry_mirrors=["https://m"], debug=True, live_restore=True)
    settings, version = parse([*file, "-H", "unix:///a", "--host", "unix:///b", "--insecure-registry", "r:1"])
    assert not version
    assert (settings.root, settings.hosts, settings.debug) == ("/data", ("unix:///a", "unix:///b"), True)
    assert (settings.registry_mirrors, settings.insecure_registries) == (("https://m",), ("r:1",))


@pytest.mark.parametrize("text", ["", "\n", "{}"])
def test_a_file_without_text_says_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "empty").write_text(text)
    assert parse(["--config-file", str(tmp_path / "empty")]) == parse(["--config-file", "/dev/null"]) == parse([])


def test_without_flags_and_file_the_defaults_hold() -> None:
    settings, _ = parse([])
    assert (settings.root, settings.hosts, settings.storage_driver) == ("/var/lib/lamina", ("unix:///run/lamina.sock",), "")


@pytest.mark.parametrize("values", [{"nonsense": 1}, {"hosts": "unix:///a"}, {"storage_driver": "zfs"}, {"debug": "yes"}])
def test_a_wrong_file_is_refused(tmp_path: Path, values: dict[str, object]) -> None:
    with pytest.raises(InvalidSettings):
        parse(_config(tmp_path, **values))


def test_what_is_said_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="said both"):
        parse([*_config(tmp_path, data_root="/a"), "--root", "/b"])


def test_what_is_said_twice_is_told_as_it_is_written(tmp_path: Path) -> None:
    file = _config(tmp_path, verify_layers=True, compressed_originals="never", log_opts={"max-size": "1m"})
    with pytest.raises(InvalidSettings, match=r"file: compressed-originals, log-opts, verify-layers$"):
        parse([*file, "--verify-layers", "--compressed-originals", "always", "--log-opt", "max-size=2m"])


def test_a_pidfile_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"^pidfile /.* cannot be written: is a directory$"), _pidfile(str(tmp_path)):
        pass


def test_a_pidfile_of_a_running_process_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    path.write_text(f"{os.getppid()}\n")
    with pytest.raises(InvalidArgument, match=rf"^pidfile {path} is that of process {os.getppid()}, which is running"), _pidfile(str(path)):
        pass
    assert path.read_text() == f"{os.getppid()}\n"


def test_a_pidfile_of_a_running_process_is_refused_before_the_root_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "pid"
    path.write_text(f"{os.getppid()}\n")
    assert main(["--root", f"{tmp_path}/root", "--host", f"unix://{tmp_path}/sock", "--pidfile", str(path)]) == 1
    assert "which is running" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["pid"]


@pytest.mark.parametrize("before", ["", "none", "4194305\n", "-1\n", "0\n", "own"])
def test_a_pidfile_is_there_while_its_process_is(tmp_path: Path, before: str) -> None:
    path = tmp_path / "pid"
    path.write_text(before.replace("own", f"{os.getpid()}\n"))
    with _pidfile(str(path)):
        assert path.read_text() == f"{os.getpid()}\n"
    assert not path.exists()


def test_a_pidfile_that_another_wrote_meanwhile_stays(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    with _pidfile(str(path)):
        path.write_text(f"{os.getppid()}\n")
    assert path.exists()


def test_a_missing_file_that_was_named_is_refused() -> None:
    with pytest.raises(InvalidSettings, match="no such configuration file"):
        parse(["--config-file", "/nonexistent/daemon.json"])


def test_runtimes_come_from_flags_or_file(tmp_path: Path) -> None:
    written = {"mine": {"path": "/bin/true", "runtimeArgs": ["--debug"]}}
    settings, _ = parse(_config(tmp_path, runtimes=written, default_runtime="mine"))
    assert settings.runtimes.program("") == Program("/bin/true", ("--debug",))
    settings, _ = parse(["--add-runtime", "other=/bin/true"])
    assert settings.runtimes.program("other") == Program("/bin/true") and settings.runtimes.program("") is None


def test_a_runtime_without_a_path_is_looked_for_as_a_shell_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, _ = parse(_config(tmp_path, runtimes={"mine": {"path": "own-runc", "runtimeArgs": ["--debug"]}}))
    with pytest.raises(UnknownRuntime, match="mine: no program own-runc is installed"):
        settings.runtimes.program("mine")
    (tmp_path / "own-runc").write_text("#!/bin/sh\n")
    (tmp_path / "own-runc").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert settings.runtimes.program("mine") == Program(str(tmp_path / "own-runc"), ("--debug",))
    assert settings.runtimes.document()["mine"]["path"] == "own-runc"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--add-runtime", "x"], "NAME=PATH"),
        (["--add-runtime", "x=./relative"], "not absolute"),
        (["--add-runtime", "lamina=/bin/true"], "reserved"),
        (["--default-runtime", "nosuch"], "specified default runtime 'nosuch' does not exist"),
    ],
)
def test_a_runtime_that_cannot_be_is_refused(flags: list[str], words: str) -> None:
    with pytest.raises(InvalidSettings, match=words):
        parse(flags)


@pytest.mark.parametrize("value", [[], {"x": "/bin/true"}, {"x": {"path": 3}}, {"x": {"path": "/bin/true", "runtimeArgs": "a"}}])
def test_runtimes_of_the_wrong_shape_are_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(InvalidSettings, match="wrong value for runtimes"):
        parse(_config(tmp_path, runtimes=value))


def test_user_namespaces_are_a_setting(tmp_path: Path) -> None:
    assert parse([])[0].user_namespaces.default == "host"
    assert parse(["--userns", "auto"])[0].user_namespaces.default == "auto"
    assert parse(_config(tmp_path, userns="auto"))[0].user_namespaces.default == "auto"
    assert parse(["--userns-remap", "default"])[0].user_namespaces.default == "remap"
    for flags in (
        ["--userns", "auto", "--userns-remap", "default"],
        _config(tmp_path, userns="private"),
        ["--userns-remap", "no-such-user"],
    ):
        with pytest.raises(InvalidArgument):
            parse(flags)


def test_a_log_driver_for_all_containers(tmp_path: Path) -> None:
    assert parse([])[0].logging.completed({}) == {"Type": "json-file", "Config": {}}
    for words in (
        ["--log-driver", "local", "--log-opt", "max-size=1m"],
        _config(tmp_path, log_driver="local", log_opts={"max-size": "1m"}),
    ):
        logging = parse(words)[0].logging
        assert logging.completed({}) == {"Type": "local", "Config": {"max-size": "1m"}}
        assert logging.completed({"Config": {"max-file": "2"}}) == {"Type": "local", "Config": {"max-size": "1m", "max-file": "2"}}
        assert logging.completed({"Type": "json-file"}) == {"Type": "json-file", "Config": {}}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--log-driver", "nope"], "no log driver named 'nope'"),
        (["--log-opt", "nope=1"], "unknown log opt 'nope' for json-file log driver"),
        (["--log-opt", "max-size"], "NAME=VALUE"),
        (["--log-driver", "journald", "--log-opt", "max-size=1m"], "unknown log opt 'max-size' for journald"),
    ],
)
def test_a_log_driver_that_is_none_is_refused(words: list[str], said: str) -> None:
    with pytest.raises(InvalidSettings, match=said):
        parse(words)


def test_proxies_by_flags_or_the_file(tmp_path: Path) -> None:
    for words in (
        ["--http-proxy", "http://a:1", "--no-proxy", "b.test"],
        _config(tmp_path, proxies={"http-proxy": "http://a:1", "no-proxy": "b.test"}),
    ):
        assert parse(words)[0].proxies == Proxies("http://a:1", "", "b.test")
    assert parse([])[0].proxies == Proxies()
    with pytest.raises(InvalidSettings, match="both"):
        parse(["--https-proxy", "http://a:1", *_config(tmp_path, proxies={})])
    for wrong in ({"httpProxy": "http://a:1"}, {"http-proxy": 1}, ["http://a:1"]):
        with pytest.raises(InvalidSettings, match="wrong value for proxies"):
            parse(_config(tmp_path, proxies=wrong))
    with pytest.raises(InvalidSettings, match="invalid address of a proxy: socks5"):
        parse(["--https-proxy", "socks5://a:1"])


def test_what_containers_get_that_do_not_say(tmp_path: Path) -> None:
    flags = "--dns 10.0.0.1 --dns-search a.test --dns-opt ndots:2 --default-ulimit nofile=1024:2048 --default-ulimit nproc=9"
    flags += " --default-shm-size 128M --default-address-pool base=10.10.0.0/16,size=24"
    written = _config(
        tmp_path,
        dns=["10.0.0.1"],
        dns_search=["a.test"],
        dns_opts=["ndots:2"],
        default_ulimits={"nofile": {"Name": "nofile", "Soft": 1024, "Hard": 2048}, "nproc": {"Name": "nproc", "Soft": 9, "Hard": 9}},
        default_shm_size="128M",
        default_address_pools=[{"base": "10.10.0.0/16", "size": 24}],
    )
    for words in (flags.split(), written):
        made = parse(words)[0]
        assert made.address_pools == (("10.10.0.0/16", 24),)
        assert made.defaults.added({"Ulimits": [{"Name": "nproc", "Soft": 1, "Hard": 2}]}) == {
            "Dns": ["10.0.0.1"],
            "DnsSearch": ["a.test"],
            "DnsOptions": ["ndots:2"],
            "Ulimits": [{"Name": "nproc", "Soft": 1, "Hard": 2}, {"Name": "nofile", "Soft": 1024, "Hard": 2048}],
            "ShmSize": 128 << 20,
        }
        own = {"Dns": ["1.1.1.1"], "DnsSearch": ["."], "DnsOptions": ["debug"], "ShmSize": 1 << 20}
        assert made.defaults.added(own) | {"Ulimits": []} == own | {"Ulimits": []}
        assert "Dns" not in made.defaults.added({"NetworkMode": "container:x"})
    assert parse([])[0].defaults.added({"Dns": []}) == {"Dns": []}
    assert parse(_config(tmp_path, default_shm_size=1 << 20))[0].shm_size == 1 << 20


@pytest.mark.parametrize(
    ("flag", "value", "said"),
    [
        ("--dns", "dns.test", "dns: IP address is not correctly formatted: dns.test"),
        ("--default-ulimit", "nofile", "default-ulimits takes NAME=SOFT[:HARD], not nofile"),
        ("--default-ulimit", "files=1", "invalid ulimit type: files"),
        ("--default-ulimit", "nofile=2:1", "soft limit must be less than or equal to hard limit: 2 > 1"),
        ("--default-shm-size", "much", "default-shm-size takes a size as 64M, not much"),
        ("--default-shm-size", "0", "default-shm-size takes a size as 64M, not 0"),
        ("--default-address-pool", "10.0.0.0/8", "default-address-pools: base None with size None is no IPv4 network"),
        ("--default-address-pool", "base=10.0.0.0/24,size=16", "default-address-pools: base 10.0.0.0/24 with size 16 is no IPv4 network"),
        ("--default-address-pool", "base=fd00::/48,size=64", "default-address-pools: base fd00::/48 with size 64 is no IPv4 network"),
    ],
)
def test_what_no_container_could_have_is_refused(flag: str, value: str, said: str) -> None:
    with pytest.raises(InvalidSettings, match=re.escape(said)):
        parse([flag, value])


@pytest.mark.parametrize("key", ["dns", "default-ulimits", "default-shm-size", "default-address-pools"])
@pytest.mark.parametrize("value", [True, {"a": 1}, [1], None])
def test_what_containers_get_has_the_shape_of_dockerds(tmp_path: Path, key: str, value: object) -> None:
    with pytest.raises(InvalidSettings, match=f"configuration file .*{key}"):
        parse(_config(tmp_path, **{key: value}))


def test_an_init_fewer_privileges_and_a_group_for_containers_that_do_not_say(tmp_path: Path) -> None:
    for words in (
        ["--init", "--no-new-privileges", "--cgroup-parent", "/mine"],
        _config(tmp_path, init=True, no_new_privileges=True, cgroup_parent="/mine"),
    ):
        defaults = parse(words)[0].defaults
        assert defaults.added({"Init": None}) == {"Init": True, "SecurityOpt": ["no-new-privileges"], "CgroupParent": "/mine"}
        own = {"Init": False, "SecurityOpt": ["no-new-privileges=false"], "CgroupParent": "/other"}
        assert defaults.added(own) == own


@pytest.mark.parametrize(("name", "driver"), [("overlay2", "overlay"), ("vfs", "native"), ("erofs", "erofs")])
def test_storage_drivers_have_dockerds_names_too(tmp_path: Path, name: str, driver: str) -> None:
    assert parse(["-s", name])[0].storage_driver == parse(_config(tmp_path, storage_driver=name))[0].storage_driver == driver


def test_log_options_are_texts(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="wrong value for log-opts"):
        parse(_config(tmp_path, log_opts={"max-file": 3}))


def test_switches_take_a_value_and_tls_false_opens_tcp_as_with_dockerd(tmp_path: Path) -> None:
    tcp = ("--host", "tcp://127.0.0.1:2375")
    opened, _ = parse([*tcp, "--tls=false", "--debug=false", "--experimental=true"])
    assert (opened.tls, opened.tls_verify, opened.debug, opened.experimental) == (False, False, False, True)
    assert parse([*tcp, *_config(tmp_path, tls=False)])[0].tls_verify is False
    assert parse([*tcp, "--tls=false", "--tlsverify"])[0].tls_verify is True
    with pytest.raises(InvalidSettings, match="say who may"):
        parse([*tcp, "--tls"])


@pytest.mark.parametrize("host", ["foo", "unix://", "tcp://nowhere", "tcp://a:99999", "fd://x", "http://a:1"])
def test_an_address_that_cannot_be_listened_on_is_refused_before_anything_is_made(
    tmp_path: Path, host: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--root", str(tmp_path / "root"), "--host", host, "--tlsverify=false"]) == 1
    assert capsys.readouterr().err.startswith("laminad: invalid address to listen on")
    assert not (tmp_path / "root").exists()


def test_a_start_that_fails_leaves_no_socket(tmp_path: Path) -> None:
    settings, _ = parse(["--host", f"unix://{tmp_path}/one.sock", "--host", f"unix://{tmp_path}/other.sock"])
    (tmp_path / "other.sock").write_text("not a socket")
    server = Server(lambda request: Reply(), failure, ())
    with pytest.raises(AddressInUse), _listening(server, settings):
        pass
    assert [each.name for each in tmp_path.iterdir()] == ["other.sock"]
    (tmp_path / "other.sock").unlink()
    with pytest.raises(InvalidArgument), _listening(server, settings), _pidfile(str(tmp_path)):
        pass
    assert not list(tmp_path.iterdir())
    server.close()


def test_every_setting_is_documented_and_no_other() -> None:
    page = (Path(__file__).parents[2] / "docs/cli.md").read_text().partition("## Settings of laminad")[2]
    rows = [line.split(" | ") for line in page.partition("\n\n`")[0].splitlines() if line.startswith("| `")]
    named = set(re.findall(r"`(--?[a-zA-Z-]+)`", " ".join(row[0] for row in rows)))
    heads = [line.partition("  ")[0] for line in parser().format_help().partition("\noptions:\n")[2].replace("\n  -", "\n-").splitlines()]
    assert named == {word for head in heads for word in re.findall(r"(?<![\w-])--?[a-zA-Z-]+", head)} - {"-h", "--help"}
    keys = set(re.findall(r"`([a-z-]+)`", " ".join(row[1] for row in rows)))
    assert keys | {"tls", "tlsverify", "tlscacert", "tlscert", "tlskey"} == set(_KEYS)
    assert all(f"`{key}`" in page for key in _IGNORED)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--label", "foo"], "bad attribute format: foo"),
        (["--label", "a=1", "--label", "a=2"], "conflict labels for a=2 and a=1"),
        (["--registry-mirror", "foo"], "invalid mirror: foo"),
        (["--registry-mirror", "foo:5000"], "invalid mirror: foo:5000"),
        (["--registry-mirror", "ftp://foo"], "invalid mirror: ftp://foo"),
        (["--registry-mirror", "http://foo:port"], "invalid mirror: http://foo:port"),
        (["--registry-mirror", "http://me:secret@foo"], "username/password not allowed in http://xxxxx:xxxxx@foo"),
        (["--registry-mirror", "http://foo/bar"], "path, query, or fragment at end of http://foo/bar"),
    ],
)
def test_labels_and_mirrors_that_are_none_are_refused_as_by_dockerd(tmp_path: Path, words: list[str], said: str) -> None:
    with pytest.raises(InvalidSettings, match=said):
        parse(words)
    key = words[0].removeprefix("--").replace("-", "_")
    written = {"labels" if key == "label" else "registry_mirrors": words[1::2]}
    with pytest.raises(InvalidSettings, match=said):
        parse(_config(tmp_path, **written))


def test_an_insecure_registry_is_a_host_or_a_network() -> None:
    names = ("http://a:5000", "HTTPS://b", "10.0.0.0/8", "::1", "[::1]:5000", "[::1]", "c_d.example")
    taken = parse([word for name in names for word in ("--insecure-registry", name)])[0].insecure_registries
    assert taken == ("a:5000", "b", "10.0.0.0/8", "::1", "[::1]:5000", "[::1]", "c_d.example")
    for name in ("ftp://x", "a/b", "a:99999", "a:", "a:b", "", "http://"):
        with pytest.raises(InvalidSettings, match=f"insecure registry {name} is not valid"):
            parse(["--insecure-registry", name])


def test_a_file_that_cannot_be_read_is_one_short_sentence(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=r"cannot be read: is a directory$"):
        parse(["--config-file", str(tmp_path)])
    (tmp_path / "deep").write_text("[" * 100_000)
    with pytest.raises(InvalidSettings, match="cannot be read: maximum recursion"):
        parse(["--config-file", str(tmp_path / "deep")])


def test_labels_and_mirrors_that_dockerd_takes_are_taken() -> None:
    settings, _ = parse(
        [
            "--label",
            "a=1=2",
            "--label",
            "a=1=2",
            "--label",
            "b=",
            "--registry-mirror",
            "http://foo/",
            "--registry-mirror",
            "https://[::1]:5000",
        ]
    )
    assert settings.registry_mirrors == ("http://foo/", "https://[::1]:5000")
