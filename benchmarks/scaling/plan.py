"""What a build of so many species and rows takes, from what was measured and what the services allow.

python benchmarks/scaling/plan.py --species 14000 --rows 3000000
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path

MEASURED = Path(__file__).with_name("scaling.json")
# A row's media, bytes: a photo as it comes ("medium", 500 px), a clip of 10 s as FLAC; a recording's file of one
# minute (MP3, 128 kbit/s). `birdmml build --source inat-xc --dry-run` reckons with the same.
PHOTO_BYTES, CLIP_BYTES, RECORDING_BYTES = 100_000, 250_000, 1_000_000
ARTICLE_BYTES = 5_000
LISTED = 500  # Recordings on a page of Xeno-canto.
LEAST_RECORDINGS = 20  # Of a species, for variety, though fewer would give clips enough.


@dataclass(frozen=True)
class Costs:
    """Seconds of processor time a row: decoding and checking real media, writing; and what one machine does alone."""

    decode_s: float
    write_s: float
    alone_s: float
    alone_bytes: float
    base_bytes: float


@dataclass(frozen=True)
class Services:
    """Requests a second to each service, all machines together, and how many clips a recording gives."""

    photos_per_second: float = 20.0
    recordings_per_second: float = 1.0
    articles_per_second: float = 5.0
    clips_a_recording: float = 6.0


@dataclass(frozen=True)
class Plan:
    """Times in hours, sizes in bytes, memory that of the machine that finishes."""

    photo_requests: int
    recording_requests: int
    article_requests: int
    photo_hours: float
    recording_hours: float
    article_hours: float
    transferred: float
    dataset: float
    disk: float
    decode_cpu_hours: float
    write_cpu_hours: float
    alone_hours: float
    memory: float

    @property
    def services_hours(self) -> float:
        """The services are asked at the same time: the slowest counts."""
        return max(self.photo_hours, self.recording_hours, self.article_hours)

    def hours(self, processors: int) -> float:
        """From start to end with so many processors: parts decode while they fetch, then one machine finishes."""
        decoding = max(self.services_hours, self.decode_cpu_hours / processors)
        return decoding + self.alone_hours + self.write_cpu_hours / processors

    def enough(self) -> int:
        """The processors beyond which the services, not they, are waited for."""
        return max(1, math.ceil(self.decode_cpu_hours / self.services_hours))


def plan(species: int, rows: int, costs: Costs, services: Services = Services()) -> Plan:
    """The plan of a build of `rows` rows of `species` species in all."""
    each = math.ceil(rows / species)
    wanted = max(min(each, LEAST_RECORDINGS), math.ceil(each / services.clips_a_recording))
    recordings = species * wanted
    listed = species * math.ceil(wanted / LISTED)
    asked = recordings + listed
    dataset = rows * (PHOTO_BYTES + CLIP_BYTES)
    return Plan(
        photo_requests=rows,
        recording_requests=int(asked),
        article_requests=species,
        photo_hours=rows / services.photos_per_second / 3600,
        recording_hours=asked / services.recordings_per_second / 3600,
        article_hours=species / services.articles_per_second / 3600,
        transferred=rows * PHOTO_BYTES + recordings * RECORDING_BYTES + species * ARTICLE_BYTES,
        dataset=dataset,
        # Checked media wait in staging while the dataset is written.
        disk=2 * dataset,
        decode_cpu_hours=rows * costs.decode_s / 3600,
        write_cpu_hours=rows * costs.write_s / 3600,
        alone_hours=rows * costs.alone_s / 3600,
        memory=costs.base_bytes + rows * costs.alone_bytes,
    )


def measured(path: Path = MEASURED) -> Costs:
    """The costs that `measure.py` has written down."""
    return Costs(**json.loads(path.read_text(encoding="utf-8"))["costs"])


def lines(species: int, rows: int, costs: Costs, services: Services) -> list[str]:
    """The plan in words."""
    p = plan(species, rows, costs, services)
    gb = 1e9
    table = [
        f"{species:,} species, {rows:,} rows",
        f"  photos      {p.photo_requests:,} requests, {p.photo_hours:,.0f} h at "
        f"{services.photos_per_second:g} a second",
        f"  recordings  {p.recording_requests:,} requests, {p.recording_hours:,.0f} h at "
        f"{services.recordings_per_second:g} a second ({services.clips_a_recording:g} clips a recording)",
        f"  articles    {p.article_requests:,} requests, {p.article_hours:,.1f} h at "
        f"{services.articles_per_second:g} a second",
        f"  transferred {p.transferred / gb:,.0f} GB",
        f"  dataset     {p.dataset / gb:,.0f} GB; {p.disk / gb:,.0f} GB of disk while it is made",
        f"  decoding    {p.decode_cpu_hours:,.0f} processor hours; {_processors(p.enough())} with the services",
        f"  finish      {p.alone_hours:,.1f} h on one machine with {p.memory / 2**30:,.1f} GiB, and "
        f"{p.write_cpu_hours:,.1f} processor hours of writing",
    ]
    return table + [f"  {n:>4} in all: {p.hours(n) / 24:,.1f} days" for n in (1, 4, 16, 64)]


def _processors(n: int) -> str:
    return "1 processor keeps up" if n == 1 else f"{n} processors keep up"


def main() -> None:
    """Print a plan."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--species", type=int, default=14_000)
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--clips-a-recording", type=float, default=Services.clips_a_recording)
    parser.add_argument("--photos-per-second", type=float, default=Services.photos_per_second)
    parser.add_argument("--recordings-per-second", type=float, default=Services.recordings_per_second)
    given = parser.parse_args()
    services = Services(
        photos_per_second=given.photos_per_second,
        recordings_per_second=given.recordings_per_second,
        clips_a_recording=given.clips_a_recording,
    )
    print("\n".join(lines(given.species, given.rows, measured(), services)))


if __name__ == "__main__":
    main()
