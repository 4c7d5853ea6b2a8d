"""What the loop in `birdmml.train` is made of: steps, ranks, state on disk, the journal, estimates."""
