"""Datasets spoilt as they are in the wild: each is caught, and the sound one is not."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from birdmml.dataset.audit import AuditSettings, audit
from birdmml.dataset.audit.model import AMBER, RED, Audit

FULL = AuditSettings()


def slugs(found: Audit, severity: str = RED) -> set[str]:
    return {f.slug for f in found.findings if f.severity == severity}


def verdicts(found: Audit) -> dict[str, str]:
    return {p.modality: p.verdict for p in found.probes}


def test_the_intact_demo_has_no_red_line(demo):
    found = audit(demo, FULL, workers=2)
    assert slugs(found) == set()
    assert verdicts(found) | {"caption_name_free": ""} == {
        "image": "above chance",
        "audio": "above chance",
        "text": "above chance",
        "caption_name_free": "",
    }
    assert found.manifest == "agrees"
    assert {p.modality: p.ceiling for p in found.probes}["image"] == 0.5


def test_a_demo_too_small_to_tell_is_not_accused(small_demo):
    found = audit(small_demo)
    assert slugs(found) == set()
    assert "at chance" not in verdicts(found).values()
    assert verdicts(found)["audio"] == "cannot tell"


@pytest.mark.parametrize(
    ("how", "modality", "also"),
    [
        ("audio_zeros", "audio", {"audio_constant"}),
        ("audio_faint", "audio", {"audio_sha256"}),
        ("audio_bytes_moved", "audio", {"audio_sha256"}),
        ("audio_all_moved", "audio", {"split_leak_recording_id"}),
        ("images_of_one_species", "image", {"image_sha256", "image_several_species", "split_leak_image_bytes"}),
        ("images_of_one_species_in_turn", "image", {"image_sha256", "image_several_species"}),
        ("images_of_one_species_all_different", "image", {"image_sha256"}),
    ],
)
def test_a_spoilt_modality_is_at_chance_and_the_others_are_not(demo, spoilt, how, modality, also):
    found = audit(spoilt(demo, how))
    assert slugs(found) == {f"{modality}_at_chance", "shard_changed"} | also
    assert found.findings[0].slug == f"{modality}_at_chance"
    others = {m: v for m, v in verdicts(found).items() if m in ("image", "audio", "text") and m != modality}
    assert set(others.values()) == {"above chance"}


@pytest.mark.parametrize(("how", "also"), [("labels_moved", set()), ("label_only_moved", {"label_conflict"})])
def test_shuffled_labels_leave_every_modality_at_chance(demo, spoilt, how, also):
    found = audit(spoilt(demo, how))
    # One of a hundred shufflings looks like a signal to any test at p = 0.01, a few more are amber.
    assert "above chance" not in verdicts(found).values()
    told = {f.slug.removesuffix("_at_chance").removesuffix("_near_chance") for f in found.findings}
    assert {"image", "audio", "text"} <= told
    assert slugs(found) >= {"image_at_chance", "audio_at_chance", "shard_changed"} | also


def test_without_manifest_and_group_columns_the_same_is_found(demo, spoilt, tmp_path):
    for how, expected in (("audio_zeros", {"audio_at_chance", "audio_constant"}), ("untouched", set())):
        bare = tmp_path / how
        for path in sorted((spoilt(demo, how) / "data").glob("*.parquet")):
            table = pq.read_table(path).select(["image", "audio", "species", "caption"])
            bare.mkdir(exist_ok=True)
            pq.write_table(table, bare / path.name)
        found = audit(bare)
        assert slugs(found) == expected, how
        assert found.manifest == "none"
        assert {"manifest", "groups of recordings", "image hashes", "licences"} <= {s.check for s in found.skipped}


def test_a_few_bad_rows_are_named(demo, spoilt):
    found = audit(spoilt(demo, "planted"))
    by_slug = {f.slug: f for f in found.findings}
    expected = {
        "image_black": (RED, ["row-0"]),
        "image_constant": (RED, ["row-1"]),
        "image_tiny": (AMBER, ["row-2"]),
        "image_undecodable": (RED, ["row-3"]),
        "image_missing": (RED, ["row-4"]),
        "audio_silent": (RED, ["row-5"]),
        "audio_constant": (RED, ["row-6"]),
        "audio_clipped": (AMBER, ["row-7"]),
        "audio_padding": (AMBER, ["row-8"]),
        "audio_rate": (AMBER, ["row-9"]),
        "audio_length": (AMBER, ["row-10"]),
        "audio_undecodable": (RED, ["row-11"]),
        "image_several_species": (RED, ["row-12", "row-13"]),
        "audio_several_species": (RED, ["row-14", "row-15"]),
        "duplicate_id": (AMBER, ["twice", "twice"]),
        "image_license_nd": (AMBER, ["row-18"]),
        "audio_license_unknown": (AMBER, ["row-19"]),
    }
    for slug, (severity, where) in expected.items():
        assert by_slug[slug].severity == severity, slug
        assert sorted(by_slug[slug].where) == sorted(where), slug
        assert by_slug[slug].count == len(where), slug
    media = {"image_sha256", "audio_sha256", "shard_changed"}
    assert set(by_slug) - set(expected) - media <= {
        "split_leak_near_duplicate",
        "split_leak_image_bytes",
        "split_leak_audio_bytes",
        "caption_names_species",
    }


def test_a_recording_on_two_sides_is_counted_by_hand(demo, tmp_path, spoilt):
    root = spoilt(demo, "leaking")
    found = audit(root)
    table = {
        path.name.split("-")[0]: pq.read_table(path, columns=["recording_id"])["recording_id"].to_pylist()
        for path in sorted((root / "data").glob("*.parquet"))
    }
    train = set(table["train"])
    (line,) = [leak for leak in found.split_leaks if leak.key == "clips of one recording"]
    for split, share in (("test", line.test_share), ("validation", line.validation_share)):
        assert share == sum(r in train for r in table[split]) / len(table[split])
    (finding,) = [f for f in found.findings if f.slug == "split_leak_recording_id"]
    assert finding.severity == RED
    assert finding.count == sum(r in train for s in ("test", "validation") for r in table[s]) > 0


def test_photos_of_an_evaluation_set_are_found(demo, tmp_path: Path):
    shard = next((demo / "data").glob("test-*.parquet"))
    folder = tmp_path / "birds-eval"
    folder.mkdir()
    rows = pq.read_table(shard, columns=["id", "image"]).to_pylist()[:4]
    for n, row in enumerate(rows):
        (folder / f"{n}.jpg").write_bytes(row["image"]["bytes"])
    found = audit(demo, AuditSettings(evalsets=(folder,), near_radius=0))
    (overlap,) = found.overlaps
    assert (overlap.evalset, overlap.pictures) == ("birds-eval", 4)
    (finding,) = [f for f in found.findings if f.slug == "evalset_overlap"]
    assert {r["id"] for r in rows} <= set(finding.where)
    assert finding.severity == RED
