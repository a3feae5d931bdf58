"""Plans: what is done in which order, as data."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.errors import LaminaError
from lamina.runtime import bundle, mapped, plan
from lamina.runtime.launch import Limits, Mount
from lamina.runtime.plan import CgroupMount

V2 = [CgroupMount("")]
V1 = [CgroupMount("memory", (("memory",),)), CgroupMount("systemd", (("none",), ("name", "systemd")))]


def planned(hierarchies: list[CgroupMount] = V2, **options: Any) -> list[list[Any]]:
    spec = bundle.default_spec(args=["true"], hostname="box", **options)
    return [list(step) for step in plan.container_plan(spec, hierarchies).steps]


def names(steps: list[list[Any]]) -> list[str]:
    return [step[0] for step in steps]


def test_the_root_is_entered_before_anything_is_mounted_and_privileges_go_last() -> None:
    found = names(planned())
    order = ["die_with_parent", "private_mounts", "enter_root", "private_proc", "filesystem", "mask", "read_only", "wait", "unshare"]
    assert [found.index(name) for name in order] == sorted(found.index(name) for name in order)
    assert found[-2:] == ["ready", "execute"]
    assert found.index("load_filter") < found.index("bound") < found.index("identity") < found.index("capabilities")
    # Nothing is opened after: the limit of descriptors is not to count those of the engine. Setting it may take a capability.
    assert found.index("close_descriptors") < found.index("directory") < found.index("limits") < found.index("load_filter")


def test_who_asks_for_a_dev_has_all_that_is_below_it_too() -> None:
    def targets(*mounts: Mount) -> list[str]:
        spec = bundle.default_spec(args=["true"], mounts=mounts)
        return [entry["destination"] for entry in spec["mounts"] if entry["destination"].startswith("/dev")]

    assert targets() == ["/dev", "/dev/pts", "/dev/mqueue", "/dev/shm"]
    assert targets(Mount("bind", "/dev", "/dev")) == ["/dev"]
    assert targets(Mount("bind", "/dev", "/dev"), Mount("tmpfs", "/dev/shm")) == ["/dev", "/dev/shm"]
    assert targets(Mount("bind", "/devices", "/x")) == ["/dev", "/devices", "/dev/pts", "/dev/mqueue", "/dev/shm"]


def test_with_no_new_privileges_the_filter_is_the_very_last() -> None:
    found = names(planned(security=["no-new-privileges"]))
    assert found[-3:] == ["load_filter", "ready", "execute"] and "no_new_privileges" in found


def test_the_kernels_directories_allow_no_links() -> None:
    steps = [step for step in planned() if step[0] == "filesystem"]
    assert {step[2] for step in steps if step[-1]} == {"/proc", "/dev", "/dev/pts", "/sys", "/dev/mqueue", "/dev/shm", "/sys/fs/cgroup"}


def test_control_groups_are_shown_after_the_namespace_is_made() -> None:
    steps = planned(V1)
    unshared = names(steps).index("unshare")
    shown = [(index, step[2]) for index, step in enumerate(steps) if step[0] == "filesystem" and step[2].startswith("/sys/fs/cgroup")]
    assert [target for _, target in shown] == ["/sys/fs/cgroup", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/systemd"]
    assert all(index > unshared for index, _ in shown)


def test_parents_are_mounted_before_children_and_asked_for_mounts_replace_defaults() -> None:
    mounts = [Mount("bind", "/a/b/c", "/x"), Mount("bind", "/a", "/y"), Mount("tmpfs", "/dev/shm", options=("size=1k",))]
    steps = planned(mounts=mounts)
    targets = [step[2] for step in steps if step[0] in ("attach", "filesystem")]
    assert targets.index("/a") < targets.index("/a/b/c") and targets.count("/dev/shm") == 1


def test_the_hosts_network_gets_no_loopback_and_no_settings() -> None:
    found = names(planned(network="host"))
    assert "loopback" not in found and "sysctls" not in found


@pytest.mark.parametrize("destination", ["", "/", "/a/../b", "/x\0y", "/proc/1", "/proc/sys"])
def test_a_mount_that_cannot_be_is_refused(destination: str) -> None:
    spec = bundle.default_spec(args=["true"])
    spec["mounts"].append({"destination": destination, "type": "bind", "source": "/x"})
    with pytest.raises(plan.InvalidSpec):
        plan.container_plan(spec, V2)


@pytest.mark.parametrize("name", ["hostname", "domainname"])
def test_the_hosts_own_names_are_not_changed(name: str) -> None:
    spec = bundle.default_spec(args=["true"]) | {"hostname": "", name: "x"}
    plan.container_plan(spec, V2)
    spec["linux"]["namespaces"] = [entry for entry in spec["linux"]["namespaces"] if entry["type"] != "uts"]
    with pytest.raises(plan.InvalidSpec, match="without a private UTS namespace"):
        plan.container_plan(spec, V2)


@pytest.mark.parametrize("kind", ["time", "nonsense", ""])
def test_namespaces_that_are_not_supported_are_refused(kind: str) -> None:
    spec = bundle.default_spec(args=["true"])
    spec["linux"]["namespaces"].append({"type": kind})
    with pytest.raises(LaminaError, match="not supported"):
        plan.container_plan(spec, V2)


def test_a_user_namespace_changes_only_plans_that_have_one() -> None:
    plain = bundle.default_spec(args=["true"], tty=True)
    made = plan.container_plan(plain, V2)
    assert mapped.adapted(made, plain) is made
    spec = bundle.default_spec(args=["true"], tty=True, ids=(1000, 10))
    steps = [step[0] for step in mapped.adapted(plan.container_plan(spec, V2), spec).steps]
    assert steps.index("wait") < steps.index("make") < steps.index("become_root") < steps.index("enter_root") < steps.index("open_terminal")
    assert not {"nodes", "oom_score", "limits"} & set(steps)


def test_a_user_namespace_needs_its_ranges() -> None:
    spec = bundle.default_spec(args=["true"])
    spec["linux"]["namespaces"].append({"type": "user"})
    with pytest.raises(LaminaError, match="needs uidMappings"):
        mapped.adapted(plan.container_plan(spec, V2), spec)


@given(
    st.lists(
        st.sampled_from(
            ["ro", "rw", "nosuid", "noexec", "size=1m", "mode=755", "rbind", "rprivate", "rslave", "rro", "noatime", "strictatime"]
        )
    )
)
def test_later_options_win(words: list[str]) -> None:
    found = plan.options(words)
    last = [word for word in words if word in ("ro", "rw")][-1:]
    assert found.add & 1 == (last == ["ro"]) and found.remove & 1 == (last == ["rw"])
    assert not found.add & found.remove & ~0x70
    assert found.recursive == ("rbind" in words)


@given(
    st.dictionaries(
        st.sampled_from(["destination", "type", "source", "options"]), st.text(max_size=10) | st.lists(st.text(max_size=8), max_size=3)
    )
)
def test_any_mount_is_planned_or_refused(entry: dict[str, Any]) -> None:
    spec = bundle.default_spec(args=["true"])
    entry["options"] = [word for word in entry.get("options") or [] if isinstance(word, str)]
    spec["mounts"].append({key: value for key, value in entry.items() if key == "options" or isinstance(value, str)})
    try:
        plan.container_plan(spec, V2)
    except LaminaError:
        pass


def test_a_plan_is_plain_data() -> None:
    spec = bundle.default_spec(args=["true"], mounts=[Mount("bind", "/x", "/y")])
    encoded = plan.container_plan(spec, V1).encode()
    assert json.loads(json.dumps(encoded)) == json.loads(json.dumps(encoded))


@pytest.mark.parametrize(
    ("args", "env", "wanted"),
    [
        (["a"], ["PATH=/x::/y"], ["/x/a", "./a", "/y/a"]),
        (["./a"], ["PATH=/x"], ["./a"]),
        (["a"], [], []),
        ([""], ["PATH=/x"], []),
    ],
)
def test_where_a_command_is_looked_for(args: list[str], env: list[str], wanted: list[str]) -> None:
    assert plan.candidates({"args": args, "env": env}) == wanted


@pytest.mark.parametrize("args", [[], ["a\0b"]])
def test_a_command_that_is_none_is_refused(args: list[str]) -> None:
    with pytest.raises(plan.InvalidSpec):
        plan.candidates({"args": args})


def test_capabilities_are_dockers_words() -> None:
    assert bundle.capability_set([], []) == [name for name in bundle.NAMES if name in bundle.CAPABILITIES]
    assert bundle.capability_set(["ALL"], ["CAP_CHOWN"]) == [name for name in bundle.NAMES if name != "CHOWN"]
    assert bundle.capability_set(["net_admin"], ["ALL"]) == ["NET_ADMIN"]
    with pytest.raises(bundle.InvalidOption):
        bundle.capability_set(["NONSENSE"], [])


@pytest.mark.parametrize("word", ["nonsense", "seccomp=x", "seccomp={", "no-new-privileges=maybe"])
def test_a_security_option_that_is_none_is_refused(word: str) -> None:
    with pytest.raises(bundle.InvalidOption):
        bundle.default_spec(args=["true"], security=[word])


def test_limits_are_dockers() -> None:
    found = bundle.resources(Limits(memory=1 << 20, memory_swap=2 << 20, nano_cpus=1_500_000_000, pids=5))
    assert found == {"memory": {"limit": 1 << 20, "swap": 2 << 20}, "cpu": {"quota": 150_000, "period": 100_000}, "pids": {"limit": 5}}


def test_an_exec_gets_the_containers_environment_and_more() -> None:
    spec = bundle.default_spec(args=["true"], env=["A=1", "B=2"], cwd="/w")
    process = bundle.exec_process(spec, args=["x"], env=["B=3"], tty=True)
    assert process["env"][-3:] == ["A=1", "TERM=xterm", "B=3"] and process["cwd"] == "/w" and process["terminal"]


@pytest.mark.parametrize("security", [[], ["no-new-privileges"]])
def test_an_exec_gets_everything_ready_that_needs_no_group_and_waits_before_it_is_confined(security: list[str]) -> None:
    spec = bundle.default_spec(args=["true"], security=security)
    found = names([list(step) for step in plan.exec_plan(spec["process"], spec).steps])
    order = ["die_with_parent", "join", "private_proc", "stdio", "directory", "wait", "bound", "identity", "capabilities", "execute"]
    assert [found.index(name) for name in order] == sorted(found.index(name) for name in order)
    assert found.index("wait") < found.index("load_filter")
    assert found.index("no_new_privileges" if security else "load_filter") == found.index("wait") + 1
