"""Decode and encode images, audio and video. A failure raises MediaError; nothing is ever substituted."""
