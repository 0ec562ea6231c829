"""The rules of Chinese chess: positions, legal moves, notation.

Squares are `(file, rank)`: files 0 to 8 from red's left, ranks 0 to 9 from red's side. Moves are
written as in ICCS: `h2e2` goes from file h, rank 2 to file e, rank 2. Pieces are letters as in FEN,
capitals for red: King, Advisor, Bishop (elephant), kNight (horse), Rook, Cannon, Pawn.

Who has no legal move has lost. Rules on repetition (perpetual check and chase) are left out.
"""

START = "rnbakabnr/9/1c5c1/p1p1p1p1p/9/9/P1P1P1P1P/1C5C1/9/RNBAKABNR w"
NAMES = dict(zip("KABNRCPkabnrcp", "帅仕相马车炮兵将士象马车炮卒", strict=True))
STRAIGHT = ((1, 0), (-1, 0), (0, 1), (0, -1))
DIAGONAL = ((1, 1), (1, -1), (-1, 1), (-1, -1))
# a horse goes one step straight, its leg, then one aslant
HORSE = tuple(
    (leg, (2 * leg[0] + side * leg[1], 2 * leg[1] + side * leg[0]))
    for leg in STRAIGHT
    for side in (1, -1)
)


class Board:
    """A position, and who is to move.

    Args:
        fen: the position, ranks from the top; `w` (or `r`) if red is to move, `b` if black is.

    Raises:
        ValueError: not a position with both kings.
    """

    def __init__(self, fen=START):
        ranks, self.red, self.pieces = fen.split()[0].split("/"), " b" not in fen, {}
        for rank, row in enumerate(reversed(ranks)):
            file = 0
            for sign in row:
                if sign.isdigit():
                    file += int(sign)
                else:
                    self.pieces[file, rank] = sign
                    file += 1
            if file != 9 or len(ranks) != 10:
                raise ValueError(f"{fen!r}: expected ten ranks of nine squares.")
        if not set("Kk") <= set(self.pieces.values()) <= set(NAMES):
            raise ValueError(f"{fen!r}: expected pieces {''.join(NAMES)}, both kings among them.")

    def moves(self):
        """The legal moves, sorted."""
        legal = []
        for origin in list(self.pieces):
            if self.pieces[origin].isupper() == self.red:
                for target in list(self.targets(origin)):
                    captured = self.shift(origin, target)
                    if not self.in_check():
                        legal.append(written(origin, target))
                    self.shift(target, origin)
                    if captured:
                        self.pieces[target] = captured
        return sorted(legal)

    def push(self, move):
        """Makes a move; gives the piece that was captured, or None."""
        captured = self.shift(*squares(move))
        self.red = not self.red
        return captured

    def shift(self, origin, target):
        captured = self.pieces.get(target)
        self.pieces[target] = self.pieces.pop(origin)
        return captured

    def targets(self, origin):
        """Where a piece may go, its king's safety aside."""
        piece = self.pieces[origin]
        kind, red, (file, rank) = piece.upper(), piece.isupper(), origin
        forward = 1 if red else -1
        crossed = rank > 4 if red else rank < 5
        if kind in "RC":
            for step in STRAIGHT:
                yield from self.along(origin, step, kind == "C")
            return
        if kind == "N":
            steps = [step for leg, step in HORSE if added(origin, leg) not in self.pieces]
        elif kind == "B":
            steps = [
                (2 * x, 2 * y) for x, y in DIAGONAL if added(origin, (x, y)) not in self.pieces
            ]
        elif kind == "P":
            steps = [(0, forward), (1, 0), (-1, 0)] if crossed else [(0, forward)]
        else:
            steps = DIAGONAL if kind == "A" else STRAIGHT
        for step in steps:
            file, rank = target = added(origin, step)
            home = rank if red else 9 - rank
            limit = {"K": 2, "A": 2, "B": 4}.get(kind, 9)
            palace = kind not in "KA" or 3 <= file <= 5
            if 0 <= file <= 8 and 0 <= home <= limit and palace and not self.is_own(target, red):
                yield target

    def along(self, origin, step, is_cannon):
        """Where a rook, or a cannon, may go in one direction."""
        red, square = self.pieces[origin].isupper(), added(origin, step)
        while on_board(square) and square not in self.pieces:
            yield square
            square = added(square, step)
        if is_cannon:  # captures after jumping over one piece
            square = added(square, step)
            while on_board(square) and square not in self.pieces:
                square = added(square, step)
        if on_board(square) and not self.is_own(square, red):
            yield square

    def is_own(self, square, red):
        return square in self.pieces and self.pieces[square].isupper() == red

    def in_check(self):
        """Whether the king of who is to move is attacked, or faces the other king."""
        letter, case = ("K", str.lower) if self.red else ("k", str.upper)
        king = next(square for square, piece in self.pieces.items() if piece == letter)
        rook, cannon, horse, pawn, other = map(case, "rcnpk")
        for step in STRAIGHT:
            seen, square = [], added(king, step)
            while on_board(square) and len(seen) < 2:
                if square in self.pieces:
                    seen.append(self.pieces[square])
                square = added(square, step)
            if seen[:1] == [rook] or seen[1:] == [cannon] or (step[0] == 0 and seen[:1] == [other]):
                return True
        forward = 1 if self.red else -1
        if any(
            self.pieces.get(added(king, step)) == pawn for step in ((0, forward), (1, 0), (-1, 0))
        ):
            return True
        return any(
            self.pieces.get(origin) == horse and added(origin, leg) not in self.pieces
            for leg, step in HORSE
            for origin in [(king[0] - step[0], king[1] - step[1])]
        )

    def in_words(self, move):
        """A move as players write it: 炮二平五."""
        origin, target = squares(move)
        piece, forward = self.pieces[origin], 1 if self.red else -1
        digits = "九八七六五四三二一" if self.red else "１２３４５６７８９"
        steps = "一二三四五六七八九" if self.red else "１２３４５６７８９"
        others = [rank for (file, rank), other in self.pieces.items()
                  if other == piece and file == origin[0] and rank != origin[1]]  # fmt: skip
        if others:
            ahead = (origin[1] - others[0]) * forward > 0
            name = ("前" if ahead else "后") + NAMES[piece]
        else:
            name = NAMES[piece] + digits[origin[0]]
        climb = (target[1] - origin[1]) * forward
        if not climb:
            return f"{name}平{digits[target[0]]}"
        aside = target[0] != origin[0]
        return (
            name
            + ("进" if climb > 0 else "退")
            + (digits[target[0]] if aside else steps[abs(climb) - 1])
        )

    def __str__(self):
        rows = []
        for rank in range(9, -1, -1):
            row = "".join(NAMES.get(self.pieces.get((file, rank)), "＋") for file in range(9))
            rows.append(f"{rank} {row}")
            if rank == 5:
                rows.append("  ～～～～～～～～～")
        return "\n".join([*rows, "  ａｂｃｄｅｆｇｈｉ"])


def added(square, step):
    return square[0] + step[0], square[1] + step[1]


def on_board(square):
    return 0 <= square[0] <= 8 and 0 <= square[1] <= 9


def squares(move):
    """A written move as two squares."""
    file, rank, to_file, to_rank = move
    return ("abcdefghi".index(file), int(rank)), ("abcdefghi".index(to_file), int(to_rank))


def written(origin, target):
    """Two squares as a written move."""
    return "".join(f"{'abcdefghi'[file]}{rank}" for file, rank in (origin, target))
