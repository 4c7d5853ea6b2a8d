"""Where birdmml meets other benchmarks: MTEB."""
