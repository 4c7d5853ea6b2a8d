"""Builds from the three services: what comes, what does not, and what is said of it."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from fakes import inaturalist
from helpers import Ran, tree
from helpers.raw_sources import KEY, Served, absent, key, make, plan, quick, services
from helpers.servers import Act, redirect
from helpers.services import HTML, Faults

from birdmml.core.species import all_species
from birdmml.dataset.build import build, finish
from birdmml.dataset.divide import build_part
from birdmml.dataset.intake import session_of
from birdmml.dataset.place import BuildPart
from birdmml.errors import SourceError, UsageError
from birdmml.sources import inat_xc
from birdmml.sources.inat_xc import settings

__all__ = ["key", "quick"]
pytestmark = pytest.mark.usefixtures("key", "quick")
PHOTOS = 6


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, settings.RawSettings]:
    """Four species, as the fake writes them."""
    root = tmp_path_factory.mktemp("world")
    return root, inaturalist.write(root, 3, photos=PHOTOS)


@pytest.fixture
def served(world: tuple[Path, settings.RawSettings]) -> Iterator[Served]:
    with services(world[0]) as found:
        yield found


def rows_of(out: Path) -> list[dict[str, Any]]:
    credit = ("license", "author", "url")
    columns = ["label", "image_id", "audio_id", *(f"{p}_{c}" for p in ("image", "audio", "caption") for c in credit)]
    return [r for path in sorted(out.glob("data/*.parquet")) for r in pq.read_table(path, columns=columns).to_pylist()]


def photo(number: str, settings: settings.RawSettings) -> str:
    """The name under which a bucket knows a photo."""
    folder = Path(settings.inat).parent / "bucket" / "photos" / number
    return f"/photos/{number}/{next(folder.iterdir()).name}"


def chosen(settings: settings.RawSettings) -> dict[str, list[str]]:
    """species -> photo ids in the order of choice, by the fake's own truth."""
    import hashlib

    birds = settings.species_list.taxonomy.species
    tables = inaturalist.make_tables(all_species()[: len(birds)], settings.seed, settings.per_species)
    observation = {row[1]: row[2] for row in tables.photos}
    found: dict[str, list[str]] = {}
    turns: Counter[tuple[str, str]] = Counter()
    order = []
    for number in sorted(tables.truth, key=lambda n: hashlib.md5(f"{settings.seed}:{n}".encode()).hexdigest()):
        species, why = tables.truth[number]
        if why in ("", "author"):
            turns[species, observation[number]] += 1
            order.append((turns[species, observation[number]], why, species, str(number)))
    for _, why, species, number in sorted(order, key=lambda o: o[0]):
        if not why:
            found.setdefault(species, []).append(number)
    return found


def test_each_part_of_each_row_has_a_licence_an_author_and_an_address(
    world: tuple[Path, settings.RawSettings], served: Served, tmp_path: Path
) -> None:
    built = make(world[1], served, tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert len(rows) == 4 * PHOTOS == built.manifest["counts"]["rows"]
    for row in rows:
        for part in ("image", "audio", "caption"):
            assert row[f"{part}_license"].startswith("CC") and "ND" not in row[f"{part}_license"]
            assert row[f"{part}_author"] and row[f"{part}_url"].startswith("http")
    # Those that come first in the order of choice, and no others.
    first = {f"inat-{n}" for numbers in chosen(world[1]).values() for n in numbers[:PHOTOS]}
    assert {row["image_id"] for row in rows} == first
    reasons = Counter(reason for reason, _ in absent(built))
    assert reasons == {
        "restricted": 8, "license": 8, "no_author": 4, "bad_record": 4, "photo_license": 8, "photo_small": 4,
        "photo_no_author": 4, "duplicate_photo_id": 4,
    }  # fmt: skip
    told = json.dumps(built.manifest) + json.dumps(built.validation)
    assert KEY not in told and str(world[0]) not in told and "tests@example.org" not in told
    assert [b["lacking"] for b in built.validation["balance"]] == [0] * 4
    for service in served.all:
        assert set(service.agents) == {f"birdmml/{built.manifest['birdmml_version']} (mailto:tests@example.org)"}
        assert not service.twice()


def test_photos_that_are_gone_are_replaced_by_the_next_choice_and_listed(
    world: tuple[Path, settings.RawSettings], served: Served, tmp_path: Path
) -> None:
    order = chosen(world[1])
    species, numbers = next(iter(order.items()))
    acts = (Act(403), Act(404), Act(410), redirect("http://169.254.169.254/x"), redirect("ftp://a/b"))
    lost = dict(zip(numbers, acts, strict=False))
    for number, act in lost.items():
        served.photos.act(photo(number, world[1]), then=act)
    settings = replace(world[1], allow_private=False)
    built = make(settings, served, tmp_path / "out")
    gone = {text.split(":")[0]: text for reason, text in absent(built) if reason == "photo_gone"}
    assert set(gone) == {f"photo {n}" for n in lost}
    assert all(species in text for text in gone.values())
    images = {row["image_id"] for row in rows_of(tmp_path / "out")}
    wanted = numbers[len(lost) : len(lost) + PHOTOS]
    assert {i for i in images if i.removeprefix("inat-") in numbers} == {f"inat-{n}" for n in wanted}
    assert len(wanted) == 5  # There were ten.
    short = f"photos of {species}: 5 of 6 photos could be had (11 may be taken by the tables)"
    assert ("photos_short", short) in absent(built)
    balance = {b["species"]: (b["rows"], b["lacking"]) for b in built.validation["balance"]}
    assert balance == {name: (5, 1) if name == species else (6, 0) for name in order}
    assert not built.unfinished


def test_species_that_a_service_does_not_know_cost_their_rows_and_are_listed(tmp_path: Path) -> None:
    settings = inaturalist.write(tmp_path, 5, species=6, photos=4)
    birds = all_species()[:6]
    tables = inaturalist.make_tables(birds, 5, 4)
    ids = {b.inat_taxon_id: i for i, b in enumerate(birds)}
    # The first was never there, the second was split: its name has another id today.
    tables.taxa = [(t[0] if ids.get(t[0]) != 1 else 4_444, *t[1:]) for t in tables.taxa if ids.get(t[0]) != 0] + [
        (birds[1].inat_taxon_id, "1", 10, "species", birds[1].scientific_name, "false")
    ]
    tables.write(tmp_path / "tables")
    with services(tmp_path) as served:
        fake = served.xeno_canto.fake  # type: ignore[attr-defined]
        fake.records = [r for r in fake.records if f"{r['gen']} {r['sp']}" != birds[2].scientific_name]
        pages = served.wikipedia.fake.pages  # type: ignore[attr-defined]
        for name in [n for n in pages if n.replace("_", " ") in (birds[3].scientific_name, *birds[3].names())]:
            del pages[name]
        built = make(settings, served, tmp_path / "out")
    told = dict(absent(built))
    assert "all 4 rows of it are lacking" in told["taxon_unknown"] and birds[0].scientific_name in told["taxon_unknown"]
    assert "today's id of that name there: 4444" in told["taxon_inactive"]
    assert birds[2].scientific_name in told["no_recordings"]
    assert birds[3].scientific_name in told["no_article"]
    assert {b["species"]: b["lacking"] for b in built.validation["balance"]} == {
        b.scientific_name: 4 if i < 3 else 0 for i, b in enumerate(birds)
    }
    assert built.manifest["source"]["facts"]["balance"]["rows_lacking"] == 12
    assert {r["species"]: r["lost"] for r in built.validation["by_species"]} == {
        b.scientific_name: 4 if i < 3 else 0 for i, b in enumerate(birds)
    }


def test_audio_is_used_again_evenly_where_a_species_is_short_of_it(tmp_path: Path) -> None:
    settings = inaturalist.write(tmp_path, 1, species=2, photos=24, recordings=6, seconds=1.0)
    with services(tmp_path) as served:
        records = served.xeno_canto.fake.records  # type: ignore[attr-defined]
        short = all_species()[0].scientific_name
        mine = [r for r in records if f"{r['gen']} {r['sp']}" == short]
        for record in mine[3:]:
            records.remove(record)
        built = make(settings, served, tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert len(rows) == 48
    first, _ = built.validation["balance"]
    assert (first["species"], first["rows"], first["lacking"]) == (short, 24, 0)
    for path in (tmp_path / "out" / "data").glob("*.parquet"):
        uses = Counter(
            r["audio_id"] for r in pq.read_table(path, columns=["audio_id", "label"]).to_pylist() if not r["label"]
        )
        assert not uses or max(uses.values()) - min(uses.values()) <= 1
    assert first["most_uses_of_a_clip"] > 1
    assert built.manifest["source"]["facts"]["balance"]["rows_with_audio_used_again"] > 0


@pytest.mark.parametrize("wrong", ["", "short", "x" * 20])
def test_without_the_right_key_nothing_is_fetched_and_the_key_is_not_told(
    wrong: str,
    world: tuple[Path, settings.RawSettings],
    served: Served,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XENO_CANTO_KEY", wrong)
    with pytest.raises((SourceError, UsageError), match="XENO_CANTO_KEY") as caught:
        make(world[1], served, tmp_path / "out")
    assert not wrong or wrong not in str(caught.value)
    assert served.photos.requests == served.wikipedia.requests == 0
    assert served.xeno_canto.requests == (1 if len(wrong) == 20 else 0)
    assert not list(tmp_path.iterdir())


def test_settings_that_make_no_sense_are_told_before_anything_is_asked(
    world: tuple[Path, settings.RawSettings], served: Served, tmp_path: Path
) -> None:
    for wrong, told in (
        ({"contact": ""}, "--contact"), ({"contact": "me"}, "--contact"), ({"inat": ""}, "--inat"),
        ({"photo_size": "huge"}, "--photo-size"), ({"licenses": "CC-BY,mine"}, "--licenses"),
        ({"licenses": "unknown"}, "--licenses"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=told):
            make(world[1], served, tmp_path / "out", **wrong)
    with pytest.raises(SourceError, match="no photos.csv.gz|is no folder"):
        make(world[1], served, tmp_path / "out", inat=str(tmp_path / "nowhere"))
    assert served.counts()[0] == 0


def test_licences_are_those_that_were_asked_for(
    world: tuple[Path, settings.RawSettings], served: Served, tmp_path: Path
) -> None:
    make(world[1], served, tmp_path / "out", licenses="CC-BY,CC0,CC-BY-NC-SA-4.0")
    found = {row[f"{part}_license"] for row in rows_of(tmp_path / "out") for part in ("image", "audio")}
    assert found <= {"CC-BY-4.0", "CC0-1.0", "CC-BY-NC-SA-4.0"} and "CC-BY-4.0" in found


def test_a_service_that_answers_pages_is_listed_and_asked_again_when_told_so(
    world: tuple[Path, settings.RawSettings], served: Served, tmp_path: Path
) -> None:
    settings = replace(world[1], per_species=4)
    species = all_species()[1]
    genus, epithet = species.scientific_name.split(" ")
    name = f"/api/3/recordings?page=1&per_page=500&query=gen:{genus} sp:{epithet} grp:birds"
    page = Act(200, {"Content-Type": "text/html"}, body=HTML)
    served.xeno_canto.act(name, then=page)
    number = chosen(world[1])[all_species()[0].scientific_name][0]
    served.photos.act(photo(number, settings), then=page)
    built = make(settings, served, tmp_path / "out")
    told = dict(absent(built))
    assert "page" in told["list_failed"] and species.scientific_name in told["list_failed"]
    assert number in told["photo_failed"] and "Down for repairs" in told["photo_failed"]
    assert "--resume --retry-failed" in built.unfinished
    assert sum(b["lacking"] for b in built.validation["balance"]) == 5
    before = served.photos.whole.copy()
    served.xeno_canto.act(name)
    served.photos.act(photo(number, settings))
    again = build(plan(settings, served), tmp_path / "out", max_rejects=0.2, resume=True, retry_failed=True)
    assert not again.unfinished
    assert served.photos.whole - before == {photo(number, settings): 1}
    assert not served.xeno_canto.twice()
    calm = build(plan(settings, served), tmp_path / "calm", max_rejects=0.2)
    assert again.manifest == calm.manifest
    assert tree(tmp_path / "out") == tree(tmp_path / "calm")


def test_what_passes_costs_nothing_but_time(
    world: tuple[Path, settings.RawSettings], served: Served, tmp_path: Path
) -> None:
    make(world[1], served, tmp_path / "calm")
    with services(world[0], Faults(every=3, passing=("500", "503", "page", "slow", "reset", "cut"))) as rough:
        make(world[1], rough, tmp_path / "rough")
        assert sum(s.misbehaved.total() for s in rough.all) > 10
    assert tree(tmp_path / "rough") == tree(tmp_path / "calm")


def test_a_bucket_that_has_none_of_the_photos_is_told_as_such(
    world: tuple[Path, settings.RawSettings], served: Served, tmp_path: Path
) -> None:
    with pytest.raises(SourceError, match="not one photo could be had|are all gone"):
        build(plan(world[1], served, photos=served.wikipedia.url), tmp_path / "out")


def test_the_tables_are_downloaded_once_and_the_parts_choose_what_the_whole_does(
    world: tuple[Path, settings.RawSettings], served: Served, tmp_path: Path
) -> None:
    tables = Path(world[1].inat)
    with services(world[0]) as other:
        other.photos.root = tables
        settings = replace(plan(world[1], served, inat=other.photos.url).source_settings)
        whole = plan(world[1], served)
        divided = replace(whole, source_settings=settings)
        found: list[set[str]] = []
        facts, gone = [], []
        for index in (-1, 0, 1):
            part = BuildPart() if index < 0 else BuildPart(index, 2)
            session = inat_xc.session(
                divided.source_settings, tmp_path / str(index), None, False, lambda *a: None, part
            )
            found.append({d.record.id for d in session})
            facts.append(session.facts())
            gone.append(sorted((r.path, r.reason, r.detail) for r in session.absent()))
            assert set(session.articles()) == {
                s.scientific_name for s in all_species()[:4] if part.takes(s.scientific_name)
            }
            session.close()
        assert found[0] == found[1] | found[2] and not found[1] & found[2] and found[1] and found[2]
        assert sorted(gone[1] + gone[2]) == gone[0]
        merged = inat_xc.merge_facts(facts[1:])
        assert merged | {"photos": 0, "recordings": 0} == facts[0] | {"photos": 0, "recordings": 0}
        assert max(other.photos.whole.values()) == 3  # Once for each of the three.
        assert not list((tmp_path / "0").glob("tables/*"))


def test_unfinished_work_is_not_mixed_with_another_choice(
    world: tuple[Path, settings.RawSettings], served: Served, tmp_path: Path
) -> None:
    first = session_of(inat_xc, plan(world[1], served), tmp_path / "s", lambda *a: None)
    next(iter(first))
    first.close()
    with pytest.raises(SourceError, match="other settings .licenses"):
        session_of(inat_xc, plan(world[1], served, licenses="CC0"), tmp_path / "s", lambda *a: None)


def test_the_command_line_takes_it_all(
    world: tuple[Path, settings.RawSettings], served: Served, tmp_path: Path, cli: Callable[..., Ran]
) -> None:
    settings = world[1]
    command = [
        "build", "--source", "inat-xc", "--inat", settings.inat, "--species-list", settings.species_list.path,
        "--per-species", 3, "--clip-seconds", 1, "--licenses", "CC0,CC-BY,CC-BY-NC,CC-BY-SA,CC-BY-NC-SA",
        "--photos", served.photos.url, "--xeno-canto", served.xeno_canto.url, "--wikipedia", served.wikipedia.url,
        "--photos-per-second", 500, "--recordings-per-second", 500, "--out", tmp_path / "out", "--workers", 1,
    ]  # fmt: skip
    ran = cli(*command, "--dry-run")
    assert ran.code == 0 and "4 species, 3 rows each" in ran.out and "at 500 a second" in ran.out
    assert cli(*command).code == 2  # Without a contact.
    assert "--contact" in cli(*command).err
    os.environ["BIRDMML_CONTACT"] = "https://example.org/me"
    try:
        ran = cli(*command)
    finally:
        del os.environ["BIRDMML_CONTACT"]
    assert ran.code == 0, ran.err
    assert "12 image-audio-text triplets of 4 species" in ran.out
    assert KEY not in ran.out + ran.err
    ran = cli("build", "--source", "demo", "--inat", "x", "--out", tmp_path / "no")
    assert ran.code == 2 and "--inat" in ran.err


def test_a_key_that_is_revoked_meanwhile_stops_the_build_which_then_goes_on_with_a_new_one(
    world: tuple[Path, settings.RawSettings], served: Served, tmp_path: Path
) -> None:
    make(world[1], served, tmp_path / "calm")
    with services(world[0]) as fresh:
        genus, epithet = all_species()[2].scientific_name.split(" ")
        name = f"/api/3/recordings?page=1&per_page=500&query=gen:{genus} sp:{epithet} grp:birds"
        fresh.xeno_canto.act(name, then=Act(401, {"Content-Type": "application/json"}, body=b'{"error": "key"}'))
        with pytest.raises(SourceError, match="XENO_CANTO_KEY") as caught:
            make(world[1], fresh, tmp_path / "out")
        assert KEY not in str(caught.value)
        assert not (tmp_path / "out").exists()
        fresh.xeno_canto.act(name)
        build(plan(world[1], fresh), tmp_path / "out", max_rejects=0.2, resume=True)
        # What was under way when the others were stopped may be asked for again: no more than ran at a time.
        assert sum(n - 1 for s in fresh.all for n in s.twice().values()) <= 12
    assert tree(tmp_path / "out") == tree(tmp_path / "calm")


def test_a_limit_and_a_least_side_are_kept(
    world: tuple[Path, settings.RawSettings], served: Served, tmp_path: Path
) -> None:
    few = replace(plan(world[1], served), limit=2)
    built = build(few, tmp_path / "out", max_rejects=0.2)
    assert built.manifest["counts"]["photos"] == 8
    assert served.photos.requests == 8
    assert {b["wanted"] for b in built.validation["balance"]} == {2}
    with pytest.raises(SourceError, match="not one photo could be had .*photo_small"):
        make(world[1], served, tmp_path / "none", min_side=5000)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("count", [2, 5])
def test_parts_put_together_are_the_build_of_one_machine(
    world: tuple[Path, settings.RawSettings], served: Served, tmp_path: Path, count: int
) -> None:
    make(world[1], served, tmp_path / "whole", max_rejects=0.5)
    settings = plan(world[1], served)
    for index in reversed(range(count)):
        build_part(settings, tmp_path / "out", BuildPart(index, count, at_once=1))
    finish(settings, tmp_path / "out", max_rejects=0.5)
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")
