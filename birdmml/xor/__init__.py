"""The XOR suite: every method on bits that only say something together, many small models trained as one."""
