"""What a client asks of the Dockerfile frontend, by its attributes, as a request of the builder's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec

from lamina.builder.given import Given
from lamina.builder.request import BuildRequest, Context, RunOptions
from lamina.buildkit.failure import INVALID, Refused
from lamina.distribution.auth import Auth
from lamina.dockerfile.parser import reads
from lamina.runtime.launch import Limits
from lamina.spec.platform import Platform
from lamina.spec.reference import Reference

_NETWORKS = {"": "", "sandbox": "", "none": "none", "host": "host"}


class NotHere(Refused):
    """What a client asks for is not served; the message says what."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The attributes of a solve. `filename` lies in the local directory `dockerfile_in`, `""` for the context itself."""

    attributes: Mapping[str, str]
    session: str
    locals: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, frontend: str, attributes: Mapping[str, str], session: str) -> Asked:
        """Read a frontend's name and attributes.

        Raises:
            NotHere: it is not a Dockerfile's, or asks for what is not here.
        """
        source = attributes.get("source", "")
        if frontend == "gateway.v0" and not reads(source):
            raise NotHere(f"the frontend {source[:100]} cannot be run: only docker/dockerfile is built in", code=INVALID)
        if frontend not in ("dockerfile.v0", "gateway.v0"):
            raise NotHere(f"there is no frontend {frontend[:100]}: only dockerfile.v0 is built in", code=INVALID)
        if "," in attributes.get("platform", ""):
            raise NotHere("several platforms cannot be built at once: build one after the other", code=INVALID)
        if attributes.get("requestid"):
            asked = attributes["requestid"].removeprefix("frontend.")
            flag = "--check" if asked == "lint" else f"--call {asked}"
            raise NotHere(f"{flag} is not supported: Dockerfiles can only be built", code=INVALID)
        prefix = "local-sessionid:"
        places = {name.removeprefix(prefix): value for name, value in attributes.items() if name.startswith(prefix)}
        return cls(attributes, session, places)

    @property
    def filename(self) -> str:
        """The Dockerfile's path."""
        return self.attributes.get("filename") or "Dockerfile"

    @property
    def pulls(self) -> bool:
        """Whether base images are looked for in their registries again."""
        return self.attributes.get("image-resolve-mode") == "pull"

    @property
    def remote(self) -> str:
        """The address of the context, where it is not a directory of the client's."""
        return self.attributes.get("context", "")

    @property
    def dockerfile_local(self) -> bool:
        """Whether the Dockerfile is the client's although the context is not."""
        return not self.remote or "dockerfilekey" in self.attributes

    def session_of(self, name: str) -> str:
        """The session that a local directory is in."""
        return self.locals.get(name, self.session)

    def request(self, given: Given, credentials: Callable[[Reference], Auth | None]) -> BuildRequest:
        """The builder's request, but for context and Dockerfile.

        Raises:
            Refused: an attribute is malformed.
        """
        get = self.attributes.get
        network = get("force-network-mode", "")
        if network not in _NETWORKS:
            raise Refused(f"invalid network mode: {network[:50]}", code=INVALID)
        return BuildRequest(
            context=Context(),
            dockerfile=self.filename,
            build_args=dict(self._with_prefix("build-arg:")),
            labels=self._with_prefix("label:"),
            target=get("target", ""),
            no_cache=get("no-cache") == "",
            no_cache_stages=frozenset(word.lower() for word in _words(get("no-cache", ""))),
            pull=self.pulls,
            network=_NETWORKS[network],
            platform=Platform.parse(get("platform", "")) if get("platform") else None,
            extra_hosts=tuple(host.replace("=", ":", 1) for host in _words(get("add-hosts", ""))),
            credentials=credentials,
            run=self._options(),
            given=given,
            buildkit=True,
            unfinished=True,
            cache_from=self._cache_images(),
        )

    def _cache_images(self) -> tuple[str, ...]:
        """The images of --cache-from; caches of other kinds count for nothing."""
        found = _words(self.attributes.get("cache-from", ""))
        with suppress(msgspec.MsgspecError):
            entries = msgspec.json.decode(self.attributes.get("cache-imports") or "[]", type=list[dict[str, Any]])
            found += [
                str(entry["Attrs"]["ref"]) for entry in entries if entry.get("Type") == "registry" and "ref" in entry.get("Attrs", {})
            ]
        return tuple(found)

    @property
    def contexts(self) -> Mapping[str, str]:
        """Further contexts by name: `docker-image://…`, `local:…` or `input:…`; those of one platform go by the name alone."""
        return {name.partition("::")[0]: value for name, value in sorted(self._with_prefix("context:").items())}

    def _with_prefix(self, prefix: str) -> dict[str, str]:
        return {name.removeprefix(prefix): value for name, value in self.attributes.items() if name.startswith(prefix)}

    def _options(self) -> RunOptions:
        size = self._number("shm-size") or RunOptions().shm_size
        limits = Limits(
            memory=self._number("memory"),
            memory_swap=self._number("memswap"),
            cpu_shares=self._number("cpushares"),
            cpu_quota=self._number("cpuquota"),
            cpu_period=self._number("cpuperiod"),
            cpuset_cpus=self.attributes.get("cpusetcpus", ""),
            cpuset_mems=self.attributes.get("cpusetmems", ""),
            rlimits=dict(_ulimit(word) for word in _words(self.attributes.get("ulimit", ""))),
        )
        return RunOptions(limits, size, cgroup_parent=self.attributes.get("cgroup-parent", ""))

    def _number(self, name: str) -> int:
        value = self.attributes.get(name) or "0"
        try:
            return int(value)
        except ValueError:
            raise Refused(f"invalid {name} value: {value[:50]}", code=INVALID) from None


def _words(text: str) -> list[str]:
    """Fields between commas."""
    return [word.strip().strip('"') for word in text.split(",") if word.strip()]


def _ulimit(word: str) -> tuple[str, tuple[int, int]]:
    """`nofile=1024:2048`."""
    name, _, values = word.partition("=")
    soft, _, hard = values.partition(":")
    try:
        return name, (int(soft), int(hard or soft))
    except ValueError:
        raise Refused(f"invalid ulimit: {word[:50]}", code=INVALID) from None
