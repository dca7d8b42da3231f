"""`python -m sevenfold` is the command line."""

from __future__ import annotations

from sevenfold.cli.main import main

if __name__ == "__main__":
    main(prog_name="sevenfold")
