"""The program `blitz`, also as `python -m blitz`."""

from __future__ import annotations

from typing import NoReturn

from blitz.allocator import keep_freed_memory


def main() -> NoReturn:
    keep_freed_memory()
    from blitz.cli import main as run  # late: a program that starts anew has imported little

    run()


if __name__ == "__main__":
    main()
