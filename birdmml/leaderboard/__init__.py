"""Reads results and nothing else."""
