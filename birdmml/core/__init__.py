"""What every room needs and what knows nothing of datasets: files, settings, plug-ins, workers, SQLite, texts."""
