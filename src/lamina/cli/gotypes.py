"""What JSON does not say of Docker's types, and templates show: which fields are Go's maps and slices, where these are empty too.

The names are those of the Engine API's document (1.51), where every field of that name is one.
"""

from __future__ import annotations

MAPS = frozenset(
    "Annotations Attributes AuxiliaryAddresses Containers Data DriverOpts EndpointsConfig ExposedPorts Labels Networks Options PortBindings "
    "Ports Runtimes Segments Services StorageOpt Sysctls Tmpfs Volumes".split()
)
SLICES = frozenset(
    "Aliases Args Binds BlkioDeviceReadBps BlkioDeviceReadIOps BlkioDeviceWriteBps BlkioDeviceWriteIOps BlkioWeightDevice CapAdd CapDrop "
    "Capabilities Cmd DNSNames DefaultAddressPools DeviceCgroupRules DeviceIDs DeviceRequests Devices Dns DnsOptions DnsSearch DriverStatus Entrypoint Env "
    "ExecIDs ExtraHosts GenericResources GroupAdd Layers LinkLocalIPs Links MaskedPaths Mounts OnBuild Peers Processes ReadonlyPaths RepoDigests RepoTags "
    "SecondaryIPAddresses SecondaryIPv6Addresses SecurityOpt SecurityOptions Shell Test Ulimits VolumesFrom Warnings".split()
)


class Missing:
    """A value that is not there; rendered as Go does."""

    nil = True

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        return "<no value>"


class GoMap(dict[str, object]):
    """A map: what it lacks is no mistake."""

    def __missing__(self, key: str) -> object:
        return Missing()


class NilMap(GoMap):
    """Go's nil map, null in JSON."""

    nil = True


class NilSlice(list[object]):
    """Go's nil slice, null in JSON."""

    nil = True


def as_go(name: str, value: object) -> object:
    """What the field `name` of a document holds, as Go would have it."""
    if value is None:
        return NilMap() if name in MAPS else NilSlice() if name in SLICES else None
    return GoMap(value) if type(value) is dict and name in MAPS else value
