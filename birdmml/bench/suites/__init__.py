"""One file, one suite: `CARD`, `requests(...)` says what to embed, `score(...)` turns arrays into figures."""
