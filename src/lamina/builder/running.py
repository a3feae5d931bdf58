"""RUN: what a command sees, what its key covers, and its layer."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from lamina.builder import vertex, wording
from lamina.builder.execute import Execution, StepFailed
from lamina.builder.giving import CannotGive, Giving
from lamina.builder.made import Made
from lamina.builder.mounting import Shown
from lamina.builder.networking import run_network
from lamina.builder.progress import CommandEnded, CommandStarted, Output, Tell
from lamina.builder.site import Site
from lamina.builder.state import State
from lamina.dockerfile import ast
from lamina.dockerfile.errors import DockerfileError
from lamina.dockerfile.expand import Expander
from lamina.dockerfile.mounts import Mount, parse_mount
from lamina.image import configure
from lamina.image.model import LayerFacts
from lamina.snapshot.protocol import Own, RootMount
from lamina.spec.digest import Digest


class Running:
    """The RUNs of one stage."""

    def __init__(self, site: Site, stage: ast.Stage, states: Mapping[int, State], tell: Tell) -> None:
        self._site, self._stage, self._states, self._tell = site, stage, states, tell
        self._giving = Giving(site.request.given)

    def made(self, state: State, instruction: ast.Run) -> Made:
        """What `instruction` amounts to in `state`.

        Raises:
            NetworkNotSupported, CannotGive, DockerfileError: a flag asks for what cannot be.
        """
        if instruction.security not in ("", "sandbox"):
            raise CannotGive(
                f"RUN --security={instruction.security[:50]} is not allowed: builds give no entitlements", hint="only sandbox is"
            )
        request = self._site.request
        network = run_network(instruction, request.network, self._site.engine.network)
        argv = instruction.command.argv(configure.shell_of(state.container))
        visible = state.arguments.visible(state.environment)
        script = _script(instruction)
        mounts = [self._mount(state, text, number) for number, text in enumerate(instruction.mounts)]
        volumes = self._volumes(state, mounts)
        counted = tuple((text, self._content(mount)) for text, mount in zip(instruction.mounts, mounts, strict=True))
        execution = Execution(
            argv=argv,
            env=_environment(state, state.arguments.environment(state.environment)),
            cwd=state.container.working_dir,
            user=state.container.user,
            network=network,
            script=script,
            script_name=instruction.heredocs[0].name if script else "",
            extra_hosts=request.extra_hosts,
            options=request.run,
        )
        env = _environment(state, visible)
        work = vertex.execute(
            state.top,
            argv,
            env=env,
            cwd=execution.cwd,
            user=execution.user,
            network=network,
            script=script,
            mounts=counted,
            volumes=volumes,
            hosts=tuple(sorted(request.extra_hosts)),
            epoch=self._site.epoch,
        )
        seen = {"network": network, **({"volumes": " ".join(volumes)} if volumes else {})}
        seen |= {"added hosts": " ".join(sorted(request.extra_hosts))} if request.extra_hosts else {}
        return Made(
            wording.run(argv, visible),
            state.container,
            work.digest,
            lambda created_by: self._execute(state, instruction, execution, mounts, volumes, created_by),
            portable=not mounts,
            depends={**seen, **{f"mount {text}": content for text, content in counted}},
        )

    def _mount(self, state: State, text: str, number: int) -> Mount:
        scope = state.scope
        mount = parse_mount(text, lambda word: Expander(self._site.dockerfile.escape).word(word, scope))
        if mount.kind in ("secret", "ssh"):
            return self._giving.placed(mount, state.container.working_dir, number)
        if not mount.target:
            raise DockerfileError("RUN --mount needs a target")
        target = posixpath.normpath(posixpath.join("/", state.container.working_dir, mount.target))
        if target == "/":
            raise DockerfileError("invalid mount target: /")
        return replace(mount, target=target)

    def _volumes(self, state: State, mounts: Sequence[Mount]) -> tuple[str, ...]:
        """Where the command has volumes of its own; what a mount shows goes before them."""
        if self._site.request.buildkit:
            return ()
        paths = {posixpath.normpath(f"/{path.lstrip('/')}") for path in state.container.volumes if path.startswith("/")}
        return tuple(path for path in sorted(paths - {"/"}) if not any(f"{path}/".startswith(f"{each.target}/") for each in mounts))

    def _content(self, mount: Mount) -> str:
        """The digest of what a mount shows; "" for caches and tmpfs, whose content counts for nothing."""
        if mount.kind != "bind":
            return ""
        if mount.origin:
            return str(self._site.origin(mount.origin, self._stage, self._states, self._tell) or "empty")
        source = mount.source.lstrip("/") or "."
        params = {"keyword": "RUN --mount", "sources": [{"files": self._context(), "paths": [source]}], "target": "/x/"}
        digest: str = self._site.once(f"digest {source}", lambda: self._site.job("copying:digest_job", params))["digest"]
        return digest

    def _context(self) -> dict[str, Any]:
        return self._site.received.describe(self._site.ignore)

    def _execute(
        self,
        state: State,
        instruction: ast.Run,
        execution: Execution,
        mounts: Sequence[Mount],
        volumes: Sequence[str],
        created_by: str,
    ) -> LayerFacts | None:
        site = self._site
        with ExitStack() as held:
            execution = replace(execution, env=(*execution.env, *self._giving.variables(mounts, execution.env)))
            root = lambda own: self._root(state.top, own)  # noqa: E731
            shown = (
                *(Shown(path, root=root, source=path, volume=True) for path in volumes),
                *(found for mount in mounts if (found := self._shown(mount, held)) is not None),
            )
            if shown:
                execution = replace(execution, mounts=shown, root=site.files_of(state.top))
            ran = site.engine.executor.run(
                execution,
                root,
                started=lambda container: self._tell(CommandStarted(container)),
                output=lambda text, error: self._tell(Output(text, error)),
                cancellation=site.cancellation,
            )
            with ran as (container, upper, code):
                if code:
                    self._kept(state, execution, container, upper, code)
                    raise StepFailed(wording.returned(execution.argv, code), status=code, argv=execution.argv)
                layer = self._layer(state, instruction, upper, created_by)
                kept = self._kept(state, execution, container, upper, code)
        if not kept:
            self._tell(CommandEnded(container))
        return layer

    def _kept(self, state: State, execution: Execution, container: str, upper: str, code: int) -> bool:
        """Leave a container of a command that has ended, where that is asked for; whether there is one."""
        if not self._site.request.keep_containers or state.image is None:
            return False
        config = {
            "Image": str(state.image.id),
            "Entrypoint": [""],
            "Cmd": list(execution.argv),
            "Env": list(execution.env),
            "WorkingDir": execution.cwd,
            "User": execution.user,
        }
        return self._site.engine.keep(container, config, _host_config(execution), upper, code)

    def _layer(self, state: State, instruction: ast.Run, upper: str, created_by: str) -> LayerFacts | None:
        layers = self._site.engine.layers
        if not layers.changed(state.top, upper):
            return None
        if self._site.newest is not None:
            paths = [path for path, _ in layers.changes(state.top, upper)]
            self._site.job("aging:age_job", {"upper": upper, "paths": paths, "newest": self._site.newest})
        return layers.commit_upper(upper, state.top, self._site.note(instruction, created_by))

    def _root(self, top: Digest | None, own: Own) -> RootMount:
        layers = self._site.engine.layers
        layers.prepare(top, own)
        return layers.root(top, own)

    def _shown(self, mount: Mount, held: ExitStack) -> Shown | None:
        """A mount, ready for the executor, or None for what nobody gives; cache folders are held until `held` is left."""
        if mount.kind in ("secret", "ssh"):
            return self._giving.shown(mount)
        if mount.kind == "tmpfs":
            options = ("nosuid", "nodev", *([f"size={mount.size}"] if mount.size else []))
            return Shown(mount.target, options=options)
        if mount.kind == "cache":
            fill = lambda path: self._fill(mount, path)  # noqa: E731
            kept = held.enter_context(self._site.engine.caches.used(mount, fill, self._site.cancellation.check))
            return Shown(mount.target, path=kept, readonly=mount.readonly)
        if mount.origin:
            top = self._site.origin(mount.origin, self._stage, self._states, self._tell)
            return Shown(mount.target, root=lambda own: self._root(top, own), source=mount.source or "/", readonly=mount.readonly)
        source = mount.source or "/"
        if mount.readonly:
            path, folder = self._site.once(f"extracted {source}", lambda: self._extracted(source))
        else:
            path, folder = self._extracted(source)
        return Shown(mount.target, path=path, readonly=mount.readonly, folder=folder)

    def _extracted(self, source: str) -> tuple[str, bool]:
        """The context's files at `source` as files of the host, written anew; and whether it is a folder."""
        holder = self._site.place("context")
        os.mkdir(holder, 0o755)
        path = os.path.join(holder, "files")
        answer = self._site.job("extraction:extract_job", {"files": self._context(), "source": source, "path": path, "own": False})
        return path, bool(answer["directory"])

    def _fill(self, mount: Mount, path: str) -> None:
        """What a cache folder holds when it is new: nothing, or what `from` and `source` name."""
        if not mount.origin:
            os.mkdir(path, 0o755)
            return
        top = self._site.origin(mount.origin, self._stage, self._states, self._tell)
        params = {"files": self._site.files_of(top), "source": mount.source or "/", "path": path, "own": True}
        self._site.job("extraction:extract_job", params)


def _environment(state: State, arguments: Mapping[str, str]) -> tuple[str, ...]:
    """ENV's variables, but for those that an argument stands over, then the arguments."""
    env = (each for each in state.container.env if each.partition("=")[0] not in arguments)
    return (*env, *(f"{name}={value}" for name, value in sorted(arguments.items())))


def _host_config(execution: Execution) -> dict[str, Any]:
    """What a command was run with, as the API's HostConfig."""
    options, limits = execution.options, execution.options.limits
    return {
        "NetworkMode": execution.network,
        "ExtraHosts": list(execution.extra_hosts),
        "ShmSize": options.shm_size,
        "SecurityOpt": list(options.security),
        "CgroupParent": options.cgroup_parent,
        "Memory": limits.memory,
        "MemorySwap": limits.memory_swap,
        "CpuShares": limits.cpu_shares,
        "CpuPeriod": limits.cpu_period,
        "CpuQuota": limits.cpu_quota,
        "CpusetCpus": limits.cpuset_cpus,
        "CpusetMems": limits.cpuset_mems,
        "Ulimits": [{"Name": name, "Soft": soft, "Hard": hard} for name, (soft, hard) in limits.rlimits.items()],
    }


def _script(instruction: ast.Run) -> str:
    """The here-document that is executed itself: the only one, beginning with `#!`."""
    documents = instruction.heredocs
    if len(documents) == 1 and documents[0].content.startswith("#!") and instruction.command.args == (documents[0].content,):
        return documents[0].content
    return ""
