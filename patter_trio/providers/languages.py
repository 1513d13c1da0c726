"""Languages by their BCP 47 tags, as far as providers must tell them apart."""


def is_english(language: str) -> bool:
    """Return True for the tag of English, of any region and in any case: ``en``, ``en-GB``, ``EN_us``."""
    # A locale's name has an underscore in the place of the hyphen, and people write it just as often.
    return language.replace("_", "-").partition("-")[0].lower() == "en"
