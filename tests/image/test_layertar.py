"""Jobs that read a layer's tar on its way out see whether it is still the layer's, by its CRC-32 or by its digest."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lamina.image import compress, layertar
from lamina.image.documents import decode_facts, encode_facts
from lamina.image.layertar import TarPlace
from lamina.image.model import LayerFacts
from lamina.layer.errors import LayerDamaged
from lamina.spec.digest import Digest

TAR = os.urandom(3 << 20) + b"end"
DIFF_ID = f"sha256:{hashlib.sha256(TAR).hexdigest()}"
CRC32 = zlib.crc32(TAR)
Job = Callable[[Path, TarPlace], bytes]


def sent(out: Path, place: TarPlace) -> bytes:
    with open(out, "wb") as file:
        layertar.send(place.params(), [file.fileno()], lambda update: None)
    return out.read_bytes()


def zipped(out: Path, place: TarPlace) -> bytes:
    params: dict[str, Any] = {"tar": place.params(), "level": 1, "threads": 2}
    with open(out, "wb") as file:
        made = compress.gzip(params, [file.fileno()], lambda update: None)
    data = out.read_bytes()
    assert made == {"digest": f"sha256:{hashlib.sha256(data).hexdigest()}", "size": len(data)}
    return gzip.decompress(data)


@pytest.mark.parametrize("crc32", [CRC32, None], ids=["crc", "digest"])
@pytest.mark.parametrize("job", [sent, zipped])
def test_a_tar_that_is_what_it_was_goes_out_whole(tmp_path: Path, job: Job, crc32: int | None) -> None:
    path = tmp_path / "tar"
    path.write_bytes(TAR)
    assert job(tmp_path / "out", TarPlace(DIFF_ID, str(path), crc32=crc32)) == TAR


@pytest.mark.parametrize("crc32", [CRC32, None], ids=["crc", "digest"])
@pytest.mark.parametrize("job", [sent, zipped])
@pytest.mark.parametrize("at", [0, 1 << 20, len(TAR) - 1])
def test_one_bit_that_differs_is_seen(tmp_path: Path, job: Job, crc32: int | None, at: int) -> None:
    path, hurt = tmp_path / "tar", bytearray(TAR)
    hurt[at] ^= 4
    path.write_bytes(hurt)
    with pytest.raises(LayerDamaged, match=DIFF_ID):
        job(tmp_path / "out", TarPlace(DIFF_ID, str(path), crc32=crc32))
    out = (tmp_path / "out").read_bytes()
    if job is sent:
        assert len(out) < len(TAR)
    else:
        with pytest.raises(EOFError):
            gzip.decompress(out)


def test_facts_from_before_have_no_crc() -> None:
    digest = Digest.parse(DIFF_ID)
    before = LayerFacts(digest, digest, None, digest.encoded, len(TAR))
    assert b"crc32" not in encode_facts(before)
    assert decode_facts(encode_facts(before)) == before
    after = LayerFacts(digest, digest, None, digest.encoded, len(TAR), crc32=CRC32)
    assert decode_facts(encode_facts(after)) == after
