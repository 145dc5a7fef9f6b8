"""The size of texts in UTF-8, which is what limits count."""


def utf8_length(text: str, errors: str = "strict") -> int:
    """Bytes of the text in UTF-8; at once where all of it is ASCII, as Python knows that without looking.

    Raises:
        UnicodeEncodeError: half of a surrogate pair, with "strict"; "surrogatepass" counts it.
    """
    return len(text) if text.isascii() else len(text.encode("utf-8", errors))
