"""Fields of Docker's types that JSON leaves out where they are empty: templates have them all the same, as Go's zero values.

Go's empty lists and maps are null here, as they are where JSON has the field; `gotypes` knows which are which.
"""

from __future__ import annotations

TYPE_CHECKING = False  # the name type checkers know; collections.abc would cost 2 ms
if TYPE_CHECKING:
    from collections.abc import Mapping

    Shape = Mapping[str, object]

_CONFIG: Shape = {"ArgsEscaped": False, "ExposedPorts": None, "Healthcheck": None, "Shell": None, "StopSignal": ""}
_DESCRIPTOR: Shape = {"Annotations": None, "Platform": None, "URLs": None}
IMAGE: Shape = {
    "Container": "",
    "ContainerConfig": None,
    "Created": "",
    "Manifests": None,
    "OsVersion": "",
    "Variant": "",
    "VirtualSize": 0,
    "Config": _CONFIG,
    "Descriptor": _DESCRIPTOR,
}
CONTAINER: Shape = {
    "ImageManifestDescriptor": None,
    "SizeRootFs": None,
    "SizeRw": None,
    "Config": {**_CONFIG, "MacAddress": "", "NetworkDisabled": False, "StopTimeout": None},
    "HostConfig": {
        "Annotations": None,
        "Init": None,
        "KernelMemory": 0,
        "KernelMemoryTCP": 0,
        "Mounts": None,
        "StorageOpt": None,
        "Sysctls": None,
        "Tmpfs": None,
    },
    "Mounts": {"Driver": "", "Name": ""},
    "State": {"Health": None},
}
INFO: Shape = {
    "Containerd": None,
    "DefaultAddressPools": None,
    "DiscoveredDevices": None,
    "FirewallBackend": None,
    "KernelMemory": False,
    "KernelMemoryTCP": False,
    "SystemStatus": None,
}
ENGINE: Shape = {"Experimental": False}
NETWORK: Shape = {"IPAM": {"Config": {"Gateway": "", "IPRange": ""}}, "Peers": None, "Services": None}
VOLUME: Shape = {"ClusterVolume": None, "Status": None, "UsageData": None}


class Typed(dict[str, object]):
    """A document; `left_out` are fields that its type has besides, with their values."""

    __slots__ = ("left_out",)

    def __init__(self, document: Mapping[str, object], left_out: Shape) -> None:
        super().__init__(document)
        self.left_out = left_out


def typed(document: Mapping[str, object], shape: Shape) -> Typed:
    """The document of the API as a template of `inspect` sees it; JSON of it is the document's."""
    inner = {name: _inner(document[name], of) for name, of in shape.items() if isinstance(of, dict) and name in document}
    return Typed({**document, **inner}, {name: None if isinstance(zero, dict) else zero for name, zero in shape.items()})


def typed_event(document: Mapping[str, object]) -> Typed:
    """An event as a template sees it: what only events of containers and images have is empty in others."""
    return Typed(document, {name: "" for name in ("From", "ID", "Status") if name.lower() not in document})


def _inner(value: object, shape: Shape) -> object:
    """A field that is such a document, or a list of them."""
    if isinstance(value, list):
        return [_inner(each, shape) for each in value]
    return typed(value, shape) if isinstance(value, dict) else value
