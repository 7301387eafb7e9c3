"""What the bytes of an audio file say of its length, where libsndfile believes the header or guesses.

libsndfile takes a WAV, AIFF, W64, CAF or AU file that was cut off for a shorter one, reads nothing of a WAV stream
whose sizes are 0, and guesses the length of an MP3 file that has no Xing or Info frame, beyond which it does not read.
Of recordings that were written one after the other into one file, it reads the first, or a header as sound.
"""

from __future__ import annotations

import io
import re
from functools import cache
from typing import IO, Literal, NamedTuple, TypeAlias

BinaryStream: TypeAlias = IO[bytes] | io.RawIOBase
_UNKNOWN_SIZES = (2**32 - 1, 0x7FFFF000)
"""What ffmpeg and SoX write into a WAV header that they cannot come back to."""

_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_W64_RIFF = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_KBIT_S = {  # of layer 3 by whether it is MPEG 1; index 0 is free format, 15 is invalid
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0),
}
_MAGICS = (b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM", b"riff", b".snd", b"dns.")
_FLAC_BEGIN = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")
"""Magic and the head of the block that must follow it, STREAMINFO."""
_BOX_OR_ASF_BEGIN = re.compile(rb"\0\0\0[\x08-\xff]ftyp|" + re.escape(_ASF_HEADER))
_TAG_BITS = 9 << 4
"""Bit rate of a frame that is made here: the shortest frame of this index has room for an Info tag."""


def whole_stream(file: IO[bytes], where: str) -> BinaryStream | None:
    """Return what libsndfile reads to the end and no further.

    Args:
        file: open for reading, able to seek.
        where: names it in messages.

    Returns:
        A stream with a mended header over the same file; None for a file that may be read as it is.

    Raises:
        ValueError: the file is cut off, or holds several streams one after the other.
    """
    file.seek(0)
    magic = file.read(16)
    if magic[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64"):
        return _wav(file, where, "big" if magic[:4] == b"RIFX" else "little")
    if magic[:4] == b"FORM":
        _require_inside(file, where, _data_chunk(file, 12, b"SSND", "big"))
        _require_end(file, where, 8 + int.from_bytes(magic[4:8], "big"))
    elif magic == _W64_RIFF:
        data = _data_chunk(file, 40, b"data", "little", name=16, size=8)
        _require_inside(file, where, None if data is None or data.size > 2**62 else data)
        file.seek(16)
        _require_end(file, where, int.from_bytes(file.read(8), "little"))
    elif magic[:4] == b"caff":
        data = _data_chunk(file, 8, b"data", "big", size=8)
        if data is not None and data.size != 2**64 - 1:
            _require_inside(file, where, data)
            if _data_chunk(file, data.start + data.size, b"caff", "big", size=8) is not None:
                raise _several(where)
    elif magic[:4] in (b".snd", b"dns."):
        order: Literal["little", "big"] = "big" if magic[:1] == b"." else "little"
        start, size = (int.from_bytes(magic[at : at + 4], order) for at in (4, 8))
        _require_inside(file, where, None if size in _UNKNOWN_SIZES else _Chunk(start, size))
        _require_end(file, where, start + size)
    elif magic[:4] == b"OggS":
        _require_one_ogg_stream(file, where)
    elif magic[:4] == b"fLaC":
        _require_whole_flac(file, where, 0)
    elif magic[:3] == b"ID3" or _Mpeg.at(magic, 0) is not None:
        start = _behind_id3(file)
        file.seek(start)
        if file.read(4) != b"fLaC":
            return _mp3(file, where, start)
        _require_whole_flac(file, where, start)
    return None


def require_one_recording(file: IO[bytes], where: str) -> None:
    """Refuse MP4 (m4a, mov, 3gp) and ASF (wma) files in which another begins, which ffmpeg passes over.

    Raises:
        ValueError: such a file.
    """
    if _occurs(_BOX_OR_ASF_BEGIN, file, 16):
        raise _several(where)


class _Chunk(NamedTuple):
    """Where samples begin, and how many bytes the header promises, or how many there are."""

    start: int
    size: int


def _length(file: IO[bytes]) -> int:
    return file.seek(0, io.SEEK_END)


def _require_inside(file: IO[bytes], where: str, chunk: _Chunk | None) -> None:
    present = _length(file)
    if chunk is not None and chunk.start + chunk.size > present:
        raise ValueError(
            f"{where}: is cut off: {present} of {chunk.start + chunk.size} bytes; fetch or write the file again"
        )


def _require_end(file: IO[bytes], where: str, position: int) -> None:
    """Refuse a file in which another begins where it should end, or one byte further, as chunks are padded."""
    file.seek(min(position, _length(file)))
    behind = file.read(5)
    if behind.startswith(_MAGICS) or behind[1:].startswith(_MAGICS):
        raise _several(where)


def _several(where: str, remedy: str = "write each to a file of its own") -> ValueError:
    return ValueError(
        f"{where}: holds several recordings one after the other, of which only the first would be read; {remedy}"
    )


_AS_ONE = "write it again as one (ffmpeg -i FILE NEW.flac)"


def _occurs(pattern: re.Pattern[bytes], file: IO[bytes], position: int) -> bool:
    """Say whether a pattern of up to 16 bytes occurs from a position on."""
    file.seek(position)
    before = b""
    while read := file.read(2**20):
        if pattern.search(before + read):
            return True
        before = read[-15:]
    return False


def _data_chunk(
    file: IO[bytes], position: int, wanted: bytes, order: Literal["little", "big"], *, name: int = 4, size: int = 4
) -> _Chunk | None:
    """Find the chunk of the samples behind others; names and sizes have `name` and `size` bytes."""
    present = _length(file)
    while True:
        file.seek(min(position, present))  # a size of 64 bits can lead further than a system can count
        header = file.read(name + size)
        if len(header) < name + size:
            return None
        n_bytes = int.from_bytes(header[name:], order)
        if name == 16:  # W64 counts its headers
            n_bytes = max(n_bytes - 24, 0)
        position += len(header)
        if header[:4] == wanted:
            return _Chunk(position, n_bytes)
        step = {16: 8, 4: 2 if size == 4 else 1}[name]
        position += -(-n_bytes // step) * step


def _wav(file: IO[bytes], where: str, order: Literal["little", "big"]) -> BinaryStream | None:
    data = _data_chunk(file, 12, b"data", order)
    if data is None:
        return None
    present = _length(file)
    file.seek(0)
    head = file.read(data.start)
    _require_end(file, where, 8 + int.from_bytes(head[4:8], order))
    if head[:4] in (b"RF64", b"BW64") and head[12:16] == b"ds64":
        _require_end(file, where, 8 + int.from_bytes(head[20:28], "little"))
        if data.size == 2**32 - 1:
            data = _Chunk(data.start, int.from_bytes(head[28:36], "little"))
        _require_inside(file, where, data)
        return None
    if data.size == 0 and data.start < present and int.from_bytes(head[4:8], order) + 8 != present:
        return _Spliced(head[:-4] + b"\xff" * 4, file, data.start)
    if data.size not in _UNKNOWN_SIZES:
        _require_inside(file, where, data)
        if present > 2**32 + 2**16:
            raise ValueError(f"{where}: has more bytes than a WAV header can count; write it as RF64, W64 or FLAC")
    return None


def _require_one_ogg_stream(file: IO[bytes], where: str) -> None:
    """Walk the pages: the last must be marked as the end, and no stream may begin after one."""
    present, position, flags = _length(file), 0, 0
    while position < present:
        file.seek(position)
        header = file.read(27 + 255)
        if header[:4] != b"OggS" or len(header) < 27:
            break
        if header[5] & 2 and flags & 4:
            raise _several(where, _AS_ONE)
        flags = header[5]
        n_segments = header[26]
        position += 27 + n_segments + sum(header[27 : 27 + n_segments])
    if position > present or not flags & 4:
        raise ValueError(f"{where}: is cut off: its last page is missing; fetch or write the file again")


def _require_whole_flac(file: IO[bytes], where: str, start: int) -> None:
    """Look for a second stream and, where the header does not know the length, for a last frame that is not full.

    libsndfile itself finds a frame that was cut, and too few samples where the header knows how many there are.
    """
    kind, position, n_samples, largest = 0, start + 4, 0, 0
    while not kind & 0x80:  # the flag of the last block of metadata
        file.seek(position)
        block = file.read(4 + 18)
        if len(block) < 4:
            return
        kind = block[0]
        if kind & 0x7F == 0:
            largest, n_samples = int.from_bytes(block[6:8], "big"), int.from_bytes(block[17:22], "big") & (2**36 - 1)
        position += 4 + int.from_bytes(block[1:4], "big")
    if _occurs(_FLAC_BEGIN, file, position):
        raise _several(where, _AS_ONE)
    if n_samples == 0:
        file.seek(max(position, _length(file) - 2**20))
        if _last_flac_frame(file.read()) in (0, largest):
            raise ValueError(
                f"{where}: its header does not know its length, and it ends as a recording that was cut off does; "
                "fetch it again or, if it is whole, write it again (ffmpeg -i FILE NEW.flac)"
            )


def _last_flac_frame(data: bytes) -> int:
    """Count the samples of the frame with which the data end; 0 where they end with none."""
    position = len(data)
    while (position := data.rfind(b"\xff", 0, position)) >= 0:
        n_samples = _flac_frame(data[position : position + 16].ljust(16, b"\0"))
        if n_samples and _crc(data[position:], 16, 0x8005) == 0:
            return n_samples
    return 0


def _flac_frame(head: bytes) -> int:
    """Count the samples of the frame that begins with these 16 bytes; 0 where none does (RFC 9639, section 9.1)."""
    size, rate, n_number = head[2] >> 4, head[2] & 15, max(8 - (head[4] ^ 0xFF).bit_length(), 1)
    n_size, n_rate = {6: 1, 7: 2}.get(size, 0), {12: 1, 13: 2, 14: 2}.get(rate, 0)
    at = 4 + n_number
    if head[1] & 0xFE != 0xF8 or size == 0 or n_number == 8 or _crc(head[: at + n_size + n_rate + 1], 8, 0x07) != 0:
        return 0
    if n_size:
        return int.from_bytes(head[at : at + n_size], "big") + 1
    return 192 if size == 1 else 144 << size if size < 6 else 1 << size


def _crc(data: bytes, n_bits: int, polynomial: int) -> int:
    """Compute a checksum, which is 0 over data that end with their own."""
    table = _crc_table(n_bits, polynomial)
    value = 0
    for byte in data:
        value = (value << 8 & (1 << n_bits) - 1) ^ table[(value >> n_bits - 8) ^ byte]
    return value


@cache
def _crc_table(n_bits: int, polynomial: int) -> tuple[int, ...]:
    """Compute the checksum of each byte."""
    values = []
    for byte in range(256):
        value = byte << n_bits - 8
        for _ in range(8):
            value = (value << 1) ^ (polynomial | 1 << n_bits if value >> n_bits - 1 else 0)
        values.append(value)
    return tuple(values)


class _Mpeg(NamedTuple):
    """Header of an MPEG audio frame of layer 3."""

    size: int
    """Bytes of the frame with its header."""
    is_mpeg_1: bool
    n_side: int
    """Bytes between the header and a tag."""
    kind: bytes
    """What all frames of a file have in common: version, layer, and sample rate."""

    @classmethod
    def at(cls, data: bytes, position: int) -> _Mpeg | None:
        """Read the header at a position; None if there is none."""
        header = data[position : position + 4]
        if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2 or header[1] & 0x18 == 0x08:
            return None
        version, rate = header[1] >> 3 & 3, header[2] >> 2 & 3
        kbit_s = _KBIT_S[version == 3][header[2] >> 4]
        if rate == 3 or kbit_s == 0:
            return None
        sample_rate = (44100, 48000, 32000)[rate] >> {3: 0, 2: 1, 0: 2}[version]
        size = (144 if version == 3 else 72) * kbit_s * 1000 // sample_rate + (header[2] >> 1 & 1)
        mono = header[3] >> 6 == 3
        n_side = (17 if mono else 32) if version == 3 else (9 if mono else 17)
        return cls(size, version == 3, n_side, bytes([header[1] & 0x1E, header[2] & 0x0C]))


_TAGS_BEHIND = (b"TAG", b"APETAGEX", b"LYRICSBEGIN", b"ID3", b"3DI")


def _mp3(file: IO[bytes], where: str, start: int) -> BinaryStream | None:
    """Put an Info frame that counts the frames before a file that has none, or whose own counts too few."""
    file.seek(start)
    data = file.read()
    first = _Mpeg.at(data, 0)
    if first is None:
        return None
    n_frames, end = _count_frames(data, first)
    last = _Mpeg.at(data, end)
    if data[end:] in (b"\xff", data[:2], data[:3]) or (last is not None and last.kind == first.kind):
        raise ValueError(
            f"{where}: is cut off inside its last frame; fetch it again or, if what there is will do, write it again "
            "(ffmpeg -i FILE NEW.flac)"
        )
    rest = data[end:].strip(b"\0")
    if len(rest) > 2 * first.size and not rest.startswith(_TAGS_BEHIND):
        raise ValueError(
            f"{where}: what follows byte {start + end} is no MP3 frame of the same rate, and would not be read; "
            "write it again (ffmpeg -i FILE NEW.flac)"
        )
    tag = data[4 + first.n_side : first.size]
    if tag[:4] in (b"Xing", b"Info"):
        n_promised = int.from_bytes(tag[8:12], "big") if tag[7] & 1 else 0
        if n_promised + 2 > n_frames:
            return None
        n_frames, start = n_frames - 1, start + first.size
    header = bytes([data[0], data[1] | 1, _TAG_BITS | data[2] & 0x0D, data[3]])
    frame = _Mpeg.at(header, 0)
    assert frame is not None
    tag = header + bytes(frame.n_side) + b"Info" + (1).to_bytes(4, "big") + n_frames.to_bytes(4, "big")
    return _Spliced(tag.ljust(frame.size, b"\0"), file, start)


def _behind_id3(file: IO[bytes]) -> int:
    """Return the position of the first frame."""
    start = 0
    file.seek(0)
    while (head := file.read(10))[:3] == b"ID3":
        size = sum((byte & 127) << 7 * (3 - place) for place, byte in enumerate(head[6:10]))
        start += 10 + size + (10 if head[5] & 16 else 0)
        file.seek(start)
    return start


def _count_frames(data: bytes, first: _Mpeg) -> tuple[int, int]:
    """Walk the frames up to what is none; return how many are whole, and where that ends."""
    position = n_frames = 0
    while (frame := _Mpeg.at(data, position)) is not None and frame.kind == first.kind:
        if position + frame.size > len(data):
            break
        position += frame.size
        n_frames += 1
    return n_frames, position


class _Spliced(io.RawIOBase):
    """Reads as `head` and then as a file from `skip` on."""

    def __init__(self, head: bytes, file: IO[bytes], skip: int) -> None:
        self._head, self._file, self._skip, self._position = head, file, skip, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        length = len(self._head) + _length(self._file) - self._skip
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: length}[whence]
        return self._position

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
        """Fill the buffer as far as there is something: a short read is the end to libsndfile."""
        content = self._head[self._position : self._position + len(buffer)]
        if len(content) < len(buffer):
            self._file.seek(self._skip + max(self._position - len(self._head), 0))
            content += self._file.read(len(buffer) - len(content))
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)
