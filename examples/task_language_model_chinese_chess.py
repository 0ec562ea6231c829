"""Plays Chinese chess: a language model that has read games, and whose moves are held to the rules.

    python examples/task_language_model_chinese_chess.py [--checkpoint DIR] [--data PATH] [--play red]

A game is a text, `h2e2h9g7...`, four tokens a move: 19 signs are the whole vocabulary. The model sees
no board. How well it follows the game is measured on games that it has not seen: the share of its
moves that are legal, though nothing forbids the others, and the share that are the very move that
was played. When it plays, only legal moves can be written (`Trie`).

--checkpoint: a Chinese BERT: a directory of Google's or Hugging Face's files, or a name on a hub (tiny-zh).
--data: JSON lines with `iccs`, the moves, and `fen`, empty where a game starts as usual
    (gpt_cchess): a file, or a directory with train and valid (and test) files. Without it, the
    sample in examples/data.
--play: red or black: you play against it, moves written as h2e2. Without it, it plays red against
    one who moves at random.

Reference: https://kexue.fm/archives/7877
"""

import random
import re

from json_lines import read_lines
from seq2seq import generate_all, read_or_cut, text_batches, train
from trials import DATA, arguments, show_scores
from xiangqi import Board, squares

from bert4keras_lite import build_transformer_model, load_tokenizer
from bert4keras_lite.generation import Trie, generate

args = arguments(
    __doc__,
    data=f"{DATA}/games",
    maxlen=(512, 128),
    max_new_tokens=4,
    batch_size=16,
    epochs=(5, 20),
    learning_rate=(2e-5, 2e-3),
    scored=200,
    plies=30,
    play="",
)
SIGNS = "abcdefghi0123456789"


def game(row):
    """The moves of a game, up to the first that is not legal; none if it starts otherwise."""
    if row["fen"]:
        return []
    signs = re.findall("[a-i][0-9]", "".join(row["iccs"]).lower())
    board, moves = Board(), []
    for move in map("".join, zip(signs[::2], signs[1::2], strict=False)):
        origin, target = squares(move)
        piece = board.pieces.get(origin)
        if not piece or piece.isupper() != board.red or target not in board.targets(origin):
            break
        board.push(move)
        moves.append(move)
    return [moves] if moves else []


def read_games(path):
    return read_lines(path, game, '{"iccs": "h2e2h9g7...", "fen": ""}')


# the data; 0, padding, is also what a game begins with
tokenizer = load_tokenizer(args.checkpoint)
ids = {sign: number for number, sign in enumerate(SIGNS, 2)}
samples = read_or_cut(args.data, read_games)


def encode(moves):
    return [1, *(ids[sign] for sign in "".join(moves))][: args.maxlen]


batches = text_batches([encode(moves) for moves in samples["train"]], args, shuffle=True)

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


def score(games):
    """Of the moves it writes freely: how many are legal, how many are those of the game."""
    positions = [(moves, i) for moves in games for i in range(2, len(moves), 3)]
    positions = [(moves, i) for moves, i in positions if 4 * i + 5 <= args.maxlen]
    chosen = random.Random(0).sample(positions, min(args.scored, len(positions)))
    written = generate_all(model, [encode(moves[:i]) for moves, i in chosen], args)
    legal = right = 0
    for (moves, i), (best, *_) in zip(chosen, written, strict=True):
        board, move = Board(), decode(best.ids)
        for earlier in moves[:i]:
            board.push(earlier)
        legal += move in board.moves()
        right += move == moves[i]
    return {"legal": legal / len(chosen), "as_played": right / len(chosen)}


train(model, batches, args, lambda: score(samples["valid"]), "chess")
show_scores(score(samples["test"]))


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
