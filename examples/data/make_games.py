"""Write games of Chinese chess beside this script, in the form of gpt_cchess.

    python make_games.py            # write the files
    python make_games.py --check    # only say whether they are what this script writes

Both sides play at random, but like to capture, the dearer piece the rather. A fixed seed gives the
same bytes on every machine.
"""

import json
import sys

from make_sample import HERE, Random, main

sys.path.append(str(HERE.parent))
from xiangqi import START, Board, squares

WORTH = {"K": 100, "R": 9, "C": 5, "N": 4, "A": 2, "B": 2, "P": 1}
LONGEST = 40  # moves of either side together


def game(rng):
    """The moves of a game, and who won: 2 red, 0 black, -1 nobody yet."""
    board, moves = Board(START), []
    while len(moves) < LONGEST:
        legal = board.moves()
        if not legal:
            return moves, 0 if board.red else 2
        gains = {m: WORTH[p.upper()] for m in legal if (p := board.pieces.get(squares(m)[1]))}
        best = [m for m in gains if gains[m] == max(gains.values())]
        moves.append(rng.choice(best if best and rng.chance(0.8) else legal))
        board.push(moves[-1])
    return moves, -1


def game_files():
    """The text of every file, by name."""
    rng, files = Random(20261123), {}
    for split, size in (("train", 300), ("valid", 20), ("test", 20)):
        lines = []
        for _ in range(size):
            moves, result = game(rng)
            row = {"iccs": "".join(moves), "fen": "", "items": {"棋局结果": str(result)}}
            lines.append(json.dumps(row, ensure_ascii=False))
        files[f"games/{split}.json"] = "\n".join(lines) + "\n"
    return files


if __name__ == "__main__":
    main(game_files)
