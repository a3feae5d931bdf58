"""Which commands there are. What each takes is said in its module of `cli/commands`, in `TABLE`: the one that is asked for is loaded, and
no other.

A row of a TABLE has the fewest and most arguments (-1: any number), whether flags may follow arguments, the usage, and the flags: a flag is
a line `letter name kind|help`; the letter is `-` where there is none; a default stands in the help. The dispatcher, the flag parser, the
help and the completion all read these.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # the name type checkers know; typing and collections.abc would cost 2 ms each
if TYPE_CHECKING:
    from collections.abc import Iterator

Entry = tuple[str, int, int, bool, str, str, str]
"""Module, fewest and most arguments, whether flags may follow arguments, usage, summary, flags."""

GLOBAL_FLAGS = """\
- config string|Location of client config files (default "~/.docker")
D debug bool|Show where an error came from
H host list|Engine to connect to: unix:///path or tcp://host:port
- tls bool|Speak TLS over TCP; implied by --tlsverify
- tlscacert string|Authority that signed the engine's certificate (default "~/.docker/ca.pem")
- tlscert string|Certificate to show to the engine (default "~/.docker/cert.pem")
- tlskey string|Its key (default "~/.docker/key.pem")
- tlsverify bool|Speak TLS over TCP and verify the engine
v version bool|Print version information and quit
"""
"""Flags before the command, as the rows of a TABLE have theirs."""

_ROWS = {
    "run": ("run", "Create and run a new container from an image"),
    "create": ("run", "Create a new container"),
    "update": ("update", "Update configuration of one or more containers"),
    "stats": ("stats", "Display a live stream of container(s) resource usage statistics"),
    "start": ("run", "Start one or more stopped containers"),
    "attach": ("run", "Attach local standard input, output, and error streams to a running container"),
    "exec": ("run", "Execute a command in a running container"),
    "ps": ("ps", "List containers"),
    "images": ("images", "List images"),
    "version": ("version", "Show the engine's version information"),
    "stop": ("lifecycle", "Stop one or more running containers"),
    "kill": ("lifecycle", "Kill one or more running containers"),
    "restart": ("lifecycle", "Restart one or more containers"),
    "pause": ("lifecycle", "Pause all processes within one or more containers"),
    "unpause": ("lifecycle", "Unpause all processes within one or more containers"),
    "rename": ("lifecycle", "Rename a container"),
    "wait": ("lifecycle", "Block until one or more containers stop, then print their exit codes"),
    "rm": ("lifecycle", "Remove one or more containers"),
    "top": ("lifecycle", "Display the running processes of a container"),
    "port": ("lifecycle", "List port mappings or a specific mapping for the container"),
    "container prune": ("lifecycle", "Remove all stopped containers"),
    "cp": ("contents", "Copy files and folders between a container and the local filesystem"),
    "diff": ("contents", "Inspect changes to files or directories on a container's filesystem"),
    "export": ("contents", "Export a container's filesystem as a tar archive"),
    "commit": ("contents", "Create a new image from a container's changes"),
    "logs": ("contents", "Fetch the logs of a container"),
    "import": ("archive", "Import the contents from a tarball to create a filesystem image"),
    "save": ("archive", "Save one or more images to a tar archive (streamed to STDOUT by default)"),
    "load": ("archive", "Load an image from a tar archive or STDIN"),
    "tag": ("imaging", "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE"),
    "history": ("imaging", "Show the history of an image"),
    "rmi": ("imaging", "Remove one or more images"),
    "image prune": ("space", "Remove unused images"),
    "pull": ("transfer", "Download an image from a registry"),
    "push": ("transfer", "Upload an image to a registry"),
    "search": ("transfer", "Search a registry for images"),
    "login": ("transfer", "Authenticate to a registry"),
    "logout": ("transfer", "Log out from a registry"),
    "completion": ("completion", "Print a script that has a shell complete commands, flags and names"),
    "build": ("build", "Build an image from a Dockerfile"),
    "builder prune": ("space", "Remove build cache"),
    "inspect": ("system", "Return low-level information on containers, images, volumes and networks"),
    "image inspect": ("system", "Display detailed information on one or more images"),
    "container inspect": ("system", "Display detailed information on one or more containers"),
    "info": ("system", "Display system-wide information"),
    "events": ("system", "Get real time events from the server"),
    "system check": ("system", "Check every stored byte, record and mount, and restore what can be restored"),
    "system df": ("space", "Show disk usage"),
    "system prune": ("space", "Remove unused data"),
    "volume ls": ("volumes", "List volumes"),
    "volume create": ("volumes", "Create a volume"),
    "volume rm": ("volumes", "Remove one or more volumes. You cannot remove a volume that is in use by a container."),
    "volume inspect": ("system", "Display detailed information on one or more volumes"),
    "volume prune": ("volumes", "Remove unused local volumes"),
    "network ls": ("volumes", "List networks"),
    "network create": ("networks", "Create a network"),
    "network rm": ("networks", "Remove one or more networks"),
    "network prune": ("networks", "Remove all unused networks"),
    "network connect": ("networks", "Connect a container to a network"),
    "network disconnect": ("networks", "Disconnect a container from a network"),
    "network inspect": ("system", "Display detailed information on one or more networks"),
    "image tree": ("images", "Show the tree of layers across images, base at the root"),
    "layers": ("layers", "List the layers of an image or a container, base first, with the instruction that made each"),
    "which": ("layers", "Show which layer and instruction a file comes from"),
    "ls": ("layers", "List a directory of an image without mounting it"),
    "cat": ("layers", "Write files of an image to standard output without mounting it"),
    "blame": ("blame", "Show every file with the layer and instruction that last touched it, as a tree"),
    "image mount": ("mounting", "Mount an image or one layer read-only on the host; without arguments, list what is mounted"),
    "image unmount": ("mounting", "Unmount what image mount mounted"),
    "image squash": ("mounting", "Make an image with the same files in fewer layers"),
    "image find": ("find", "Find files by name in all images, with the layer and instruction they come from"),
    "image diff": ("difference", "Show what differs from one image to another: files, contents, packages, configuration"),
    "snapshot create": ("snapshots", "Keep what a container has written until now; without a name it gets a number"),
    "snapshot ls": ("snapshots", "List the snapshots of a container, the oldest first"),
    "snapshot diff": ("snapshots", "Show what differs from one snapshot to another, or to now"),
    "snapshot rm": ("snapshots", "Remove snapshots; files that others stand on stay"),
    "watch": ("watch", "Show, live, what a container adds, modifies and deletes, and from which layer"),
    "rollback": ("snapshots", "Return a container to a snapshot"),
    "registry serve": ("service", "Serve a registry on this machine, in the foreground"),
    "registry gc": ("service", "Remove blobs that no manifest needs"),
    "registry passwd": ("service", "Set the password of a registry's user"),
    "system service install": ("service", "Write a systemd unit for laminad, enable and start it"),
    "system service uninstall": ("service", "Stop and remove the systemd unit; containers go on"),
    "system service print": ("service", "Print the systemd unit"),
}
"""The module that performs a command, and its summary."""


class Commands:
    """Every command as one mapping to its entry, in the order above."""

    def __contains__(self, name: str) -> bool:
        return name in _ROWS

    def __getitem__(self, name: str) -> Entry:
        module, summary = _ROWS[name]
        path = f"lamina.cli.commands.{module}"
        __import__(path)
        fewest, most, interspersed, usage, flags = sys.modules[path].TABLE[name]
        return module, fewest, most, interspersed, usage, summary, flags

    def __iter__(self) -> Iterator[str]:
        return iter(_ROWS)

    def summary(self, name: str) -> str:
        """What a command does, without loading its module."""
        return _ROWS[name][1]


COMMANDS = Commands()

GROUPS: dict[str, tuple[str, str]] = {
    "container": (
        "Manage containers",
        "attach commit cp create diff exec export inspect kill logs ls pause port prune rename restart rm run start stats stop top unpause update wait",
    ),
    "image": (
        "Manage images",
        "blame build cat diff find history import inspect layers load ls mount prune pull push rm save squash tag tree unmount which",
    ),
    "builder": ("Manage builds", "build prune"),
    "registry": ("Keep a registry on this machine", "gc passwd serve"),
    "snapshot": ("Manage snapshots of what containers wrote", "create diff ls rm"),
    "system": ("Manage the engine", "check df events info prune service"),
    "system service": ("Manage laminad as a service of systemd", "install print uninstall"),
    "volume": ("Manage volumes", "create inspect ls prune rm"),
    "network": ("Manage networks", "connect create disconnect inspect ls prune rm"),
}
"""A group's summary and its commands."""

_OLDER = {"--net": "--network", "--net-alias": "--network-alias", "--dns-opt": "--dns-option"}
SPELLINGS: dict[str, dict[str, str]] = {"images": {"-tree": "--tree"}, "run": _OLDER, "create": _OLDER}
"""Other spellings of a command's flags, which help does not show."""

ALIASES: dict[str, str] = {
    "container ls": "ps",
    "container list": "ps",
    "container ps": "ps",
    "image ls": "images",
    "image list": "images",
    "image rm": "rmi",
    "image remove": "rmi",
    "builder build": "build",
    "snapshot list": "snapshot ls",
    "snapshot remove": "snapshot rm",
    "system events": "events",
    "system info": "info",
    "volume list": "volume ls",
    "volume remove": "volume rm",
    "network list": "network ls",
    "network remove": "network rm",
    "container remove": "rm",
    "container attach": "attach",
    "container commit": "commit",
    "container cp": "cp",
    "container create": "create",
    "container diff": "diff",
    "container exec": "exec",
    "container export": "export",
    "container kill": "kill",
    "container logs": "logs",
    "container pause": "pause",
    "container port": "port",
    "container rename": "rename",
    "container restart": "restart",
    "container rm": "rm",
    "container run": "run",
    "container start": "start",
    "container stats": "stats",
    "container stop": "stop",
    "container top": "top",
    "container unpause": "unpause",
    "container update": "update",
    "container wait": "wait",
    "image build": "build",
    "image blame": "blame",
    "image cat": "cat",
    "image history": "history",
    "image import": "import",
    "image layers": "layers",
    "image load": "load",
    "image pull": "pull",
    "image push": "push",
    "image save": "save",
    "image tag": "tag",
    "image umount": "image unmount",
    "image which": "which",
}
"""Other names of commands."""
