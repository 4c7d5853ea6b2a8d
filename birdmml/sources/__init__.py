"""One file, one source: `CARD`, `Settings`, `records(settings)` and `open_media(settings, locator)`."""
