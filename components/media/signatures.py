"""What a file is by its first bytes, in a word for people. Standard library only."""

from __future__ import annotations

import re

HEAD_BYTES = 1 << 16  # enough for the headers that are looked into

# Formats that are no media and yet may hold some, uncompressed: a decoder that searches for sound would find it.
_OTHERS = (
    (0, b"PK\x03\x04", "a ZIP archive (or a document that is one)"),
    (0, b"PK\x05\x06", "an empty ZIP archive"),
    (0, b"PK\x07\x08", "a ZIP archive in parts"),
    (257, b"ustar", "a tar archive"),
    (0, b"Rar!\x1a\x07", "a RAR archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"\x1f\x8b", "gzip data"),
    (0, b"BZh", "bzip2 data"),
    (0, b"\xfd7zXZ\x00", "xz data"),
    (0, b"\x28\xb5\x2f\xfd", "Zstandard data"),
    (0, b"\x04\x22\x4d\x18", "LZ4 data"),
    (0, b"!<arch>\n", "an ar archive (or a Debian package)"),
    (0, b"070701", "a cpio archive"),
    (0, b"070707", "a cpio archive"),
    (0, b"MSCF", "a cabinet archive"),
    (2, b"-lh", "an LHA archive"),
    (0, b"xar!", "a xar archive"),
    (32769, b"CD001", "a disc image"),
    (0, b"KDMV", "a disc image"),
    (0, b"QFI\xfb", "a disc image"),
    (0, b"hsqs", "a file system image"),
    (0, b"%PDF", "a PDF document"),
    (0, b"%!PS", "a PostScript document"),
    (0, b"{\\rtf", "an RTF document"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Office document"),
    (0, b"SQLite format 3\x00", "an SQLite database"),
    (0, b"PAR1", "a Parquet table"),
    (0, b"ARROW1", "an Arrow table"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"\x89HDF", "an HDF5 file"),
    (0, b"\x7fELF", "a program"),
    (0, b"MZ", "a program"),
    (0, b"\xcf\xfa\xed\xfe", "a program"),
    (0, b"\xca\xfe\xba\xbe", "a program"),
    (0, b"\x00asm", "a program"),
    (0, b"wOFF", "a font"),
    (0, b"wOF2", "a font"),
    (0, b"OTTO", "a font"),
    (0, b"MThd", "a MIDI score, which holds notes and no sound"),
)

_MEDIA = (  # (offset, bytes): what files of the formats that are decoded begin with
    *((0, magic) for magic in (b"RIFF", b"RIFX", b"RF64", b"FORM", b".snd", b"caff", b"ID3", b"fLaC", b"OggS")),
    *((0, magic) for magic in (b"MAC ", b"wvpk", b"TTA1", b"tBaK", b"MP+", b"MPCK", b"DSD ", b"#!AMR", b"\x0b\x77")),
    *((0, magic) for magic in (b"Creative Voice", b"\x7f\xfe\x80\x01", b"\x30\x26\xb2\x75", b"\x1a\x45\xdf\xa3")),
    *((0, magic) for magic in (b"FLV", b"\x00\x00\x01", b"\x00\x00\x00\x01", b"DKIF", b".RMF", b"GIF8", b"\x89PNG")),
    *((0, magic) for magic in (b"\xff\xd8\xff", b"BM", b"II*\x00", b"MM\x00*", b"\x06\x0e\x2b\x34")),
    (0, b"nut/multimedia"),
    *((4, magic) for magic in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")),
)

_TEXT_BYTES = 512
_CONTROLS = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_TEXTS = (
    (re.compile(r"#EXTM3U|\[playlist\]|ffconcat|\[Reference\]|<MPD|<asx|<smil", re.IGNORECASE), "a playlist"),
    (re.compile(r"v=0\r?\n"), "a session description"),
    (re.compile(r"version https://git-lfs"), "a pointer of Git LFS, not the file itself"),
    (re.compile(r"<!doctype html|<html|<head|<body", re.IGNORECASE), "a web page"),
    (re.compile(r"<svg|<\?xml", re.IGNORECASE), "XML"),
    (re.compile(r"[\[{]"), "JSON"),
)


def other_than_media(head: bytes) -> str | None:
    """What the file is, where its first bytes say that it is no medium; None where they do not."""
    for offset, magic, name in _OTHERS:
        if head[offset : offset + len(magic)] == magic:
            return name
    return _kind_of_text(head[:_TEXT_BYTES])


def looks_like_media(head: bytes) -> bool:
    """Whether the first bytes are those of a format that is decoded."""
    is_mpeg_audio = len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0
    return is_mpeg_audio or any(head[offset : offset + len(magic)] == magic for offset, magic in _MEDIA)


def is_animated_webp(head: bytes) -> bool:
    """Whether it is a WebP picture with the flag of an animation."""
    return head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and len(head) > 20 and bool(head[20] & 2)


def encryption_of(head: bytes) -> str | None:
    """The encryption that a container's header states, None without. Encrypted packets of MP4 say so themselves."""
    if head[:4] == b"\x30\x26\xb2\x75" and any(guid in head for guid in _ASF_ENCRYPTION):
        return "Windows Media with rights management"
    if head[:4] == b"\x1a\x45\xdf\xa3" and _MATROSKA_ENCRYPTION.search(head):
        return "an encrypted track of Matroska or WebM"
    if head[:1] == b"G" and head[_TS_PACKET_BYTES::_TS_PACKET_BYTES][:4] == b"GGGG":
        packets = [head[start : start + 4] for start in range(0, len(head) - 3, _TS_PACKET_BYTES)]
        scrambled = sum(packet[0] == ord("G") and packet[3] & 0x80 != 0 for packet in packets)
        return "scrambled packets of a transport stream" if 2 * scrambled > len(packets) else None
    return None


_TS_PACKET_BYTES = 188
_ASF_ENCRYPTION = (  # the objects Content Encryption and Extended Content Encryption
    bytes.fromhex("fbb3112223bdd211b4b700a0c955fc6e"),
    bytes.fromhex("14e68a292226174cb935dae07ee9289c"),
)
_MATROSKA_ENCRYPTION = re.compile(
    rb"\x6d\x80.{1,64}\x50\x33\x81\x01", re.DOTALL
)  # ContentEncodings, of type encryption


def _kind_of_text(start: bytes) -> str | None:
    if not start.strip() or _CONTROLS.search(start) or len(start) < 2:
        return None
    try:
        text = start.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "strict" if len(start) < _TEXT_BYTES else "ignore")
    except UnicodeDecodeError:
        return None
    if len(text) < 0.7 * len(start):  # mostly not UTF-8
        return None
    text = text.lstrip()
    return next((name for pattern, name in _TEXTS if pattern.match(text)), "a text")
