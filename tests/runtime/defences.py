"""The defences that published escapes met, each with the edit of the sources that takes it away and the tests that must fail then.

An edit is (file below src/lamina, what stands there once, what takes its place). `test_defences` makes a copy of the sources with it, and
runs the tests on that: nothing in the product can switch a defence off.
"""

from __future__ import annotations

from dataclasses import dataclass

HAZARDS, ESCAPES, API, USERS, FILTER = (
    "tests/runtime/test_hazards.py",
    "tests/runtime/test_escapes.py",
    "tests/docker/test_escapes.py",
    "tests/runtime/test_users.py",
    "tests/linux/test_seccomp.py",
)
Edit = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Defence:
    """`escapes` are those of docs/security.md's table; `tests` are pytest's names, each of which must fail under `edits`."""

    name: str
    escapes: tuple[str, ...]
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]


_OPENED_BY_NAME = (
    "\n\ndef openat2(root: int, path: str, flags: int, resolve: int = 0, mode: int = 0) -> int:\n"
    '    below = path if path.startswith("/") else f"/{path}"\n'
    "    base = os.readlink(f'/proc/self/fd/{root}').rstrip('/')\n"
    "    return os.open(base + below, flags | os.O_CLOEXEC, mode)\n\n"
)
_EARLY_ROOT: tuple[Edit, ...] = (
    # As runc once did: mounts are made in the host's sight, at paths put together from the root's and the target's.
    (
        "runtime/plan.py",
        '[["private_mounts"], ["enter_root", "root"]]',
        '[["private_mounts"], ["place_root", "root", "/run/lamina-mutant"]]',
    ),
    ("runtime/plan.py", '    if not own:\n        steps.append(["change_root"])', '    steps.append(["enter_placed_root"])'),
    ("runtime/init.py", "    where = os.open(path, os.O_PATH", "    os.makedirs(path, exist_ok=True)\n    where = os.open(path, os.O_PATH"),
    ("runtime/init.py", "\nREADY, REACHED = ", f"{_OPENED_BY_NAME}\nREADY, REACHED = "),
    ("runtime/targets.py", "\nSAFE = ", f"{_OPENED_BY_NAME}\nSAFE = "),
)

DEFENCES = (
    Defence(
        "sealed interpreter",
        ("CVE-2019-5736",),
        (("runtime/interpreter.py", "    fd = os.memfd_create(", "    return os.open(path, os.O_RDONLY)\n    fd = os.memfd_create("),),
        (f"{HAZARDS}::test_the_zygote_runs_from_a_sealed_copy_that_nobody_can_write",),
    ),
    Defence(
        "undumpable",
        ("CVE-2019-5736", "CVE-2016-9962"),
        (("runtime/zygote.py", "    prctl.set_undumpable()\n", ""),),
        (f"{HAZARDS}::test_the_zygote_cannot_be_looked_into_by_its_own_user",),
    ),
    Defence(
        "nothing over /proc",
        ("CVE-2019-19921", "CVE-2023-27561", "CVE-2015-3631"),
        (("runtime/plan.py", '    genuine = kind == "proc"', '    return\n    genuine = kind == "proc"'),),
        (f"{HAZARDS}::test_nothing_can_be_put_over_proc",),
    ),
    Defence(
        "no links on the way to /proc, /sys and /dev",
        ("CVE-2019-19921", "CVE-2023-27561", "CVE-2023-28642", "CVE-2026-41579"),
        (("runtime/targets.py", "STRICT = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS", "STRICT = RESOLVE_IN_ROOT"),),
        (f"{HAZARDS}::test_symlinks_in_place_of_the_kernels_directories_are_refused",),
    ),
    Defence(
        "targets below the root's descriptor",
        ("CVE-2021-30465", "CVE-2024-45310"),
        _EARLY_ROOT,
        (
            f"{HAZARDS}::test_symlinked_mount_targets_stay_inside",
            f"{ESCAPES}::test_a_mount_target_in_a_shared_directory_makes_nothing_on_the_host",
        ),
    ),
    Defence(
        "the primary group among the others",
        ("CVE-2022-36109", "CVE-2023-25173"),
        (("runtime/launcher.py", "[user.gid, *user.groups, *further]", "[*user.groups, *further]"),),
        (f"{ESCAPES}::test_leaving_the_supplementary_groups_gains_nothing",),
    ),
    Defence(
        "numbers are no names",
        ("CVE-2016-3697",),
        (
            (
                "runtime/users.py",
                "if fields[0] == name if number is None else int(fields[2]) == number:",
                "if fields[0] == name or int(fields[2]) == number:",
            ),
        ),
        (f"{USERS}::test_a_number_is_never_taken_for_a_name",),
    ),
    Defence(
        "numbers that are too large",
        ("CVE-2024-40635",),
        (("runtime/users.py", "_is_number(text) and len(text) <= 10 and int(text) <= _MAX_ID", "_is_number(text)"),),
        (f"{USERS}::test_a_number_beyond_what_there_is_does_not_become_root",),
    ),
    Defence(
        "numbers that are too large are no names",
        ("CVE-2026-46680",),
        (
            ("runtime/users.py", "    if _is_number(name) and not _is_id(name):", "    if False:"),
            ("runtime/users.py", " and _is_id(fields[2]) and not _is_number(name):", " and _is_id(fields[2]):"),
        ),
        (f"{USERS}::test_a_number_beyond_what_there_is_is_no_name_either",),
    ),
    Defence(
        "groups within what is possible",
        ("CVE-2026-47262",),
        (("runtime/users.py", "    if len(further) >= _MAX_GROUPS:", "    if False:"),),
        (f"{USERS}::test_a_user_of_more_groups_than_a_process_can_have_is_refused",),
    ),
    Defence(
        "the working directory",
        ("CVE-2024-21626",),
        (
            (
                "runtime/init.py",
                '        fd = place(slots["/"], path, SAFE) if make else openat2(slots["/"], path, os.O_PATH, SAFE)\n',
                "        fd = os.open(path, os.O_PATH)\n",
            ),
            ("runtime/init.py", '    if not os.getcwd().startswith("/"):', "    if False:"),
        ),
        (
            f"{HAZARDS}::test_the_working_directory_cannot_be_a_descriptor_of_the_hosts",
            f"{HAZARDS}::test_exec_cannot_start_in_a_descriptor_of_the_hosts",
        ),
    ),
    Defence(
        "no descriptor is inherited",
        ("CVE-2024-21626", "CVE-2016-9962"),
        # The leak that these escapes began with, and the closing away.
        (
            (
                "runtime/init.py",
                "    namespace.close_on_exec_from(3 +",
                '    os.set_inheritable(os.open("/bin", os.O_RDONLY), True)\n    return\n    namespace.close_on_exec_from(3 +',
            ),
        ),
        (f"{ESCAPES}::test_no_descriptor_of_the_engines_is_open_inside", f"{HAZARDS}::test_exec_leaks_no_descriptor"),
    ),
    Defence(
        "the null device is looked at",
        ("CVE-2025-31133",),
        (("runtime/init.py", "    if not stat.S_ISCHR(found.st_mode) or found.st_rdev != _NULL_DEVICE:", "    if False:"),),
        (f"{HAZARDS}::test_a_fake_null_device_does_not_mask",),
    ),
    Defence(
        "the console by a descriptor",
        ("CVE-2025-52565",),
        (
            (
                "runtime/init.py",
                '    fd = mount.open_tree("", directory=slots[slot])\n    attach_at(slots["/"], fd, "dev/console"',
                '    fd = mount.open_tree(os.ttyname(slots[slot]))\n    attach_at(slots["/"], fd, "dev/console"',
            ),
        ),
        (f"{HAZARDS}::test_the_console_is_not_what_lies_at_the_terminals_path",),
    ),
    Defence(
        "a procfs attached nowhere",
        ("CVE-2025-52881", "CVE-2019-16884"),
        (("runtime/init.py", '    slots["proc"] = _make("proc", "proc", (), 0)', '    slots["proc"] = os.open("/proc", os.O_PATH)'),),
        (f"{HAZARDS}::test_writes_to_proc_do_not_go_through_what_is_mounted_at_proc",),
    ),
    Defence(
        "no inheritable capabilities",
        ("CVE-2022-24769", "CVE-2022-29162"),
        (("runtime/bundle.py", '"permitted": names, "inheritable": [],', '"permitted": names, "inheritable": names,'),),
        (f"{ESCAPES}::test_no_capability_is_inheritable_or_ambient", f"{ESCAPES}::test_a_privileged_exec_is_not_inheritable_either"),
    ),
    Defence(
        "no ambient capabilities",
        ("CVE-2016-8867",),
        (("runtime/bundle.py", '"inheritable": [], "ambient": []}', '"inheritable": names, "ambient": names}'),),
        (f"{ESCAPES}::test_no_capability_is_inheritable_or_ambient",),
    ),
    Defence(
        "masked and read-only files of the kernel",
        ("CVE-2017-16539", "CVE-2018-10892"),
        (
            ("runtime/plan.py", 'steps.append(["mask", list(masked)])', "pass"),
            ("runtime/plan.py", 'steps.append(["read_only", list(fixed)])', "pass"),
        ),
        (f"{ESCAPES}::test_masked_files_stay_masked_for_exec_and_after_unmounting_attempts",),
    ),
    Defence(
        "read-only control groups",
        ("CVE-2022-0492", "CVE-2023-25809"),
        (("runtime/bundle.py", '*([] if cgroups else ["ro"])', ""),),
        (f"{ESCAPES}::test_control_groups_cannot_be_mounted_or_written",),
    ),
    Defence(
        "rules for devices",
        ("devices in layers",),
        (("runtime/bundle.py", "    if privileged:\n        return [{", "    if True:\n        return [{"),),
        (f"{HAZARDS}::test_devices_in_layers_cannot_be_opened",),
    ),
    Defence(
        "no abstract sockets",
        ("CVE-2020-15257",),
        (
            (
                "linux/channel.py",
                "        sock.listen(backlog)",
                "        more = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)\n"
                '        more.bind(f"\\0lamina-{os.getpid()}")\n        more.detach()\n        sock.listen(backlog)',
            ),
        ),
        (f"{ESCAPES}::test_nobody_can_speak_to_the_engine_through_abstract_sockets",),
    ),
    Defence(
        "no AF_ALG and AF_VSOCK",
        ("CVE-2026-31431", "AF_VSOCK"),
        (("runtime/syscalls.py", "*_sockets()]", '_allow(["socket"])]'),),
        (f"{ESCAPES}::test_a_socket_to_the_machine_below_is_refused", f"{FILTER}::test_sockets_of_all_families_but_two_may_be_made"),
    ),
    Defence(
        "no imports after the doors are closed",
        ("lazy imports",),
        (
            (
                "runtime/zygote.py",
                "    sys.path.clear()\n    sys.meta_path.clear()\n    sys.path_hooks.clear()\n    sys.path_importer_cache.clear()\n",
                "",
            ),
        ),
        (f"{HAZARDS}::test_nothing_can_be_imported_after_the_doors_are_closed",),
    ),
    Defence(
        "signals are given back",
        ("signal settings",),
        (("runtime/init.py", "    for number in _SIGNALS:\n        if", "    for number in ():\n        if"),),
        (f"{HAZARDS}::test_ignored_signals_are_given_back",),
    ),
    Defence(
        "paths of cp below the root's descriptor",
        ("CVE-2018-15664", "CVE-2021-41089"),
        (
            (
                "linux/openat2.py",
                "    return openat2(root, path, flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS, mode)\n",
                '    return os.open(f"/proc/self/fd/{root}/{os.fsdecode(path)}", flags | os.O_CLOEXEC, mode)\n',
            ),
        ),
        (f"{API}::test_copying_while_a_path_is_exchanged_stays_inside",),
    ),
    Defence(
        "cp loads nothing of the container's",
        ("CVE-2019-14271",),
        (
            (
                "container/files.py",
                "        with _missing_named(params, errno.ENOTDIR):\n            fd = open_in_root(root, place.directory, _FOLDER)",
                '        import ctypes\n\n        with _missing_named(params, errno.ENOTDIR):\n            for name in ("lib/libnss_files.so.2",):\n                try:\n                    fd = open_in_root(root, name)\n                except OSError:\n                    continue\n                ctypes.CDLL(f"/proc/self/fd/{fd}")\n            fd = open_in_root(root, place.directory, _FOLDER)',
            ),
        ),
        (f"{API}::test_copying_uses_no_library_of_the_container",),
    ),
    Defence(
        "volumes of images are looked at",
        ("CVE-2019-16884", "CVE-2022-23648", "CVE-2015-3631"),
        (
            (
                "container/mounts.py",
                '    cleaned = posixpath.normpath("/" + target.lstrip("/"))\n    if cleaned == "/":',
                '    cleaned = target\n    if cleaned == "":',
            ),
            ("runtime/plan.py", '    genuine = kind == "proc"', '    return\n    genuine = kind == "proc"'),
        ),
        (f"{API}::test_a_volume_of_an_image_that_lies_over_something_else_is_refused",),
    ),
    Defence(
        "names of internal networks",
        ("CVE-2024-29018",),
        (("network/switchboard.py", "elif not container.outside or not container.servers", "elif not container.servers"),),
        ("tests/network/test_names.py::test_a_container_on_internal_networks_only_asks_nobody_outside",),
    ),
    Defence(
        "the host's loopback",
        ("CVE-2020-8558",),
        (
            (
                "network/ruleset.py",
                'nft.equal(_LOOPBACK)), *_in("bridges"), nft.verdict(nft.DROP)]',
                'nft.equal(_LOOPBACK)), *_in("bridges"), nft.verdict(nft.RETURN)]',
            ),
        ),
        (f"{API}::test_the_hosts_loopback_is_not_reached_by_routing_to_it",),
    ),
    Defence(
        "the data root is closed",
        ("CVE-2021-41091",),
        (
            ("daemon/root.py", "os.makedirs(root, mode=0o710, exist_ok=True)", "os.makedirs(root, mode=0o755, exist_ok=True)"),
            ("daemon/root.py", "os.chmod(root, os.stat(root).st_mode & 0o770)", "os.chmod(root, 0o755)"),
        ),
        (f"{API}::test_users_of_the_host_reach_nothing_of_an_images_files",),
    ),
    Defence(
        "a volume is filled by descriptors",
        ("volumes that others write to",),
        (
            (
                "container/files.py",
                "            copy_tree(os.dup(source), target)\n",
                '            import subprocess\n\n            subprocess.run(["cp", "-a", f"/proc/self/fd/{source}/.", destination], pass_fds=(source,))\n',
            ),
        ),
        ("tests/container/test_seeding.py::test_a_volume_that_somebody_else_writes_to_meanwhile_leads_nowhere",),
    ),
    Defence(
        "no device is opened",
        ("devices named like files",),
        (
            (
                "linux/openat2.py",
                "        if not stat.S_ISREG(os.fstat(place).st_mode):\n",
                '        os.close(os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_NONBLOCK))\n'
                "        if not stat.S_ISREG(os.fstat(place).st_mode):\n",
            ),
        ),
        ("tests/linux/test_openat2.py::test_what_is_no_regular_file_is_not_even_opened",),
    ),
    Defence(
        "openat2 is asked again",
        ("renames all day",),
        (("linux/openat2.py", "    for _ in range(_PATIENCE):\n", "    for _ in range(1):\n"),),
        ("tests/linux/test_openat2.py::test_what_a_rename_met_is_asked_again",),
    ),
    Defence(
        "trees are removed without recursion",
        ("directories in one another",),
        (
            (
                "linux/removing.py",
                "    top = opened(path, _DIRECTORY, dir_fd=dir_fd)\n",
                "    import shutil\n\n    return shutil.rmtree(path, dir_fd=dir_fd)\n    top = opened(path, _DIRECTORY, dir_fd=dir_fd)\n",
            ),
        ),
        ("tests/linux/test_removing.py::test_directories_of_any_depth_are_removed_with_few_descriptors",),
    ),
    Defence(
        "an exec is unseen by who may trace",
        ("CVE-2016-9962",),
        (("runtime/plan.py", "    apart = (traced or _may_trace(spec)) and not kinds & CLONE_NEWUSER\n", "    apart = False\n"),),
        (f"{HAZARDS}::test_not_even_by_who_may_trace", f"{API}::test_an_exec_is_unseen_by_who_shares_the_processes_and_may_trace"),
    ),
    Defence(
        "an exec that failed is reaped",
        ("dead processes",),
        (
            ("runtime/beginning.py", "        reap_all()\n        tell(daemon, about)\n", "        tell(daemon, about)\n"),
            ("runtime/launcher.py", "    if not sibling:\n        os.waitpid(pid, 0)\n", ""),
        ),
        ("tests/runtime/test_running.py::test_an_exec_that_failed_leaves_no_process_behind",),
    ),
)
