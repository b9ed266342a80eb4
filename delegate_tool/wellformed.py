"""Text that UTF-8 can carry. Halves of surrogate pairs come from JSON's escapes, and from file names that are no UTF-8."""


def well_formed(text: str) -> str:
    """Put the halves of surrogate pairs together; one without its other half becomes U+FFFD."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
