"""One file, one kind of picture; one by the name of a suite is that suite's own: `draw(result, path)` writes a PNG."""
