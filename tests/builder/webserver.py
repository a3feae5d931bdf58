"""A web server on the loopback for tests of addresses: files with validators, and git repositories as plain files."""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MODIFIED = "Wed, 01 May 2024 10:00:00 GMT"


@dataclass
class Web:
    """What is served: `files` by path, with an ETag unless it is in `plain`; folders by their path. `asked` notes (path, status)."""

    files: dict[str, bytes] = field(default_factory=dict)
    plain: set[str] = field(default_factory=set)
    folders: dict[str, Path] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, int]] = field(default_factory=list)
    port: int = 0

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def content(self, path: str) -> bytes | None:
        """The bytes at a path, None where nothing is."""
        if path in self.files:
            return self.files[path]
        for prefix, folder in self.folders.items():
            file = folder / path.removeprefix(prefix).lstrip("/")
            if path.startswith(prefix) and file.is_file():
                return file.read_bytes()
        return None


@contextmanager
def serving(web: Web) -> Iterator[Web]:
    """Serve until the context is left."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            content = web.content(path)
            etag = f'"{hashlib.sha256(content or b"").hexdigest()[:16]}"'
            same = self.headers.get("If-None-Match") == etag if path not in web.plain else self.unmodified()
            status = 404 if content is None else 304 if same else 200
            web.asked.append((path, status))
            self.send_response(status)
            if path in web.files and path not in web.plain:
                self.send_header("ETag", etag)
                self.send_header("Last-Modified", MODIFIED)
            for name, value in web.headers.items():
                self.send_header(name, value)
            body = content if status == 200 and content is not None else b""
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def unmodified(self) -> bool:
            """Whether a file is no younger than If-Modified-Since says, as most servers answer."""
            since, modified = self.headers.get("If-Modified-Since"), web.headers.get("Last-Modified")
            return bool(since and modified) and parsedate_to_datetime(str(since)) >= parsedate_to_datetime(str(modified))

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    web.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def repository(folder: Path, files: dict[str, str], *, tag: str = "v1") -> str:
    """Make a bare repository to serve, with one commit on main and a tag; the commit."""
    work = folder.parent / f"{folder.name}.work"
    for name, content in files.items():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text(content)
    git(work, "init", "--quiet", "--initial-branch=main")
    commit = committed(work, "first")
    git(work, "tag", "-a", "-m", tag, tag)
    git(work, "clone", "--quiet", "--bare", str(work), str(folder))
    git(folder, "update-server-info")
    return commit


def committed(work: Path, message: str) -> str:
    """Commit everything that is in a work tree."""
    git(work, "add", "-A")
    git(work, "commit", "--quiet", "-m", message)
    return git(work, "rev-parse", "HEAD").strip()


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder as nobody in particular."""
    names = {f"GIT_{who}_{what}": "x@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    dates = {f"GIT_{who}_DATE": "2024-05-01T10:00:00Z" for who in ("AUTHOR", "COMMITTER")}
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_GLOBAL": "/dev/null", **names, **dates}
    return subprocess.run(["git", "-C", str(folder), *arguments], env=env, check=True, capture_output=True, text=True).stdout
