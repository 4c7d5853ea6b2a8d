"""Bytes from elsewhere: HTTP with patience, and archives with holes."""
