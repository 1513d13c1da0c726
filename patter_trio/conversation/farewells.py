"""Farewells: what callers say over the goodbye of an agent without wanting to go on. Pure.

An utterance is a farewell if it consists of nothing but the phrases below, and at least one of them is a farewell,
thanks or an acknowledgement; the others are what people add to it. The phrases of all languages count in every call,
because callers borrow them from each other.
"""

# ruff: noqa: RUF001 (other scripts have their own letters and punctuation)

import unicodedata
from typing import Final

from patter_trio.conversation.marks import QUESTION_MARKS
from patter_trio.scripts import is_spoken, is_unspaced

# Judged: four or five of the longest phrases below.
MAX_FAREWELL_CHARACTERS: Final = 120
"""Characters of a farewell; a caller who says more wants something."""

_CORE: Final = {
    "en": "bye|goodbye|good bye|bye bye|see you|see ya|take care|farewell|cheers|thank you|thanks|thank|thx|okay|ok|k|"
    "alright|all right|right|fine|great|perfect|lovely|awesome|cool|sure|you too|same to you|likewise|good night|"
    "have a nice day|have a good day|have a good one|have a great day|appreciate it|that's all|that is all|"
    "that's it|mhm|uh huh|will do|got it",
    "de": "tschüss|tschüs|tschau|ciao|wiedersehen|auf wiedersehen|wiederhören|auf wiederhören|danke|danke schön|"
    "dankeschön|"
    "vielen dank|besten dank|herzlichen dank|in ordnung|alles klar|gut|prima|super|servus|ade|bis bald|bis dann|"
    "bis morgen|schönen tag|gleichfalls|ebenso|gute nacht|passt|einverstanden|mach's gut",
    "es": "adiós|adios|hasta luego|hasta pronto|hasta mañana|chao|chau|gracias|muchas gracias|vale|de acuerdo|bien|muy "
    "bien|"
    "perfecto|igualmente|nos vemos|buenas noches|que tenga buen día|que tenga un buen día|claro|listo",
    "fr": "au revoir|à bientôt|à plus|à demain|salut|merci|merci beaucoup|merci bien|d'accord|entendu|très bien|"
    "parfait|"
    "bonne journée|bonne soirée|bonne nuit|pareillement|de même|bien|super|c'est noté",
    "it": "arrivederci|arrivederla|ciao|addio|a presto|a dopo|a domani|grazie|grazie mille|molte grazie|va bene|"
    "d'accordo|"
    "perfetto|benissimo|bene|buona giornata|buona serata|buonanotte|buona notte|altrettanto|ottimo",
    "pt": "tchau|adeus|até logo|até mais|até breve|até amanhã|obrigado|obrigada|muito obrigado|muito obrigada|está bem|"
    "tá bom|"
    "tudo bem|certo|perfeito|ótimo|bom dia|boa tarde|boa noite|igualmente|beleza|valeu",
    "nl": "dag|doei|tot ziens|tot straks|tot morgen|tot dan|bedankt|dank u|dank je|dank u wel|dank je wel|dankjewel|"
    "dankuwel|"
    "goed|prima|oké|fijne dag|fijne avond|insgelijks|akkoord|hartelijk dank",
    "sv": "hej då|hejdå|vi hörs|ha det bra|tack|tack så mycket|tack ska du ha|okej|bra|detsamma|farvel|ha det|takk|"
    "tusen takk|"
    "tak|mange tak|hej hej|i lige måde",
    "pl": "do widzenia|do usłyszenia|pa|na razie|dziękuję|dziękuje|dzięki|dobrze|w porządku|wzajemnie|miłego dnia|"
    "dobranoc",
    "ru": "до свидания|пока|всего доброго|всего хорошего|до встречи|спасибо|большое спасибо|хорошо|ладно|понятно|"
    "взаимно|"
    "до побачення|дякую|добре",
    "tr": "hoşça kal|hoşçakal|hoşça kalın|görüşürüz|güle güle|iyi günler|iyi akşamlar|teşekkürler|teşekkür ederim|sağ "
    "olun|"
    "sağol|tamam|peki",
    "ja": "さようなら|さよなら|失礼します|失礼いたします|それでは失礼します|ありがとう|ありがとうございます|"
    "ありがとうございました|どうも|"
    "どうもありがとうございました|はい|わかりました|分かりました|了解です|了解しました|承知しました|またね|お願いします|お世話になりました|バイバイ",
    "zh": "再见|再見|拜拜|拜|谢谢|謝謝|谢谢你|謝謝你|谢谢您|謝謝您|多谢|多謝|好|好的|好吧|行|嗯|知道了|明白了|回头见|"
    "祝您愉快|唔該|没事了|沒事了",
    "ko": "안녕히 계세요|안녕히계세요|안녕히 가세요|안녕|잘 있어요|수고하세요|수고하셨습니다|감사합니다|고맙습니다|"
    "고마워요|네|예|"
    "알겠습니다|알겠어요|들어가세요|좋은 하루 되세요|끊을게요",
    "th": "สวัสดี|สวัสดีครับ|สวัสดีค่ะ|ลาก่อน|บาย|บายบาย|ขอบคุณ|ขอบคุณมาก|ขอบคุณครับ|ขอบคุณค่ะ|ขอบคุณมากครับ|ขอบคุณมากค่ะ|โอเค|"
    "ได้ครับ|ได้ค่ะ|แล้วเจอกัน",
    "hi": "अलविदा|नमस्ते|धन्यवाद|शुक्रिया|ठीक है|अच्छा|फिर मिलेंगे|बाय",
    "ar": "مع السلامة|السلام عليكم|إلى اللقاء|الى اللقاء|شكرا|شكرا لك|شكرا جزيلا|حسنا|تمام|طيب",
    "he": "להתראות|ביי|תודה|תודה רבה|בסדר|יום טוב",
    "id": "sampai jumpa|dadah|terima kasih|makasih|baik|selamat tinggal",
    "vi": "tạm biệt|cảm ơn|cám ơn|cảm ơn bạn|vâng|được rồi|chào",
    "cs": "na shledanou|nashledanou|ahoj|děkuji|díky|dobře|ďakujem|dovidenia",
    "fi": "näkemiin|hei hei|moi moi|heippa|kiitos|kiitos paljon|selvä|hyvä",
    "el": "αντίο|γεια|γεια σας|ευχαριστώ|ευχαριστώ πολύ|εντάξει",
    "hu": "viszlát|viszontlátásra|viszonthallásra|köszönöm|köszönöm szépen|rendben|jó",
    "ro": "la revedere|pa|mulțumesc|multumesc|mersi|bine|în regulă",
}
"""Farewells, thanks and acknowledgements by language. Not "yes" or "no", which may be the answer to a question."""
_MORE: Final = {
    "en": "so much|very much|a lot|again|for your help|for the help|for everything|for calling|for that|for the "
    "information|"
    "then|now|for now|later|soon|tomorrow|too|and|very|well|oh|ah|um|uh|so|you|have|a|nice|good|great|lovely|day|"
    "evening|afternoon|night|weekend|one|everyone|dear|sir|madam|ma'am|man|mate|bud|it|i|is|that",
    "de": "noch|einen|ein|schönen|schöne|guten|tag|abend|nachmittag|wochenende|sehr|dann|ihnen|dir|auch|na|also|und|ja|"
    "so|für|"
    "die|ihre|hilfe|das|nochmal|nochmals|ihnen auch|dir auch|war's|wünsche|ich",
    "es": "y|muy|amable|por|todo|su|la|ayuda|a|usted|buen|buena|día|tarde|pues|entonces|un|saludo|saludos",
    "fr": "et|à vous|aussi|vous|bonne|bon|alors|donc|pour|votre|aide|tout|bien|monsieur|madame|infiniment",
    "it": "e|a lei|anche|allora|buona|giornata|per|l'aiuto|tutto|tanto|signora|signore|lei",
    "pt": "e|pela|ajuda|por|tudo|então|bom|boa|dia|para|você|também|senhor|senhora",
    "nl": "en|wel|hoor|dan|nog|een|voor|de|hulp|u|ook|heel|erg|hartelijk",
    "sv": "så|mycket|då|ha|en|bra|dag|du|också",
    "ja": "では|じゃあ|それでは|ええ|ですね|です|ね|よ|よろしく|どうもありがとう",
    "zh": "啊|哦|那|就这样|就這樣|了|吧|啦|您|你|那就这样",
    "ko": "그럼|그래요|네네|또 뵐게요",
    "th": "ครับ|ค่ะ|คะ|นะ|นะคะ|นะครับ|มาก|แล้ว",
    "others": "bardzo|i|miłego|dnia|большое|вам|и|до|всего|çok|ve|بك|لك|جزيلا",
}
"""What is added to a farewell, by language."""


def _plain(text: str) -> str:
    """Return a text without case and punctuation, with single spaces."""
    folded = unicodedata.normalize("NFKC", text).casefold().replace("\u2019", "'")
    kept = (character if is_spoken(character) or character == "'" else " " for character in folded)
    return " ".join("".join(kept).split())


def _solid(phrases: dict[str, str]) -> frozenset[str]:
    return frozenset(_plain(phrase).replace(" ", "") for line in phrases.values() for phrase in line.split("|"))


_FAREWELLS: Final = _solid(_CORE)
_PHRASES: Final = _FAREWELLS | _solid(_MORE)
_MAX_PHRASE_CHARACTERS: Final = max(map(len, _PHRASES))


def is_farewell(text: str) -> bool:
    """Return True if an utterance is nothing but a farewell, thanks or an acknowledgement."""
    if len(text) > MAX_FAREWELL_CHARACTERS or any(mark in text for mark in QUESTION_MARKS):
        return False
    words = _plain(text).split()
    solid = "".join(words)
    # Phrases begin and end with words; in scripts without spaces a word may be several phrases.
    edges = {0}
    for word in words:
        edges.add(max(edges) + len(word))
    # reached[i]: the first i characters are phrases; True if one of them is a farewell.
    reached: dict[int, bool] = {0: False}
    for start in range(len(solid)):
        if start not in reached:
            continue
        for end in range(start + 1, min(len(solid), start + _MAX_PHRASE_CHARACTERS) + 1):
            phrase = solid[start:end]
            if phrase in _PHRASES and all(_is_edge(solid, place, edges) for place in (start, end)):
                reached[end] = reached.get(end, False) or reached[start] or phrase in _FAREWELLS
    return reached.get(len(solid), False)


def _is_edge(solid: str, place: int, edges: set[int]) -> bool:
    return place in edges or is_unspaced(solid[place - 1]) or is_unspaced(solid[place])
