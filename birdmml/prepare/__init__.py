"""Evaluation sets from the user's own copies: read, checked against what is published, written as Parquet."""
