"""Marks that end sentences and clauses, quotes and brackets, of all scripts: one table for all rules.

By the names that Unicode gives them, for scripts that are in use.
"""

# ruff: noqa: RUF001 - marks of other scripts are the point of the table.

from typing import Final

DOTS: Final = ".．"
"""Full stops that may also belong to an abbreviation, a number or an address."""
QUESTION_MARKS: Final = "?？؟\u037e՞፧\u2047\u2048\u2049"
"""Marks of a question: Latin, full-width, Arabic, Greek, Armenian, Ethiopic, double and mixed ones."""
SPACED_ENDS: Final = ".!?…؟۔։።፧॥।\u037e\u203c\u2047\u2048\u2049"
"""Marks that end a sentence before white space: also Arabic, Urdu, Armenian, Ethiopic, Indic and Greek."""
UNSPACED_ENDS: Final = "。！？｡།။។៕"
"""Marks that end a sentence before anything: Chinese, Japanese, Tibetan, Burmese and Khmer."""
SENTENCE_ENDS: Final = "".join(dict.fromkeys(SPACED_ENDS + UNSPACED_ENDS + DOTS))
"""All marks that end a sentence."""
COMMAS: Final = ",،，、"
"""Commas: Latin, Arabic, full-width and ideographic."""
DASHES: Final = "–—"
"""Dashes, which may also stand before what they separate."""
SPACED_CLAUSE_ENDS: Final = ",;:،؛" + DASHES
"""Marks that end a clause before white space."""
UNSPACED_CLAUSE_ENDS: Final = "，、；：၊"
"""Marks that end a clause before anything: Chinese, Japanese and Burmese."""
OPENERS: Final = "「『（【《“"
"""Quotes and brackets with which a sentence begins, in scripts that put no space before them."""
CLOSERS: Final = "\"'”’»›)]}」』）】》"
"""Quotes and brackets that may close a sentence behind its mark."""
CLOSERS_OF_LINES: Final = CLOSERS + "“‘«‹"
"""Quotes and brackets at the end of a line or a text, where none opens: German closes with “, and Danish with «."""
GOING_ON: Final = "".join(
    mark
    for mark in SENTENCE_ENDS + SPACED_CLAUSE_ENDS + UNSPACED_CLAUSE_ENDS + CLOSERS + "%"
    if mark not in DASHES + "\"'"
)
"""Marks that belong to the word before them. Not a straight quote or a dash, which may begin something."""
