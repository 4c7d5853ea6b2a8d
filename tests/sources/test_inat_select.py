"""The choice of photos, held against a plain loop over the same tables."""

from __future__ import annotations

import gzip
import hashlib
import re
import tempfile
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from fakes.inaturalist import HEADERS
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from birdmml.core.licenses import normalise, policy
from birdmml.errors import SourceError
from birdmml.sources.inat_xc.inaturalist import (
    Candidate,
    PhotoRules,
    Selection,
    TableCounts,
    WantedSpecies,
    open_folder,
)

Rows = list[tuple[Any, ...]]


@dataclass
class World:
    """The rows of the four tables, in the columns of HEADERS."""

    taxa: Rows = field(default_factory=list)
    observations: Rows = field(default_factory=list)
    photos: Rows = field(default_factory=list)
    observers: Rows = field(default_factory=list)

    def write(self, folder: Path, headers: dict[str, tuple[str, ...]] = HEADERS) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name, header in headers.items():
            lines = ["\t".join(map(str, row)) for row in (header, *getattr(self, name))]
            with gzip.open(folder / f"{name}.csv.gz", "wb") as f:
                f.write(("\n".join(lines) + "\n").encode())
        return folder


def allowed(text: str) -> bool:
    return policy().allows(normalise(text))


def selected(
    folder: Path, wanted: Sequence[WantedSpecies], rules: PhotoRules, most: int = 10**9
) -> tuple[TableCounts, list[Candidate]]:
    with tempfile.TemporaryDirectory() as work:
        with Selection(open_folder(folder), wanted, rules, Path(work), 256) as selection:
            found = selection.run()
            chosen = list(selection.candidates(most))
        assert not list(Path(work).iterdir())  # Nothing of the join is left.
    return found, chosen


def naive(world: World, wanted: Sequence[WantedSpecies], rules: PhotoRules) -> dict[int, list[int]]:
    """label -> photo ids in the order of choice."""
    active = {row[0]: str(row[5]).lower() == "true" for row in world.taxa}
    owner: dict[int, int] = {}
    for w in wanted:
        for taxon in [i for i in w.ids if active.get(i)][:1] if active.get(w.ids[0]) else w.ids:
            if active.get(taxon):
                owner[taxon] = w.label
    label_of = {}
    for taxon, ancestry, *_ in world.taxa:
        if active[taxon]:
            line = [int(x) for x in re.split(r"[/\\]", ancestry) if x.isdigit()] + [taxon]
            near = [owner[t] for t in line if t in owner]
            if near:
                label_of[taxon] = near[-1]
    seen = {o[0]: label_of[o[5]] for o in world.observations if o[5] in label_of and o[6] in rules.grades}
    labels = defaultdict(set)
    first: dict[int, tuple[Any, ...]] = {}
    for row in world.photos:
        number, observation = row[1], row[2]
        if observation in seen:
            labels[number].add(seen[observation])
            # Of repeated rows the least counts; here they differ in the observation at most.
            if number not in first or (seen[observation], uuid.UUID(observation)) < (
                seen[first[number][2]],
                uuid.UUID(first[number][2]),
            ):
                first[number] = row
    turns: Counter[tuple[int, str]] = Counter()
    order: dict[int, list[tuple[int, str, int]]] = defaultdict(list)

    def chance(number: int) -> str:
        return hashlib.md5(f"{rules.seed}:{number}".encode()).hexdigest()

    for number in sorted(first, key=lambda n: (chance(n), n)):
        row = first[number]
        label = seen[row[2]]
        wide, high = row[6], row[7]
        if len(labels[number]) > 1 or not rules.allowed(row[5]):
            continue
        if rules.min_side and (wide == "" or high == "" or min(wide, high) < rules.min_side):
            continue
        turns[label, row[2]] += 1
        order[label].append((turns[label, row[2]], chance(number), number))
    return {label: [n for _, _, n in sorted(found)] for label, found in order.items()}


IDS = tuple(range(1, 9))
GRADES = ("research", "research", "casual", "")
OBSERVATIONS = tuple(str(uuid.UUID(int=i * 7919)) for i in range(8))
LICENSES = ("CC-BY", "cc-by-nc", "CC0", "CC-BY-ND", "CC-BY-NC-ND", "", "all rights", "CC-BY-NC-SA", 'CC"BY')


@st.composite
def worlds(draw: st.DrawFn) -> World:
    taxa: Rows = []
    for number in IDS:
        up = draw(st.lists(st.sampled_from([i for i in IDS if i < number] or [99]), max_size=2, unique=True))
        slash = draw(st.sampled_from(["/", "\\"]))
        active = draw(st.sampled_from(["true", "true", "false"]))
        taxa.append((number, slash.join(map(str, [48460, *sorted(up)])), 10, "species", f'A "{number}', active))
    observations = [
        (o, 1, 0, 0, "", draw(st.sampled_from(IDS)), draw(st.sampled_from(GRADES)), "", "")
        for o in OBSERVATIONS
    ]  # fmt: skip
    photos: Rows = []
    for number in range(1, draw(st.integers(0, 24)) + 1):
        row = (
            OBSERVATIONS[0], number, draw(st.sampled_from(OBSERVATIONS)), draw(st.integers(1, 3)), "jpg",
            draw(st.sampled_from(LICENSES)), draw(st.sampled_from([100, 500, ""])),
            draw(st.sampled_from([200, 800])), 0,
        )  # fmt: skip
        photos.append(row)
        if draw(st.integers(0, 5)) == 0:
            photos.append((*row[:2], draw(st.sampled_from(OBSERVATIONS)), *row[3:]))
    return World(taxa, observations, photos, [(1, "ana", 'A "na'), (2, "bo", "")])


CHOICES = (worlds(), st.integers(0, 3), st.sampled_from([0, 150]), st.randoms(use_true_random=False))
UNHURRIED = [HealthCheck.too_slow]


@settings(max_examples=8, deadline=None, suppress_health_check=UNHURRIED, phases=[Phase.generate])
@given(*CHOICES)
def test_the_choice_is_that_of_a_plain_loop_whatever_the_order_of_the_tables(
    world: World, seed: int, least: int, rng: Any
) -> None:
    as_a_loop_does(world, seed, least, rng)


@pytest.mark.drill
@settings(max_examples=200, deadline=None, suppress_health_check=UNHURRIED, phases=[Phase.generate])
@given(*CHOICES)
def test_the_choice_is_that_of_a_plain_loop_in_many_worlds(world: World, seed: int, least: int, rng: Any) -> None:
    as_a_loop_does(world, seed, least, rng)


def as_a_loop_does(world: World, seed: int, least: int, rng: Any) -> None:
    wanted = [WantedSpecies(0, ("x",), (3,)), WantedSpecies(1, ("y",), (5, 2)), WantedSpecies(2, ("z",), (7,))]
    rules = PhotoRules(seed, allowed, min_side=least)
    expected = naive(world, wanted, rules)
    with tempfile.TemporaryDirectory() as folder:
        found, chosen = selected(world.write(Path(folder)), wanted, rules)
        by_label: dict[int, list[int]] = defaultdict(list)
        for c in chosen:
            by_label[c.label].append(c.photo_id)
            assert c.rank == len(by_label[c.label])
        assert by_label == expected
        assert found.offered == {k: len(v) for k, v in expected.items()}
        for rows in (world.taxa, world.observations, world.photos):
            rng.shuffle(rows)
        assert selected(world.write(Path(folder)), wanted, rules)[1] == chosen
        # Only one species is done here; of the others nothing is chosen, and what is shared with them stays out.
        alone = [replace(w, mine=w.label == 1) for w in wanted]
        assert selected(Path(folder), alone, rules)[1] == [c for c in chosen if c.label == 1]
        # All photos that are refused or repeated are counted.
        assert sum(found.refused.values()) + sum(found.offered.values()) + sum(found.duplicates.values()) == sum(
            1 for p in world.photos if _is_offered(p, world, wanted)
        )


def _is_offered(photo: tuple[Any, ...], world: World, wanted: Sequence[WantedSpecies]) -> bool:
    """Whether a naive choice that refuses nothing would see this row."""
    one = World(world.taxa, world.observations, [photo], [])
    return bool(naive(one, wanted, PhotoRules(0, lambda text: True)))


def small() -> World:
    """Two photos of a species."""
    o = OBSERVATIONS
    return World(
        [(10, "1/2", 10, "species", "Aus bus", "true"), (11, "1/2/10", 5, "subspecies", "Aus bus cus", "true")],
        [(o[0], 1, 0, 0, "", 10, "research", "", ""), (o[1], 1, 0, 0, "", 11, "research", "", "")],
        [(o[0], 1, o[0], 1, "jpg", "CC-BY", 500, 500, 0), (o[0], 2, o[1], 2, "jpg", "CC0", 500, 500, 0)],
        [(1, "ana", 'Ana "B'), (2, "bo", "")],
    )


AUS = WantedSpecies(0, ("Aus bus",), (10,))


def test_authors_are_names_or_else_logins_and_none_is_made_up(tmp_path: Path) -> None:
    world = small()
    _, chosen = selected(world.write(tmp_path), [AUS], PhotoRules(0, allowed))
    assert {c.photo_id: (c.author, c.login) for c in chosen} == {1: ('Ana "B', "ana"), 2: ("bo", "bo")}
    world.observers.pop()
    _, chosen = selected(world.write(tmp_path), [AUS], PhotoRules(0, allowed))
    assert {c.photo_id: c.author for c in chosen} == {1: 'Ana "B', 2: ""}


@pytest.mark.parametrize(
    ("taxa", "ids", "state", "used", "today"),
    [
        ([(10, "true")], (10,), "", [10], []),
        ([(10, "false"), (7, "true")], (10, 7), "former", [7], []),
        ([(10, "true"), (7, "true")], (10, 7), "", [10], []),
        ([(10, "false"), (12, "true")], (10,), "inactive", [], [12]),
        ([(12, "true")], (10,), "unknown", [], [12]),
        ([(9, "true")], (), "", [9], []),
        ([(9, "true"), (8, "true")], (), "ambiguous", [], [8, 9]),
        ([], (), "unknown", [], []),
    ],
)
def test_a_taxon_is_followed_by_the_ids_that_the_list_gives_and_by_its_name_only_without_any(
    taxa: Rows, ids: tuple[int, ...], state: str, used: list[int], today: list[int], tmp_path: Path
) -> None:
    world = replace(small(), taxa=[(i, "1", 10, "species", "Aus bus", active) for i, active in taxa])
    found, _ = selected(world.write(tmp_path), [WantedSpecies(0, ("Aus bus",), ids)], PhotoRules(0, allowed))
    assert found.taxa == {0: (state, used)}
    assert found.today.get(0, []) == today


def test_an_added_column_and_another_order_change_nothing(tmp_path: Path) -> None:
    world = small()
    before = selected(world.write(tmp_path / "a"), [AUS], PhotoRules(0, allowed))
    headers = {name: ("new", *reversed(h)) for name, h in HEADERS.items()}
    tables = (world.taxa, world.observations, world.photos, world.observers)
    turned = World(*[[("x", *reversed(row)) for row in rows] for rows in tables])
    assert selected(turned.write(tmp_path / "b", headers), [AUS], PhotoRules(0, allowed)) == before


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("photos", "photo_id"),
        ("photos", "license"),
        ("observations", "quality_grade"),
        ("taxa", "ancestry"),
        ("observers", "login"),
    ],
)
def test_a_renamed_column_is_told_with_what_was_found_and_needed(table: str, column: str, tmp_path: Path) -> None:
    headers = {n: tuple("renamed" if (n, c) == (table, column) else c for c in h) for n, h in HEADERS.items()}
    folder = small().write(tmp_path, headers)
    with pytest.raises(SourceError, match=f"{table}.csv.gz has no column {column}; found: .*renamed.*needed: "):
        open_folder(folder)


def _cut(data: bytes) -> bytes:
    return data[:-12]


def _page(data: bytes) -> bytes:
    return gzip.compress(b"<!DOCTYPE html><html><title>Down</title></html>")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (_cut, "photos.csv.gz"),
        (_page, "no column photo_id"),
        (lambda d: b"<html>", "cannot be read"),
        (lambda d: b"", ""),
    ],
    ids=["cut", "page", "no gzip", "empty"],
)  # fmt: skip
def test_a_table_that_is_none_stops_the_build_and_is_named(
    spoil: Callable[[bytes], bytes], told: str, tmp_path: Path
) -> None:
    world = small()
    world.photos *= 400
    path = world.write(tmp_path) / "photos.csv.gz"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(SourceError, match=told or "photos"):
        selected(tmp_path, [AUS], PhotoRules(0, allowed))


def test_lines_that_are_no_rows_are_counted_and_the_rest_is_read(tmp_path: Path) -> None:
    world = small()
    world.photos += [("x", "not a number", *world.photos[0][2:]), ("short", 5)]
    found, chosen = selected(world.write(tmp_path), [AUS], PhotoRules(0, allowed))
    assert found.bad_lines == {"photos": 2}
    assert {c.photo_id for c in chosen} == {1, 2}


def test_the_join_holds_no_more_memory_than_it_may(tmp_path: Path) -> None:
    """A join of many photos under a small limit gives what a plain loop gives."""
    n = 10_000
    o = [str(uuid.UUID(int=i)) for i in range(n)]
    world = small()
    world.observations = [(x, 1, 0, 0, "", 10, "research", "", "") for x in o]
    world.photos = [(o[0], i, o[i % n], 1, "jpg", "CC-BY", 500, 500, 0) for i in range(1, 3 * n)]
    rules = PhotoRules(5, allowed)
    tables = open_folder(world.write(tmp_path / "tables"))
    with Selection(tables, [AUS], rules, tmp_path / "work", 64) as selection:
        selection.run()
        chosen = [c.photo_id for c in selection.candidates(500)]
    assert chosen == naive(world, [AUS], rules)[0][:500]
