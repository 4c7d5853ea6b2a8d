"""A user's own copy of an evaluation set -> one folder of parquet, made once and read by `birdmml.prepared`."""
