"""One file, one suite's own picture, by the suite's name: `draw(result, path)` writes a PNG."""
