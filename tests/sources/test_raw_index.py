"""What a build from raw sources remembers, and what strangers' words do to it."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from fakes import inaturalist
from helpers.raw_sources import key, make, quick, services

from birdmml.core.species import all_species

__all__ = ["key", "quick"]


def test_it_holds_no_more_of_the_rejects_than_a_page(tmp_path: Path) -> None:
    from birdmml.schema import Reject
    from birdmml.sources.inat_xc.index import RawIndex

    index = RawIndex(tmp_path / "raw.sqlite")
    for label in (2, 0, 1):
        index.reject(label, "listing", [Reject(f"XC{i}", "license", str(label)) for i in range(1500)])
    found = [(r.detail, r.path) for r in index.rejects()]
    assert found == [(str(label), f"XC{i}") for label in range(3) for i in range(1500)]
    index.reject(1, "listing", [])
    assert sum(1 for _ in index.rejects()) == 3000
    index.close()


@pytest.mark.usefixtures("key", "quick")
def test_names_of_observers_cannot_bring_marks_or_lines_into_a_dataset(tmp_path: Path) -> None:
    settings = inaturalist.write(tmp_path, 2, species=2, photos=3)
    tables = inaturalist.make_tables(all_species()[:2], 2, 3)
    tables.observers = [(i, "x", f"=cmd|\x1b[31m <script>alert({i})</script>\u202e{'y' * 900}") for i in (1, 2, 3, 4)]
    tables.write(tmp_path / "tables")
    with services(tmp_path) as served:
        make(settings, served, tmp_path / "out")
    authors = {
        name
        for shard in (tmp_path / "out" / "data").glob("*.parquet")
        for name in pq.read_table(shard)["image_author"].to_pylist()
    }
    assert authors
    assert all(len(a) <= 200 and a.isprintable() for a in authors)
