"""The embedded demo world: species whose looks and songs carry known information."""
