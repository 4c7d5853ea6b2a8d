"""Which evaluation sets a run scores, and where they lie: in the dataset, or prepared below a folder."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from types import ModuleType

from birdmml import discover, passes
from birdmml.array_data import ArrayData
from birdmml.array_subject import ArraySubject
from birdmml.errors import EvalsetError, UnknownName, UsageError
from birdmml.load import Built
from birdmml.materials import Films, OwnRows, Provider
from birdmml.passes import Pass
from birdmml.prepared_set import PreparedSet
from birdmml.protocols.model import DATASET

KIND = "evaluation set"
DEFAULT = Path("evalsets")
ARRAYS = "arrays"


def default_folder() -> Path | None:
    """./evalsets where that is a folder."""
    return DEFAULT if DEFAULT.is_dir() else None


def canonical(name: str) -> str:
    """ "SSW-60" -> "ssw60", "VE100" -> "vb100", and "dataset" for the rows trained on; raises UnknownName."""
    key = name.strip().casefold().replace("-", "_")
    key = discover.ALIASES[KIND].get(key, key)
    if key == DATASET:
        return DATASET
    names = (*discover.names(KIND), DATASET)
    for candidate in (key, key.replace("_", "")):
        if candidate in names:
            return candidate
    raise UnknownName(KIND, name, (*names, *discover.ALIASES[KIND]), hint="see `birdmml list`")


def providers(
    built: Built | ArrayData, folder: Path | None, chosen: Sequence[Pass], only: Sequence[str] = ()
) -> tuple[Provider, ...]:
    """The dataset itself and every evaluation set that a pass wants something of; `only` names the sets to take.

    A set is named by `only` or by a pass: then it must be there. Else the dataset's own ones and those prepared below
    `folder` are taken as they are found. Raises EvalsetError with the next step, UnknownName.
    """
    subjects = tuple(dict.fromkeys(map(canonical, only)))
    must = {*subjects, *(one.evalset for one in chosen if one.evalset)}
    if isinstance(built, ArrayData):
        return _of_arrays(built, chosen, must)
    # A pass over everything takes what is there; passes that name their sets take those and no other.
    free = any(not one.evalset for one in chosen)
    names = subjects or tuple(n for n in (DATASET, *discover.names(KIND)) if free or n in must)
    present: list[Provider] = []
    absent: list[str] = []
    for name in names:
        if name == DATASET:
            present.append(OwnRows(built))
        elif (built.root / "evalsets" / name).is_dir():
            present.append(Films(built, name))
        elif folder is not None and (folder / name).is_dir():
            present += _prepared(folder / name, name, name in must)
        elif name in must:
            absent.append(_absent(name, folder))
    if absent:
        raise EvalsetError("; ".join(absent))
    return passes.wanted(chosen, present)


def _of_arrays(data: ArrayData, chosen: Sequence[Pass], must: Collection[str]) -> tuple[Provider, ...]:
    """The set itself: a model of its shapes can embed no other."""
    if other := sorted(set(must) - {data.name}):
        raise EvalsetError(
            f"a model of {data.name}'s arrays cannot embed {other[0]}: name {data.name}, or leave it out"
        )
    own = passes.wanted(chosen, [ArraySubject(data)])
    if not own:
        suites = ", ".join(one.suite for one in chosen)
        raise UsageError(f"{suites} has nothing to say of {data.name}: see `birdmml list` for other suites")
    return own


def how_to_get(name: str, folder: Path | None) -> str:
    """What to download and the command that prepares it; one line."""
    module = discover.load(KIND, name)
    place = (folder or DEFAULT) / name
    download = getattr(module, "DOWNLOAD", None)
    file = getattr(download, "argument", "PATH")
    shown = place if place.is_absolute() or str(place).startswith(".") else f"./{place}"
    source = download.words() if download is not None else f"get it from {_origin(module)}"
    return f"{source}, then run `birdmml prepare {name} --from {file} --out {shown}`"


def _absent(name: str, folder: Path | None) -> str:
    where = f"not in {folder or f'./{DEFAULT}'}"
    if not hasattr(discover.load(KIND, name), "KIND"):
        return f"evaluation set {name} is {where} and not in the dataset: it comes with data of its own"
    return f"evaluation set {name} is {where}: {how_to_get(name, folder)}"


def _origin(module: ModuleType) -> str:
    card = module.CARD
    return f"{card.url or 'its authors'} ({card.license})"


def _prepared(root: Path, name: str, must: bool) -> list[Provider]:
    """What can be scored of a prepared set: its videos, or where it has none its images."""
    collections = PreparedSet.of(root, name)
    if not collections and must:
        raise EvalsetError(f"{root} holds no videos and no images: a trained model cannot embed its {ARRAYS}")
    return list(collections)
