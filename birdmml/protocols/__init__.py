"""Frozen protocols: TOML files that say what to train on, how, and what to measure (benchmarks/protocols/).

A protocol is known by its name and its digest. A frozen one is never changed: what differs gets a new name.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from birdmml import files, settings, shipped
from birdmml.errors import UnknownName, UsageError
from birdmml.protocols.model import Protocol

SCHEMA_VERSION = 1
MAX_BYTES = 2**16


def names() -> tuple[str, ...]:
    """The protocols that come with birdmml, sorted."""
    return tuple(sorted(path.stem for path in shipped.folder("protocols").glob("*.toml")))


def load(name: str) -> Protocol:
    """The protocol of that name, or of the user's own file where `name` ends in .toml.

    Raises UnknownName for a protocol or a key that nobody knows, with the nearest; UsageError, with the file, for
    anything else that is wrong, and for a file that bears the name of a shipped protocol and differs from it.
    """
    if name.strip().endswith(".toml"):
        protocol = _read(Path(name.strip()))
        if protocol.name in names() and protocol.digest != load(protocol.name).digest:
            raise UsageError(
                f"{name}: {protocol.name} is another, frozen protocol: give yours a name of its own"
            )
        return protocol
    key = name.strip().casefold().replace("_", "-")
    if key not in names():
        raise UnknownName("protocol", name, names(), hint="or give the path of a .toml file")
    return _read(shipped.folder("protocols") / f"{key}.toml")


def digest(name: str) -> str:
    """Hex SHA-256 of what the protocol of that name or path says; see `Protocol.digest`."""
    return load(name).digest


def _read(path: Path) -> Protocol:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        return _parsed(content)
    except UnknownName:
        raise  # The key and the nearest ones say enough.
    except UsageError as e:
        raise UsageError(f"{path}: {e}") from e
    except OSError as e:
        raise UsageError(f"{path} cannot be read ({e.strerror or e}): give the path of a protocol") from e
    # No UTF-8, no TOML, a number too long for Python, nesting too deep: all mean the same.
    except (ValueError, OverflowError, RecursionError) as e:
        raise UsageError(f"{path} is not a protocol in TOML ({e}): see benchmarks/protocols/README.md") from e


def _parsed(content: bytes) -> Protocol:
    if len(content) > MAX_BYTES:
        raise UsageError(f"it is larger than {files.human_bytes(MAX_BYTES)}: that is no protocol")
    values = tomllib.loads(content.decode())
    # Before anything else: another version may have other keys.
    if (version := values.get("schema_version")) != SCHEMA_VERSION:
        raise UsageError(f"schema_version is {version}: this birdmml reads {SCHEMA_VERSION}")
    return settings.from_dict(Protocol, values)
