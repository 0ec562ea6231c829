"""`pre_tokenize` functions that split a text into words with jieba.

jieba loads its dictionary at the first call, which takes about a second.
"""

__all__ = ["jieba_new_words", "jieba_words", "with_dictionary"]


def with_dictionary(tokenizer=None):
    """Makes a `jieba.Tokenizer` read its dictionary, and returns it.

    jieba itself would trust `jieba.cache` in the directory for temporary files, which other users
    may have written, and which may be that of another dictionary.

    Args:
        tokenizer: a `jieba.Tokenizer`. Default None: the one of jieba's functions.
    """
    import jieba

    tokenizer = tokenizer or jieba.dt
    with tokenizer.lock:
        if not tokenizer.initialized:
            counts = tokenizer.gen_pfdict(tokenizer.get_dict_file())
            tokenizer.FREQ, tokenizer.total = counts
            tokenizer.initialized = True
    return tokenizer


def jieba_words(text: str) -> list[str]:
    """Splits a text into words of jieba's dictionary, for WordPiece vocabularies with whole words.

    WoBERT, WoNEZHA, word-level RoFormer and T5-PEGASUS were trained on such words. The dictionary
    is that of jieba; Hugging Face's RoFormer tokenizer uses another package, `rjieba`, whose
    dictionary may differ.

    Args:
        text: a string.

    Returns:
        A list of words whose concatenation is the text.

    Example:
        >>> tokenizer = Tokenizer("chinese_wobert/vocab.txt", pre_tokenize=jieba_words)
    """
    return with_dictionary().lcut(text, HMM=False)


def jieba_new_words(text):
    """Splits a text like `jieba_words`, but also into words not in the dictionary, as CPM does."""
    return with_dictionary().lcut(text)
