"""The journal, log and table of a run whose outputs go to an object store: kept here, and copied there."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lesionseg.errors import ImageError, OutputError
from lesionseg.inference.journal import is_journal, journal_path
from lesionseg.inference.outputs import check_folders, check_outputs, in_the_way
from lesionseg.inference.photos import Listing, output_stem
from lesionseg.inference.stages import ENDINGS
from lesionseg.inference.store import Store
from lesionseg.inference.table import TABLE, Row
from lesionseg.inference.written import Written, log_outputs, log_path
from lesionseg.io.leftovers import scratch

__all__ = ["check_store", "journal_folder", "record_row", "upload"]


def check_store(there: Store, folder: Path, listed: Listing, endings: Collection[str], overwrite: bool) -> Written:
    """Make sure that nothing of other origin is in the way, and return what lesionseg wrote; see ``check_outputs``."""
    if overwrite:
        return Written.read(folder)
    if there.files is None:
        check_folders(listed, folder)
        return check_outputs(folder, listed, endings, None)
    found = [name for name in there.list_files(missing=True) if name.endswith(tuple(endings))]
    begun = is_journal(journal_path(folder, None))
    try:
        written = check_outputs(folder, listed, endings, None, [] if begun else found)
    except OutputError as error:
        raise in_the_way([problem.replace(str(folder), there.uri, 1) for problem in error.problems]) from error
    return written.with_names(found) if begun else written


def record_row(there: Store, log: Path, row: Row) -> None:
    """Record a photo's outputs in an object store; in a folder, the workers do that before they write."""
    digests = {ending: digest for kind, ending in ENDINGS.items() if (digest := row.get(f"{kind}_sha256"))}
    if there.files is not None and digests:
        log_outputs(log, output_stem(row["file"]), digests)


def upload(there: Store, *paths: Path) -> None:
    """Copy files to an object store; in a folder, they are where they belong."""
    for path in paths:
        if there.files is not None and path.exists():
            there.upload(path)


@contextmanager
def journal_folder(output: Store) -> Iterator[Path]:
    """Where the driver keeps the journal: in the output, or for an object store in a folder for the time of the run."""
    if output.files is None:
        yield Path(output.base)
        return
    with scratch("lesionseg-") as place:
        for name in (TABLE, journal_path(place, None).name, log_path(place).name):
            with suppress(ImageError):
                output.fetch(place / name)
        try:
            yield place
        except BaseException:
            # What was done is not lost: the next run goes on from it.
            upload(output, log_path(place), journal_path(place, None))
            raise
