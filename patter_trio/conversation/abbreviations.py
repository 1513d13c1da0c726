"""Abbreviations with a full stop that does not end a sentence, by language."""

# ruff: noqa: RUF001 - abbreviations of languages with other scripts

from collections.abc import Mapping
from typing import Final

BEFORE_NAMES: Final[Mapping[str, str]] = {
    # Titles, then streets and companies, then words within a sentence.
    "en": "mr mrs ms mx messrs dr prof rev fr hon rt gen sgt cpl pvt capt cpt lt col maj cmdr cdr adm brig gov sen rep "
    "pres "
    "supt det insp amb atty cllr msgr jr sr st mt ft "
    "ave blvd rd ln hwy pkwy sq ct pl apt ste bldg rm "
    "inc ltd corp co llc plc bros assn dept univ "
    "approx vs cf viz tel ext incl e.g i.e",
    "de": "hr hrn fr frl dr prof dipl mag ing med phil jur st "
    "str pl bhf whg fa ges inh co e.k e.v "
    "z.b d.h u.a z.t i.d.r bzw ca vgl geb sog inkl exkl zzgl bzgl ggf evtl tel",
    "es": "sr sra srta sres sras srtas dr dra dres ud uds d dña prof profa lic licda ldo lda ing arq mtro mtra gral "
    "av avda c pza plza ctra dpto depto edif urb esq cía aprox p.ej tel tfno telf",
    "fr": "m mm mme mmes mlle mlles mgr dr drs prof pr me st ste "
    "av bd boul pl rte imp fg bât app appt cie ets tél env p.ex c.-à-d",
    "hi": "डॉ श्री प्रो कु",
    "it": "sig sig.ra sig.na sigg dott dott.ssa dr prof prof.ssa avv ing geom rag arch on egr spett gent gent.mo "
    "gent.ma ill "
    "sgr mons cav comm rev "
    "v.le p.za p.zza c.so l.go s.p.a s.r.l ca tel p.es",
    "nl": "dhr mevr mw dr drs ir ing prof mr jhr fam str bijv d.w.z ca tel",
    "pl": "p pp dr prof hab inż mgr gen płk ks św ul al os pl sp o.o np m.in tzw tj tel",
    "pt": "sr sra srs sras srta dr dra drs prof profa eng enga exmo exma d "
    "av r pça trav estr rod al apto lda ltda cia aprox p.ex tel",
    "ru": "г гр ул пр просп пер бул наб ш пл д корп кв обл им проф акад св т.е т.к тел",
    "uk": "м вул просп пров бул пл буд кв обл ім проф св т.з тел",
    "sv": "hr fr dr prof ing st t.ex bl.a d.v.s ca tel",
    "da": "hr fr dr prof ing f.eks bl.a ca tlf",
    "nb": "hr fr dr prof ing f.eks bl.a ca tlf",
    "fi": "hra rva tri prof esim mm n puh",
    "cs": "p pí sl dr ing mgr mudr judr prof doc sv ul nám tř tzv tj např tel",
    "sk": "p pí sl dr ing mgr mudr judr prof doc sv ul nám tzv tj napr tel",
    "hu": "dr id ifj özv prof u pl kb ún tel",
    "ro": "dl dna d-na dr prof ing av str bd bdul bl sc ap șos tel",
    "tr": "dr prof doç sn av müh cad sok mah bul apt tel",
    "el": "κ κα κος δρ καθ οδ λεωφ πλ τηλ π.χ",
    "id": "bpk sdr dr drs ir jl gg tel",
    "ca": "sr sra srta dr dra prof av pl ctra aprox tel p.ex",
}
"""Abbreviations that always belong to what follows them."""

BEFORE_NUMBERS: Final[Mapping[str, str]] = {
    "en": "no nos vol p pp fig eq sec ch art unit jan feb mar apr jun jul aug sep sept oct nov dec "
    "mon tue tues wed thu thur thurs fri sat sun",
    "de": "nr bd s abb jan feb aug sept okt nov dez hausnr",
    "es": "núm n.º n vol p pp",
    "fr": "no n.º n vol p pp",
    "it": "n num vol p pp",
    "nl": "nr blz",
    "pl": "nr str ok m",
    "pt": "n núm vol p pp",
    "ru": "стр гл рис ок эт",
    "uk": "стор рис",
    "sv": "nr s",
    "da": "nr s",
    "nb": "nr s",
    "fi": "nro s",
    "cs": "č str",
    "sk": "č str",
    "ro": "nr et",
    "tr": "no s",
    "el": "αρ σελ",
    "id": "no hal",
    "ca": "núm pàg",
}
"""Abbreviations that belong to a number behind them, but may otherwise end a sentence."""

ENDINGS: Final[Mapping[str, tuple[str, ...]]] = {"de": ("str", "pl"), "nl": ("str",)}
"""Ends of compounds that are abbreviated like the words of :data:`BEFORE_NAMES`: ``Hauptstr.``"""

ORDINALS: Final = frozenset(
    ["cs", "da", "de", "et", "fi", "hr", "hu", "is", "lv", "nb", "nn", "no", "pl", "sk", "sl", "tr"]
)
"""Languages that write "the third" as ``3.``: a full stop after a small number does not end a sentence."""

SAME_AS: Final[Mapping[str, str]] = {"no": "nb", "nn": "nb", "ms": "id"}
"""Languages with the abbreviations of another one."""
