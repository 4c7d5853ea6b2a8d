"""Results of others: submissions, their checks and review, and the board as a site."""
