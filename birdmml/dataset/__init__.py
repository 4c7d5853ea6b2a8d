"""A dataset from its records to its report: build, read, validate, audit, caption, describe."""
