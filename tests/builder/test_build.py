from __future__ import annotations

import io
import re
from pathlib import Path

import pytest

from lamina.builder.execute import StepFailed
from lamina.builder.request import Cancellation, Context, RunOptions
from lamina.errors import Cancelled, LaminaError
from lamina.runtime.launch import Launch
from lamina.spec.config import Healthcheck
from lamina.spec.platform import Platform
from lamina.spec.reference import Reference
from tests.builder.lab import Lab, touch
from tests.image.tars import tar
from tests.image.test_layouts import several


def history(lab: Lab, image: object) -> list[tuple[str, bool]]:
    return [(entry.created_by, entry.empty_layer) for entry in image.config.history]  # type: ignore[attr-defined]


def test_the_words_are_the_classic_builders(lab: Lab) -> None:
    base = lab.base()
    lab.runtime.commands["echo hi"] = lambda upper, launch: (0, "hi\n")
    image, told = lab.build('FROM base\nRUN echo hi\nCMD ["/bin/bash"]\n', tags=(Reference.parse("made"),))
    container = lab.runtime.launches[0].id[:12]
    middle = image.parent
    assert middle is not None
    assert told == (
        f"Step 1/3 : FROM base\n ---> {base.id.short}\n"
        f"Step 2/3 : RUN echo hi\n ---> Running in {container}\nhi\nRemoving intermediate container {container}\n ---> {middle.short}\n"
        f'Step 3/3 : CMD ["/bin/bash"]\n ---> {image.id.short}\n'
        f"Successfully built {image.id.short}\nSuccessfully tagged made:latest\n"
    )
    assert [update.aux for update in lab.told if update.aux] == [{"ID": str(image.id)}]
    assert lab.images.resolve("made").id == image.id


@pytest.mark.parametrize(("parent", "group"), [("", "lamina"), ("/p/", "p"), ("../../tmp", "tmp"), ("a/../../b", "b")])
def test_a_control_group_is_below_its_parent_and_never_outside_of_the_hierarchy(lab: Lab, parent: str, group: str) -> None:
    lab.base()
    lab.build("FROM base\nRUN x\n", run=RunOptions(cgroup_parent=parent))
    [launch] = lab.runtime.launches
    assert launch.spec["linux"]["cgroupsPath"] == f"/{group}/{launch.id}"


def test_each_instruction_has_a_history_entry_and_a_layer_only_where_files_change(lab: Lab) -> None:
    lab.base()
    (lab.context / "a").write_text("a")
    lab.runtime.commands["true"] = lambda upper, launch: (0, "")
    image, _ = lab.build(
        "FROM base\nENV A=b\nRUN true\nRUN change\nCOPY a /a\nWORKDIR /work\nWORKDIR /work\nEXPOSE 80\nVOLUME /v\nUSER me\n"
        'LABEL x=y\nENTRYPOINT ["/e"]\nCMD c\nARG Z=1\nSHELL ["/bin/bash", "-c"]\nSTOPSIGNAL 99\nMAINTAINER m\n'
    )
    entries = history(lab, image)[1:]
    digest = r"file:[0-9a-f]{64}"
    assert [re.sub(digest, "file:", entry[0]) for entry in entries] == [
        "/bin/sh -c #(nop)  ENV A=b",
        "/bin/sh -c true",
        "/bin/sh -c change",
        "/bin/sh -c #(nop) COPY file: in /a ",
        "/bin/sh -c #(nop) WORKDIR /work",
        "/bin/sh -c #(nop) WORKDIR /work",
        "/bin/sh -c #(nop)  EXPOSE 80",
        "/bin/sh -c #(nop)  VOLUME [/v]",
        "/bin/sh -c #(nop)  USER me",
        "/bin/sh -c #(nop)  LABEL x=y",
        '/bin/sh -c #(nop)  ENTRYPOINT ["/e"]',
        '/bin/sh -c #(nop)  CMD ["/bin/sh" "-c" "c"]',
        "/bin/sh -c #(nop)  ARG Z=1",
        "/bin/bash -c #(nop)  SHELL [/bin/bash -c]",
        "/bin/bash -c #(nop)  STOPSIGNAL 99",
        "/bin/bash -c #(nop)  MAINTAINER m",
    ]
    assert [empty for _, empty in entries] == [True, True, False, False, False, *[True] * 11]
    assert len(image.layers) == 4
    config = image.config.config
    assert (config.working_dir, config.user, config.cmd, config.entrypoint) == ("/work", "me", ("/bin/sh", "-c", "c"), ("/e",))
    assert (dict(config.exposed_ports), dict(config.volumes), dict(config.labels)) == ({"80/tcp": {}}, {"/v": {}}, {"x": "y"})
    assert image.config.author == "m"


def test_a_second_build_does_nothing_and_gives_the_same_image(lab: Lab) -> None:
    lab.base()
    (lab.context / "a").write_text("a")
    text = "FROM base AS one\nRUN x\nCOPY a /a\nFROM base\nCOPY --from=one /a /b\nENV C=d\n"
    first, _ = lab.build(text)
    runs = len(lab.runtime.launches)
    second, told = lab.build(text)
    assert second.id == first.id
    assert told.count("Using cache") == 4
    assert len(lab.runtime.launches) == runs


def test_what_comes_after_a_changed_file_is_done_again(lab: Lab) -> None:
    lab.base()
    (lab.context / "a").write_text("1")
    text = "FROM base\nRUN before\nCOPY a /a\nRUN after\n"
    lab.build(text)
    (lab.context / "a").write_text("2")
    image, told = lab.build(text)
    assert told.count("Using cache") == 1
    assert [launch.spec["process"]["args"][-1] for launch in lab.runtime.launches] == ["before", "after", "after"]
    assert lab.read(image, "/a") == "2"


def test_a_label_above_does_not_make_a_command_run_again(lab: Lab) -> None:
    lab.base()
    lab.build("FROM base\nRUN x\n")
    image, told = lab.build("FROM base\nLABEL a=b\nRUN x\n")
    assert len(lab.runtime.launches) == 1
    assert told.count("Using cache") == 1
    assert dict(image.config.config.labels) == {"a": "b"}


def test_an_entrypoint_keeps_the_cmd_of_its_stage_whatever_was_built_before(lab: Lab) -> None:
    lab.base()
    inherited, _ = lab.build('FROM base AS below\nCMD ["c"]\nFROM below\nENTRYPOINT ["e"]\n')
    own, _ = lab.build('FROM base\nCMD ["c"]\nENTRYPOINT ["e"]\n')
    assert (inherited.config.config.cmd, own.config.config.cmd) == ((), ("c",))


def test_what_a_healthcheck_leaves_out_stays_as_it_was_but_not_with_buildkit(lab: Lab) -> None:
    lab.base()
    text = "FROM base\nHEALTHCHECK --interval=5s --retries=4 CMD a\nHEALTHCHECK --timeout=2s CMD b\n"
    checks = [lab.build(text, buildkit=buildkit)[0].config.config.healthcheck for buildkit in (False, True)]
    test, second = ("CMD-SHELL", "b"), 1_000_000_000
    assert checks == [Healthcheck(test, 5 * second, 2 * second, retries=4), Healthcheck(test, timeout=2 * second)]


def test_an_empty_user_is_root_again(lab: Lab) -> None:
    lab.base()
    image, _ = lab.build("FROM base\nUSER me\nUSER $UNSET\n")
    assert (image.config.config.user, history(lab, image)[-1]) == ("", ("/bin/sh -c #(nop)  USER ", True))


def test_no_cache_does_everything_again(lab: Lab) -> None:
    lab.base()
    lab.build("FROM base\nRUN x\n")
    _, told = lab.build("FROM base\nRUN x\n", no_cache=True)
    assert "Using cache" not in told
    assert len(lab.runtime.launches) == 2


def test_only_the_stages_that_the_target_needs_are_built(lab: Lab) -> None:
    lab.base()
    text = "FROM base AS a\nRUN a\nFROM base AS b\nRUN b\nFROM a AS c\nRUN c\nFROM base AS d\nRUN d\n"
    _, told = lab.build(text, target="C")
    assert re.findall(r"Step (.*) : (.*)", told) == [("1/4", "FROM base AS a"), ("2/4", "RUN a"), ("3/4", "FROM a AS c"), ("4/4", "RUN c")]
    with pytest.raises(LaminaError, match='target stage "nope" could not be found'):
        lab.build(text, target="nope")


def test_scratch_gets_files_and_nothing_else(lab: Lab) -> None:
    lab.base(**{"bin/tool": "tool"})
    image, told = lab.build("FROM base AS a\nFROM scratch\nCOPY --from=a /bin/tool /t\nCOPY --from=base /etc/passwd /p\n")
    assert "FROM scratch\n ---> \n" in told
    assert (lab.read(image, "/t"), lab.read(image, "/p")) == ("tool", "me:x:7:8::/:\n")
    assert len(image.layers) == 2


def test_a_step_on_scratch_for_another_platform_is_no_cache(lab: Lab) -> None:
    text = "FROM scratch\nLABEL a=b\n"
    found = [lab.build(text, platform=platform)[0].config.architecture for platform in (Platform("linux", "arm64"), None)]
    assert found == ["arm64", "amd64"]
    assert "Using cache" in lab.build(text)[1]


def test_as_with_buildkit_scratch_has_a_working_directory(lab: Lab) -> None:
    text = "FROM scratch\nLABEL a=b\n"
    assert [lab.build(text, buildkit=flag)[0].config.config.working_dir for flag in (True, False)] == ["/", ""]


def test_arguments_reach_commands_history_and_the_base_name(lab: Lab) -> None:
    lab.base()
    text = "ARG NAME=nowhere\nARG TAIL\nFROM $NAME\nARG A=1\nARG TAIL\nARG B\nENV E=$A\nRUN x\n"
    image, told = lab.build(text, build_args={"NAME": "base", "TAIL": "t", "STRANGE": "s", "http_proxy": "p"})
    assert told.startswith("Step 1/8 : ARG NAME=nowhere\nStep 2/8 : ARG TAIL\nStep 3/8 : FROM $NAME\n")
    env = lab.runtime.launches[0].spec["process"]["env"]
    assert {"A=1", "TAIL=t", "E=1", "http_proxy=p"} <= set(env)
    assert history(lab, image)[-1][0] == "|2 A=1 TAIL=t /bin/sh -c x"
    assert "[Warning] One or more build-args [STRANGE] were not consumed\n" in told
    lab.build(text, build_args={"NAME": "base", "TAIL": "t", "http_proxy": "other"})
    assert len(lab.runtime.launches) == 1
    lab.build(text, build_args={"NAME": "base", "TAIL": "other"})
    assert len(lab.runtime.launches) == 2


@pytest.mark.parametrize(("buildkit", "tag"), [(False, "v"), (True, "v1")])
def test_as_with_buildkit_an_argument_before_from_sees_those_before_it_in_its_instruction(lab: Lab, buildkit: bool, tag: str) -> None:
    lab.base()
    image, _ = lab.build("ARG VERSION=1 TAG=v$VERSION\nFROM base\nARG TAG\nLABEL tag=$TAG\n", buildkit=buildkit)
    assert image.config.config.labels == {"tag": tag}


def test_platform_arguments_are_there_once_declared(lab: Lab) -> None:
    lab.base()
    lab.build("FROM base\nARG TARGETARCH\nRUN x\n")
    assert "TARGETARCH=amd64" in lab.runtime.launches[0].spec["process"]["env"]


def test_a_command_that_fails_says_its_code_and_leaves_no_image(lab: Lab) -> None:
    lab.base()
    lab.runtime.commands["exit 3"] = lambda upper, launch: (3, "oh no\n")
    before = [image.id for image in lab.images.list()]
    with pytest.raises(StepFailed) as caught:
        lab.build("FROM base\nRUN x\nRUN exit 3\n")
    assert caught.value.message == "The command '/bin/sh -c exit 3' returned a non-zero code: 3"
    assert caught.value.status == 3
    assert [image.id for image in lab.images.list()] == before
    assert list((lab.root / "run/build").iterdir()) == []


def test_quiet_tells_the_id_alone_and_everything_where_it_fails(lab: Lab) -> None:
    lab.base()
    image, told = lab.build("FROM base\nRUN x\n", quiet=True)
    assert [update.aux for update in lab.told] == [None]
    assert told == f"{image.id}\n"
    lab.runtime.commands["bad"] = lambda upper, launch: (1, "why\n")
    with pytest.raises(StepFailed):
        lab.build("FROM base\nRUN bad\n", quiet=True)
    assert "why\n" in "".join(update.stream for update in lab.told)


def test_cancelling_stops_before_the_next_step(lab: Lab) -> None:
    lab.base()
    cancellation = Cancellation()

    def cancel(upper: object, launch: object) -> tuple[int, str]:
        cancellation.cancel()
        return 0, ""

    lab.runtime.commands["x"] = cancel
    with pytest.raises(Cancelled):
        lab.build("FROM base\nRUN x\nRUN y\n", cancellation)
    assert len(lab.runtime.launches) == 1


def test_labels_of_the_command_line_come_last(lab: Lab) -> None:
    lab.base()
    image, told = lab.build("FROM base\n", labels={"b": "$x", "a": "1"})
    assert "Step 2/3 : LABEL a=1\n" in told and "Step 3/3 : LABEL b=$x\n" in told
    assert dict(image.config.config.labels) == {"a": "1", "b": "$x"}


def test_triggers_run_in_the_build_that_starts_from_the_image(lab: Lab) -> None:
    lab.base()
    lab.build("FROM base\nONBUILD ENV A=b\nONBUILD RUN x\n", tags=(Reference.parse("parent"),))
    assert lab.runtime.launches == []
    image, told = lab.build("FROM parent\nCMD y\n")
    assert "# Executing 2 build triggers\n" in told
    assert image.config.config.env[-1] == "A=b"
    assert image.config.config.on_build == ()
    assert len(lab.runtime.launches) == 1


def test_an_unknown_trigger_is_refused_by_the_build_in_which_it_fires(lab: Lab) -> None:
    lab.base()
    image, _ = lab.build("FROM base\nONBUILD NOPE x\n", tags=(Reference.parse("parent"),))
    assert image.config.config.on_build == ("NOPE x",)
    with pytest.raises(LaminaError, match="Dockerfile:1: unknown instruction: NOPE"):
        lab.build("FROM parent\n")


def test_here_documents_become_scripts_and_files(lab: Lab) -> None:
    lab.base()
    text = (
        "FROM base\nENV X=1\nRUN <<EOF\necho a\necho b\nEOF\nCOPY <<one <<'two' /d/\n$X\none\n$X\ntwo\nRUN <<S\n#!/bin/python\nprint()\nS\n"
    )
    image, _ = lab.build(text)
    assert lab.runtime.launches[0].spec["process"]["args"] == ["/bin/sh", "-c", "echo a\necho b\n"]
    assert lab.runtime.launches[1].spec["process"]["args"] == ["/dev/pipes/S"]
    assert (lab.read(image, "/d/one"), lab.read(image, "/d/two")) == ("1\n", "$X\n")


@pytest.mark.parametrize(
    ("name", "shown"),
    [(".dockerfile.62f9f44eae7a3ddaacb5", "Dockerfile"), (".dockerfile.outside", "Dockerfile"), ("sub/.dockerfile.dev", ".dockerfile.dev")],
)
def test_a_name_that_only_the_client_knows_is_in_no_message(lab: Lab, name: str, shown: str) -> None:
    lab.base()
    for text in ("FROM base\nFOO x\n", "FROM base\nCOPY nothing /\n", "FROM base\nONBUILD FROM x\n"):
        with pytest.raises(LaminaError, match=f"^{re.escape(shown)}:2: "):
            lab.build(text, dockerfile=name)


def test_a_dockerfile_in_lower_case_is_found_where_the_usual_one_is_not_there(lab: Lab) -> None:
    lab.base()
    (lab.context / "dockerfile").write_text("FROM base\nCMD lower\n")
    assert lab.build(None)[0].config.config.cmd[-1] == "lower"  # type: ignore[arg-type]
    (lab.context / "Dockerfile").write_text("FROM base\nCMD usual\n")
    assert lab.build(None)[0].config.config.cmd[-1] == "usual"  # type: ignore[arg-type]
    with pytest.raises(LaminaError, match="failed to read dockerfile: DOCKERFILE is not in the build context"):
        lab.build(None, dockerfile="DOCKERFILE")  # type: ignore[arg-type]


@pytest.mark.parametrize(("pattern", "words"), [("[", "syntax error in pattern: '['"), ("!", "illegal exclusion pattern: '!'")])
@pytest.mark.parametrize("name", [".dockerignore", "Dockerfile.dockerignore"])
def test_a_wrong_dockerignore_is_told_by_its_name_before_any_step(lab: Lab, name: str, pattern: str, words: str) -> None:
    lab.base()
    (lab.context / "Dockerfile").write_text("FROM base\nRUN x\nCOPY Dockerfile /\n")
    (lab.context / name).write_text(pattern)
    with pytest.raises(LaminaError, match=f"^{re.escape(f'{name}: {words}')}"):
        lab.build(None)  # type: ignore[arg-type]
    assert not lab.runtime.launches


def test_the_context_may_be_a_tar_with_the_dockerfile_in_it(lab: Lab) -> None:
    import io
    import tarfile

    lab.base()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in {
            "sub/Containerfile": b"FROM base\nCOPY . /all/\n",
            "a": b"1",
            "b.log": b"2",
            ".dockerignore": b"*.log\n",
        }.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    (lab.root / "sent").write_bytes(out.getvalue())
    with open(lab.root / "sent", "rb") as file:
        image, _ = lab.build(None, context=Context(fd=file.fileno()), dockerfile="sub/Containerfile")  # type: ignore[arg-type]
    assert [row.name for row in lab.images.ls(str(image.id), "/all")] == [".dockerignore", "a", "sub"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FROM base\nRUNN x", "Dockerfile:2: unknown instruction: RUNN"),
        ("FROM base\n\nCOPY missing /x", "Dockerfile:3: COPY failed: file not found in build context"),
        ("FROM base\nCOPY ../../etc/passwd /x", "Dockerfile:2: COPY failed: forbidden path outside the build context: ../../etc/passwd"),
        ("FROM base\nRUN --mount=type=secret,id=s y", "Dockerfile:2: RUN --mount=type=secret cannot be given by this client"),
        ("FROM base\nRUN --mount=type=ssh y", "Dockerfile:2: RUN --mount=type=ssh cannot be given by this client"),
        ("FROM base\nRUN --mount=type=cache y", "Dockerfile:2: RUN --mount needs a target"),
        ("FROM base\nRUN --mount=type=tmpfs,target=/,size=x y", "Dockerfile:2: invalid value for size"),
        ("FROM base AS a\nRUN --mount=from=b,target=/x y\nFROM a AS b", "Dockerfile:2: invalid from flag value b"),
        ("FROM base\nRUN --network=some y", "Dockerfile:2: RUN --network=some is not supported"),
        ("FROM base\nRUN --security=insecure y", "Dockerfile:2: RUN --security=insecure is not allowed"),
        ("FROM base\nRUN --device=x y", "Dockerfile:2: RUN --device is not supported"),
        ("FROM base\nADD http://127.0.0.1:1/x /x", "Dockerfile:2: cannot fetch http://127.0.0.1:1/x: "),
        ("FROM base\nADD http://me:secret@127.0.0.1:1/x.git /x", "Dockerfile:2: git cannot get http://127.0.0.1:1/x.git: "),
        ("FROM base\nADD --checksum=sha256:1 http://127.0.0.1:1/x /x", "Dockerfile:2: invalid --checksum: 'sha256:1'"),
        ("FROM base\nADD --checksum=sha256:1 a /x", "Dockerfile:2: checksum requires HTTP(S) or Git sources"),
        ("FROM base\nADD --keep-git-dir a /x", "Dockerfile:2: --keep-git-dir requires a Git source"),
        ("FROM base\nADD https://x.org/a.git?colour=red /x", "Dockerfile:2: unknown key in a git address: 'colour'"),
        ("FROM base\nCOPY --link --chown=me a /x", "Dockerfile:2: unable to find user me in the image"),
        ("FROM base\nCOPY --frm=a b /x", "Dockerfile:2: unknown flag for COPY: --frm"),
        ("FROM base\nCOPY --from a /x", "Dockerfile:2: missing a value on flag: --from"),
        ("FROM base\nCOPY <<A /x\nno end", "Dockerfile:2: unterminated here-document: A"),
        (
            "FROM base AS a\nCOPY --from=b / /\nFROM base AS b\nCOPY --from=a / /",
            "Dockerfile:2: invalid from flag value b: refers to a later build stage",
        ),
        ("FROM base\nEXPOSE x", "Dockerfile:2: invalid port: 'x'"),
        ("FROM base\nENV A=${B:?gone}", "Dockerfile:2: B: gone"),
        ("FROM $UNSET", "base name ($UNSET) should not be blank"),
        ("FROM base\nCOPY --from=1 /a /b", "Dockerfile:2: invalid from flag value 1: index out of bounds"),
        ("FROM base\nCOPY --from=0 /a /b", "Dockerfile:2: invalid from flag value 0: refers to current build stage"),
        ("FROM base AS me\nCOPY --from=Me /a /b", "Dockerfile:2: invalid from flag value Me: refers to current build stage"),
        ("FROM base\nCOPY --from=nowhere/x /a /b", "Dockerfile:2: invalid from flag value nowhere/x: pull access denied for nowhere/x"),
        ("FROM base\nCOPY https://x.org/a /b", "Dockerfile:2: source can't be a URL for COPY"),
        ("FROM base\nCOPY --from=$A /a /b", "Dockerfile:2: invalid from flag value $A: invalid reference format"),
        ("FROM base\nCOPY --chown=nobody /a /b", "Dockerfile:2: unable to find user nobody"),
        ("FROM --platform=linux/arm64 base", "does not match the specified platform: wanted linux/arm64, actual: linux/amd64"),
        ("FROM nowhere/x", "pull access denied for nowhere/x"),
        ("FROM scratch", "No image was generated. Is your Dockerfile empty?"),
        ("# syntax=example/other\nFROM base", "Dockerfile:1: syntax example/other is not supported"),
        ("", "the Dockerfile cannot be empty"),
    ],
)
def test_what_cannot_be_built_is_one_sentence_with_its_line(lab: Lab, text: str, message: str) -> None:
    lab.base()
    (lab.context / "a").write_text("a")
    before = [image.id for image in lab.images.list()]
    with pytest.raises(LaminaError) as caught:
        lab.build(text)
    assert list((lab.root / "run").glob("build-*")) == []
    assert message in caught.value.message
    assert "\n" not in caught.value.message
    assert [image.id for image in lab.images.list()] == before


@pytest.mark.parametrize("options", [{}, {"platform": Platform("linux", "arm64")}])
def test_a_base_of_several_platforms_is_the_one_for_the_platform_asked_for(lab: Lab, options: dict[str, Platform]) -> None:
    lab.images.load(io.BytesIO(tar(dict(several()))))
    flag = "" if options else "--platform=linux/arm64 "
    image, _ = lab.build(f"FROM {flag}multi:1\nLABEL a=b\n", **options)
    assert (image.config.architecture, image.config.config.cmd) == ("arm64", ("arm64",))
    assert lab.build("FROM multi:1\nLABEL a=b\n")[0].config.architecture == "amd64"
    with pytest.raises(LaminaError, match="does not match the specified platform: wanted linux/s390x, actual: linux/amd64"):
        lab.build("FROM --platform=linux/s390x multi:1\nLABEL a=b\n")
    assert lab.registry.asked == []


def test_the_tree_of_layers_counts_images_and_no_steps(lab: Lab) -> None:
    lab.base()
    lab.build("FROM base\nLABEL a=b\nENV c=d\n")
    assert [(node.shared_by, len(node.images)) for node in lab.images.tree()] == [(2, 2)]


def test_a_stage_that_is_not_there_is_told_as_one_and_not_only_as_an_image(lab: Lab) -> None:
    lab.base()
    with pytest.raises(LaminaError) as caught:
        lab.build("FROM base AS a\nCOPY --from=biuld / /")
    assert str(caught.value).endswith("(no stage above is called biuld, so an image is meant)")
    with pytest.raises(LaminaError) as caught:
        lab.build("ARG A=base\nFROM base\nCOPY --from=$A / /")
    assert str(caught.value).endswith("(variables are not replaced here: begin a stage FROM them)")


def test_an_absent_base_is_pulled_and_pull_asks_always(lab: Lab) -> None:
    lab.base()
    with pytest.raises(LaminaError):
        lab.build("FROM base\n", pull=True)
    assert lab.registry.asked == ["base:latest"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("FROM scratch\n" + "ENV A=b\n" * 1001, 1002),
        ("FROM scratch AS a\n" + "ENV A=b\n" * 600 + "FROM a\n" + "ENV C=d\n" * 401, 1003),
        ("FROM tall\n" + "ENV A=b\n" * 999, 1),
    ],
)
def test_more_steps_than_an_image_may_have_are_refused_before_any_is_made(lab: Lab, text: str, line: int) -> None:
    lab.base()
    lab.build("FROM base\nENV A=b\n", tags=(Reference.parse("tall"),))
    before = len(lab.images.list(all=True))
    with pytest.raises(LaminaError, match=f"^Dockerfile:{line}: an image of 1001 steps is not built: 1000 are the most"):
        lab.build(text)
    assert len(lab.images.list(all=True)) == before


def test_what_a_command_writes_to_its_standard_error_is_marked_and_stays_in_its_place(lab: Lab) -> None:
    lab.base()
    lab.runtime.commands["talk"] = lambda upper, launch: (0, "one\n\0two é\n\0three\n")
    lab.build("FROM base\nRUN talk\n")
    assert [(update.stream, update.error) for update in lab.told if update.stream[:1] in ("o", "t")] == [
        ("one\n", False),
        ("two é\n", True),
        ("three\n", False),
    ]


@pytest.mark.parametrize(("cached", "squash"), [(False, False), (True, False), (False, True)])
def test_what_a_build_stands_on_may_be_removed_while_it_runs(lab: Lab, cached: bool, squash: bool) -> None:
    lab.base(file="content")
    text = "FROM base\nRUN one\n" if cached else "FROM base\n"
    if cached:
        lab.build(f"{text}RUN zero\n", tags=(Reference.parse("other:1"),))

    def removes(upper: Path, launch: Launch) -> tuple[int, str]:
        for name in ("other:1", "base") if cached else ("base",):
            assert lab.images.remove(name)
        lab.images.prune_cache(all=True)
        return touch(upper, launch)

    lab.runtime.commands["two"] = removes
    image, _ = lab.build(f"{text}RUN two\nRUN three\n", tags=(Reference.parse("made:1"),), squash=squash)
    assert lab.read(image, "/file") == "content"
    assert [*lab.images.check()] == []


def test_added_hosts_count_for_a_command(lab: Lab) -> None:
    lab.base()
    for hosts, runs in ((("there:10.1.2.3",), 1), (("there:10.1.2.3",), 1), (("there:10.1.2.4",), 2), ((), 3)):
        lab.build("FROM base\nRUN getent hosts there > /there\n", extra_hosts=hosts)
        assert len(lab.runtime.launches) == runs


def test_what_paths_of_a_stage_came_to_is_forgotten_with_its_image(lab: Lab) -> None:
    lab.base()
    lab.build("FROM base AS a\nRUN x\nFROM base\nCOPY --from=a /etc /y/\nCOPY --from=base /etc /z/\n", tags=(Reference.parse("made:1"),))

    def known() -> int:
        return sum(key.startswith("selection:") for (key,) in lab.metadata._all("SELECT key FROM build_cache"))

    assert known() == 2
    lab.images.remove("made:1")
    lab.images.prune_cache()
    assert known() == 1
    lab.images.remove("base")
    assert known() == 0
