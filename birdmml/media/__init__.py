"""One picture, one sound, one video: decode, encode, hash, compare, make worse."""
