"""A model meets data: embed, score by suites, plan and carry out runs."""
