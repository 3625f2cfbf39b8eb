"""What personal data and secrets look like: the keys that hold them, and their forms inside free text.

Only tables, patterns and pure functions.  Every pattern is linear in the length of the text: what can repeat is either
bounded, possessive, or cannot start again inside itself.  Knows nothing of replacing, of logs or of spans.
"""

# ruff: noqa: RUF001 - Russian names and addresses are written in Cyrillic

from __future__ import annotations

import base64
import binascii
import re
from ipaddress import ip_address
from typing import Final

from otel_orders import names

NEVER_MASKED: Final = frozenset(
    {names.ORDER_ID, names.PARTNER_ID, names.FROM_STATUS, names.TO_STATUS, names.STATUS, names.SERVICE, names.ENV}
    | {names.EVENT_TYPE, names.EVENT_ID, names.TRACE_ID, names.SPAN_ID, names.OCCURRED_AT}
    | {names.DURATION, names.ORDER_VERSION, names.ORDER_BUCKET, "lifecycle_hash", "timestamp"}
)
"""Fields of the toolkit itself that say which order, move, event, span or service."""
IDS: Final = frozenset({"message_id", "instance", "role"})
"""Fields of the toolkit that others fill: masked where they do not look like an id."""
OWN_FIELDS: Final = NEVER_MASKED | IDS | {names.ERROR_CODE, "queue", "outcome", "level", "logger"}
"""All fields of the toolkit: none is masked for its key, those not above for what they hold."""

ID: Final = re.compile(r"[\w:./~-][\w:./~+-]*+=*")
"""What an id of a message or of a process looks like; what does not may be an e-mail address, or a sentence."""

# Keys.  A key is read as lower-case words; the longest known ending of up to three words says what it holds.

_PEOPLE = (
    "customer client user enduser buyer recipient receiver addressee contact person payer cardholder holder guest"
    " sender employee patient shipping billing delivery first last middle full given family maiden nick"
)
_HOSTS = "ip mac server client peer source destination local remote host bind listen network socket broker"
_WORDS = {
    "masked": "passport passport_number snils inn ssn tax_id birthday birth_date birthdate date_of_birth dob паспорт"
    " инн",
    "name": "fio surname patronymic recipient addressee cardholder имя фамилия отчество фио получатель",
    "person": "customer client user buyer receiver contact person payer клиент покупатель заказчик",
    "bare name": "name",
    "email": "email e_mail email_address mail_to mailto почта",
    "phone": "phone telephone tel mobile msisdn fax cellphone телефон тел моб"
    " phone_number phonenumber mobile_number telephone_number contact_number",
    "card": "card card_number card_no cardnumber pan cc cc_number creditcard cvv cvc iban",
    "token": "password passwords passwd pwd passphrase secret secrets token authorization credential credentials jwt"
    " apikey api_key access_key accesstoken refreshtoken secret_key private_key auth_key signing_key encryption_key"
    " пароль",
    "cookie": "cookie cookies",
    "street": "street streetaddress address_line postal_code postcode zip_code адрес улица"
    " address_city address_zip address_street address_house address_flat address_apartment address_postcode",
    "address": "address addr",
}
_KEYS = {word: kind for kind, words in _WORDS.items() for word in words.split()}
_KEYS |= {f"{person}{joint}name": "name" for person in _PEOPLE.split() for joint in ("_", "")}
_KEYS |= {f"{host}_{address}": "" for host in _HOSTS.split() for address in ("address", "addr")}
_QUERY_SECRETS = frozenset({"key", "sig", "signature", "code", "auth", "session", "sid"})
_IN_PLURAL = frozenset({"email", "phone", "address", "name"})

PLACEHOLDERS: Final = {
    kind: f"[{kind}]" for kind in ("email", "phone", "card", "token", "name", "address", "masked")
} | {"person": "[name]", "bare name": "[name]", "cookie": "[token]", "street": "[address]"}

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORD = re.compile(r"[^\W\d_]+")


def words_of(key: str) -> tuple[str, ...]:
    """Return the last two dotted segments of *key* as lower-case words: customerName, customer-name, customer.name."""
    tail = ".".join(key[-128:].split(".")[-2:])
    return tuple(word.lower() for word in _WORD.findall(_CAMEL.sub("_", tail)))


def kind_of_key(words: tuple[str, ...]) -> str:
    """Return what a key of these words holds: a key of PLACEHOLDERS, or "" for nothing personal."""
    for length in (3, 2, 1):
        ending = "_".join(words[-length:])
        for known in (ending, ending.removesuffix("s")):
            if known in _KEYS and (known == ending or _KEYS[known] in _IN_PLURAL):
                # "name" alone names a service or a file as often as a person.
                return "" if known == "name" and len(words) > 1 else _KEYS[known]
    return ""


def is_query_secret(text: str, start: int, key: str) -> bool:
    """Return whether *key*, at *start* of *text*, is one of those that are only secret in the query of a URL."""
    return start > 0 and text[start - 1] in "?&" and key.lower() in _QUERY_SECRETS


# Free text.

_DASH = r"\u2010-\u2015-"
_GAP = rf"[ \u00a0{_DASH}]"
_CAP = r"[A-ZÀ-ÖØ-ÞА-ЯЁ][\w'’.-]{0,40}+"
_NEXT_CAP = rf"(?: {_CAP}(?!\s?[:=]))"
_LEFT = r"(?<![\w-].)(?<!\d[.,].)(?<!_id[=:].)(?<!_id: .)(?<!_id\":.)(?<!_id\":\".)(?<!_id\": \".)"
"""Around the first digit of a number: not inside another number, a UUID or an id, and not the value of an id field."""
_RIGHT = r"(?![\w-]|[.,]\d)"

_LONG_NUMBER = rf"(?<!\d\d)(?:[ ().\u00a0/{_DASH}]{{0,3}}\d){{8}}"
_FOUR = r"\d{0,2}(?:\.\d{1,3}){3}"
SUSPECT: Final = re.compile(
    rf"""[@:=J%0-9<("'&\\_](?:(?<=[@:=])|(?<=eyJ)|(?<=%)40|(?<=<)/|(?<=\()["']|(?<=&)\#|(?<=\\)u0040|(?<=_)\w{{10}}"""
    rf"|(?<=\d)(?:{_LONG_NUMBER}|(?<!\d\d){_FOUR}|(?<!\d\d)\w{{0,5}},? [A-Z]))"
)
"""A cheap first look: ASCII text without this and without the scheme of a token holds nothing that is masked."""

_LOCAL = r"(?:[\w.!#$*+^~-]|(?<=\w)'(?=\w))"
_ESCAPED_AT = r"(?:%40|\\{1,4}u0040|&\#(?:64|x40);)"
EMAIL: Final = re.compile(rf"(?<![\w.!#$*+^~%-])(?:(?:{_LOCAL}|%)++@|{_LOCAL}++{_ESCAPED_AT})[\w.-]+\.[^\W\d_][\w-]+")
JWT: Final = re.compile(r"(?<![\w-])eyJ[\w-]{5,}+\.[\w-]{5,}+(?:\.[\w-]*+){0,3}")
URL_PASSWORD: Final = re.compile(r"(://[^\s:/@]*+:)(?!\[token\]@)[^\s/]+@")
BEARER: Final = re.compile(
    r"\b(bearer +)(?!(?:tokens?|auth\w*|scheme|header|is|was|and|or|required|missing|expired|invalid)\b)[\w.~+/=-]{6,}",
    re.IGNORECASE,
)
SECRET_STARTS: Final = (
    *("ghp_", "gho_", "ghs_", "ghu_", "github_pat_", "glpat-", "sk_live_", "sk_test_"),
    *("AKIA", "AIza", "xoxa-", "xoxb-", "xoxp-", "xoxr-", "xoxs-", "PRIVATE KEY-----"),
)
SECRET: Final = re.compile(
    r"(?:gh[opsu]_|github_pat_)\w{20,}+|glpat-[\w-]{15,}+|sk_(?:live|test)_\w{10,}+|AKIA[0-9A-Z]{16}|AIza[\w-]{20,}+"
    r"|xox[abprs]-[\w-]{10,}+|-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----[^-]*+(?:-----END [A-Z ]{0,20}PRIVATE KEY-----)?"
)
"""Secrets that say so themselves."""
BASIC: Final = re.compile(r"\b(basic +)([\w+/-]{4,}+={0,2})", re.IGNORECASE)

LONG_NUMBER: Final = re.compile(rf"[0-9]{_LONG_NUMBER}")
"""What every card and phone number at least begins with."""
CARD: Final = re.compile(rf"\d{_LEFT}\d{{1,18}}+(?:[ \u00a0-]\d{{2,19}}+)*+{_RIGHT}")
"""Groups of digits; card_spans() says which of them make a card number."""
_AREA = (
    rf"(?:[2-9]\d{{2}}\){_GAP}?[2-9]\d{{2}}[ .{_DASH}]\d{{4}}"
    rf"|\d{{3,5}}\){_GAP}?\d{{1,3}}{_GAP}?\d{{2}}{_GAP}?\d{{2}})"
)
PHONE: Final = re.compile(
    r"[+(\d](?:"
    rf"(?<=\+)(?<!\d\+)\d(?:[ \u00a0().{_DASH}]{{0,2}}\d){{8,14}}"
    rf"|(?<=\(){_LEFT}{_AREA}"
    rf"|(?<=\d){_LEFT}(?:"
    rf"(?<=0)0[1-9](?:[ \u00a0().{_DASH}]{{0,2}}\d){{8,13}}"
    rf"|(?<=[78])(?:9\d{{9}}|{_GAP}\d{{3}}{_GAP}\d{{3}}{_GAP}?\d{{2}}{_GAP}?\d{{2}}|{_GAP}?\({_AREA})"
    rf"|(?<=1)[ .-](?:\({_AREA}|[2-9]\d{{2}}[ .{_DASH}][2-9]\d{{2}}[ .{_DASH}]\d{{4}})"
    rf"|\d\d{_GAP}\d{{3}}-\d{{2}}-\d{{2}}"
    rf"|(?<=[2-9])\d\d[ .{_DASH}][2-9]\d{{2}}[ .{_DASH}]\d{{4}}"
    rf")){_RIGHT}"
)
"""International with + or 00, Russian with 7, 8 or the code of a city, American.

Without any separator only a Russian mobile number is unmistakable.
"""

WIDE_PHONE: Final = re.compile(
    rf"\uff0b?[\uff10-\uff19](?:[ ()\uff08\uff09\uff0d{_DASH}]{{0,2}}[\uff10-\uff19]){{6,}}+"
)
"""In the digits of East Asian input methods, which no other number of ours has."""
SOCIAL_SECURITY: Final = re.compile(rf"\d{_LEFT}\d\d-\d\d-\d{{4}}{_RIGHT}")
IPV4: Final = re.compile(rf"\d(?<![\w./-]\d){_FOUR}(?![\w-]|\.\d)")
IPV6: Final = re.compile(r"(?<![\w:.])[23][0-9a-f]{3}:[0-9a-f:]{2,34}(?![\w:])", re.IGNORECASE)
"""What may be an address that is reached over the internet; is_public() knows."""

ADDRESS: Final = re.compile(
    rf"\d(?<![\w.-]\d)\d{{0,4}}(?:[A-Za-z]|[/-]\d{{1,4}})?,? (?:{_CAP} ){{1,4}}?"
    r"(?:Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Square|Sq|Place|Pl|Way|Terrace|Highway"
    r"|Hwy|Parkway|Pkwy)\b\.?"
    r"(?:,? (?:Apt|Apartment|Suite|Ste|Unit|Flat|Floor|#)\.? ?[\w-]{1,8})?"
    rf"(?:, {_CAP}(?: {_CAP}){{0,2}}){{0,2}}(?:,? [A-Z]{{2}})?"
    r"(?: \d{5}(?:-\d{4})?| \d[A-Z]{2}\b)?"
)
_STREET = (
    r"(?:ул(?:ица|\.)|пр(?:оспект|осп\.|-кт|-т|\.)|пер(?:еулок|\.)|б(?:ульвар|-р)|ш(?:оссе|\.)|проезд"
    r"|наб(?:ережная|\.)|пл(?:ощадь|\.))"
)
_HOUSE = r"(?:д(?:ом|\.)? ?)?\d{1,4}(?:[а-я]\b|/\d{1,4})?(?:,? ?(?:корп|к|стр|кв|оф|под|эт)[а-я]{0,7}\.? ?\d{1,4}){0,4}"
ADDRESS_RU: Final = re.compile(
    rf"(?<!\w)(?:(?:г\. ?|город )[\w-]{{2,40}}+, ?)?"
    rf"(?:{_STREET} ?[\w-]{{1,40}}+(?: [\w-]{{1,40}}+){{0,2}}?|[\w-]{{2,40}}+ {_STREET}),? ?{_HOUSE}(?!\d)",
    re.IGNORECASE,
)

_KEY = r"[^\W\d_][\w.-]{0,63}+"
FIELD: Final = re.compile(
    rf"""([^\W\d_](?<!\w.)(?<!\w[.-].)[\w.-]{{0,63}}+(?: {_KEY})?)(?:\\?["'])?\s{{0,2}}(?:=>|:=|[:=])(?!//)\s{{0,2}}"""
)
"""A key and its separator, in ``key: value``, ``key=value`` and JSON; the value starts where the match ends."""

_APOSTROPHE = r"(?<=\w)'(?=\w)"
_QUOTED = (
    r"\\\"([^\"\\\n]{1,4000}+)"  # JSON inside JSON
    r"|\"((?:[^\"\\\n]|\\[^\n]){1,4000}+)"
    rf"|\\?'((?:[^'\\\n]|{_APOSTROPHE}){{1,4000}}+)"
    r"|"
)
_PLAIN_WORD = rf"(?:[^\s,;&|\"'<>(){{}}\[\]=:]|{_APOSTROPHE}){{1,80}}"
_UP_TO_NEXT_FIELD = (
    rf"((?:(?!,?\s{{1,3}}[\w.-]{{1,40}}+[\"']?\s?[:=])(?:[^;\n|\"'<>{{}}\[\]=]|{_APOSTROPHE})){{1,200}}+)"
)

VALUES: Final = {
    kind: re.compile(_QUOTED + plain)
    for kind, plain in {
        "name": rf"({_PLAIN_WORD}{_NEXT_CAP}{{0,3}})",
        "person": rf"({_CAP}(?!\s?[:=]){_NEXT_CAP}{{0,3}})",
        "bare name": rf"({_CAP}{_NEXT_CAP}{{1,3}})",
        "email": r"(\S+@\S+)",
        "phone": rf"([+(]?\d[\d ()./\u00a0{_DASH}]{{3,24}}\d)",
        "card": r"(\d[\d \u00a0-]{1,25}\d)",
        "token": r"""((?:(?i:bearer|basic|digest|token|apikey) {1,3})?"""
        r"""(?:[^\s&;"'\[,]|,(?![\w.-]{0,40}+["']?[=:]|\s|$))++)""",
        "cookie": r"""([^"'\n\[]{1,4000})""",
        "street": _UP_TO_NEXT_FIELD,
        "address": r"(?=\D{0,60}\d)" + _UP_TO_NEXT_FIELD,
        "masked": _UP_TO_NEXT_FIELD,
    }.items()
}
"""The value of a field inside text, by what its key holds; in the last group that matched: PLAIN, or one in quotes."""

PLAIN: Final = 4

ELEMENT: Final = re.compile(rf"<(?:\w{{1,40}}:)?({_KEY})(?: [^<>\n]{{0,200}}+)?>([^<>\n]{{1,4000}}+)</")
PAIR: Final = re.compile(rf"\([\"']({_KEY})[\"'],\s?[\"']((?:[^\"'\\\n]|{_APOSTROPHE}){{1,4000}}+)[\"']\)")
"""A key and its value as an element of XML, and as a tuple."""

_ISSUER = re.compile(r"[3-6]|2[2-7]")
_MOST_GROUPS = 9  # of two digits and more, in 19 digits
_CARD_LENGTHS = range(13, 20)
_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
_PERSON_NAME = re.compile(rf"{_CAP}(?: {_CAP}){{0,4}}")
_IP = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}|localhost|[\da-f]*:[\da-f:]*:", re.IGNORECASE)


def holds(kind: str, value: str) -> bool:
    """Return whether *value*, under a key that says *kind*, is that: some keys hold other things as well."""
    if kind in ("person", "bare name"):
        named = _PERSON_NAME.fullmatch(value) is not None and not any(char.isdigit() or char == "_" for char in value)
        return named and (kind == "person" or " " in value)
    if kind == "address":
        return " " in value.strip() and any(map(str.isalpha, value)) and _IP.match(value) is None
    return bool(value)


def card_spans(run: str) -> list[tuple[int, int]]:
    """Return where card numbers stand in a run of digit groups: neighbouring groups with 13 to 19 digits by Luhn."""
    groups = [match.span() for match in re.finditer(r"\d+", run)]
    spans: list[tuple[int, int]] = []
    for index, (start, _) in enumerate(groups):
        if run[start] in "23456" and (not spans or start >= spans[-1][1]):
            ends = (end for _, end in groups[index : index + _MOST_GROUPS])
            spans.extend([(start, end) for end in ends if is_card(run[start:end])][-1:])
    return spans


def is_card(number: str) -> bool:
    """Return whether *number* is a payment card's: 13 to 19 digits, an issuer's first digits, Luhn's checksum.

    No card starts with 1, as unix timestamps do, or with 20, as dates do.
    """
    digits = [int(char) for char in number if char.isdecimal()]
    if len(digits) not in _CARD_LENGTHS or len(set(digits)) == 1 or _ISSUER.match(number) is None:
        return False
    return (sum(map(_DOUBLED.__getitem__, digits[-2::-2])) + sum(digits[::-2])) % 10 == 0


def is_basic(credentials: str) -> bool:
    """Return whether *credentials* are those of HTTP Basic (RFC 7617): base64 of user, colon, password."""
    try:
        return b":" in base64.b64decode(credentials, validate=True)
    except (ValueError, binascii.Error):
        return False


def is_public(address: str) -> bool:
    """Return whether *address* is one that is reached over the internet, and so may be a person's."""
    try:
        return ip_address(address).is_global
    except ValueError:
        return False
