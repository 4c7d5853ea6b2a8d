"""`python -m birdmml` is the same as `birdmml`."""

from birdmml.cli import main

if __name__ == "__main__":
    main()
