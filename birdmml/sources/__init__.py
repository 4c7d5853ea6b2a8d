"""Where media come from: a file or folder a source, each with its records and their bytes."""
