"""Plays Chinese chess: a language model of games, whose moves are constrained by the rules.

    python examples/task_language_model_chinese_chess.py [--checkpoint DIR] [--data PATH]
        [--play red]

A game is a text, `h2e2h9g7...`, four tokens a move: the vocabulary is 19 signs. The model sees no
board. The scores, on games that it was not trained on: the fraction of its moves that are legal
without any constraint, and the fraction that were played. When it plays, it can only generate legal
moves (`Trie`).

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub.
--data: JSON lines with `iccs`, the moves, and `fen`, empty where a game starts as usual
    (gpt_cchess): a file, or a directory with train and valid (and test) files.
--play: red or black: you play against it, moves written as h2e2. Without it, it plays red against
    one who moves at random.

Reference: https://kexue.fm/archives/7877
"""

import argparse
import random
import re

import keras
import numpy as np
from sample import DATA, OUTPUT
from xiangqi import Board, squares

from bert4keras_lite import build_transformer_model, load_tokenizer
from bert4keras_lite.data import (
    Batches,
    next_token_labels,
    read_json_lines,
    read_splits,
    sequence_padding,
)
from bert4keras_lite.generation import Trie, generate, generate_all
from bert4keras_lite.losses import sequence_crossentropy
from bert4keras_lite.optimizers import AdamW, linear_decay
from bert4keras_lite.training import BestEpoch

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("--checkpoint", default="tiny-zh")
parser.add_argument("--data", default=DATA / "games")
parser.add_argument("--maxlen", type=int, help="512, or 128 for tiny-zh")
parser.add_argument("--batch-size", type=int, default=16)
parser.add_argument("--epochs", type=int, help="5, or 20 for tiny-zh")
parser.add_argument("--learning-rate", type=float, help="2e-5, or 2e-3 for tiny-zh")
parser.add_argument("--scored", type=int, default=200)
parser.add_argument("--plies", type=int, default=30)
parser.add_argument("--play", default="")
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()
is_small = args.checkpoint == "tiny-zh"
args.maxlen = args.maxlen or (128 if is_small else 512)
args.epochs = args.epochs or (20 if is_small else 5)
args.learning_rate = args.learning_rate or (2e-3 if is_small else 2e-5)
keras.utils.set_random_seed(args.seed)
SIGNS = "abcdefghi0123456789"


def game(row):
    """The moves of a game, up to the first that is not legal; None if it starts otherwise."""
    if row["fen"]:
        return None
    signs = re.findall("[a-i][0-9]", "".join(row["iccs"]).lower())
    board, moves = Board(), []
    for move in map("".join, zip(signs[::2], signs[1::2], strict=False)):
        origin, target = squares(move)
        piece = board.pieces.get(origin)
        if not piece or piece.isupper() != board.red or target not in board.targets(origin):
            break
        board.push(move)
        moves.append(move)
    return moves or None


# the data; 0 is padding, 1 begins a game
tokenizer = load_tokenizer(args.checkpoint)
ids = {sign: number for number, sign in enumerate(SIGNS, 2)}
samples = read_splits(args.data, lambda path: read_json_lines(path, game))
last = "valid" if samples["test"] is samples["valid"] else "test"


def encode(moves):
    return [1, *(ids[sign] for sign in "".join(moves))][: args.maxlen]


def collate(rows, length):
    """Games, in which every sign is to be predicted."""
    ids = sequence_padding(rows, length).astype("int32")
    return (ids, np.zeros_like(ids)), next_token_labels(ids, ids > 0)


rows = [encode(moves) for moves in samples["train"]]
train = Batches(rows, args.batch_size, collate, shuffle=True, buckets=4, length=len)

# the model: of the vocabulary, padding, [CLS] and the signs are kept
model = build_transformer_model(
    args.checkpoint,
    application="lm",
    with_lm="linear",
    keep_tokens=[
        tokenizer.token_pad_id,
        tokenizer.token_start_id,
        *tokenizer.tokens_to_ids(SIGNS),
    ],
    dropout_rate=0.1,
)


def decode(tokens):
    return "".join(SIGNS[token - 2] for token in tokens if token > 1)


def evaluate(games):
    """The fractions of generated moves that are legal, and that are those of the game."""
    positions = [(moves, i) for moves in games for i in range(2, len(moves), 3)]
    positions = [(moves, i) for moves, i in positions if 4 * i + 5 <= args.maxlen]
    chosen = random.Random(0).sample(positions, min(args.scored, len(positions)))
    prompts = [encode(moves[:i]) for moves, i in chosen]
    rows = generate_all(model, prompts, 4, args.batch_size)
    legal = right = 0
    for (moves, i), (best, *_) in zip(chosen, rows, strict=True):
        board, move = Board(), decode(best.ids)
        for earlier in moves[:i]:
            board.push(earlier)
        legal += move in board.moves()
        right += move == moves[i]
    return {"legal": legal / len(chosen), "as_played": right / len(chosen)}


# the training
schedule = linear_decay(args.epochs * len(train))
optimizer = AdamW(args.learning_rate, weight_decay=0.01, lr_schedule=schedule)
model.compile(optimizer, sequence_crossentropy)
model.optimizer.build(model.trainable_variables)  # one trace
best = BestEpoch(lambda: evaluate(samples["valid"]), OUTPUT / "chess.weights.h5")
model.fit(train, epochs=args.epochs, callbacks=[best])

# the result
scores = evaluate(samples["test"])
print(f"{last}:", "  ".join(f"{name} {value:.4f}" for name, value in scores.items()))


# a game
def move_of_model(moves, legal):
    trie = Trie([[ids[sign] for sign in move] for move in legal])
    prompt = encode(moves)[: args.maxlen - 4]
    return decode(generate(model, prompt, 4, num_beams=4, allowed_tokens=trie)[0].ids)


def move_of_human(legal):
    while (move := input("your move: ").strip().lower()) not in legal:
        print("not a legal move, such as", legal[0])
    return move


board, moves, chance = Board(), [], random.Random(args.seed)
while len(moves) < args.plies or args.play:
    legal = board.moves()
    if not legal:
        print(f"{'black' if board.red else 'red'} has won")
        break
    if args.play:
        print(board)
    if board.red == (args.play != "red"):
        move = move_of_model(moves, legal)
    else:
        move = move_of_human(legal) if args.play else chance.choice(legal)
    print(
        f"{len(moves) // 2 + 1:3} {'red  ' if board.red else 'black'} {move} {board.in_words(move)}"
    )
    board.push(move)
    moves.append(move)
print(board)
