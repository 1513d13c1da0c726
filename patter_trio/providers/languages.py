"""Languages by their BCP 47 tags, as far as providers must tell them apart."""

from patter_trio.scripts import primary_language


def is_english(language: str) -> bool:
    """Return True for the tag of English, of any region and in any case: ``en``, ``en-GB``, ``EN_us``."""
    return primary_language(language) == "en"
