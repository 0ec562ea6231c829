"""Three hundred lines, made up: a tokenizer that reads any line wrongly reads one of these so.

Characters are older than Unicode 12, so that libraries agree on what they are. Left out is what
`bert4keras_lite/tokenizers/wordpiece.py` names as read in another way by Hugging Face.
"""

# Tokens that the directories of `make_tokenizers_files` add to a vocabulary
ADDED = ["<e>", "</e>", "天气瓜", "Qux", "<l>", "<r>", "New York", "<e>!", "É市", "[E11]"]

_EMOJI = [
    "😀",
    "👍🏽",
    "👨\u200d👩\u200d👧",
    "❤\ufe0f",
    "🇨🇳",
    "☂",
    "✓",
    "🀄",
    "1\ufe0f\u20e3",
    "😂😂😂",
]
_ACCENTS = [
    "é",
    "e\u0301",
    "ñandú",
    "A\u030a",
    "ǖ",
    "u\u0308\u0304",
    "Çà",
    "o\u0328\u0301",
    "ạ̈",
    "İI",
]
_FULL_WIDTH = ["ＡＢＣ", "１２３", "，．！", "（ａ）", "％＄", "ｶﾞ", "～", "￥９", "Ｅ＝ｍ", "　"]
_CONTROLS = ["\x00", "\x07", "\x1b[0m", "\x7f", "\x85", "\u2028", "\r\n", "\t", "\x0b", "\ufffd"]
_SCRIPTS = ["мир", "λόγος", "한국어", "ひらがな", "カタカナ", "مرحبا", "שלום", "नमस्ते", "ไทย", "ÆØÅ"]
_ZERO_WIDTH = [
    "\u200b",
    "\u200c",
    "\u200d",
    "\ufeff",
    "\u2060",
    "\u00ad",
    "\u200e",
    "\u202a",
    "\u3164",
]
_RARE = ["𠮷", "𪚥", "㐀", "䶵", "﨑", "豈", "𠀀", "𬺰", "龥", "⿰"]
_MARKS = [
    "——",
    "……",
    "“”",
    "《》",
    "^_^",
    "a/b",
    "$5",
    "10%",
    "c++",
    "#1",
    "@x",
    "~",
    "`x`",
    "«»",
    "·",
]
_SPECIALS = [
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "[PAD]",
    "[UNK]",
    "[mask]",
    "[MASK ]",
    "<s>",
    "</s>",
    "<pad>",
]
_MORE_SPECIALS = ["<unk>", "<mask>", "<|endoftext|>", "<extra_id_0>", "<extra_id_7>"]
_SPACES = [
    " x",
    "x ",
    "  x",
    "x  y",
    "\u00a0x",
    "x\u3000",
    "\n",
    " ",
    "",
    "\tx\t",
    "x\n\ny",
    "\u2003",
    "   ",
]
_LONG = ["a" * 99, "a" * 100, "a" * 101, "ab" * 40, "1" * 60, "长" * 80, "x-" * 30, "." * 70]
_LONG += ["http://www.example.com/a_b?c=1&d=%E4%BD%A0#e", "supercalifragilisticexpialidocious"]

_FRAMES = ["今天{}", "{}天气", "ab{}cd", "{} 好"]


def _framed(items, frames):
    return [frame.format(item) for frame in frames for item in items]


_GROUPS = [
    _framed(_EMOJI, _FRAMES[:2]),
    _framed(_ACCENTS, ["{}", *_FRAMES[:2]]),
    _framed(_FULL_WIDTH, _FRAMES[1:3]),
    _framed(_CONTROLS, _FRAMES[:3]),
    _framed(_SCRIPTS, ["{}ABC"]),
    _framed(_ZERO_WIDTH, _FRAMES[:3]),
    _framed(_RARE, ["{}", _FRAMES[2]]),
    _framed(_MARKS, _FRAMES[2:3]),
    _framed(_SPECIALS, _FRAMES[:3]),
    _framed(_MORE_SPECIALS, ["{}", *_FRAMES[:2]]),
    _framed(ADDED, ["{}", *_FRAMES[:3]]),
    _SPACES,
    _LONG,
    [
        "<E>",
        "天 气 瓜",
        "晴天气瓜",
        "qux",
        "quxer",
        "Qux!",
        "a Qux b",
        "大Qux大",
        "_Qux",
        "new york",
        "NEW  YORK",
    ],
    ["<e><e>!</e>", " <l> x", "x  <l>", "<r>  x", " <r> ", "<l><r> <l>", "<e", "e>", "天气瓜温"],
]
LINES = list(dict.fromkeys(line for group in _GROUPS for line in group))
