"""Another version of the package, put in place of its own below a service of systemd and its running containers."""

from __future__ import annotations

import re
import shutil
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

import lamina
from tests.harness import Daemon
from tests.system.conftest import BASE
from tests.system.test_survival import NONE
from tests.system.test_systemd import Company, again, pytestmark, service_of

__all__ = ["pytestmark"]


@pytest.fixture(scope="module")
def own_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment that has this checkout's package as files of its own, and everything else from here."""
    where = tmp_path_factory.mktemp("environment")
    venv.create(where, symlinks=True)
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(where), "platbase": str(where)}))
    others = [path for path in sys.path if path and Path(path) != Path(lamina.__path__[0]).parent]
    (packages / "others.pth").write_text("".join(f"{path}\n" for path in [*others, str(Path(lamina.__path__[0]).parent)]))
    put_package(packages / "lamina", lamina.__version__)
    (where / "bin/laminad").write_text(f"#!{where}/bin/python\nimport sys\nfrom lamina.daemon.main import main\nsys.exit(main())\n")
    (where / "bin/laminad").chmod(0o755)
    return where


def put_package(where: Path, version: str) -> None:
    """The package at `where`, as of `version`: what was there is deleted first, as pip does it."""
    if where.exists():
        shutil.rmtree(where)
    shutil.copytree(lamina.__path__[0], where, ignore=shutil.ignore_patterns("__pycache__"))
    head = where / "__init__.py"
    head.write_text(re.sub('__version__ = ".*"', f'__version__ = "{version}"', head.read_text()))


def test_containers_go_on_while_the_package_is_replaced_below_them(own_environment: Path, tmp_path: Path, base: Path) -> None:
    daemon = Daemon(tmp_path / "d")
    package = next(own_environment.glob("lib/python*/site-packages/lamina"))
    with service_of(daemon, str(own_environment / "bin/python"), "-m", "lamina.daemon.service", "install", base=base):
        company = Company(daemon)
        assert daemon.docker("version", "-f", "{{.Server.Version}}").stdout.strip() != "9.9.9"
        put_package(package, "9.9.9")
        company.goes_on("replaced")
        again(daemon, "restart")
        assert f'"Lamina {lamina.__version__}"' not in daemon.curl("/version") and "9.9.9" in daemon.curl("/version")
        company.goes_on("upgraded")
        assert daemon.docker("run", "--rm", *NONE, BASE, "echo", "new").stdout == "new\n"
        company.ends()
