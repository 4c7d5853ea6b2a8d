"""One file, one evaluation set, and how a user's own copy of it is prepared (`prepare`) and read (`read`, `arrays`).

A set brings `CARD` and `PROMPT`; one that is prepared also `KIND` ("media" or "arrays"), `DOWNLOAD` and `PUBLISHED`.
"""
