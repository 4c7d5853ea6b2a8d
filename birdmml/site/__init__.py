"""The leaderboard as a static site: submissions in, pages out, byte for byte the same each time."""
