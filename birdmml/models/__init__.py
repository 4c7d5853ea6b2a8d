"""Torch building blocks: the front end, the encoders, the losses, the scores."""
