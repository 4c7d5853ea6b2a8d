"""birdmml: build, audit and benchmark image-audio-text datasets of birds."""

__version__ = "0.1.0"
