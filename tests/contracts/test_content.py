"""What every content store does, in memory and on a disk."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lamina.content import BlobNotFound, ContentStore, LocalContent, MemoryContent
from lamina.content.durability import Durability
from lamina.errors import Exhausted
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest, DigestMismatch

DATA = b"some bytes"
DIGEST = Digest.of(DATA)
WRONG = Digest.of(b"others")


@pytest.fixture(params=["local", "memory"])
def content(request: pytest.FixtureRequest, tmp_path: Path) -> ContentStore:
    if request.param == "memory":
        return MemoryContent()
    return LocalContent(str(tmp_path), Durability(str(tmp_path), "boot", sync=lambda path: None))


def expected(digest: Digest = DIGEST, size: int = len(DATA)) -> Descriptor:
    return Descriptor("application/octet-stream", digest, size)


def test_what_is_put_is_read(content: ContentStore) -> None:
    descriptor = content.put(DATA, "text/plain")
    assert descriptor == Descriptor("text/plain", DIGEST, len(DATA))
    assert content.read(DIGEST) == DATA
    assert content.stat(DIGEST).size == len(DATA)
    with content.open(DIGEST) as file:
        assert os.pread(file.fileno(), 100, 5) == b"bytes"
        file.seek(5)
        assert file.read() == b"bytes"
    assert Path(content.path(DIGEST)).read_bytes() == DATA


def test_what_is_not_there_is_named(content: ContentStore) -> None:
    for ask in (content.stat, content.open, content.read, content.path, content.verify):
        with pytest.raises(BlobNotFound, match=str(WRONG)):
            ask(WRONG)


def test_a_large_document_is_not_read(content: ContentStore) -> None:
    content.put(DATA, "")
    with pytest.raises(Exhausted, match="larger"):
        content.read(DIGEST, limit=3)


def test_an_ingest_commits_what_was_promised(content: ContentStore) -> None:
    with content.ingest() as ingest:
        ingest.write(DATA[:3])
        ingest.write(memoryview(DATA)[3:])
        assert ingest.offset == len(DATA)
        assert Path(ingest.path).read_bytes() == DATA
        assert ingest.commit(expected()).digest == DIGEST
    assert content.read(DIGEST) == DATA


@pytest.mark.parametrize("promise", [expected(WRONG), expected(size=3), expected(size=30)])
def test_a_mismatch_commits_nothing(content: ContentStore, promise: Descriptor) -> None:
    with content.ingest() as ingest:
        ingest.write(DATA)
        with pytest.raises(DigestMismatch):
            ingest.commit(promise)
    assert list(content.walk()) == []


def test_leaving_without_commit_drops_the_bytes(content: ContentStore) -> None:
    with content.ingest() as ingest:
        ingest.write(DATA)
    assert list(content.walk()) == []


def test_a_key_finds_earlier_bytes(content: ContentStore) -> None:
    with content.ingest("layer") as ingest:
        ingest.write(DATA[:4])
    with content.ingest("other") as ingest:
        assert ingest.offset == 0
    with content.ingest("layer") as ingest:
        assert ingest.offset == 4
        ingest.write(DATA[4:])
        ingest.commit(expected())
    assert content.read(DIGEST) == DATA
    with content.ingest("layer") as ingest:
        assert ingest.offset == 0


def test_a_mismatch_forgets_what_a_key_had(content: ContentStore) -> None:
    with content.ingest("layer") as ingest:
        ingest.write(b"wrong")
        with pytest.raises(DigestMismatch):
            ingest.commit(expected())
    with content.ingest("layer") as ingest:
        assert ingest.offset == 0


def test_a_second_ingest_under_a_key_waits_for_the_first(content: ContentStore) -> None:
    begun, order = threading.Event(), []

    def second() -> None:
        begun.set()
        with content.ingest("layer") as ingest:
            order.append(("second", ingest.offset))

    with content.ingest("layer") as ingest:
        thread = threading.Thread(target=second)
        thread.start()
        begun.wait(120)
        ingest.write(DATA)
        order.append(("first", ingest.offset))
    thread.join(60)
    assert order == [("first", 10), ("second", 10)]


def test_committing_twice_is_one_blob(content: ContentStore) -> None:
    for _ in range(2):
        with content.ingest() as ingest:
            ingest.write(DATA)
            ingest.commit()
    assert [blob.digest for blob in content.walk()] == [DIGEST]


def test_a_file_is_adopted(content: ContentStore) -> None:
    with content.scratch() as scratch:
        for _ in range(2):
            path = Path(scratch, "file")
            path.write_bytes(DATA)
            content.adopt(str(path), DIGEST, len(DATA))
            assert not path.exists()
        path.write_bytes(b"short")
        with pytest.raises(DigestMismatch):
            content.adopt(str(path), WRONG, 100)
        assert path.exists()
    assert not Path(scratch).exists()
    assert content.read(DIGEST) == DATA


def test_what_is_deleted_is_gone_but_not_for_who_reads_it(content: ContentStore) -> None:
    content.put(DATA, "")
    with content.open(DIGEST) as file:
        assert content.delete(DIGEST) == len(DATA)
        assert content.delete(DIGEST) == 0
        assert file.read() == DATA
    with pytest.raises(BlobNotFound):
        content.stat(DIGEST)


def test_names_are_kept(content: ContentStore) -> None:
    assert content.names() == ()
    named = Descriptor("application/vnd.oci.image.manifest.v1+json", DIGEST, 10, annotations=(("a", "b"),))
    content.set_names([named])
    assert content.names() == (named,)


def test_another_algorithm_is_verified_too(content: ContentStore) -> None:
    digest = Digest.of(DATA, "sha512")
    with content.ingest() as ingest:
        ingest.write(DATA)
        ingest.commit(expected(digest))
    assert content.read(digest) == DATA


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(parts=st.lists(st.binary(max_size=50), max_size=8), cut=st.integers(0, 8))
def test_any_way_of_arriving_gives_the_same_blob(content: ContentStore, parts: list[bytes], cut: int) -> None:
    whole = b"".join(parts)
    with content.ingest("k") as ingest:
        for part in parts[:cut]:
            ingest.write(part)
    with content.ingest("k") as ingest:
        for part in parts[cut:]:
            ingest.write(part)
        assert ingest.commit().digest == Digest.of(whole)
    assert content.read(Digest.of(whole)) == whole
