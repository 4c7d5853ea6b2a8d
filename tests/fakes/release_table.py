"""The table of the release's miniature: rows as planned, spelled in all the ways that are seen in the wild."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass, replace

from fakes.release_media import captions
from fakes.release_plan import PREFIX, REJECTS, Bird, Knobs, Line, Plan

# Written out, not taken from the reader: this is what the release has.
COLUMNS = ("scientific_name", "photo_file", "audio_file", "combined_caption", "blip_caption", "source_index")
PHOTO_LICENSES = ("by-nc", "cc0", "by", "by-nc-sa", "by-sa")
SOUND_LICENSES = ("by-nc-sa/4.0", "by-sa/4.0", "by-nc-nd/2.5")
PEOPLE = ("Ann Lee", "José Ruiz", "Bo Öst", "M. Abe", "", "Zoë")


@dataclass(frozen=True)
class FakeRow:
    """A row as it was planned: `photo` and `audio` are the paths it writes, without prefix and with slashes.

    `photo_member` and `audio_member` are the regular files in the archives, "" where there is none. `species` is
    the taxonomy's name, `scientific_name` what the row says. `defect` is the knob that spoiled the row, `copy_of`
    the row whose photo (or all) it repeats, `reject` the reason for which the table's reader refuses it. `named` is
    the name that the caption tells: common, scientific or "". `attribution` is the row's, empty on a third of them.
    """

    number: int
    line: int
    species: str
    scientific_name: str
    photo: str
    audio: str
    photo_member: str
    audio_member: str
    caption: str
    blip_caption: str
    named: str
    observation: str
    recording: str
    photo_id: str
    taxon_id: int
    xc_id: str
    clip: int
    attribution: dict[str, str]
    defect: str = ""
    copy_of: int | None = None
    reject: str = ""


def rows_of(made: Plan, seed: int) -> list[FakeRow]:
    """The rows of a plan in file order; their lines are set by `as_csv`."""
    numbers = {id(line): number for number, line in enumerate(made.lines)}
    rows: list[FakeRow] = []
    for number, line in enumerate(made.lines):
        of = None if line.copy_of is None else numbers[id(line.copy_of)]
        row = _row(made.birds[line.shot.bird], line, number, seed, of)
        if line.defect == "listed_twice" and of is not None:
            row = replace(row, blip_caption=rows[of].blip_caption, caption=rows[of].caption, named=rows[of].named)
        rows.append(row)
    return rows


def as_csv(rows: Iterable[FakeRow], knobs: Knobs) -> tuple[str, list[FakeRow]]:
    """The table's text, and the rows with the lines on which they begin."""
    out, counted = io.StringIO(), _Lines()
    names = [*COLUMNS, *_attribution(0, 0)]
    names += [knobs.observation_column] if knobs.observation_column else []
    writer = csv.DictWriter(out, names, restval="", lineterminator="\n")
    writer.writeheader()
    placed = []
    for row in rows:
        placed.append(replace(row, line=counted.after(out)))
        cells = {
            "scientific_name": row.scientific_name,
            "photo_file": _wrapped(row.photo, row),
            "audio_file": _wrapped(row.audio, row),
            "combined_caption": row.caption,
            "blip_caption": row.blip_caption,
            "source_index": str(7 * row.number),
            **row.attribution,
        }
        if knobs.observation_column:
            cells[knobs.observation_column] = row.observation
        writer.writerow(cells)
    return out.getvalue(), placed


class _Lines:
    """Counts lines as a text grows."""

    def __init__(self) -> None:
        self._seen, self._lines = 0, 0

    def after(self, out: io.StringIO) -> int:
        """The number of the line that comes next."""
        out.seek(self._seen)
        self._lines += out.read().count("\n")
        self._seen = out.tell()
        return self._lines + 1


def _row(bird: Bird, line: Line, number: int, seed: int, of: int | None) -> FakeRow:
    blip, text = captions(line, bird, number, seed)
    photo, audio = _spelled(line, number)
    unknown = line.defect == "unknown_species"
    return FakeRow(
        number=number,
        line=0,
        species=bird.species.scientific_name,
        scientific_name=f"Avis ficta {number}" if unknown else bird.name,
        photo=photo,
        audio=audio,
        photo_member=PREFIX + line.shot.path,
        audio_member=PREFIX + line.sound.path,
        caption="" if line.defect == "empty_captions" else text,
        blip_caption=blip,
        named="" if line.defect == "empty_captions" else line.named,
        observation=str(line.observation),
        recording=f"XC{line.sound.xc}",
        photo_id=str(line.shot.id),
        taxon_id=line.shot.taxon,
        xc_id=str(line.sound.xc),
        clip=line.sound.clip,
        attribution=_attribution(line.observation, line.sound.xc) if number % 3 != 2 else {},
        defect=line.defect,
        copy_of=of,
        reject=REJECTS.get(line.defect, ""),
    )


def _spelled(line: Line, number: int) -> tuple[str, str]:
    """The two paths: some with a whole taxon id, some with a suffix in another case than the file's."""
    photo = line.shot.path
    if number % 29 == 11:
        photo = photo.replace(".0/", "/")
    if number % 17 == 13:
        stem, dot, suffix = photo.rpartition(".")
        photo = stem + dot + suffix.swapcase()
    if line.defect == "outside_paths":
        outside = ("/srv/bird-mml/", f"{PREFIX}../../", "C:\\bird-mml\\")[number % 3]
        photo = outside + photo
    return photo, line.sound.path


def _wrapped(path: str, row: FakeRow) -> str:
    """What stands before a path: mostly the prefix."""
    if row.reject == "path_outside" and path == row.photo:
        return path
    if row.defect == "listed_twice" or row.number % 10 == 3:
        return path
    if row.number % 37 == 5:
        return f"./{PREFIX}{path}"
    return (PREFIX + path).replace("/", "\\") if row.number % 41 == 7 else PREFIX + path


def _attribution(observation: int, recording: int) -> dict[str, str]:
    """Who made a row's parts, as the release's authors write it."""
    who = observation % 41
    return {
        "inat_observer_login": f"observer{who}",
        "inat_observer_name": PEOPLE[who % len(PEOPLE)],
        "license_image": PHOTO_LICENSES[observation % len(PHOTO_LICENSES)],
        "audio_recorder": PEOPLE[recording % 3],
        "license_audio_xc": f"//creativecommons.org/licenses/{SOUND_LICENSES[recording % 3]}/",
        "audio_id": str(recording),
        "audio_url": f"//xeno-canto.org/{recording}",
        "wikipedia_article_url": "https://en.wikipedia.org/wiki/Bird",
        "wikipedia_history_url": "https://en.wikipedia.org/w/index.php?title=Bird&action=history",
        "wikipedia_license_text": "Creative Commons Attribution-ShareAlike 4.0",
        "wikipedia_license_url": "https://creativecommons.org/licenses/by-sa/4.0/",
    }
