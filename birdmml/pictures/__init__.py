"""Pictures of confusions; all others are drawn by `birdmml.picture`."""
