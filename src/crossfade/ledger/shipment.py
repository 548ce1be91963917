"""`Shipment`: one journal on its way to the database, read piece by piece, and what a process that ended has lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from crossfade.ledger.events import Exposure, Outcome
from crossfade.ledger.feed import tally_path
from crossfade.ledger.gaps import EVERY, Gap
from crossfade.ledger.mending import mended
from crossfade.ledger.records import Began, Ended, Exposures, Outcomes, decode_record, salvage
from crossfade.ledger.store import Place, sound
from crossfade.ledger.tally import Counted, read_tally, this_boot
from crossfade.storage.filesystem import FileSystem
from crossfade.storage.frames import Damage, Frame, marker_of, read_frames
from crossfade.storage.segments import segment_name

CARGO_EVENTS = 5_000
"""In one transaction: others write in between, and a batch of outcomes more or less makes no difference."""
_JOURNAL_LOST = Gap(EVERY, "damage", None)


@dataclass
class Cargo:
    """What goes to the database in one transaction.

    Attributes:
        start: Where it begins.
        place: Where the next one begins.
        exposures, outcomes: In the order of the journal; ids may occur twice.
        gaps: What is found to be missing.
        damaged_bytes: That are no records.
    """

    start: Place
    place: Place
    exposures: list[Exposure] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    gaps: set[Gap] = field(default_factory=set)
    damaged_bytes: int = 0

    @property
    def moves(self) -> bool:
        """Whether there is anything behind `start`."""
        return self.place != self.start


class Shipment:
    """Reads a journal from where the database has it.

    Args:
        filesystem: Of the folder.
        folder: Where it is.
        journal: Its id.

    Attributes:
        place: How far it is in the database.
        known: Whether `place` is what the database says.
        ended: Whether its last record has been read.
    """

    def __init__(self, filesystem: FileSystem, folder: Path, journal: str) -> None:
        self.journal = journal
        self.place = Place()
        self.known = False
        self.ended = False
        self._filesystem = filesystem
        self._folder = folder

    @property
    def began_us(self) -> int:
        """When the journal began: its id tells."""
        return int(self.journal.replace("-", "")[:12], 16) * 1000

    def gather(self, segments: Mapping[int, int]) -> Cargo:
        """Return the next events.

        Args:
            segments: Number -> bytes that may be read, of those that are there.

        Raises:
            OSError: A file cannot be read.
        """
        cargo = Cargo(self.place, self.place)
        for segment in sorted(segments):
            if segment < self.place.segment:
                continue
            first = self.place.position if segment == self.place.segment else 0
            for part in self._parts(segment, first, segments[segment]):
                cargo.place = replace(cargo.place, segment=segment, position=part.end)
                if isinstance(part, Damage):
                    cargo.damaged_bytes += part.end - part.start
                    continue
                self._load(cargo, part)
                if len(cargo.exposures) + len(cargo.outcomes) >= CARGO_EVENTS:
                    return cargo
        return cargo

    def losses(self, segments: Mapping[int, int]) -> list[Gap]:
        """Return what is missing of a journal whose process is gone, after all of it has been read.

        A process that came to an orderly end wrote everything. One that was killed lost what it had taken and not
        written, which its tally tells. After a crash of the machine nobody knows how much.
        """
        tally = read_tally(tally_path(self._folder, self.journal))
        gaps = [Gap(name, "dropped", count) for name, count in (tally or Counted()).dropped.items()]
        if self.ended:
            return gaps
        written = self._count_written(segments)
        if tally is None:  # without segments, too, nothing had begun
            return gaps + [Gap(name, "crash", None) for name in ({*written} or {EVERY} if segments else ())]
        if not tally.boot or tally.boot != this_boot():
            return gaps + [Gap(name, "crash", None) for name in {*written, *tally.offered}]
        if tally.synced > self.place.frames:
            gaps.append(_JOURNAL_LOST)
        # experiments that had no place of their own in the tally were counted together
        written[EVERY] += sum(count for name, count in written.items() if name not in tally.offered)
        for name, offered in tally.offered.items():
            lost = offered - tally.dropped.get(name, 0) - written[name]
            if lost > 0:
                gaps.append(Gap(name, "crash", lost))
        return gaps

    def _load(self, cargo: Cargo, frame: Frame) -> None:
        if frame.number > cargo.place.frames + 1:
            cargo.gaps.add(_JOURNAL_LOST)
        cargo.place = replace(cargo.place, frames=max(cargo.place.frames, frame.number))
        try:
            record = decode_record(frame.payload)
        except msgspec.DecodeError:
            exposures, outcomes, unread = salvage(frame.payload)
            if unread:
                cargo.gaps.add(Gap(EVERY, "unusable", None))
        else:
            exposures = record.events if isinstance(record, Exposures) else []
            outcomes = record.events if isinstance(record, Outcomes) else []
            self.ended = isinstance(record, Ended)
        for exposure in exposures:
            kept = mended(exposure)
            if kept is not None:
                cargo.exposures.append(kept)
            else:
                name = exposure.experiment
                cargo.gaps.add(Gap(name if len(name) <= 64 and name.isprintable() else EVERY, "unusable", None))
        usable = [outcome for outcome in outcomes if sound(outcome)]
        cargo.outcomes += usable
        if len(usable) < len(outcomes):
            cargo.gaps.add(Gap(EVERY, "unusable", None))

    def _parts(self, segment: int, start: int, end: int) -> Iterator[Frame | Damage]:
        name = segment_name(self.journal, segment)
        try:
            stream = self._filesystem.open_read(self._folder / name)
        except FileNotFoundError:  # somebody deleted it: the numbers of the frames will tell
            yield Damage(start, end)
            return
        with stream:
            yield from read_frames(stream, marker_of(name), start, end)

    def _count_written(self, segments: Mapping[int, int]) -> Counter[str]:
        """Count the exposures that were written, by experiment: each segment begins with the sum of those before."""
        written: Counter[str] = Counter()
        if not segments:
            return written
        last = max(segments)
        for part in self._parts(last, 0, segments[last]):
            if isinstance(part, Damage):
                continue
            try:
                record = decode_record(part.payload)
            except msgspec.DecodeError:
                continue
            if isinstance(record, Began):
                written.update(record.written)
            elif isinstance(record, Exposures):
                written.update(each.experiment for each in record.events)
        return written
