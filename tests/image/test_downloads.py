"""A layer that is staged while its bytes come: what was taken of the compressed file leaves memory, and nothing is lost by that."""

from __future__ import annotations

import gzip
import hashlib
import os
import threading
import time
from pathlib import Path

import pytest

from lamina.errors import Cancelled
from lamina.image import download
from lamina.image.download import Staging
from lamina.layer.errors import InvalidArchive
from lamina.layer.staged import TarSource
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.mediatype import OCI_LAYER_GZIP

from .conftest import Store
from .tars import tar


def test_bytes_that_leave_memory_behind_the_reader_make_the_same_layer(any_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = tar({f"file{number}": hashlib.shake_256(b"%d" % number).digest(700_000) for number in range(5)})
    data = gzip.compress(plain, 1)
    told: list[int] = []
    real = os.posix_fadvise

    def noted(fd: int, start: int, length: int, advice: int) -> None:
        told.append(length)
        real(fd, start, length, advice)

    monkeypatch.setattr(os, "posix_fadvise", noted)
    monkeypatch.setattr(download, "_SPARE", 1 << 20)
    descriptor = Descriptor(OCI_LAYER_GZIP, Digest.of(data), len(data))
    with any_store.layers.staging() as scratch, any_store.content.ingest() as ingest:
        with Staging(any_store.layers, scratch, descriptor, ingest) as staging:
            for start in range(0, len(data), 300_000):
                ingest.write(data[start : start + 300_000])
                staging.advance(ingest.offset)
            staged = staging.result(lambda _done: None)
        ingest.commit(descriptor)
    assert staged.diff_id == Digest.of(plain)
    assert told == sorted(told)
    assert len(told) >= 2
    assert Path(any_store.content.path(descriptor.digest)).read_bytes() == data


def test_a_download_that_is_far_ahead_waits_for_its_reader_and_goes_on(any_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader sees nothing before the writer has waited once: a wait that had no end would never come back."""
    plain = tar({"file": hashlib.shake_256(b"x").digest(3_000_000)})
    data = gzip.compress(plain, 1)
    monkeypatch.setattr(download, "_LEAD", 1 << 20)
    monkeypatch.setattr(download, "_STANDSTILL", 0.01)
    descriptor = Descriptor(OCI_LAYER_GZIP, Digest.of(data), len(data))
    with any_store.layers.staging() as scratch, any_store.content.ingest() as ingest:
        with Staging(any_store.layers, scratch, descriptor, ingest) as staging:
            ingest.write(data)
            staging.let_catch_up(ingest.offset)
            staging.advance(ingest.offset)
            staging.let_catch_up(ingest.offset)
            staged = staging.result(lambda _done: None)
            staging.let_catch_up(ingest.offset)
        ingest.commit(descriptor)
    assert staged.diff_id == Digest.of(plain)


def test_who_gives_up_waits_for_no_bytes_that_are_here_already(any_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pull that goes on where an earlier one broke may have gigabytes before it fails again."""
    data, leaving, taken = bytes(16 << 20), threading.Event(), []

    def stage(source: TarSource, *_: object) -> None:
        leaving.wait()
        time.sleep(0.2)
        while piece := os.read(source.fd, 1 << 20):
            taken.append(len(piece))
        raise InvalidArchive("it ends early")

    monkeypatch.setattr(any_store.layers, "stage", stage)
    descriptor = Descriptor(OCI_LAYER_GZIP, Digest.of(data), len(data))
    with any_store.layers.staging() as scratch, any_store.content.ingest() as ingest:
        ingest.write(data)
        with pytest.raises(Cancelled), Staging(any_store.layers, scratch, descriptor, ingest) as staging:
            staging.advance(ingest.offset)
            leaving.set()
            raise Cancelled("enough")
        ingest.abort()
    assert sum(taken) < 4 << 20
