"""Drives: which pictures were taken in one go, by folder, video and pauses."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from blocknerf.prepare.shots import CapturedImage


@dataclass(slots=True)
class _Piece:
    """Pictures of one folder without a pause between them."""

    folder: str
    rows: list[int]
    begin_s: float
    end_s: float


def drives_of(shots: Sequence[CapturedImage], pause_s: float) -> list[str]:
    """The drive of each picture, by name.

    A folder or video with a pause of more than `pause_s` is several drives. Folders taken at the same time are cameras
    of one drive: the times of two pieces overlap by more than half of the shorter one. Pictures without a time belong
    to their folder's drive.
    """
    pieces, names = _pieces(shots, pause_s), [shot.folder or "0" for shot in shots]
    groups = _joined(pieces)
    several = {piece.folder for piece in pieces if sum(other.folder == piece.folder for other in pieces) > 1}
    for group in groups:
        folders = sorted({piece.folder for piece in group})
        name = "+".join(folder or "0" for folder in folders)
        if several & set(folders):
            begin = datetime.fromtimestamp(min(piece.begin_s for piece in group), UTC)
            moment = f"{begin:%Y-%m-%d_%H%M%S}"
            name = moment if folders == [""] else f"{name}_{moment}"
        for row in (row for piece in group for row in piece.rows):
            names[row] = name
    return names


def _pieces(shots: Sequence[CapturedImage], pause_s: float) -> list[_Piece]:
    """Every folder cut at its pauses; without pictures of unknown time."""
    pieces: list[_Piece] = []
    timed = [row for row, shot in enumerate(shots) if shot.time_s is not None]
    for row in sorted(timed, key=lambda row: (shots[row].folder, shots[row].time_s or 0.0)):
        folder, time_s = shots[row].folder, shots[row].time_s or 0.0
        last = pieces[-1] if pieces else None
        if last is not None and last.folder == folder and time_s - last.end_s <= pause_s:
            last.rows.append(row)
            last.end_s = time_s
        else:
            pieces.append(_Piece(folder, [row], time_s, time_s))
    return pieces


def _joined(pieces: Sequence[_Piece]) -> list[list[_Piece]]:
    groups: list[list[_Piece]] = []
    for piece in sorted(pieces, key=lambda piece: (piece.begin_s, piece.folder)):
        home = next((group for group in groups if any(_together(piece, other) for other in group)), None)
        if home is None:
            groups.append([piece])
        else:
            home.append(piece)
    return groups


def _together(one: _Piece, other: _Piece) -> bool:
    if one.folder == other.folder:
        return False
    overlap = min(one.end_s, other.end_s) - max(one.begin_s, other.begin_s)
    shorter = min(one.end_s - one.begin_s, other.end_s - other.begin_s)
    return overlap > 0.5 * shorter
