"""`python -m blitz` is the same program as `blitz`."""

from blitz.cli import main

if __name__ == "__main__":
    main()
