"""Captions for photos that come without one: one file, one captioner. See `birdmml list`."""
