"""Any folder of Parquet shards, audited: one page and one JSON that a reviewer would ask for."""
