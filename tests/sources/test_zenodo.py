from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from helpers.servers import Act, Fast, Server
from hypothesis import given
from hypothesis import strategies as st

from birdmml.errors import BuildError, SourceError
from birdmml.fetch.download import Fetcher
from birdmml.fetch.ledger import Ledger, WantedFile
from birdmml.fetch.pace import Politeness
from birdmml.sources.release.zenodo import (
    RecordFile,
    ZenodoRecord,
    content_url,
    fetch_record,
    read_record,
    record_url,
    sort_release,
)

MD5 = hashlib.md5(b"x").hexdigest()
LINK = "https://zenodo.org/api/records/7/files/a%20b.csv/content"


def body(files: object, **more: object) -> bytes:
    return json.dumps({"id": 7, "metadata": {"title": "Bird-MML"}, "files": files, **more}).encode()


def entry(key: str = "a b.csv", **more: object) -> dict[str, Any]:
    return {"key": key, "size": 5, "checksum": f"md5:{MD5}", "links": {"self": LINK}, **more}


OLD = {"filename": "a b.csv", "filesize": 5, "checksum": MD5, "links": {"download": LINK}}
RDM = entry(links={"self": LINK.removesuffix("/content"), "content": LINK})
BUCKET = "https://zenodo.org/api/files/0f0e/a%20b.csv"


@pytest.mark.parametrize(
    ("files", "url"),
    [
        ([entry()], LINK),
        ([entry(links={"self": BUCKET})], BUCKET),
        ([entry(links={})], LINK),
        ([{k: v for k, v in entry().items() if k != "links"}], LINK),
        ([OLD], LINK),
        ({"enabled": True, "entries": {"a b.csv": RDM}}, LINK),
        ({"enabled": True, "entries": {"a b.csv": {k: v for k, v in RDM.items() if k != "key"}}}, LINK),
        ({"enabled": True, "entries": [RDM]}, LINK),
        ({"entries": [entry(links={"self": LINK.removesuffix("/content")})]}, LINK),
    ],
)
def test_every_dialect_gives_the_same_record(files: object, url: str) -> None:
    assert read_record(body(files)) == ZenodoRecord("7", "Bird-MML", (RecordFile("a b.csv", 5, MD5, url),))


@pytest.mark.parametrize(
    ("checksum", "md5"),
    [(f"md5:{MD5.upper()}", MD5), (f"MD5:{MD5}", MD5), ("sha256:" + "0" * 64, None), (None, None), ("", None)],
)
def test_checksums_in_the_wild(checksum: str | None, md5: str | None) -> None:
    assert read_record(body([entry(checksum=checksum)])).files[0].md5 == md5


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (b"", "no JSON"),
        (b"<html>", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b'{"id": ' + b"9" * 5000 + b"}", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[]", "the whole"),
        (body([entry()], id=None), "id"),
        (body([entry()], id=True), "id"),
        (body([entry()], id="../7"), "id"),
        (body([entry()], title=["x"]), "title"),
        (body(None, message="gone away"), 'files is missing.*"gone away"'),
        (body("x"), "files"),
        (body([]), "lists no files"),
        (body({"enabled": False}), "files.entries"),
        (body({"entries": {}}), "lists no files.entries"),
        (body({"entries": {"a": 3}}), r"files.entries\['a'\]"),
        (body([entry(), "x"]), r"files\[1\]"),
        (body([entry(), entry()]), "'a b.csv' twice"),
        (body([entry(size=None)]), r"files\[0\].size is missing"),
        (body([entry(size=-1)]), r"files\[0\].size"),
        (body([entry(size=True)]), r"files\[0\].size"),
        (body([entry(size=1.5)]), r"files\[0\].size"),
        (body([entry(size=1 << 60)]), r"files\[0\].size"),
        (body([{**OLD, "filesize": "5"}]), r"files\[0\].filesize"),
        (body([entry(checksum="md5:xyz")]), r"files\[0\].checksum"),
        (body([entry(checksum=7)]), r"files\[0\].checksum"),
        (body([entry(links=[])]), r"files\[0\].links"),
        (body([entry(links={"self": "file:///etc/passwd"})]), r"files\[0\].links.self"),
        (body([entry(links={"content": "/relative"})]), r"files\[0\].links.content"),
        (body([entry(links={"self": "http://[::1"})]), r"files\[0\].links.self"),
        (body([entry(links={"self": 5})]), r"files\[0\].links.self"),
    ],
)
def test_what_is_missing_or_cannot_be_is_named(data: bytes, field: str) -> None:
    with pytest.raises(SourceError, match=field):
        read_record(data)


@pytest.mark.parametrize(
    "key",
    ["", " ", ".", "..", "../a", "a/b", "/a", "a\\b", "C:a", "a\nb", "a\0b", "\ud800", "\u202ea", "x" * 201, None, 7],
)
def test_names_that_are_no_plain_file_names_are_refused(key: object) -> None:
    with pytest.raises(SourceError, match=r"files\[0\].key"):
        read_record(body([entry(key=key)]))
    with pytest.raises(SourceError, match=r"files\[0\].filename"):
        read_record(body([{**OLD, "filename": key}]))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from([MD5, LINK, "a"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["key", "size", "checksum", "links", "self", "entries", "id", "files"]), inner
        )
    ),
    max_leaves=12,
)


@given(JSON, JSON)
def test_any_json_is_a_record_or_an_error_with_words(files: object, other: object) -> None:
    for data in (body(files), body([entry(), other]), json.dumps(other).encode()):
        try:
            record = read_record(data)
        except SourceError:
            continue
        assert all(f.key and "/" not in f.key and f.size >= 0 for f in record.files)


def test_addresses() -> None:
    assert record_url("https://zenodo.org/", "18920487") == "https://zenodo.org/api/records/18920487"
    assert content_url("https://zenodo.org", "7", "a b%/?.csv").endswith(
        "/api/records/7/files/a%20b%25%2F%3F.csv/content"
    )
    for bad in ("", "7/8", "..", "7?x", "-7"):
        with pytest.raises(SourceError, match="record id"):
            record_url("https://zenodo.org", bad)


def listed(*names: str) -> ZenodoRecord:
    return ZenodoRecord("7", "", tuple(RecordFile(n, i, None, "http://x/") for i, n in enumerate(names)))


PARTS = [f"audio.tar.gz.part-a{c}" for c in "abcdefghijklmnop"]


def test_the_published_release_lacks_one_part() -> None:
    there = [p for p in PARTS if not p.endswith("ah")]
    release = sort_release(listed(*reversed(there), "README.md", "photos.zip", "bird-mml.csv"))
    assert release.csv.key == "bird-mml.csv"
    (audio,) = release.audio
    assert [f.key for f in audio.files] == there and audio.split and audio.name == "audio.tar.gz"
    assert audio.missing == ("audio.tar.gz.part-ah",)
    assert [(a.name, a.split, a.missing) for a in release.photos] == [("photos.zip", False, ())]


@pytest.mark.parametrize(
    ("parts", "missing"),
    [
        (["aa", "ab"], []),
        (["ab", "ad"], ["aa", "ac"]),
        (["aa", "bb"], [f"a{c}" for c in "bcdefghijklmnopqrstuvwxyz"] + ["ba"]),
    ],
)
@pytest.mark.parametrize("stem", ["audio.tar.gz.part-", "audio.tar.gz.part", "x_part-"])
def test_missing_parts_are_the_gaps_between_the_suffixes(parts: list[str], missing: list[str], stem: str) -> None:
    (audio,) = sort_release(listed("t.CSV", *(stem + p for p in parts))).audio
    assert audio.missing == tuple(stem + m for m in missing)


def test_kinds_go_by_name() -> None:
    names = [
        "a.csv",
        "Audio.ZIP",
        "images.tar",
        "photo.tgz",
        "x_photos.tar.gz.part-aa",
        "x_photos.tar.gz.part-ac",
        "b.zip",
    ]
    release = sort_release(listed(*names))
    assert [a.name for a in release.audio] == ["Audio.ZIP"]
    assert [a.name for a in release.photos] == ["images.tar", "photo.tgz", "x_photos.tar.gz"]
    assert release.photos[2].missing == ("x_photos.tar.gz.part-ab",)
    release = sort_release(listed("a.csv", *PARTS, "bird-mml.zip", "notes.txt"))
    assert [a.name for a in release.photos] == ["bird-mml.zip"]
    release = sort_release(listed("a.csv", "one.zip", "two.zip"))  # Which is which cannot be told.
    assert not release.photos and not release.audio


@pytest.mark.parametrize(
    ("names", "said"),
    [(PARTS, "no table.*part-aa.* and 4 more"), (["b.csv", "a.csv", "x.zip"], r"2 tables \(b.csv, a.csv\)")],
)
def test_no_table_and_two_are_refused_with_what_is_there(names: list[str], said: str) -> None:
    with pytest.raises(SourceError, match=said):
        sort_release(listed(*names))


@pytest.mark.parametrize("dialect", ["new", "old", "rdm"])
def test_a_record_and_its_files_come_from_a_server(tmp_path: Path, dialect: str) -> None:
    files = {"bird-mml.csv": b"a,b\n", "audio.tar.gz.part-aa": bytes(1000), "photos & more.zip": b"PK"}
    with Server(files, dialect=dialect) as server, Ledger(tmp_path / "l.sqlite") as ledger:
        fetcher = Fetcher(ledger, Politeness("x"), Fast())
        server.act("record", Act(503))
        record = fetch_record(fetcher, server.url, server.record_id)
        assert {f.key: (f.size, f.md5) for f in record.files} == {
            k: (len(v), hashlib.md5(v).hexdigest()) for k, v in files.items()
        }
        jobs = [(WantedFile(f.key, f.url, f.size, f.md5), tmp_path / f.key) for f in record.files]
        assert {o.state for o in fetcher.fetch_all(jobs)} == {"done"}
        assert all((tmp_path / k).read_bytes() == v for k, v in files.items())
        with pytest.raises(BuildError, match="404"):
            fetch_record(fetcher, server.url, "12")
        fetcher.close()
