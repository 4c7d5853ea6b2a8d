"""Networks and the methods that train them: objectives, training, checkpoints."""
