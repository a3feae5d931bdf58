"""Which commands there are. What each takes is said in its module of `cli/commands`, in `TABLE`: the one that is asked for is loaded, and no other.

A row of a TABLE has the fewest and most arguments (-1: any number), whether flags may follow arguments, the usage, and the flags: a flag is
a line `letter name kind|help`; the letter is `-` where there is none; a default stands in the help. The dispatcher, the flag parser, the help
and the completion all read these.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # the name type checkers know; typing and collections.abc would cost 2 ms each
if TYPE_CHECKING:
    from collections.abc import Iterator

Entry = tuple[str, int, int, bool, str, str, str]
"""Module, fewest and most arguments, whether flags may follow arguments, usage, summary, flags."""

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
    "completion": ("completion", "Print what makes a shell complete commands, flags and names"),
    "build": ("build", "Build an image from a Dockerfile"),
    "builder prune": ("space", "Remove build cache"),
    "inspect": ("system", "Return low-level information on containers, images, volumes and networks"),
    "image inspect": ("system", "Display detailed information on one or more images"),
    "container inspect": ("system", "Display detailed information on one or more containers"),
    "info": ("system", "Display system-wide information"),
    "events": ("system", "Get real time events from the server"),
    "system check": ("system", "Look at everything that is stored, bytes too, and mend it"),
    "system df": ("space", "Show docker disk usage"),
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
    "which": ("layers", "Show which layer and instruction a file of an image comes from"),
    "ls": ("layers", "List a directory of an image without mounting it"),
    "cat": ("layers", "Write files of an image to standard output without mounting it"),
    "blame": ("blame", "Show every file with the layer and instruction that last touched it, as a tree"),
    "image mount": ("mounting", "Mount an image or one layer read-only on the host; without arguments, list what is mounted"),
    "image unmount": ("mounting", "Unmount what image mount has mounted"),
    "image squash": ("mounting", "Make an image that shows the same with fewer layers"),
    "image find": ("find", "Find files by name in all images, with the layer and instruction that gave them"),
    "image diff": ("difference", "Show what differs from one image to another: files, contents, packages, configuration"),
    "snapshot create": ("snapshots", "Keep what a container wrote until now; without a name, a number is given"),
    "snapshot ls": ("snapshots", "List the snapshots of a container, the oldest first"),
    "snapshot diff": ("snapshots", "Show what differs from one snapshot to another, or to now"),
    "snapshot rm": ("snapshots", "Forget snapshots; their files go with the last that stands on them"),
    "watch": ("watch", "Show, live, what a container adds, modifies and deletes, and from which layer"),
    "rollback": ("snapshots", "Make a container what it was at a snapshot"),
    "registry serve": ("service", "Serve a registry on this machine, in the foreground"),
    "registry gc": ("service", "Remove blobs that no manifest needs"),
    "registry passwd": ("service", "Set the password of a registry's user"),
    "system service install": ("service", "Write a systemd unit for laminad, enable and start it"),
    "system service uninstall": ("service", "Stop and remove the systemd unit; containers go on"),
    "system service print": ("service", "Print the systemd unit"),
_CONTAINER = """\
- add-host list|Add a custom host-to-IP mapping (host:ip)
- annotation map|Add an annotation to the container (passed through to the OCI runtime) (default map[])
a attach list|Attach to STDIN, STDOUT or STDERR
- blkio-weight uint16|Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)
- blkio-weight-device list|Block IO weight (relative device weight) (default [])
- cap-add list|Add Linux capabilities
- cap-drop list|Drop Linux capabilities
- cgroup-parent string|Optional parent cgroup for the container
- cgroupns string|Cgroup namespace to use (host|private)
- cidfile string|Write the container ID to the file
- cpu-period int|Limit CPU CFS (Completely Fair Scheduler) period
- cpu-quota int|Limit CPU CFS (Completely Fair Scheduler) quota
- cpu-rt-period int|Limit CPU real-time period in microseconds
- cpu-rt-runtime int|Limit CPU real-time runtime in microseconds
c cpu-shares int|CPU shares (relative weight)
- cpus decimal|Number of CPUs
- cpuset-cpus string|CPUs in which to allow execution (0-3, 0,1)
- cpuset-mems string|MEMs in which to allow execution (0-3, 0,1)
- device list|Add a host device to the container
- device-cgroup-rule list|Add a rule to the cgroup allowed devices list
- device-read-bps list|Limit read rate (bytes per second) from a device (default [])
- device-read-iops list|Limit read rate (IO per second) from a device (default [])
- device-write-bps list|Limit write rate (bytes per second) to a device (default [])
- device-write-iops list|Limit write rate (IO per second) to a device (default [])
- disable-content-trust bool|Skip image verification (default true)
- dns list|Set custom DNS servers
- dns-option list|Set DNS options
- dns-search list|Set custom DNS search domains
- domainname string|Container NIS domain name
- entrypoint string|Overwrite the default ENTRYPOINT of the image
e env list|Set environment variables
- env-file list|Read in a file of environment variables
- expose list|Expose a port or a range of ports
- gpus gpu-request|GPU devices to add to the container ('all' to pass all GPUs)
- group-add list|Add additional groups to join
- health-cmd string|Command to run to check health
- health-interval duration|Time between running the check (ms|s|m|h) (default 0s)
- health-retries int|Consecutive failures needed to report unhealthy
- health-start-interval duration|Time between running the check during the start period (ms|s|m|h) (default 0s)
- health-start-period duration|Start period for the container to initialize before starting health-retries countdown (ms|s|m|h) (default 0s)
- health-timeout duration|Maximum time to allow one check to run (ms|s|m|h) (default 0s)
h hostname string|Container host name
- init bool|Run an init inside the container that forwards signals and reaps processes
i interactive bool|Keep STDIN open even if not attached
- ip string|IPv4 address (e.g., 172.30.100.104)
- ip6 string|IPv6 address (e.g., 2001:db8::33)
- ipc string|IPC mode to use
- isolation string|Container isolation technology
- kernel-memory bytes|Kernel memory limit
l label list|Set meta data on a container
- label-file list|Read in a line delimited file of labels
- link list|Add link to another container
- link-local-ip list|Container IPv4/IPv6 link-local addresses
- log-driver string|Logging driver for the container
- log-opt list|Log driver options
- mac-address string|Container MAC address (e.g., 92:d0:c6:0a:29:33)
m memory bytes|Memory limit
- memory-reservation bytes|Memory soft limit
- memory-swap bytes|Swap limit equal to memory plus swap: '-1' to enable unlimited swap
- memory-swappiness int|Tune container memory swappiness (0 to 100) (default -1)
- mount mount|Attach a filesystem mount to the container
- name string|Assign a name to the container
- network network|Connect a container to a network
- network-alias list|Add network-scoped alias for the container
- no-healthcheck bool|Disable any container-specified HEALTHCHECK
- oom-kill-disable bool|Disable OOM Killer
- oom-score-adj int|Tune host's OOM preferences (-1000 to 1000)
- pid string|PID namespace to use
- pids-limit int|Tune container pids limit (set -1 for unlimited)
- platform string|Set platform if server is multi-platform capable
- privileged bool|Give extended privileges to this container
p publish list|Publish a container's port(s) to the host
P publish-all bool|Publish all exposed ports to random ports
q quiet bool|Suppress the pull output
- read-only bool|Mount the container's root filesystem as read only
- restart string|Restart policy to apply when a container exits (default "no")
- rm bool|Automatically remove the container and its associated anonymous volumes when it exits
- runtime string|Runtime to use for this container
- security-opt list|Security Options
- shm-size bytes|Size of /dev/shm
- stop-signal string|Signal to stop the container
- stop-timeout int|Timeout (in seconds) to stop a container
- storage-opt list|Storage driver options for the container
- sysctl map|Sysctl options (default map[])
- tmpfs list|Mount a tmpfs directory
t tty bool|Allocate a pseudo-TTY
- ulimit ulimit|Ulimit options (default [])
- use-api-socket bool|Bind mount Docker API socket and required auth
u user string|Username or UID (format: <name|uid>[:<group|gid>])
- userns string|User namespace to use
- uts string|UTS namespace to use
v volume list|Bind mount a volume
- volume-driver string|Optional volume driver for the container
- volumes-from list|Mount volumes from the specified container(s)
w workdir string|Working directory inside the container
"""
"""What `run` and `create` have in common."""

COMMANDS: dict[str, Entry] = {
    "run": (
        "run",
        1,
        -1,
        False,
        "IMAGE [COMMAND] [ARG...]",
        "Create and run a new container from an image",
        f"""\
{_CONTAINER}d detach bool|Run container in background and print container ID
- detach-keys string|Override the key sequence for detaching a container
- pull string|Pull image before running ("always", "missing", "never") (default "missing")
- sig-proxy bool|Proxy received signals to the process (default true)
- verify bool|Look at every byte of the image's layers before the start
""",
    ),
    "create": (
        "run",
        1,
        -1,
        False,
        "IMAGE [COMMAND] [ARG...]",
        "Create a new container",
        f"""\
{_CONTAINER}- pull string|Pull image before creating ("always", "missing", "never") (default "missing")
""",
    ),
    "update": (
        "update",
        1,
        -1,
        True,
        "CONTAINER [CONTAINER...]",
        "Update configuration of one or more containers",
        """\
- blkio-weight uint16|Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)
- cpu-period int|Limit CPU CFS (Completely Fair Scheduler) period
- cpu-quota int|Limit CPU CFS (Completely Fair Scheduler) quota
- cpu-rt-period int|Limit the CPU real-time period in microseconds
- cpu-rt-runtime int|Limit the CPU real-time runtime in microseconds
c cpu-shares int|CPU shares (relative weight)
- cpus decimal|Number of CPUs
- cpuset-cpus string|CPUs in which to allow execution (0-3, 0,1)
- cpuset-mems string|MEMs in which to allow execution (0-3, 0,1)
m memory bytes|Memory limit
- memory-reservation bytes|Memory soft limit
- memory-swap bytes|Swap limit equal to memory plus swap: -1 to enable unlimited swap
- pids-limit int|Tune container pids limit (set -1 for unlimited)
- restart string|Restart policy to apply when a container exits
""",
    ),
    "stats": (
        "stats",
        0,
        -1,
        True,
        "[CONTAINER...]",
        "Display a live stream of container(s) resource usage statistics",
        """\
a all bool|Show all containers (default shows just running)
- format string|Format output with a Go template
- no-stream bool|Disable streaming stats and only pull the first result
- no-trunc bool|Do not truncate output
""",
    ),
    "start": (
        "run",
        1,
        -1,
        True,
        "CONTAINER [CONTAINER...]",
        "Start one or more stopped containers",
        """\
a attach bool|Attach STDOUT/STDERR and forward signals
- checkpoint string|Restore from this checkpoint
- checkpoint-dir string|Use a custom checkpoint storage directory
- detach-keys string|Override the key sequence for detaching a container
i interactive bool|Attach container's STDIN
- verify bool|Look at every byte of the image's layers before the start
""",
    ),
    "attach": (
        "run",
        1,
        1,
        True,
        "CONTAINER",
        "Attach local standard input, output, and error streams to a running container",
        """\
- detach-keys string|Override the key sequence for detaching a container
- no-stdin bool|Do not attach STDIN
- sig-proxy bool|Proxy all received signals to the process (default true)
""",
    ),
    "exec": (
        "run",
        2,
        -1,
        False,
        "CONTAINER COMMAND [ARG...]",
        "Execute a command in a running container",
        """\
d detach bool|Detached mode: run command in the background
- detach-keys string|Override the key sequence for detaching a container
e env list|Set environment variables
- env-file list|Read in a file of environment variables
i interactive bool|Keep STDIN open even if not attached
- privileged bool|Give extended privileges to the command
t tty bool|Allocate a pseudo-TTY
u user string|Username or UID (format: "<name|uid>[:<group|gid>]")
w workdir string|Working directory inside the container
""",
    ),
    "ps": (
        "ps",
        0,
        0,
        True,
        "",
        "List containers",
        """\
a all bool|Show all containers (default shows just running)
f filter filter|Filter output based on conditions provided
- format string|Format output as "table", "json" or by a Go template
n last int|Show n last created containers (includes all states) (default -1)
l latest bool|Show the latest created container (includes all states)
- no-trunc bool|Don't truncate output
q quiet bool|Only display container IDs
s size bool|Display total file sizes
""",
    ),
    "images": (
        "images",
        0,
        1,
        True,
        "[REPOSITORY[:TAG]]",
        "List images",
        """\
a all bool|Show all images (default hides intermediate images)
- digests bool|Show digests
f filter filter|Filter output based on conditions provided
- format string|Format output as "table", "json" or by a Go template
i input string|With --tree: show the layers of this archive, which is not loaded ("-": standard input)
- no-trunc bool|Don't truncate output
q quiet bool|Only show image IDs
- tree bool|Show the tree of layers across images, base at the root
""",
    ),
    "version": (
        "version",
        0,
        0,
        True,
        "",
        "Show the engine's version information",
        """\
f format string|Format output as "json" or by a Go template
""",
    ),
    "stop": (
        "lifecycle",
        1,
        -1,
        True,
        "CONTAINER [CONTAINER...]",
        "Stop one or more running containers",
        """\
s signal string|Signal to send to the container
t timeout int|Seconds to wait before killing the container
""",
    ),
    "kill": (
        "lifecycle",
        1,
        -1,
        True,
        "CONTAINER [CONTAINER...]",
        "Kill one or more running containers",
        """\
s signal string|Signal to send to the container
""",
    ),
    "restart": (
        "lifecycle",
        1,
        -1,
        True,
        "CONTAINER [CONTAINER...]",
        "Restart one or more containers",
        """\
s signal string|Signal to send to the container
t timeout int|Seconds to wait before killing the container
""",
    ),
    "pause": (
        "lifecycle",
        1,
        -1,
        True,
        "CONTAINER [CONTAINER...]",
        "Pause all processes within one or more containers",
        """\
""",
    ),
    "unpause": (
        "lifecycle",
        1,
        -1,
        True,
        "CONTAINER [CONTAINER...]",
        "Unpause all processes within one or more containers",
        """\
""",
    ),
    "rename": (
        "lifecycle",
        2,
        2,
        True,
        "CONTAINER NEW_NAME",
        "Rename a container",
        """\
""",
    ),
    "wait": (
        "lifecycle",
        1,
        -1,
        True,
        "CONTAINER [CONTAINER...]",
        "Block until one or more containers stop, then print their exit codes",
        """\
""",
    ),
    "rm": (
        "lifecycle",
        1,
        -1,
        True,
        "CONTAINER [CONTAINER...]",
        "Remove one or more containers",
        """\
f force bool|Force the removal of a running container (uses SIGKILL)
l link bool|Remove the specified link
v volumes bool|Remove anonymous volumes associated with the container
""",
    ),
    "top": (
        "lifecycle",
        1,
        -1,
        False,
        "CONTAINER [ps OPTIONS]",
        "Display the running processes of a container",
        """\
""",
    ),
    "port": (
        "lifecycle",
        1,
        2,
        True,
        "CONTAINER [PRIVATE_PORT[/PROTO]]",
        "List port mappings or a specific mapping for the container",
        """\
""",
    ),
    "container prune": (
        "lifecycle",
        0,
        0,
        True,
        "",
        "Remove all stopped containers",
        """\
- filter filter|Provide filter values (e.g. "until=<timestamp>")
f force bool|Do not prompt for confirmation
""",
    ),
    "cp": (
        "contents",
        2,
        2,
        True,
        "CONTAINER:SRC_PATH DEST_PATH|-\n        lamina cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
        "Copy files and folders between a container and the local filesystem",
        """\
a archive bool|Archive mode (copy all uid/gid information)
L follow-link bool|Always follow symbol link in SRC_PATH
q quiet bool|Suppress progress output during copy. Progress output is automatically suppressed if no terminal is attached
""",
    ),
    "diff": (
        "contents",
        1,
        1,
        True,
        "CONTAINER",
        "Inspect changes to files or directories on a container's filesystem",
        """\
""",
    ),
    "export": (
        "contents",
        1,
        1,
        True,
        "CONTAINER",
        "Export a container's filesystem as a tar archive",
        """\
o output string|Write to a file, instead of STDOUT
""",
    ),
    "commit": (
        "contents",
        1,
        2,
        True,
        "CONTAINER [REPOSITORY[:TAG]]",
        "Create a new image from a container's changes",
        """\
a author string|Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")
c change list|Apply Dockerfile instruction to the created image
m message string|Commit message
p pause bool|Pause container during commit (default true)
""",
    ),
    "logs": (
        "contents",
        1,
        1,
        True,
        "CONTAINER",
        "Fetch the logs of a container",
        """\
- details bool|Show extra details provided to logs
f follow bool|Follow log output
- since string|Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
n tail string|Number of lines to show from the end of the logs (default "all")
t timestamps bool|Show timestamps
- until string|Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
""",
    ),
    "import": (
        "archive",
        1,
        2,
        True,
        "file|URL|- [REPOSITORY[:TAG]]",
        "Import the contents from a tarball to create a filesystem image",
        """\
c change list|Apply Dockerfile instruction to the created image
m message string|Set commit message for imported image
- platform string|Set platform if server is multi-platform capable
""",
    ),
    "save": (
        "archive",
        1,
        -1,
        True,
        "IMAGE [IMAGE...]",
        "Save one or more images to a tar archive (streamed to STDOUT by default)",
        """\
- format string|Layout of the archive: docker (an OCI layout that is a docker-archive too), oci or v1 (default docker)
o output string|Write to a file (an OCI layout also to a directory), instead of STDOUT
- platform string|Save only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")
""",
    ),
    "load": (
        "archive",
        0,
        0,
        True,
        "",
        "Load an image from a tar archive or STDIN",
        """\
i input string|Read from a tar archive file or a directory, instead of STDIN
- platform string|Load only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")
q quiet bool|Suppress the load output
""",
    ),
    "tag": (
        "imaging",
        2,
        2,
        True,
        "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
        "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
        """\
""",
    ),
    "history": (
        "imaging",
        1,
        1,
        True,
        "IMAGE",
        "Show the history of an image",
        """\
- format string|Format output as "table", "json" or by a Go template
H human bool|Print sizes and dates in human readable format (default true)
- no-trunc bool|Don't truncate output
- platform string|Show history for the given platform. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")
q quiet bool|Only show image IDs
""",
    ),
    "rmi": (
        "imaging",
        1,
        -1,
        True,
        "IMAGE [IMAGE...]",
        "Remove one or more images",
        """\
f force bool|Force removal of the image
- no-prune bool|Do not delete untagged parents
- platform strings|Remove only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")
""",
    ),
    "image prune": (
        "space",
        0,
        0,
        True,
        "",
        "Remove unused images",
        """\
a all bool|Remove all unused images, not just dangling ones
- dry-run bool|Only say what would be removed
- filter filter|Provide filter values (e.g. "until=<timestamp>")
f force bool|Do not prompt for confirmation
""",
    ),
    "pull": (
        "transfer",
        1,
        1,
        True,
        "NAME[:TAG|@DIGEST]",
        "Download an image from a registry",
        """\
a all-tags bool|Download all tagged images in the repository
- disable-content-trust bool|Skip image verification (default true)
- platform string|Set platform if server is multi-platform capable
q quiet bool|Suppress verbose output
- verify bool|Look at every byte of the layers that are here, and mend what is damaged
""",
    ),
    "push": (
        "transfer",
        1,
        1,
        True,
        "NAME[:TAG]",
        "Upload an image to a registry",
        """\
a all-tags bool|Push all tags of an image to the repository
- disable-content-trust bool|Skip image verification (default true)
- platform string|Push a platform-specific manifest as a single-platform image to the registry.
q quiet bool|Suppress verbose output
""",
    ),
    "search": (
        "transfer",
        1,
        1,
        True,
        "TERM",
        "Search a registry for images",
        """\
f filter filter|Filter output based on conditions provided
- format string|Format output as "table", "json" or by a Go template
- limit int|Max number of search results
- no-trunc bool|Don't truncate output
""",
    ),
    "login": (
        "transfer",
        0,
        1,
        True,
        "[SERVER]",
        "Authenticate to a registry",
        """\
p password string|Password or Personal Access Token (PAT)
- password-stdin bool|Take the Password or Personal Access Token (PAT) from stdin
u username string|Username
""",
    ),
    "logout": (
        "transfer",
        0,
        1,
        True,
        "[SERVER]",
        "Log out from a registry",
        """\
""",
    ),
    "completion": (
        "completion",
        1,
        -1,
        False,
        "bash|fish|zsh",
        "Print what makes a shell complete commands, flags and names",
        "",
    ),
    "build": (
        "build",
        1,
        1,
        True,
        "PATH | URL | -",
        "Build an image from a Dockerfile",
        """\
- add-host list|Add a custom host-to-IP mapping ("host:ip")
- build-arg list|Set build-time variables
- cache-from strings|Images to consider as cache sources
- cgroup-parent string|Set the parent cgroup for the "RUN" instructions during build
- compress bool|Compress the build context using gzip
- cpu-period int|Limit the CPU CFS (Completely Fair Scheduler) period
- cpu-quota int|Limit the CPU CFS (Completely Fair Scheduler) quota
c cpu-shares int|CPU shares (relative weight)
- cpuset-cpus string|CPUs in which to allow execution (0-3, 0,1)
- cpuset-mems string|MEMs in which to allow execution (0-3, 0,1)
- disable-content-trust bool|Skip image verification (default true)
- explain bool|Say of each step why it hit or missed the cache
f file string|Name of the Dockerfile (Default is "PATH/Dockerfile")
- force-rm bool|Always remove intermediate containers
- iidfile string|Write the image ID to the file
- isolation string|Container isolation technology
- label list|Set metadata for an image
m memory bytes|Memory limit
- memory-swap bytes|Swap limit equal to memory plus swap: -1 to enable unlimited swap
- network string|Set the networking mode for the RUN instructions during build (default "default")
- no-cache bool|Do not use cache when building the image
- platform string|Set platform if server is multi-platform capable
- pull bool|Always attempt to pull a newer version of the image
q quiet bool|Suppress the build output and print image ID on success
- rm bool|Remove intermediate containers after a successful build (default true)
- secret list|Secret to give to RUN --mount=type=secret (format: "id=mysecret[,src=/local/secret|,env=VARIABLE]")
- security-opt strings|Security options
- shm-size bytes|Size of "/dev/shm"
- squash bool|Squash newly built layers into a single new layer
- ssh list|SSH agent to give to RUN --mount=type=ssh (format: "default|<id>[=<socket>]")
t tag list|Name and optionally a tag in the "name:tag" format
- target string|Set the target build stage to build
- ulimit ulimit|Ulimit options (default [])
""",
    ),
    "builder prune": (
        "space",
        0,
        0,
        True,
        "",
        "Remove build cache",
        """\
a all bool|Remove all unused build cache, not just dangling ones
- dry-run bool|Only say what would be removed
- filter filter|Provide filter values (e.g. "until=24h")
f force bool|Do not prompt for confirmation
- keep-storage bytes|Amount of disk space to keep for cache
""",
    ),
    "inspect": (
        "system",
        1,
        -1,
        True,
        "NAME|ID [NAME|ID...]",
        "Return low-level information on containers, images, volumes and networks",
        """\
f format string|Format output as "json" or by a Go template
s size bool|Display total file sizes if the type is container
- type string|Only inspect objects of the given type
""",
    ),
    "image inspect": (
        "system",
        1,
        -1,
        True,
        "IMAGE [IMAGE...]",
        "Display detailed information on one or more images",
        """\
f format string|Format output as "json" or by a Go template
- platform string|Inspect a specific platform of the multi-platform image.
""",
    ),
    "container inspect": (
        "system",
        1,
        -1,
        True,
        "CONTAINER [CONTAINER...]",
        "Display detailed information on one or more containers",
        """\
f format string|Format output as "json" or by a Go template
s size bool|Display total file sizes
""",
    ),
    "info": (
        "system",
        0,
        0,
        True,
        "",
        "Display system-wide information",
        """\
f format string|Format output as "json" or by a Go template
""",
    ),
    "events": (
        "system",
        0,
        0,
        True,
        "",
        "Get real time events from the server",
        """\
f filter filter|Filter output based on conditions provided
- format string|Format output as "json" or by a Go template
- since string|Show all events created since timestamp
- until string|Stream events until this timestamp
""",
    ),
    "system check": (
        "system",
        0,
        0,
        True,
        "",
        "Look at everything that is stored, bytes too, and mend it",
        """\
- format string|Format output with "json" or a Go template
- repair bool|Make anew what can be made anew, and delete what belongs to nothing
""",
    ),
    "system df": (
        "space",
        0,
        0,
        True,
        "",
        "Show docker disk usage",
        """\
- format string|Format output as "table", "json" or by a Go template
v verbose bool|Show detailed information on space usage
""",
    ),
    "system prune": (
        "space",
        0,
        0,
        True,
        "",
        "Remove unused data",
        """\
a all bool|Remove all unused images not just dangling ones
- dry-run bool|Only say what would be removed
- filter filter|Provide filter values (e.g. "label=<key>=<value>")
f force bool|Do not prompt for confirmation
- volumes bool|Prune anonymous volumes
""",
    ),
    "volume ls": (
        "volumes",
        0,
        0,
        True,
        "",
        "List volumes",
        """\
- cluster bool|Display only cluster volumes, and use cluster volume list formatting
f filter filter|Provide filter values (e.g. "dangling=true")
- format string|Format output as "table", "json" or by a Go template
q quiet bool|Only display volume names
""",
    ),
    "volume create": (
        "volumes",
        0,
        1,
        True,
        "[VOLUME]",
        "Create a volume",
        """\
- availability string|Cluster Volume availability ("active", "pause", "drain") (default "active")
d driver string|Specify volume driver name (default "local")
- group string|Cluster Volume group (cluster volumes)
- label list|Set metadata for a volume
- limit-bytes bytes|Minimum size of the Cluster Volume in bytes
o opt map|Set driver specific options (default map[])
- required-bytes bytes|Maximum size of the Cluster Volume in bytes
- scope string|Cluster Volume access scope ("single", "multi") (default "single")
- secret map|Cluster Volume secrets (default map[])
- sharing string|Cluster Volume access sharing ("none", "readonly", "onewriter", "all") (default "none")
- topology-preferred list|A topology that the Cluster Volume would be preferred in
- topology-required list|A topology that the Cluster Volume must be accessible from
- type string|Cluster Volume access type ("mount", "block") (default "block")
""",
    ),
    "volume rm": (
        "volumes",
        1,
        -1,
        True,
        "VOLUME [VOLUME...]",
        "Remove one or more volumes. You cannot remove a volume that is in use by a container.",
        """\
f force bool|Force the removal of one or more volumes
""",
    ),
    "volume inspect": (
        "system",
        1,
        -1,
        True,
        "VOLUME [VOLUME...]",
        "Display detailed information on one or more volumes",
        """\
f format string|Format output as "json" or by a Go template
""",
    ),
    "volume prune": (
        "volumes",
        0,
        0,
        True,
        "",
        "Remove unused local volumes",
        """\
a all bool|Remove all unused volumes, not just anonymous ones
- filter filter|Provide filter values (e.g. "label=<label>")
f force bool|Do not prompt for confirmation
""",
    ),
    "network ls": (
        "volumes",
        0,
        0,
        True,
        "",
        "List networks",
        """\
f filter filter|Provide filter values (e.g. "driver=bridge")
- format string|Format output as "table", "json" or by a Go template
- no-trunc bool|Do not truncate the output
q quiet bool|Only display network IDs
""",
    ),
    "network create": (
        "networks",
        1,
        1,
        True,
        "NETWORK",
        "Create a network",
        """\
- attachable bool|Enable manual container attachment
- aux-address map|Auxiliary IPv4 or IPv6 addresses used by Network driver
- config-from string|The network from which to copy the configuration
- config-only bool|Create a configuration only network
d driver string|Driver to manage the Network (default "bridge")
- gateway strings|IPv4 or IPv6 Gateway for the master subnet
- ingress bool|Create swarm routing-mesh network
- internal bool|Restrict external access to the network
- ip-range strings|Allocate container ip from a sub-range
- ipam-driver string|IP Address Management Driver (default "default")
- ipam-opt map|Set IPAM driver specific options
- ipv4 bool|Enable or disable IPv4 address assignment
- ipv6 bool|Enable or disable IPv6 address assignment
- label list|Set metadata on a network
o opt map|Set driver specific options
- scope string|Control the network's scope
- subnet strings|Subnet in CIDR format that represents a network segment
""",
    ),
    "network rm": (
        "networks",
        1,
        -1,
        True,
        "NETWORK [NETWORK...]",
        "Remove one or more networks",
        """\
f force bool|Do not error if the network does not exist
""",
    ),
    "network prune": (
        "networks",
        0,
        0,
        True,
        "",
        "Remove all unused networks",
        """\
- filter filter|Provide filter values (e.g. "until=<timestamp>")
f force bool|Do not prompt for confirmation
""",
    ),
    "network connect": (
        "networks",
        2,
        2,
        True,
        "NETWORK CONTAINER",
        "Connect a container to a network",
        """\
- alias strings|Add network-scoped alias for the container
- driver-opt strings|driver options for the network
- gw-priority int|Highest gw-priority provides the default gateway
- ip string|IPv4 address (e.g., "172.30.100.104")
- ip6 string|IPv6 address (e.g., "2001:db8::33")
- link list|Add link to another container
- link-local-ip strings|Add a link-local address for the container
""",
    ),
    "network disconnect": (
        "networks",
        2,
        2,
        True,
        "NETWORK CONTAINER",
        "Disconnect a container from a network",
        """\
f force bool|Force the container to disconnect from a network
""",
    ),
    "network inspect": (
        "system",
        1,
        -1,
        True,
        "NETWORK [NETWORK...]",
        "Display detailed information on one or more networks",
        """\
f format string|Format output as "json" or by a Go template
v verbose bool|Verbose output for diagnostics
""",
    ),
    "image tree": (
        "images",
        0,
        0,
        True,
        "",
        "Show the tree of layers across images, base at the root",
        """\
i input string|Show the layers of this archive, which is not loaded ("-": standard input)
- no-trunc bool|Don't truncate output
- format string|Format output as "json" or by a Go template
""",
    ),
    "layers": (
        "layers",
        1,
        1,
        True,
        "IMAGE|CONTAINER",
        "List the layers of an image or a container, base first, with the instruction that made each",
        """\
- no-trunc bool|Don't truncate output; show where each layer's bytes lie on the host
q quiet bool|Only show layer IDs
- format string|Format output as "table", "json" or by a Go template
""",
    ),
    "which": (
        "layers",
        1,
        2,
        True,
        "IMAGE|CONTAINER PATH | IMAGE:PATH",
        "Show which layer and instruction a file comes from",
        """\
- format string|Format output as "json" or by a Go template
""",
    ),
    "ls": (
        "layers",
        1,
        1,
        True,
        "IMAGE:PATH",
        "List a directory of an image without mounting it",
        """\
l long bool|Show type, mode, owner, size and layer
- format string|Format output as "json" or by a Go template
""",
    ),
    "cat": (
        "layers",
        1,
        -1,
        True,
        "IMAGE:PATH [IMAGE:PATH...]",
        "Write files of an image to standard output without mounting it",
        """\
""",
    ),
    "blame": (
        "blame",
        1,
        2,
        True,
        "IMAGE|CONTAINER [PATH]",
        "Show every file with the layer and instruction that last touched it, as a tree",
        """\
L depth int|Show that many levels of directories (default all)
- no-trunc bool|Don't truncate output
- format string|Format output as "json" or by a Go template
""",
    ),
    "image mount": (
        "mounting",
        0,
        2,
        True,
        "[IMAGE|LAYER DIRECTORY]",
        "Mount an image or one layer read-only on the host; without arguments, list what is mounted",
        """\
- format string|Format output as "table", "json" or by a Go template
""",
    ),
    "image unmount": (
        "mounting",
        1,
        -1,
        True,
        "DIRECTORY|IMAGE|LAYER [DIRECTORY...]",
        "Unmount what image mount has mounted",
        """\
f force bool|Unmount also what is in use
""",
    ),
    "image squash": (
        "mounting",
        1,
        1,
        True,
        "IMAGE",
        "Make an image that shows the same with fewer layers",
        """\
t tag list|Name and optionally a tag of the new image
- base string|Keep the layers of this image, squash those above it
""",
    ),
    "image find": (
        "find",
        1,
        1,
        True,
        "PATTERN",
        "Find files by name in all images, with the layer and instruction that gave them",
        """\
E regex bool|The pattern is a regular expression, anywhere in the path
i ignore-case bool|Don't tell upper from lower case
q quiet bool|Only show paths
- no-trunc bool|Don't truncate output
- format string|Format output as "json" or by a Go template
""",
    ),
    "image diff": (
        "difference",
        2,
        3,
        True,
        "IMAGE|CONTAINER IMAGE|CONTAINER [PATH]",
        "Show what differs from one image to another: files, contents, packages, configuration",
        """\
N new-file bool|Show the contents of files that only one of them has
- no-contents bool|Don't show how texts differ
- no-trunc bool|List everything in directories that only one of them has, and what differs in time only
- format string|Format output as "json" or by a Go template
""",
    ),
    "snapshot create": (
        "snapshots",
        1,
        2,
        True,
        "CONTAINER [NAME]",
        "Keep what a container wrote until now; without a name, a number is given",
        """\
- format string|Format output as "json" or by a Go template
""",
    ),
    "snapshot ls": (
        "snapshots",
        1,
        1,
        True,
        "CONTAINER",
        "List the snapshots of a container, the oldest first",
        """\
- format string|Format output as "json" or by a Go template
- no-trunc bool|Don't truncate output
q quiet bool|Only display names
""",
    ),
    "snapshot diff": (
        "snapshots",
        2,
        3,
        True,
        "CONTAINER SNAPSHOT [SNAPSHOT]",
        "Show what differs from one snapshot to another, or to now",
        """\
N new-file bool|Show the contents of files that only one of them has
- no-contents bool|Don't show how texts differ
- no-trunc bool|List everything in directories that only one of them has, and what differs in time only
- format string|Format output as "json" or by a Go template
""",
    ),
    "snapshot rm": (
        "snapshots",
        2,
        -1,
        True,
        "CONTAINER SNAPSHOT [SNAPSHOT...]",
        "Forget snapshots; their files go with the last that stands on them",
        "",
    ),
    "watch": (
        "watch",
        1,
        1,
        True,
        "CONTAINER",
        "Show, live, what a container adds, modifies and deletes, and from which layer",
        """\
a all bool|Begin with what it has changed already
- format string|Format output as "json" or by a Go template
""",
    ),
    "rollback": ("snapshots", 2, 2, True, "CONTAINER SNAPSHOT", "Make a container what it was at a snapshot", ""),
    "registry serve": (
        "service",
        0,
        0,
        True,
        "",
        "Serve a registry on this machine, in the foreground",
        """\
- listen string|Address to listen on; port 0 takes a free one (default "127.0.0.1:5000")
- root string|Directory of the storage (default "/var/lib/lamina-registry")
- users string|File of name:hash lines; without it everybody may push
- tls-cert string|Certificate chain in PEM
- tls-key string|Its key in PEM
- read-only bool|Refuse everything but reading
- no-delete bool|Refuse to delete
""",
    ),
    "registry gc": (
        "service",
        0,
        0,
        True,
        "",
        "Remove blobs that no manifest needs",
        """\
- root string|Directory of the storage (default "/var/lib/lamina-registry")
- older-than string|Spare what is younger, in seconds (default 3600)
""",
    ),
    "registry passwd": (
        "service",
        1,
        1,
        True,
        "NAME",
        "Set the password of a registry's user",
        """\
- users string|File of users, created where there is none
- password-stdin bool|Read the password from the first line of stdin
""",
    ),
    "system service install": (
        "service",
        0,
        -1,
        True,
        "[-- LAMINAD_OPTION...]",
        "Write a systemd unit for laminad, enable and start it",
        """\
""",
    ),
    "system service uninstall": (
        "service",
        0,
        0,
        True,
        "",
        "Stop and remove the systemd unit; containers go on",
        """\
""",
    ),
    "system service print": (
        "service",
        0,
        -1,
        True,
        "[-- LAMINAD_OPTION...]",
        "Print the systemd unit",
        """\
""",
    ),
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
    "system": ("Manage the engine", "df events info prune service"),
    "system service": ("Manage laminad as a service of systemd", "install print uninstall"),
    "volume": ("Manage volumes", "create inspect ls prune rm"),
    "network": ("Manage networks", "connect create disconnect inspect ls prune rm"),
}
"""A group's summary and its commands."""

SPELLINGS: dict[str, dict[str, str]] = {"images": {"-tree": "--tree"}}
"""Other spellings of a command's flags."""

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
