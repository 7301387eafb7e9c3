"""A confusion matrix as a PNG, drawn without any plotting library: colours from light to dark, a 5 x 7 font."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hydraudio.report.media import png_bytes

_WIDTH, _CELL_HEIGHT, _SCALE, _MARGIN = 104, 58, 2, 14  # pixels; a dot of the font is _SCALE pixels wide
_ADVANCE, _HEIGHT = 6, 7  # dots
_TEXT, _PAPER = 254, 255  # palette entries; colours use the others
_N_COLORS = 254
_DARK_ABOVE = 0.5  # shares above this are dark: their text is light
_LIGHT_RGB, _DARK_RGB, _TEXT_RGB, _PAPER_RGB = (238, 243, 253), (30, 66, 160), (27, 33, 48), (255, 255, 255)

# One row of dots per letter of base 32 ("0" to "9", "A" to "V"), from top to bottom; the highest of 5 bits is left.
_FONT = {
    "A": "EHHVHHH", "B": "UHHUHHU", "C": "EHGGGHE", "D": "UHHHHHU", "E": "VGGUGGV", "F": "VGGUGGG", "G": "EHGNHHF",
    "H": "HHHVHHH", "I": "E44444E", "J": "11111HE", "K": "HIKOKIH", "L": "GGGGGGV", "M": "HRLLHHH", "N": "HPPLJJH",
    "O": "EHHHHHE", "P": "UHHUGGG", "Q": "EHHHLID", "R": "UHHUKIH", "S": "FGGE11U", "T": "V444444", "U": "HHHHHHE",
    "V": "HHHHHA4", "W": "HHHLLRH", "X": "HHA4AHH", "Y": "HHA4444", "Z": "V1248GV",
    "0": "EHJLPHE", "1": "4C4444E", "2": "EH1248V", "3": "V2421HE", "4": "26AIV22", "5": "VGU11HE", "6": "68GUHHE",
    "7": "V124888", "8": "EHHEHHE", "9": "EHHF12C",
    "-": "000E000", ".": "00000CC", "%": "OP248J3", "/": "01248G0", "(": "2488842", ")": "8422248",
}  # fmt: skip


def confusion_png(confusion: NDArray[np.int64], class_names: Sequence[str]) -> bytes:
    """PNG of counts (true, predicted): colours and percentages are shares of the row, counts are below them."""
    n_classes, text_height = len(class_names), _HEIGHT * _SCALE
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    left = 2 * _MARGIN + max(_text_width(name) for name in class_names)
    top = 3 * _MARGIN + 2 * text_height
    shape = top + n_classes * _CELL_HEIGHT + _MARGIN, left + n_classes * _WIDTH + _MARGIN
    image = np.full(shape, _PAPER, dtype=np.uint8)
    _write(image, "Rows - true / columns - predicted", _MARGIN, _MARGIN, _TEXT)
    for row, name in enumerate(class_names):
        y = top + row * _CELL_HEIGHT
        _write(image, name, left - _MARGIN - _text_width(name), y + (_CELL_HEIGHT - text_height) // 2, _TEXT)
        heading = name[: _WIDTH // (_ADVANCE * _SCALE)]
        _write_centred(image, heading, left + row * _WIDTH, top - _MARGIN - text_height, _TEXT)
        for column in range(n_classes):
            x = left + column * _WIDTH
            _cell(image, x, y, float(shares[row, column]), int(confusion[row, column]))
    return png_bytes(image, _palette())


def _cell(image: NDArray[np.uint8], x: int, y: int, share: float, n: int) -> None:
    image[y + 1 : y + _CELL_HEIGHT, x + 1 : x + _WIDTH] = round(share * (_N_COLORS - 1))
    ink = _PAPER if share > _DARK_ABOVE else _TEXT
    _write_centred(image, f"{100 * share:.0f}%", x, y + _CELL_HEIGHT // 2 - 18, ink)
    _write_centred(image, str(n), x, y + _CELL_HEIGHT // 2 + 5, ink)


def _write_centred(image: NDArray[np.uint8], text: str, x: int, y: int, ink: int) -> None:
    _write(image, text, x + (_WIDTH - _text_width(text)) // 2, y, ink)


def _write(image: NDArray[np.uint8], text: str, x: int, y: int, ink: int) -> None:
    """Puts capitals, digits and a few signs at (x, y); other characters leave a space."""
    for character in text.upper():
        for row, code in enumerate(_FONT.get(character, "")):
            bits = int(code, 32)
            for column in range(5):
                if bits >> (4 - column) & 1:
                    dot_y, dot_x = y + row * _SCALE, x + column * _SCALE
                    image[dot_y : dot_y + _SCALE, dot_x : dot_x + _SCALE] = ink
        x += _ADVANCE * _SCALE


def _text_width(text: str) -> int:
    return max(len(text) * _ADVANCE - 1, 0) * _SCALE


def _palette() -> NDArray[np.uint8]:
    position = np.linspace(0, 1, _N_COLORS)[:, None]
    colors = (1 - position) * np.array(_LIGHT_RGB) + position * np.array(_DARK_RGB)
    return np.concatenate([colors, [_TEXT_RGB, _PAPER_RGB]]).round().astype(np.uint8)
