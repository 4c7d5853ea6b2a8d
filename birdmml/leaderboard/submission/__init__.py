"""A submission: results with all that is needed to score them again, in one folder that anybody can check."""
