"""One file, one evaluation set: `CARD`, `rows(root, split)`, `class_names(root)`, `PROMPT`."""
