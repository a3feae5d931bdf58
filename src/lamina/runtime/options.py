"""The options of `lamina-runtime`: those of runc that callers use."""

from __future__ import annotations

import argparse
from typing import Any

from lamina import __version__

SPEC_VERSION = "1.1.0"
_ROOT = "/run/lamina-runtime"


def parser() -> argparse.ArgumentParser:
    """The whole command line; `command` says which was given."""
    top = argparse.ArgumentParser(prog="lamina-runtime", description="Run containers from OCI bundles.")
    top.add_argument("--version", "-v", action="version", version=f"lamina-runtime version {__version__}\nspec: {SPEC_VERSION}")
    top.add_argument("--root", default=_ROOT, help="directory of the containers' state (default: %(default)s)")
    top.add_argument("--log", default="", help="file that errors are written to as well")
    top.add_argument("--log-format", choices=["text", "json"], default="text")
    top.add_argument("--debug", action="store_true", help="accepted, changes nothing")
    top.add_argument("--systemd-cgroup", action="store_true", help="take slice:prefix:name as the path systemd would use")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, about in (("create", "set a container up"), ("run", "create and start a container, and wait for it")):
        command = _command(commands, name, about)
        _io_options(command)
        command.add_argument("--bundle", "-b", default=".", help="directory of config.json (default: here)")
        command.add_argument("--no-pivot", action="store_true", help=argparse.SUPPRESS)
        command.add_argument("--no-new-keyring", action="store_true", help=argparse.SUPPRESS)
        command.add_argument("--keep", action="store_true", help=argparse.SUPPRESS)
        command.add_argument("--detach", "-d", action="store_true", help="do not wait")
    _command(commands, "start", "let a created container's command run")
    _command(commands, "state", "print a container's state")
    kill = _command(commands, "kill", "send a signal to a container")
    kill.add_argument("signal", nargs="?", default="TERM")
    kill.add_argument("--all", "-a", action="store_true", help="to all its processes")
    _command(commands, "delete", "remove what a container left").add_argument("--force", "-f", action="store_true", help="kill it first")
    _exec_options(_command(commands, "exec", "run one more command in a container"))
    _command(commands, "ps", "print the pids in a container").add_argument("--format", "-f", default="json")
    _command(commands, "pause", "stop all processes")
    _command(commands, "resume", "let them go on")
    _command(commands, "update", "change limits").add_argument("--resources", "-r", required=True, help="file of JSON, or -")
    _plain(commands, "list", "print all containers").add_argument("--format", "-f", choices=["table", "json"], default="table")
    _plain(commands, "spec", "write a config.json").add_argument("--bundle", "-b", default=".")
    _plain(commands, "features", "print what this runtime can do")
    return top


def _plain(commands: Any, name: str, about: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=about, description=about.capitalize() + ".")
    return command


def _command(commands: Any, name: str, about: str) -> argparse.ArgumentParser:
    command = _plain(commands, name, about)
    command.add_argument("id", help="the container's ID")
    return command


def _io_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--pid-file", default="", help="file the process's pid is written to")
    command.add_argument("--console-socket", default="", help="socket the terminal is sent to")
    command.add_argument("--preserve-fds", type=int, default=0, help="how many descriptors after 2 are inherited")


def _exec_options(command: argparse.ArgumentParser) -> None:
    _io_options(command)
    command.add_argument("--process", "-p", default="", help="file of an OCI process")
    command.add_argument("--tty", "-t", action="store_true")
    command.add_argument("--detach", "-d", action="store_true")
    command.add_argument("--user", "-u", default="", help="uid[:gid]")
    command.add_argument("--additional-gids", "-g", type=int, action="append", default=[])
    command.add_argument("--env", "-e", action="append", default=[])
    command.add_argument("--cwd", default="")
    command.add_argument("--cap", "-c", action="append", default=[])
    command.add_argument("--no-new-privs", action="store_true")
    command.add_argument("args", nargs=argparse.REMAINDER)
