"""Ready `pre_tokenize` functions: text -> list of words.

jieba loads its dictionary, in about a second, when the first text comes.
"""

__all__ = ["jieba_new_words", "jieba_words", "with_dictionary"]


def with_dictionary(tokenizer=None):
    """A `jieba.Tokenizer` (None: jieba's own) that has read its dictionary.

    Left to itself, it would believe `jieba.cache` in the directory for temporary files, which
    other users may have written, and which may be of another dictionary.
    """
    import jieba

    tokenizer = tokenizer or jieba.dt
    with tokenizer.lock:
        if not tokenizer.initialized:
            counts = tokenizer.gen_pfdict(tokenizer.get_dict_file())
            tokenizer.FREQ, tokenizer.total = counts
            tokenizer.initialized = True
    return tokenizer


def jieba_words(text):
    """Words of jieba's dictionary, for WordPiece vocabularies that hold whole words.

    This is how the inputs of WoBERT, WoNEZHA, word-level RoFormer and T5-PEGASUS were made.
    The words are those of jieba's own dictionary; Hugging Face's RoFormer tokenizer takes
    another package, `rjieba`, whose dictionary may differ.

    Args:
        text: a string.

    Returns:
        A list of words whose concatenation is the text.

    Example:
        >>> tokenizer = Tokenizer("chinese_wobert/vocab.txt", pre_tokenize=jieba_words)
    """
    return with_dictionary().lcut(text, HMM=False)


def jieba_new_words(text):
    """The same, where runs that the dictionary lacks may be words too: CPM's segmentation."""
    return with_dictionary().lcut(text)
