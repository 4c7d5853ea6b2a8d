"""What a reading of the release knows and must not forget: the table's rows, and what came of each member.

One SQLite file in the build's work folder. It is committed before anybody is told that something is safe.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict

from birdmml.core.sqlite import WorkFile
from birdmml.fetch.salvage.account import Place
from birdmml.schema import Caption, Credit, Photo, Recording, Reject
from birdmml.sources.release.table import ReleaseRow

_TABLES = (
    WorkFile.FACTS,
    """CREATE TABLE IF NOT EXISTS rows (number INTEGER PRIMARY KEY, line INTEGER, species TEXT, photo TEXT, audio TEXT,
    taken INTEGER, doc TEXT)""",
    # Each member asks which rows name it: to read the whole table for each would take hours.
    "CREATE INDEX IF NOT EXISTS rows_photo ON rows (photo)",
    "CREATE INDEX IF NOT EXISTS rows_audio ON rows (audio)",
    "CREATE TABLE IF NOT EXISTS refused (path TEXT, reason TEXT, detail TEXT)",
    """CREATE TABLE IF NOT EXISTS members (kind TEXT, key TEXT, name TEXT, state TEXT, reason TEXT, archive TEXT,
    part INTEGER, byte INTEGER, PRIMARY KEY (kind, key)) WITHOUT ROWID""",
)
HAD = ("complete", "recovered")


class ReleaseIndex(WorkFile):
    """The file at `path`, created where there is none."""

    tables = _TABLES

    def load(self, rows: Iterable[ReleaseRow | Reject], limit: int | None) -> None:
        """Take the table in: all rows, of which at most `limit` a species are wanted."""
        self._db.execute("DELETE FROM rows")
        self._db.execute("DELETE FROM refused")
        taken, warnings = Counter[str](), Counter[str]()
        for row in rows:
            if isinstance(row, Reject):
                self._db.execute("INSERT INTO refused VALUES (?, ?, ?)", (row.path, row.reason, row.detail))
                continue
            taken[row.species] += 1
            warnings.update(row.warnings)
            wanted = int(limit is None or taken[row.species] <= limit)
            values = (row.number, row.line, row.species, row.photo_key, row.audio_key, wanted, _doc(row))
            self._db.execute("INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?, ?)", values)
        self.note("table", {"rows": taken.total(), "species": len(taken)})
        self.note("disagreements", dict(sorted(warnings.items())))

    def refused(self) -> Iterator[Reject]:
        """Rows of the table that are none."""
        for path, reason, detail in self._db.execute("SELECT path, reason, detail FROM refused ORDER BY rowid"):
            yield Reject(path, reason, detail)

    def total(self) -> int:
        """How many photos and clips the wanted rows name."""
        query = "SELECT count(*) + count(DISTINCT audio) FROM rows WHERE taken"
        return int(self.fetch_one(query)[0])

    def listed(self, kind: str, key: str) -> bool:
        """Whether any row, wanted or not, names this member."""
        query = f"SELECT 1 FROM rows WHERE {kind} = ? LIMIT 1"  # noqa: S608  # "photo" or "audio"
        return self.fetch_one(query, (key,)) is not None

    def photos(self, key: str, path: str) -> list[Photo]:
        """A photo for each wanted row that shows this member, which lies at `path`."""
        query = "SELECT number, species, audio, doc FROM rows WHERE photo = ? AND taken ORDER BY number"
        photos: list[Photo] = []
        for number, species, audio, text in self.fetch_all(query, (key,)):
            doc = json.loads(text)
            photo = Photo(
                id=f"{key}#row{number}" if photos else key,
                species=species,
                locator=path,
                observation=doc["observation"],
                credit=Credit(**doc["image_credit"]),
                caption=Caption(doc["caption"], "provided", Credit(**doc["caption_credit"])),
                partner=self._recording_id(audio, species),
                row=number,
                split=doc["split"],
                metadata=doc["metadata"],
            )
            photos.append(photo)
        return photos

    def recordings(self, key: str, path: str) -> list[Recording]:
        """A recording for each species under which wanted rows name this member: one, unless the table errs."""
        # SQLite takes the other columns from the row with the minimum.
        query = "SELECT species, doc, min(number) FROM rows WHERE audio = ? AND taken GROUP BY species"
        docs = {s: json.loads(doc) for s, doc, _ in self.fetch_all(query, (key,))}
        order = sorted(docs, key=lambda s: (self._recording_id(key, s) != key, s))
        return [
            Recording(
                id=self._recording_id(key, species),
                species=species,
                locator=path,
                recording=docs[species]["recording"],
                credit=Credit(**docs[species]["audio_credit"]),
            )
            for species in order
        ]

    def member(self, kind: str, key: str) -> tuple[str, str, str]:
        """(name, state, reason) of a member that was met before; all "" of one that was not."""
        query = "SELECT name, state, reason FROM members WHERE kind = ? AND key = ?"
        return self.fetch_one(query, (kind, key)) or ("", "", "")

    def met(
        self,
        kind: str,
        key: str,
        name: str,
        state: str,
        reason: str = "",
        archive: str = "",
        behind: Place | None = None,
    ) -> None:
        """Note what became of a member of an archive, and the last hole before it, if any."""
        values = (kind, key, name, state, reason, archive, *(behind or (None, None)))
        self.run("INSERT OR REPLACE INTO members VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)

    def behind(self, kind: str, archive: str, hole: Place) -> Iterator[str]:
        """Names of the members of an archive that are here and lie behind the hole that begins there."""
        query = (
            "SELECT name FROM members WHERE kind = ? AND archive = ? AND state IN ('complete', 'recovered') "
            "AND (part, byte) >= (?, ?) ORDER BY key"
        )
        yield from (name for (name,) in self._db.execute(query, (kind, archive, *hole)))

    def missing(self) -> Iterator[tuple[int, str, str, str, str, str]]:
        """(line, species, kind, path, state, reason) of the halves that wanted rows lack, in the table's order.

        `state` is what is known of the member ("": nothing).
        """
        query = (
            "SELECT line, species, kind, path, coalesce(state, ''), coalesce(reason, '') FROM ("
            "SELECT line, species, 'photo' AS kind, photo AS key, json_extract(doc, '$.photo') AS path FROM rows "
            "WHERE taken UNION ALL "
            "SELECT line, species, 'audio', audio, json_extract(doc, '$.audio') FROM rows WHERE taken) "
            "LEFT JOIN members USING (kind, key) "
            "WHERE state IS NULL OR state NOT IN ('complete', 'recovered') ORDER BY line, kind"
        )
        yield from self._db.execute(query)

    def ambiguous(self, kind: str) -> Iterator[list[str]]:
        """The names of members that are one but for spelling, in the order of their keys."""
        query = "SELECT reason FROM members WHERE kind = ? AND state = 'ambiguous' ORDER BY key"
        yield from (json.loads(names) for (names,) in self._db.execute(query, (kind,)))

    def counts(self, kind: str) -> dict[str, int]:
        """Members by state."""
        query = "SELECT state, count(*) FROM members WHERE kind = ? GROUP BY state ORDER BY state"
        return dict(self.fetch_all(query, (kind,)))

    def _recording_id(self, key: str, species: str) -> str:
        """The member's key; with the species where an earlier row has the member under another one."""
        query = "SELECT species FROM rows WHERE audio = ? AND taken ORDER BY number LIMIT 1"
        first = self.fetch_one(query, (key,))
        return key if first is None or first[0] == species else f"{key}#{species}"


def _doc(row: ReleaseRow) -> str:
    extra = dict(row.extra)
    split = extra.pop("split", "").strip().casefold()
    return json.dumps(
        {
            "photo": row.photo,
            "audio": row.audio,
            "caption": row.caption,
            "observation": row.observation,
            "recording": row.recording,
            "image_credit": asdict(row.image_credit),
            "audio_credit": asdict(row.audio_credit),
            "caption_credit": asdict(row.caption_credit),
            "split": {"val": "validation", "valid": "validation", "dev": "validation"}.get(split, split),
            "metadata": json.dumps(extra, ensure_ascii=False, sort_keys=True) if extra else "",
        },
        ensure_ascii=False,
    )
