"""The least a pull can do with the same libraries: fetch, hash, inflate, hash, write; nothing is parsed.

One process a layer, as many at once as Lamina fetches (three). `python -m bench.reference ADDRESS REPOSITORY TAG FOLDER`
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import sys
from multiprocessing import Pool

from isal import isal_zlib

_ACCEPT = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"


def fetch(job: tuple[str, str, str, str]) -> str:
    """Fetch one blob into FOLDER, its gzip as it came and its content inflated; the diff ID."""
    address, repository, digest, folder = job
    connection = http.client.HTTPConnection(address)
    connection.request("GET", f"/v2/{repository}/blobs/{digest}")
    response = connection.getresponse()
    inflate, outer, inner = isal_zlib.decompressobj(31), hashlib.sha256(), hashlib.sha256()
    target = os.path.join(folder, digest.partition(":")[2])
    with open(target, "wb", buffering=0) as compressed, open(target + ".tar", "wb", buffering=0) as plain:
        while chunk := response.read(1 << 20):
            outer.update(chunk)
            compressed.write(chunk)
            data = inflate.decompress(chunk)
            inner.update(data)
            plain.write(data)
    if f"sha256:{outer.hexdigest()}" != digest:
        raise SystemExit(f"bench: {digest} arrived damaged")
    return inner.hexdigest()


def main() -> None:
    """Fetch all layers of one image."""
    address, repository, tag, folder = sys.argv[1:]
    connection = http.client.HTTPConnection(address)
    connection.request("GET", f"/v2/{repository}/manifests/{tag}", headers={"Accept": _ACCEPT})
    manifest = json.loads(connection.getresponse().read())
    jobs = [(address, repository, layer["digest"], folder) for layer in manifest["layers"]]
    with Pool(3) as pool:
        pool.map(fetch, jobs, chunksize=1)


if __name__ == "__main__":
    main()
