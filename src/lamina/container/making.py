"""Create: from a request to a container on disk that has not run yet."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from lamina.container import resources
from lamina.container.checking import check_config, check_host, with_ids
from lamina.container.connecting import asked_networks, check_endpoints, check_networking
from lamina.container.document import Document, flag, mapping, text, texts
from lamina.container.launching import Launcher
from lamina.container.links import checked_link
from lamina.container.live import Live, Roster
from lamina.container.model import Container, ContainerNotFound, MountPoint
from lamina.container.mounts import InvalidMount, asked_mounts, inherited_mounts
from lamina.container.names import checked_name, invented_name
from lamina.container.parts import Parts
from lamina.container.ranges import check_user_namespace
from lamina.container.removal import remove_tree
from lamina.container.requests import Created
from lamina.container.seeding import Seeder
from lamina.container.snapshots import Snapshot, names_snapshot
from lamina.container.snapshotting import Snapshots
from lamina.container.spec import merged_config, merged_host_config
from lamina.container.store import ContainerStore
from lamina.errors import InvalidArgument, LaminaError, NotFound
from lamina.image.lookup import PlatformNotHere
from lamina.image.model import Image
from lamina.network.mode import DEFAULT_NETWORK, NetworkMode, network_mode
from lamina.runtime import apparmor
from lamina.spec.platform import Platform


class OtherPlatform(NotFound):
    """The image that is here is for another platform."""


class Maker:
    """Makes containers. Thread-safe: nothing is shared between two creates but the index of names."""

    def __init__(self, parts: Parts, store: ContainerStore, roster: Roster, launcher: Launcher, snapshots: Snapshots) -> None:
        self._parts, self._store, self._roster, self._launcher = parts, store, roster, launcher
        self._snapshots = snapshots
        self._seeder = Seeder(parts, launcher)
        launcher.fill = lambda container: self._seeder.seed(container, mounted=True)
        self._claims: dict[str, tuple[str, ...]] = {}

    def claiming(self, volume: str) -> list[str]:
        """IDs of the containers being made at this moment that will mount the volume: it must stay for them."""
        return [container_id for container_id, names in list(self._claims.items()) if volume in names]

    def create(
        self,
        config: Document,
        host_config: Document,
        networking: Document,
        name: str,
        platform: str = "",
        *,
        base: Snapshot | None = None,
        temporary: bool = False,
        identity: str = "",
    ) -> Created:
        """See Containers.create; the container has the ID `identity`, if given."""
        container_id = identity or self._parts.new_id()
        image_name = text(config, "Image")
        if not image_name:
            raise InvalidArgument("no image was given: Config.Image is empty")
        given = checked_name(name) if name else ""
        check_config(config)
        check_host(config, host_config, self._parts.runtimes)
        check_user_namespace(host_config, self._launcher.ranges.mode(host_config))
        limited, warnings = resources.checked(self._parts.defaults.added(host_config), self._parts.abilities)
        warnings = (*warnings, *apparmor.warnings(texts(host_config, "SecurityOpt")))
        if text(host_config, "NetworkMode") == "host" and mapping(host_config, "PortBindings"):
            warnings = (*warnings, "Published ports are discarded when using host network mode")
        host_config = with_ids(limited, self._id_of)
        snapshot = self._snapshot(image_name) if "@" in image_name else base
        image = self._image(image_name, snapshot, platform)
        foreign = () if platform else self._foreign(image)
        network = network_mode("none" if flag(config, "NetworkDisabled") else text(host_config, "NetworkMode"))
        check_networking(config, host_config, networking, network)
        check_endpoints(networking, network, self._parts.networks)
        default = network.kind != "bridge" or self._parts.networks.canonical(network.name) == DEFAULT_NETWORK
        if asked := texts(host_config, "Links"):
            host_config = {**host_config, "Links": [checked_link(link, self._roster, default=default) for link in asked]}
        record = self._record(container_id, image, image_name, config, host_config, networking, network)
        size, cap = self._launcher.caps.wanted(host_config)
        if snapshot is not None or temporary or cap:
            record = replace(record, base=snapshot.id if snapshot else "", temporary=temporary, size=size, cap=cap)
        mounts = self._mounts(record, host_config)
        live = self._install(record, given, image, mounts)
        self._parts.emit(live.event("create"))
        return Created(container_id, (*foreign, *warnings))

    def _snapshot(self, name: str) -> Snapshot | None:
        """The snapshot that `CONTAINER@NAME` is; None where an image is named by its digest."""
        found = self._snapshots.named(name)
        container, _, rest = name.partition("@")
        if found is None and names_snapshot(name):
            # not NotFound: clients would pull it
            raise InvalidArgument(f"no such container: {container}, and {rest!r} is no digest of an image")
        return found

    def _image(self, name: str, snapshot: Snapshot | None, wanted: str) -> Image:
        """The image of a name, of several platforms the one for `wanted`; a snapshot has its own, whatever its names stand for now.

        Raises:
            ImageNotFound
            OtherPlatform: it is not here for the one that was asked for (404: clients then pull).
        """
        images, platform = self._parts.images, Platform.parse(wanted) if wanted else None
        try:
            image = images.resolve(name, platform) if snapshot is None else self._image_of(snapshot)
            fits = platform is None or image.config.platform.matches(platform)
        except PlatformNotHere:
            image, fits = images.resolve(name), False
        if not fits:
            raise OtherPlatform(
                f"image with reference {name} was found but its platform ({image.config.platform}) does not match the specified platform"
                f" ({wanted})"
            )
        return image

    def _image_of(self, snapshot: Snapshot) -> Image:
        try:
            return self._parts.images.resolve(snapshot.image)
        except NotFound:  # clients would pull it
            raise InvalidArgument(
                f"the image that snapshot {snapshot.name or snapshot.id[:12]} stands on was removed: {snapshot.image}"
            ) from None

    def _foreign(self, image: Image) -> tuple[str, ...]:
        """A warning where the image is for another platform than this machine's, and nobody asked for that."""
        its, host = image.config.platform, self._parts.platform
        if its.matches(host):
            return ()
        return (
            f"The requested image's platform ({its}) does not match the detected host platform ({host}) and no specific platform was requested",
        )

    def _id_of(self, ref: str) -> str | None:
        try:
            return self._roster.find(ref).container.id
        except LaminaError:
            return None

    def _record(
        self, container_id: str, image: Image, image_name: str, config: Document, host: Document, networking: Document, network: NetworkMode
    ) -> Container:
        parts = self._parts
        host_config = merged_host_config(
            host, network, unified=parts.abilities.version == "v2", runtime=parts.runtimes.default, logging=parts.logging
        )
        if network.kind == "container":  # with the network it shares the files of /etc that name it
            with suppress(LaminaError):
                other = self._roster.find(network.name).container.config
                config = {**config, **{key: text(other, key) for key in ("Hostname", "Domainname")}}
        shares_host = "host" in (network.kind, text(host_config, "UTSMode"))
        hostname = os.uname().nodename if shares_host else container_id[:12]
        merged = merged_config(config, image.config.config, image_name=image_name, hostname=hostname)
        words = [*texts(merged, "Entrypoint"), *texts(merged, "Cmd")]
        return Container(
            id=container_id,
            name="",
            created_ns=self._parts.clock(),
            image=str(image.id),
            image_name=image_name,
            layer=str(image.layers[-1]) if image.layers else "",
            path=words[0],
            args=tuple(words[1:]),
            directory=self._store.directory(container_id),
            config=merged,
            host_config=host_config,
            networking={"EndpointsConfig": self._networks(networking, network)},
            driver=self._parts.driver,
        )

    def _networks(self, networking: Document, mode: NetworkMode) -> Mapping[str, Any]:
        return {self._parts.networks.canonical(ref): settings for ref, settings in asked_networks(networking, mode).items()}

    def _mounts(self, record: Container, host: Document) -> Sequence[MountPoint]:
        if record.temporary:
            # What an image's VOLUMEs hold would be in no snapshot.
            return ()
        inherited: list[MountPoint] = []
        for entry in texts(host, "VolumesFrom"):
            if not entry:
                raise InvalidMount("volumes-from specification cannot be an empty string")
            ref, _, mode = entry.partition(":")
            try:
                inherited += inherited_mounts(self._roster.find(ref).container, mode)
            except ContainerNotFound as error:  # not "not found": clients would take it for the image that is missing
                raise InvalidMount(error.message) from None
        mounts = [self._with_image(mount) for mount in asked_mounts(record.config, host, inherited, root=os.path.dirname(self._parts.root))]
        for mount in mounts:
            if mount.kind == "bind" and mount.must_exist and not os.path.exists(mount.source):
                raise InvalidMount(f'invalid mount config for type "bind": bind source path does not exist: {mount.source}')
        return mounts

    def _with_image(self, mount: MountPoint) -> MountPoint:
        """An image's mount with the image's ID and topmost layer."""
        if mount.kind != "image":
            return mount
        try:
            image = self._parts.images.resolve(mount.image or mount.name)
        except NotFound as error:  # clients would pull the container's own image
            raise InvalidMount(error.message) from None
        if not image.layers:
            raise InvalidMount(f"{mount.name[:300]} has no layers")
        return replace(mount, image=str(image.id), layer=str(image.layers[-1]))

    def _install(self, record: Container, given: str, image: Image, mounts: Sequence[MountPoint]) -> Live:
        """Claim the name, make the folder, and show the container to everyone; undone where it fails."""
        names = self._roster.names
        if given:
            names.claim(given, record.id)
        else:
            given = names.claim_invented(lambda taken: invented_name(self._parts.choose, taken), record.id)
        made: list[MountPoint] = []
        self._claims[record.id] = tuple(mount.name for mount in mounts if mount.name)
        try:
            images = [image, *(self._parts.images.resolve(mount.image) for mount in mounts if mount.image)]
            self._parts.leases.pin(f"container:{record.id}", [digest for one in images for digest in (one.id, *one.layers)])
            for one in images:
                self._parts.images.expect(one.id)  # removed between the look-up and the pin, it is not an image to start from
            self._store.make(record.id)
            if record.cap:
                self._launcher.caps.make(record)
            self._launcher.snapshots.stand(record.id, record.base)
            if record.temporary and record.base:
                self._launcher.snapshots.keep(record.id, record.base)
            self._launcher.prepare(record)
            for number, mount in enumerate(mounts):
                made.append(self._with_volume(record, number, mount))
            record = replace(record, name=given, mounts=tuple(made))
            self._seeder.seed(record)
            self._store.save(record)
            return self._roster.add(record)
        except BaseException:
            del self._claims[record.id]
            names.release(given, record.id)
            self._undo(record, [placed for placed, asked in zip(made, mounts, strict=False) if not asked.source])
            raise
        finally:
            self._claims.pop(record.id, None)

    def _with_volume(self, record: Container, number: int, mount: MountPoint) -> MountPoint:
        """The mount with its host path; a volume's with its name, and made if it is not there."""
        if mount.kind == "image":
            return replace(mount, source=f"{record.directory}/image-{number}")
        if mount.kind != "volume" or mount.source:
            return mount
        volume = self._parts.volumes.create(mount.name, driver=mount.driver, labels=mount.labels, options=mount.options)
        self._claims[record.id] += (volume.name,)
        return replace(mount, name=volume.name, source=volume.mountpoint)

    def _undo(self, record: Container, made: Sequence[MountPoint]) -> None:
        """Remove what was made: of mounts, those that are nobody else's."""
        self._parts.leases.unpin(f"container:{record.id}")
        self._launcher.snapshots.release(record.id)
        for mount in made:
            if mount.owned:
                with suppress(LaminaError):
                    self._parts.volumes.remove(mount.name, force=True)
        if record.cap:
            self._launcher.caps.remove(record, record.directory)
        remove_tree(record.directory, self._parts.workers)
