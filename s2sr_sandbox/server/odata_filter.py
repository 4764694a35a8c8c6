"""CDSE's ``$filter`` language: a recursive-descent parser; its result is a predicate over catalogue entries.

The language is that of https://documentation.dataspace.copernicus.eu/APIs/OData.html, and no more::

    or         = and {"or" and}
    and        = not {"and" not}
    not        = "not" not | primary
    primary    = "(" or ")" | function | any | intersects | comparison
    function   = ("contains" | "startswith" | "endswith") "(" operand "," operand ")"
    any        = "Attributes/OData.CSC.<Type>Attribute/any" "(" variable ":" or ")"
    intersects = "OData.CSC.Intersects" "(" "area" "=" geography'SRID=4326;…' ")"
    comparison = operand ("eq" | "ne" | "lt" | "le" | "gt" | "ge") operand
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

from s2sr_sandbox.server.geography import area_of
from s2sr_sandbox.server.odata_tokens import MAX_DEPTH, FilterError, Token, time_of, tokens, unquoted
from s2sr_sandbox.server.products import Entry, Value, value_type

#: An attribute's name and value.
type Attribute = tuple[str, Value]
type Predicate = Callable[[Entry], bool]

# Inside any(…) a test also sees one attribute; elsewhere no expression can name it.
type _Test = Callable[[Entry, Attribute], bool]
type _Read = Callable[[Entry, Attribute], Value]

_NO_ATTRIBUTE: Attribute = ("", "")
_ATTRIBUTE_TYPES = "String|Double|Integer|DateTimeOffset|Boolean"
_ANY = re.compile(rf"[Aa]ttributes/OData\.CSC\.({_ATTRIBUTE_TYPES})Attribute/any")
_VALUE = re.compile(rf"(?:OData\.CSC\.({_ATTRIBUTE_TYPES})Attribute/)?Value")
_KIND_OF_TYPE = {
    "String": "text",
    "Double": "number",
    "Integer": "number",
    "DateTimeOffset": "time",
    "Boolean": "truth",
}
_COMPARE: dict[str, Callable[[Value, Value], bool]] = {
    name: getattr(operator, name) for name in ("eq", "ne", "lt", "le", "gt", "ge")
}
_FUNCTIONS: dict[str, Callable[[str, str], bool]] = {
    "contains": operator.contains,
    "startswith": str.startswith,
    "endswith": str.endswith,
}


@dataclass(frozen=True, slots=True)
class _Operand:
    """One side of a comparison; its kind is empty if it depends on the attribute."""

    kind: str
    read: _Read
    shown: str


_FIELDS: dict[str, tuple[str, Callable[[Entry], Value]]] = {
    "Collection/Name": ("text", lambda entry: entry.collection),
    "Name": ("text", lambda entry: entry.name),
    "Id": ("text", lambda entry: entry.id),
    "Online": ("truth", lambda entry: entry.online),
    "ContentLength": ("number", lambda entry: entry.content_length),
    "ContentDate/Start": ("time", lambda entry: entry.start),
    "ContentDate/End": ("time", lambda entry: entry.end),
    "PublicationDate": ("time", lambda entry: entry.published),
    "ModificationDate": ("time", lambda entry: entry.published),
    "OriginDate": ("time", lambda entry: entry.published),
}


def parse_filter(text: str, *, multipolygons: bool = False) -> Predicate:
    """The predicate of a ``$filter``; ``multipolygons`` says whether areas may be MULTIPOLYGONs.

    Raises
    ------
    FilterError
        If it is not in the language.
    """
    test = _Parser(tokens(text), multipolygons=multipolygons).parsed()
    return lambda entry: test(entry, _NO_ATTRIBUTE)


class _Parser:
    def __init__(self, words: list[Token], *, multipolygons: bool) -> None:
        self._words = words
        self._multipolygons = multipolygons
        self._next = 0
        self._depth = 0
        self._variable = ""
        self._attribute_type = ""

    def parsed(self) -> _Test:
        test = self._or()
        if self._word.kind != "end":
            raise self._unexpected("and, or, or the end")
        return test

    # ------------------------------------------------------------------------------------------------------- words

    @property
    def _word(self) -> Token:
        return self._words[self._next]

    def _take(self) -> Token:
        word = self._word
        self._next += word.kind != "end"
        return word

    def _taken(self, text: str) -> bool:
        """Whether the next word is ``text``; if so, it is consumed."""
        if self._word.kind in ("path", "mark") and self._word.text == text:
            self._next += 1
            return True
        return False

    def _expect(self, text: str) -> None:
        if not self._taken(text):
            raise self._unexpected(repr(text))

    def _unexpected(self, wanted: str) -> FilterError:
        return FilterError(f"{self._word} at position {self._word.at}; expected {wanted}")

    # ------------------------------------------------------------------------------------------------- expressions

    def _or(self) -> _Test:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise FilterError(f"nested more than {MAX_DEPTH} deep")
        tests = [self._and()]
        while self._taken("or"):
            tests.append(self._and())
        self._depth -= 1
        return tests[0] if len(tests) == 1 else lambda entry, attribute: any(test(entry, attribute) for test in tests)

    def _and(self) -> _Test:
        tests = [self._not()]
        while self._taken("and"):
            tests.append(self._not())
        return tests[0] if len(tests) == 1 else lambda entry, attribute: all(test(entry, attribute) for test in tests)

    def _not(self) -> _Test:
        negated = False
        while self._taken("not"):
            negated = not negated
        test = self._primary()
        return (lambda entry, attribute: not test(entry, attribute)) if negated else test

    def _primary(self) -> _Test:
        if self._taken("("):
            test = self._or()
            self._expect(")")
            return test
        word = self._word
        if word.kind == "path" and word.text in _FUNCTIONS:
            return self._function(_FUNCTIONS[self._take().text])
        if word.kind == "path" and (match := _ANY.fullmatch(word.text)):
            self._take()
            return self._any(match[1])
        if self._taken("OData.CSC.Intersects"):
            return self._intersects()
        return self._comparison()

    def _function(self, function: Callable[[str, str], bool]) -> _Test:
        self._expect("(")
        text = self._text_operand()
        self._expect(",")
        part = self._text_operand()
        self._expect(")")
        return lambda entry, attribute: function(str(text(entry, attribute)), str(part(entry, attribute)))

    def _text_operand(self) -> _Read:
        operand = self._operand()
        if operand.kind not in ("text", ""):
            raise FilterError(f"{operand.shown} is not a text")
        return operand.read

    def _any(self, attribute_type: str) -> _Test:
        if self._variable:
            raise FilterError("any(…) inside any(…)")
        self._expect("(")
        variable = self._take()
        if variable.kind != "path" or "/" in variable.text or "." in variable.text:
            raise FilterError(f"{variable} at position {variable.at}; expected a variable")
        self._expect(":")
        self._variable, self._attribute_type = variable.text, attribute_type
        test = self._or()
        self._variable = ""
        self._expect(")")
        return lambda entry, _: any(
            test(entry, item) for item in entry.attributes.items() if value_type(item[1]) == attribute_type
        )

    def _intersects(self) -> _Test:
        for text in ("(", "area", "="):
            self._expect(text)
        word = self._take()
        if word.kind != "prefixed" or not word.text.startswith("geography'"):
            raise FilterError(f"{word} at position {word.at}; expected geography'SRID=4326;…'")
        area = area_of(unquoted(word.text.removeprefix("geography")), multipolygons=self._multipolygons)
        self._expect(")")
        return lambda entry, _: entry.footprint is not None and bool(area.intersects(entry.footprint))

    def _comparison(self) -> _Test:
        left = self._operand()
        word = self._take()
        if word.kind != "path" or word.text not in _COMPARE:
            raise FilterError(f"{word} at position {word.at}; expected one of {' '.join(_COMPARE)}")
        compare, right = _COMPARE[word.text], self._operand()
        if left.kind and right.kind and left.kind != right.kind:
            raise FilterError(f"{left.shown} ({left.kind}) cannot be compared with {right.shown} ({right.kind})")
        if "truth" in (left.kind, right.kind) and word.text not in ("eq", "ne"):
            raise FilterError(f"{word.text} does not order true and false")

        def test(entry: Entry, attribute: Attribute) -> bool:
            one, other = left.read(entry, attribute), right.read(entry, attribute)
            return _kind(one) == _kind(other) and compare(one, other)

        return test

    # ---------------------------------------------------------------------------------------------------- operands

    def _operand(self) -> _Operand:
        word = self._take()
        match word.kind:
            case "text":
                return _literal("text", unquoted(word.text), word)
            case "guid":
                return _literal("text", word.text.lower(), word)
            case "number":
                return _literal("number", float(word.text), word)
            case "time":
                return _literal("time", time_of(word), word)
            case "path" if word.text in ("true", "false"):
                return _literal("truth", word.text == "true", word)
            case "path" if word.text in _FIELDS and not self._variable:
                kind, read = _FIELDS[word.text]
                return _Operand(kind, lambda entry, _: read(entry), word.text)
            case "path" if self._variable and word.text.startswith(f"{self._variable}/"):
                return self._attribute_operand(word)
            case "prefixed":
                raise FilterError(f"{word} at position {word.at}: literals with a prefix are not supported here")
        raise FilterError(f"{word} at position {word.at} is neither a field nor a literal")

    def _attribute_operand(self, word: Token) -> _Operand:
        path = word.text.removeprefix(f"{self._variable}/")
        if path == "Name":
            return _Operand("text", lambda _, attribute: attribute[0], word.text)
        if match := _VALUE.fullmatch(path):
            # eodag asks for the String value of Integer attributes; then the value itself decides how it is compared.
            kind = _KIND_OF_TYPE[match[1]] if match[1] == self._attribute_type else ""
            return _Operand(kind, lambda _, attribute: attribute[1], word.text)
        raise FilterError(f"{word} at position {word.at} is not a property of an attribute")


def _literal(kind: str, value: Value, word: Token) -> _Operand:
    return _Operand(kind, lambda *_: value, str(word))


def _kind(value: Value) -> str:
    return _KIND_OF_TYPE[value_type(value)]
