"""`python -m lamina.cli`: the command without its launcher."""

from __future__ import annotations

from lamina.cli.main import run

if __name__ == "__main__":
    run()
