"""One file, one method: `CARD`, `Config`, `Model` with `loss`, `embed`, `score` and `pairs`."""
