"""From a source's records to a dataset on disk: ingest, split, assemble, write, report."""
