"""`python -m birdmml` is the same as `birdmml`."""

from __future__ import annotations

from birdmml.cli import main

if __name__ == "__main__":
    main()
