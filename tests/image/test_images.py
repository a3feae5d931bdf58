"""Images from import to rmi, on every driver."""

from __future__ import annotations

import gzip
import io
import os
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from lamina.errors import InvalidArgument
from lamina.image.model import AmbiguousId, ImageInUse, ImageNotFound, PathNotFound, Removed
from lamina.image.telling import told
from lamina.layer.errors import InvalidArchive
from lamina.spec import config as configs
from lamina.spec import mediatype
from lamina.spec.config import History
from lamina.spec.digest import Digest
from lamina.spec.platform import Platform
from lamina.spec.reference import Reference

from .conftest import Store
from .tars import BASE, SECOND, child, imported, stacked, tar


def names(store: Store, **filters: list[str]) -> list[str]:
    return [name.familiar for image in store.images.list(filters=filters) for name in image.names]


def blobs(store: Store) -> set[str]:
    return set(os.listdir(store.root / "content/blobs/sha256"))


def test_an_import_is_an_image_of_one_layer(store: Store) -> None:
    image = imported(store, changes=['CMD ["/bin/sh"]', "ENV A=b"], message="hello")
    assert image.config.config.cmd == ("/bin/sh",)
    assert image.config.config.environment() == {"A": "b"}
    assert image.config.history[0].comment == "hello"
    assert image.size == 32
    assert image.id == Digest.of(image.config_bytes)
    [facts] = store.layers.chain(image.layers[-1])
    assert (facts.parent, facts.content_size) == (None, 32)
    with store.layers.open_tar(facts.diff_id) as file:
        assert file.read() == BASE


def test_an_import_for_another_platform_says_so(store: Store) -> None:
    image = imported(store, platform=Platform("linux", "arm", "v7"))
    assert image.config.platform == Platform("linux", "arm", "v7")


def test_the_steps_of_a_build_are_in_memory_once(store: Store) -> None:
    base = imported(store, changes=["ENV A=b"])
    top = child(store, base, "top:1", SECOND)
    for images in (store.images, store.again().images):
        below, above = (images.resolve(str(image.id)) for image in (base, top))
        assert (below.config, above.config) == (base.config, top.config)
        assert above.config.history[0] is below.config.history[0]
        assert above.config.config.env[0] is below.config.config.env[0]


def test_an_import_for_another_system_is_refused(store: Store) -> None:
    with pytest.raises(InvalidArgument, match="operating system is not supported: windows"):
        imported(store, platform=Platform("windows", "amd64"))
    assert store.images.list() == []


def test_a_refused_import_leaves_the_store_as_it_was(store: Store) -> None:
    before = blobs(store)
    for data in (b"no tar at all" * 100, BASE[: BASE.index(b"127.0.0.1") + 5], tar({"../escape": b"x"})):
        with pytest.raises((InvalidArgument, InvalidArchive)):
            imported(store, data=data)
    assert store.images.list() == []
    assert blobs(store) == before
    assert os.listdir(store.root / "content/ingest") == []


def test_an_import_gives_no_digest_that_no_registry_has_said(store: Store) -> None:
    before = blobs(store)
    with pytest.raises(InvalidArgument, match="with a digest reference"):
        imported(store, f"name@sha256:{'a' * 64}")
    assert (store.images.list(all=True), blobs(store)) == ([], before)


def test_a_malformed_change_is_refused_before_anything_is_read(store: Store) -> None:
    with pytest.raises(InvalidArgument):
        imported(store, changes=["RUN true"])
    assert blobs(store) == set()


def test_images_are_found_by_name_and_by_id(store: Store) -> None:
    image = imported(store, "localhost:5000/a/b:1")
    for text in ("localhost:5000/a/b:1", str(image.id), image.id.encoded, image.id.short, image.id.encoded[:3], f"sha256:{image.id.short}"):
        assert store.images.resolve(text).id == image.id
    for text in ("localhost:5000/a/b", "nothing", "0" * 64, "sha256:" + "0" * 64):
        with pytest.raises(ImageNotFound, match="No such image"):
            store.images.resolve(text)
    with pytest.raises(InvalidArgument):
        store.images.resolve("UPPER")


def test_a_prefix_of_several_ids_is_ambiguous(any_store: Store) -> None:
    for number in range(17):
        imported(any_store, f"i{number}", changes=[f"ENV n={number}"])
    firsts = [image.id.encoded[0] for image in any_store.images.list()]
    twice = next(letter for letter in firsts if firsts.count(letter) > 1)
    with pytest.raises(AmbiguousId):
        any_store.images.resolve(twice)


def test_a_name_moves_and_leaves_a_dangling_image(store: Store) -> None:
    first = imported(store)
    second = imported(store, changes=["ENV x=1"])
    assert store.images.resolve("base").id == second.id
    assert [image.id for image in store.images.list(filters={"dangling": ["true"]})] == [first.id]
    assert [image.id for image in store.images.list(filters={"dangling": ["false"]})] == [second.id]
    pruned = store.images.prune()
    assert [removed.name for removed in pruned.removed] == [str(first.id)]
    assert names(store) == ["base:latest"]


def test_filters_choose(any_store: Store) -> None:
    store = any_store
    imported(store, "a/x:1", changes=["LABEL k=v"])
    store.now += 10
    imported(store, "b:2", changes=["LABEL k=w other="])
    store.now += 10
    imported(store, "c:3")
    assert names(store) == ["c:3", "b:2", "a/x:1"]
    assert names(store, label=["k=v"]) == ["a/x:1"]
    assert names(store, label=["k"]) == ["b:2", "a/x:1"]
    assert names(store, label=["k", "other"]) == ["b:2"]
    assert names(store, before=["b:2"]) == ["a/x:1"]
    assert names(store, since=["b:2"]) == ["c:3"]
    assert names(store, reference=["a/*"]) == ["a/x:1"]
    assert names(store, reference=["*"]) == ["c:3", "b:2"]
    assert names(store, reference=["*:[23]"]) == ["c:3", "b:2"]
    assert names(store, reference=["?", "a/x:1"]) == ["c:3", "b:2", "a/x:1"]
    assert names(store, before=[store.images.resolve("b:2").id.short]) == ["a/x:1"]
    assert names(store, until=["15s"]) == ["a/x:1"]
    assert names(store, until=[str(int(store.now))]) == ["b:2", "a/x:1"]
    with pytest.raises(InvalidArgument):
        names(store, nonsense=["1"])
    with pytest.raises(InvalidArgument):
        names(store, until=["soon"])
    with pytest.raises(InvalidArgument):
        names(store, dangling=["maybe"])
    with pytest.raises(InvalidArgument):
        names(store, reference=["[a"])


def test_a_star_of_a_reference_filter_stops_at_a_slash(any_store: Store) -> None:
    for name in ("one:1", "team/one:1", "registry.example:5000/team/sub/one:1"):
        imported(any_store, name, changes=[f"LABEL name={name}"])
    assert names(any_store, reference=["*"]) == ["one:1"]
    assert names(any_store, reference=["*/*"]) == ["team/one:1"]
    assert names(any_store, reference=["registry.example:5000/*/*/*:1"]) == ["registry.example:5000/team/sub/one:1"]
    assert names(any_store, reference=["registry.example:5000/*"]) == []


@pytest.mark.parametrize("pattern", ["docker.io/library/one", "docker.io/library/one:*", "docker.io/one:1", "docker.io/library/*"])
def test_a_reference_filter_may_say_dockers_registry(any_store: Store, pattern: str) -> None:
    for name in ("one:1", "team/one:1", "registry.example/library/one:1"):
        imported(any_store, name, changes=[f"LABEL name={name}"])
    assert names(any_store, reference=[pattern]) == ["one:1"]
    assert names(any_store, reference=["docker.io/team/one"]) == ["team/one:1"]


def test_a_reference_filter_of_many_stars_is_answered_at_once(any_store: Store) -> None:
    imported(any_store, "a" * 100)
    assert names(any_store, reference=["*a" * 40 + "b"]) == []
    assert names(any_store, reference=["*a" * 40]) == ["a" * 100 + ":latest"]


def test_with_a_reference_filter_only_matching_names_are_shown(any_store: Store) -> None:
    imported(any_store, "a:1")
    any_store.images.tag("a:1", Reference.parse("b:1"))
    assert names(any_store, reference=["b"]) == ["b:1"]


def test_two_images_on_one_base_store_it_once(store: Store) -> None:
    base = imported(store)
    one, two = child(store, base, "one", SECOND), child(store, base, "two", tar({"two": b"2"}))
    assert one.layers[0] == two.layers[0] == base.layers[0]
    roots = store.images.tree()
    assert len(roots) == 1
    assert roots[0].shared_by == 3
    assert roots[0].images == ("base:latest",)
    assert {node.images for node in roots[0].children} == {("one:latest",), ("two:latest",)}
    total, rows = store.images.usage()
    assert {row.image.id for row in rows} == {base.id, one.id, two.id}
    assert total == rows[0].shared + sum(row.unique for row in rows)
    assert next(row.unique for row in rows if row.image.id == base.id) == 0


def test_history_tells_steps_newest_first(store: Store) -> None:
    base = imported(store)
    image = child(store, base, "top", SECOND)
    steps = store.images.history("top")
    assert [step.id for step in steps] == [str(image.id), str(base.id)]
    assert steps[0].created_by == "RUN top"
    assert [step.size for step in steps] == [17, 32]
    assert steps[0].tags == ("top:latest",)
    assert steps[1].tags == ("base:latest",)


def test_questions_about_files_are_answered_without_mounting(store: Store) -> None:
    base = imported(store)
    image = child(store, base, "top", SECOND)
    found = store.images.which("top", "/etc/hosts")
    assert found.layer is not None and found.layer.index == 1
    assert [holder.index for holder in found.older] == [0]
    gone = store.images.which("top", "/etc/old")
    assert gone.layer is None and gone.deleted_by is not None and gone.deleted_by.index == 1
    assert [holder.index for holder in gone.older] == [0]
    never = store.images.which("top", "/nowhere/x")
    assert (never.layer, never.older, never.deleted_by) == (None, (), None)
    linked = store.images.which("top", "/lib/sh")
    assert linked.path == "/bin/sh"
    assert linked.layer is not None and linked.layer.index == 0
    assert [(row.name, row.layer) for row in store.images.ls("top", "/etc")] == [("hosts", 1)]
    assert [row.name for row in store.images.ls("top", "/")] == ["bin", "etc", "lib", "srv"]
    assert [row.name for row in store.images.ls("top", "/lib/")] == ["sh"]
    size, chunks = store.images.cat("top", "/etc/../etc/hosts")
    assert (size, b"".join(chunks)) == (8, b"changed\n")
    with pytest.raises(PathNotFound):
        store.images.cat("top", "/etc/old")
    with pytest.raises(InvalidArgument, match="directory"):
        store.images.cat("top", "/etc")
    assert image.layers[0] == base.layers[0]


def test_a_loop_of_links_is_refused(any_store: Store) -> None:
    imported(any_store, data=tar({"d": None}, a="b", b="a"))
    with pytest.raises(InvalidArgument, match="links"):
        any_store.images.cat("base", "/a")


# -- rmi


def test_rmi_by_name_removes_name_then_image_and_files(store: Store) -> None:
    image = imported(store)
    store.images.tag("base", Reference.parse("other:1"))
    assert store.images.remove("other:1") == [Removed("Untagged", "other:1")]
    removed = store.images.remove("base")
    assert removed[0] == Removed("Untagged", "base:latest")
    assert removed[1:] == [Removed("Deleted", str(image.id)), Removed("Deleted", str(image.layers[0]))]
    assert blobs(store) == set()
    # What the overlay driver removes is out of the way at once and deleted in the background.
    assert not [entry for entry in os.listdir(store.root / "layers") if not entry.endswith(".removing")]
    assert os.listdir(store.root / "images") == []
    with pytest.raises(ImageNotFound):
        store.images.remove("base")


def test_rmi_by_id_of_several_names_needs_force(store: Store) -> None:
    image = imported(store, "a:1")
    store.images.tag("a:1", Reference.parse("b:1"))
    with pytest.raises(ImageInUse, match=r"must be forced.*multiple repositories"):
        store.images.remove(image.id.short)
    removed = store.images.remove(image.id.short, force=True)
    assert [each.kind for each in removed] == ["Untagged", "Untagged", "Deleted", "Deleted"]


def test_rmi_by_id_of_one_name_needs_no_force(store: Store) -> None:
    image = imported(store, "a:1")
    assert [each.kind for each in store.images.remove(image.id.short)] == ["Untagged", "Deleted", "Deleted"]


def test_rmi_names_the_container_that_uses_the_image(store: Store) -> None:
    image = imported(store)
    for text in ("base", image.id.short):
        with pytest.raises(ImageInUse, match=r"conflict.*container abc123"):
            store.images.remove(text, in_use=lambda _: [("abc123", False)])
    assert names(store) == ["base:latest"]
    with pytest.raises(ImageInUse, match=r"cannot be forced.*running container abc123"):
        store.images.remove(image.id.short, force=True, in_use=lambda _: [("abc123", True)])
    assert names(store) == ["base:latest"]
    store.images.remove(image.id.short, force=True, in_use=lambda _: [("abc123", False)])
    assert names(store) == []


def test_rmi_by_force_under_a_running_container_leaves_the_image_without_a_name(store: Store) -> None:
    image = imported(store)
    assert store.images.remove("base", force=True, in_use=lambda _: [("abc123", True)]) == [Removed("Untagged", "base:latest")]
    assert [each.id for each in store.images.list(filters={"dangling": ["true"]})] == [image.id]


def test_rmi_of_one_of_two_names_is_no_matter_of_containers(store: Store) -> None:
    imported(store, "a:1")
    store.images.tag("a:1", Reference.parse("a:2"))
    assert store.images.remove("a:1", in_use=lambda _: [("abc123", True)]) == [Removed("Untagged", "a:1")]
    with pytest.raises(ImageInUse, match=r"unable to remove repository reference \"a:2\" \(must force\)"):
        store.images.remove("a:2", in_use=lambda _: [("abc123", False)])


def test_what_cannot_be_forced_is_said_first(store: Store) -> None:
    image = imported(store, "a:1")
    store.images.tag("a:1", Reference.parse("b:1"))
    with pytest.raises(ImageInUse, match="cannot be forced"):
        store.images.remove(image.id.short, in_use=lambda _: [("abc123", True)])


def test_an_image_is_kept_for_a_container_that_is_being_made(store: Store) -> None:
    image = imported(store)
    store.leases.pin("container:" + "c" * 64, (image.id, *image.layers))
    for text in ("base", image.id.short):
        with pytest.raises(ImageInUse, match=f"container {'c' * 12}"):
            store.images.remove(text)
    store.leases.unpin("container:" + "c" * 64)
    store.images.remove("base")


def test_rmi_of_a_parent_names_its_children_and_keeps_it(store: Store) -> None:
    base = imported(store)
    child(store, base, "top", SECOND, parent=True)
    with pytest.raises(ImageInUse, match="dependent child images"):
        store.images.remove(base.id.short, force=True)
    assert store.images.remove("base") == [Removed("Untagged", "base:latest")]
    assert store.images.list() == store.images.list(filters={"reference": ["top"]})
    removed = store.images.remove("top")
    assert str(base.id) in {each.name for each in removed}
    assert store.images.list(all=True) == []
    assert blobs(store) == set()


def test_noprune_keeps_unnamed_parents(store: Store) -> None:
    base = imported(store)
    child(store, base, "top", SECOND, parent=True)
    store.images.remove("base")
    store.images.remove("top", prune=False)
    assert [image.id for image in store.images.list(all=True)] == [base.id]


def test_digests_go_with_the_last_tag_of_their_repository(store: Store) -> None:
    image = imported(store, "localhost:5000/x:1")
    digest = Reference.parse(f"localhost:5000/x@{image.manifest.digest}")
    store.images.add_digest(image.id, digest, image.manifest)
    assert store.images.resolve(str(digest)).digests == (digest,)
    removed = store.images.remove("localhost:5000/x:1")
    assert [each.kind for each in removed] == ["Untagged", "Untagged", "Deleted", "Deleted"]


def test_what_a_lease_holds_is_not_collected(store: Store) -> None:
    image = imported(store)
    store.leases.pin("container:1", image.layers)
    store.images.remove("base")
    assert store.layers.get(image.layers[0]).id == image.layers[0]
    assert store.images.collect().layers == ()
    store.leases.after = lambda: None  # who would be faster
    store.leases.unpin("container:1")
    assert store.images.collect().layers == image.layers
    assert blobs(store) == set()


def test_what_a_removal_left_for_a_container_goes_with_its_last_pin(store: Store) -> None:
    image = imported(store)
    for owner in ("container:1", "container:2"):
        store.leases.pin(owner, (image.id, *image.layers))
    store.images.remove("base", force=True)
    store.leases.unpin("container:1")
    assert [finding.where for finding in store.images.check()] == []
    assert store.layers.has(image.layers[0])
    store.leases.unpin("container:2")
    assert [finding.where for finding in store.images.check()] == []
    assert blobs(store) == set() and not store.layers.has(image.layers[0])


def test_a_pin_that_kept_nothing_asks_for_no_sweep(store: Store) -> None:
    image = imported(store)
    asked: list[str] = []
    store.leases.after = lambda: asked.append("again")
    store.leases.pin("container:1", (image.id, *image.layers))
    store.leases.unpin("container:1")
    assert asked == []


def test_what_is_registered_under_a_lease_stays_until_it_ends(store: Store) -> None:
    with store.leases.hold():
        facts = stacked(store, None, BASE)
        assert store.images.collect().layers == ()
    assert store.images.collect().layers == (facts.id,)


def test_intermediate_images_are_hidden_but_there(store: Store) -> None:
    base = imported(store)
    config = configs.replace(base.config, user="x")
    store.images.create(config, store.layers.chain(base.layers[-1]), parent=base.id, intermediate=True)
    assert len(store.images.list()) == 1
    assert len(store.images.list(all=True)) == 2


def test_the_same_configuration_is_the_same_image(store: Store) -> None:
    base = imported(store)
    again = store.images.create(base.config_bytes, store.layers.chain(base.layers[-1]), names=[Reference.parse("again")])
    assert again.id == base.id
    assert [name.familiar for name in again.names] == ["again:latest", "base:latest"]


def test_an_image_made_again_from_other_forms_of_its_layers_leaves_no_manifest_behind(store: Store) -> None:
    base = imported(store)
    config = configs.replace(base.config, user="x")
    first = store.images.create(config, store.layers.chain(base.layers[-1]), parent=base.id)
    store.images.remove("base", force=True)
    packed = store.content.put(gzip.compress(BASE), mediatype.OCI_LAYER_GZIP)
    store.content.delete(store.layers.add_source(base.layers[-1], packed).diff_id)  # from now on the manifest lists what is packed
    second = store.images.create(config, store.layers.chain(base.layers[-1]), parent=base.id)
    assert second.manifest == first.manifest
    assert [finding.where for finding in store.images.check() if finding.what == "stray"] == []


def test_a_sweep_that_finds_work_ended_meanwhile_is_asked_for_again(store: Store) -> None:
    asked: list[str] = []
    store.leases.after = lambda: asked.append("again")
    with store.leases.hold():
        store.leases.missed()
        assert asked == []
    assert asked == ["again"]
    store.leases.missed()  # by who saw that work, and is told of its end later
    assert asked == ["again", "again"]


def test_events_are_told(store: Store) -> None:
    imported(store)
    store.images.tag("base", Reference.parse("b:2"))
    store.images.remove("b:2")
    store.images.remove("base")
    assert [event.action for event in store.events] == ["tag", "import", "tag", "untag", "untag", "delete"]


def test_events_of_images_have_the_images_labels(store: Store) -> None:
    imported(store, changes=["LABEL kept=yes name=label"])
    store.images.tag("base", Reference.parse("b:2"))
    told = {event.action: dict(event.attributes) for event in store.events}
    assert told["tag"] == {"kept": "yes", "name": "b:2"} and told["import"]["kept"] == "yes"


def test_a_layer_that_is_here_on_another_parent_is_used_again(store: Store) -> None:
    base = imported(store)
    stacked(store, base.layers[-1], SECOND)
    with store.leases.hold():
        again = store.layers.reuse(None, Digest.of(SECOND), store.layers.staging and _note())
        assert again is not None and again.parent is None
        assert again.diff_id == Digest.of(SECOND)
        with store.layers.union(again.id) as union:
            assert union.lookup(b"srv/new") is not None


def _note():  # type: ignore[no-untyped-def]
    from lamina.image.model import LayerNote

    return LayerNote("2024-01-01T00:00:00Z", "RUN x", "RUN x")


def test_a_long_history_of_empty_layers_is_told(store: Store) -> None:
    base = imported(store)
    config = configs.encode(
        __import__("msgspec").structs.replace(
            base.config, history=(*base.config.history, *(History(created_by=f"ENV n={n}", empty_layer=True) for n in range(5)))
        )
    )
    store.images.create(config, store.layers.chain(base.layers[-1]), names=[Reference.parse("long")])
    assert [step.size for step in store.images.history("long")] == [0, 0, 0, 0, 0, 32]


def test_the_store_is_an_oci_layout(store: Store, tmp_path: Path) -> None:
    image = imported(store)
    store.images.close()
    [entry] = store.content.names()
    assert entry.digest == image.manifest.digest
    assert dict(entry.annotations)["org.opencontainers.image.ref.name"] == "docker.io/library/base:latest"
    assert (store.root / "content/oci-layout").read_bytes() == b'{"imageLayoutVersion":"1.0.0"}'


def test_an_import_takes_any_compression(store: Store) -> None:
    import bz2
    import gzip
    import lzma

    ids = {
        imported(store, f"c{n}", data=data).layers
        for n, data in enumerate((BASE, gzip.compress(BASE), bz2.compress(BASE), lzma.compress(BASE)))
    }
    assert len(ids) == 1


def test_an_import_reads_a_pipe(store: Store) -> None:
    import threading

    reader, writer = os.pipe()

    def feed() -> None:
        for start in range(0, len(BASE), 100):
            os.write(writer, BASE[start : start + 100])
        os.close(writer)

    thread = threading.Thread(target=feed)
    thread.start()
    image = store.images.import_(reader, name=Reference.parse("piped:1"))
    thread.join()
    os.close(reader)
    assert image.layers == imported(store).layers
    assert io.BytesIO(BASE).read() == BASE


def test_a_layer_is_told_in_the_words_of_the_image_that_is_asked_about(store: Store) -> None:
    base = imported(store)
    child(store, base, "copied:1", SECOND)
    child(store, base, "added:1", SECOND)  # the same bytes, so the same layer
    for name in ("copied:1", "added:1"):
        found = store.images.which(name, "/srv/new").layer
        assert found is not None and (found.facts.instruction or found.facts.created_by) == f"RUN {name}"
    assert [(node.layer.instruction, node.images) for node in store.images.tree()[0].children] == [
        ("RUN copied:1", ("added:1", "copied:1"))
    ]
    store.images.remove("copied:1")
    [node] = store.images.tree()[0].children
    assert (node.layer.instruction or node.layer.created_by, node.images) == ("RUN added:1", ("added:1",))


def test_what_a_history_does_not_say_is_told_as_it_is_noted(store: Store) -> None:
    image = imported(store, message="hello")
    [facts] = store.layers.chain(image.layers[-1])
    assert told(image, [facts]) == (facts,)
    silent = replace(image, config=msgspec.structs.replace(image.config, history=()))
    assert told(silent, [facts]) == (facts,)
