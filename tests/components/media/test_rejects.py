"""What is not usable media is refused with the right reason, and nothing outside the file is ever read: C12, C20."""

import io
import socket
import struct
import tarfile
import zipfile

import numpy as np
import pytest

from components.media.containers import Media, open_media, packets
from components.media.errors import (
    BY_REASON,
    DecodeFailed,
    EmptyFile,
    MediaError,
    MissingFile,
    NoStream,
    NotAFile,
    NotMedia,
    UnreadableContainer,
    UnreadableFile,
    media_error,
)
from components.media.extract import extract
from components.media.isolation import Decoder
from components.media.signatures import HEAD_BYTES


def zipped(name="song.mp3", data=bytes(5000)):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as out:
        out.writestr(name, data)
    return file.getvalue()


def tarred(data):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as out:
        entry = tarfile.TarInfo("song.mp3")
        entry.size = len(data)
        out.addfile(entry, io.BytesIO(data))
    return file.getvalue()


NOT_MEDIA = {  # file -> what its reason says
    b"<!DOCTYPE html><html><head><title>404 Not Found</title></head><body>" + b"<p>gone</p>" * 300: "a web page",
    b"\n\n  <html><body>Please log in</body></html>": "a web page",
    b'{"error": "rate limit", "retry_after": 3600}': "JSON",
    "Ça va? Tout va bien.\n".encode() * 200: "a text",
    b"\xef\xbb\xbfitem_id,title\n1,A\n": "a text",
    zipped(): "a ZIP archive",
    b"\x1f\x8b\x08\x00" + bytes(100): "gzip",
    b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<<>>\nendobj\n" * 20: "a PDF document",
    b"\x7fELF\x02\x01\x01" + bytes(500): "a program",
    b"MThd\0\0\0\x06" + bytes(50): "a MIDI score",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 12345\n": "Git LFS",
    b"1\n00:00:01,000 --> 00:00:02,000\nHello\n\n2\n00:00:03,000 --> 00:00:04,000\nWorld\n": "a text",
    b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n": "a playlist",
    b"ffconcat version 1.0\nfile /etc/passwd\n": "a playlist",
    b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n": "a session description",
    b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>': "XML",
    bytes(10_000): "Invalid data",
    b"x": "Invalid data|End of file",
}


@pytest.mark.parametrize(
    ("data", "says"), NOT_MEDIA.items(), ids=[f"{number}_{says}" for number, says in enumerate(NOT_MEDIA.values())]
)
def test_other_files_are_not_media(data, says, tmp_path):
    """C12: by content, under a name that claims otherwise; the reason says what was found."""
    path = tmp_path / "song.mp3"
    path.write_bytes(data)
    with pytest.raises(NotMedia, match=says):
        extract(path)


def test_archives_that_hold_sound_are_no_sound(clips):
    """A decoder that searches for frames of MP3 would find them in what is stored without compression."""
    mp3 = clips.audio(clips.tone(), container="mp3", codec="libmp3lame")
    page = b"<!DOCTYPE html>" + b"<p>text</p>" * 60
    before = (b"%PDF-1.7\n", b"Rar!\x1a\x07\x01\0", b"7z\xbc\xaf\x27\x1c", page, b"!<arch>\n")
    for data in (zipped(data=mp3), tarred(mp3), *(start + mp3 for start in before)):
        with pytest.raises(NotMedia):
            extract(data)


def test_a_reason_does_not_list_every_format():
    """A format that is known and not decoded here: said in a few words."""
    for data in (b"YUV4MPEG2 W16 H16 F25:1 Ip A1:1\nFRAME\n" + bytes(384) * 5, b"RIFF\0\0\0\0CDXA" + bytes(100)):
        with pytest.raises(MediaError) as caught:
            extract(data)
        assert len(caught.value.detail) < 150
        assert "matroska" not in caught.value.detail


def test_an_animated_webp_says_that_it_is_one(clips):
    data = clips.video(clips.moving(10), container="webp", codec="libwebp_anim")
    with pytest.raises(DecodeFailed, match="animated WebP"):
        extract(data)


def test_a_read_error_is_a_reason_and_not_the_end_of_the_decoder():
    """A regular file whose first bytes cannot be read, as on a broken disk."""
    with pytest.raises(UnreadableFile):
        extract("/proc/self/mem")
    with Decoder() as decoder:
        with pytest.raises(UnreadableFile):
            decoder.extract("/proc/self/mem")
        process = decoder._process.pid
        with pytest.raises(NotMedia):
            decoder.extract(bytes(100))
        assert decoder._process.pid == process


class Breaking(io.BytesIO):
    """A file that can be read up to a place."""

    def __init__(self, data, good_bytes):
        super().__init__(data)
        self.good_bytes = good_bytes

    def read(self, size=-1):
        if self.tell() >= self.good_bytes:
            raise OSError(5, "Input/output error")
        return super().read(size)


def test_a_read_error_while_opening(clips):
    with pytest.raises(UnreadableFile, match="Input/output error"):
        extract(Breaking(clips.audio(clips.tone(3.0)), HEAD_BYTES))


def test_a_read_error_later_leaves_what_was_read(clips):
    arrays = extract(Breaking(clips.audio(clips.tone(10.0)), 600_000))
    assert arrays.duration_s == pytest.approx(6.8, abs=0.8)
    assert [note.code for note in arrays.notes] == ["truncated"]


def test_nothing_to_read(tmp_path):
    """C12 and its kin: each has its own reason."""
    (tmp_path / "empty.mp3").write_bytes(b"")
    for source, error in [
        (tmp_path / "empty.mp3", EmptyFile),
        (b"", EmptyFile),
        (tmp_path / "no.mp3", MissingFile),
        (tmp_path / "empty.mp3" / "below.mp3", MissingFile),
        ("a\0b.mp3", MissingFile),
        (tmp_path, NotAFile),
        ("/dev/zero", NotAFile),
    ]:
        with pytest.raises(error):
            extract(source)


def test_mp4_cut_off_before_its_index(clips):
    """C20."""
    data = clips.video(np.random.default_rng(0).integers(0, 255, (25, 64, 64, 3), dtype=np.uint8))
    assert data.index(b"moov") > 3000
    with pytest.raises(UnreadableContainer, match="Invalid data"):
        extract(data[:3000])


def test_media_files_cut_short_give_what_is_left(clips):
    """Half a download decodes up to the cut."""
    noise = np.random.default_rng(0).normal(0, 0.2, 5 * 44_100).astype(np.float32)
    for container, codec in (
        ("wav", "pcm_s16le"),
        ("mp3", "libmp3lame"),
        ("flac", "flac"),
        ("ogg", "libvorbis"),
        ("adts", "aac"),
    ):
        data = clips.audio(noise, container=container, codec=codec)
        arrays = extract(data[: len(data) // 2])
        assert arrays.duration_s == pytest.approx(2.5, abs=0.6), container


def test_damage_in_the_middle_costs_only_the_middle(clips):
    """Zeros over a tenth of an MP3: the rest is decoded."""
    data = bytearray(clips.audio(clips.tone(5.0), container="mp3", codec="libmp3lame"))
    middle = len(data) // 2
    data[middle : middle + len(data) // 10] = bytes(len(data) // 10)
    assert 4.0 < extract(bytes(data)).duration_s < 5.2


@pytest.mark.parametrize("codec", ["aac", "flac"])
def test_damage_at_the_end_costs_only_the_segments_there(clips, codec):
    """The last 16 of 40 s are zeros, in which the decoder finds not one frame."""
    data = bytearray(clips.audio(clips.tone(40.0), container="mp4", codec=codec))
    start = data.index(b"mdat") + 4
    end = start + struct.unpack(">I", data[start - 8 : start - 4])[0] - 8
    first = start + (end - start) * 3 // 5
    data[first:end] = bytes(end - first)
    arrays = extract(bytes(data))
    assert arrays.audio_num_frames.tolist() == [300, 300, 0]
    assert arrays.duration_s == pytest.approx(40.0, abs=0.1)
    data[start:end] = bytes(end - start)
    with pytest.raises(DecodeFailed):
        extract(bytes(data))


def test_a_broken_picture_track_leaves_the_sound(clips):
    """One modality is damaged: the other one is used, and the damage is told."""
    data = clips.video(clips.moving(50), container="matroska", codec="mpeg4", sound=clips.tone())
    arrays = extract(data.replace(b"V_MPEG4/ISO/ASP", b"V_FUTURE/ISO/XY"))
    assert (arrays.has_audio, arrays.has_video) == (True, False)


def test_an_unknown_codec_alone_is_no_stream(clips):
    data = clips.video(clips.moving(5), container="matroska", codec="mpeg4")
    with pytest.raises(NoStream):
        extract(data.replace(b"V_MPEG4/ISO/ASP", b"V_FUTURE/ISO/XY"))


def test_a_track_of_nothing_but_damage_is_decode_failed(clips):
    """The container is whole, every packet is noise."""
    data = bytearray(clips.audio(clips.tone(), container="ipod", codec="aac"))
    start = data.index(b"mdat") + 4
    size = struct.unpack(">I", data[start - 8 : start - 4])[0] - 8
    data[start : start + size] = np.random.default_rng(0).integers(0, 255, size, dtype=np.uint8).tobytes()
    try:
        arrays = extract(bytes(data))
    except DecodeFailed as error:
        assert error.detail
    else:
        assert np.isfinite(arrays.duration_s), "AAC accepts some noise as sound"


def test_streams_that_show_up_after_opening_end_the_reading(clips):
    """A damaged FLV may bring more streams than PyAV's list: its demuxer answers with an IndexError."""

    data = clips.audio(clips.tone(), container="mp3", codec="libmp3lame")
    with open_media(data) as media:
        stream = media.stream("audio")
        whole = list(media.container.demux(stream))

        class Container:
            format = media.container.format

            def demux(self, _):
                yield from whole[:5]
                raise IndexError("list index out of range")

        read = packets(Media(io.BytesIO(data), Container(), data, len(data)), stream)
        assert [packet.pts for packet in read] == [packet.pts for packet in whole[:5]]


def test_playlists_read_neither_other_files_nor_the_network(tmp_path, clips):
    """An upload that names another file or a host gets nothing of it."""
    (tmp_path / "secret.wav").write_bytes(clips.audio(clips.tone()))
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.3)
        host = f"http://127.0.0.1:{server.getsockname()[1]}/x.ts"
        for target in (str(tmp_path / "secret.wav"), host):
            for text in (
                f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{target}\n#EXT-X-ENDLIST\n",
                f"ffconcat version 1.0\nfile '{target}'\n",
                '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011">'
                f"<Period><BaseURL>{target}</BaseURL></Period></MPD>",
                f"[Reference]\nRef1={target}\n",
            ):
                path = tmp_path / "upload.wav"
                path.write_text(text)
                with pytest.raises(MediaError):
                    extract(path)
        with pytest.raises(TimeoutError):
            server.accept()


def test_a_mov_that_points_outside_reads_nothing(tmp_path, clips):
    """QuickTime's data references name other files; they are not followed."""
    secret = tmp_path / "secret.raw"
    secret.write_bytes(bytes(range(256)) * 400)
    data = clips.audio(clips.tone(1.0), container="mov", codec="pcm_s16be")
    url = b"url " + struct.pack(">I", 1)
    assert url in data
    outside = data.replace(url, b"url " + struct.pack(">I", 0))
    try:
        arrays = extract(outside)
    except MediaError:
        return
    assert arrays.audio_log_mel.any(), "the samples inside the file itself"


def test_a_codec_named_by_no_characters(clips):
    """A damaged sample entry, not in ASCII (found by fuzzing): the codec is known from the stream's own header, too."""
    data = clips.audio(clips.tone(), container="ipod", codec="aac")
    place = data.index(b"mp4a", data.index(b"stsd"))
    assert extract(data[:place] + b"m\xf4\xff\xfe" + data[place + 4 :]).has_audio


def test_tags_in_an_old_code_page_do_not_matter(clips):
    data = clips.audio(clips.tone(), container="mp3", codec="libmp3lame", options={"id3v2_version": "0"})
    text = b"TIT2" + struct.pack(">I", 6) + b"\0\0" + b"\x03\xff\xfe\xe9\xe8x"
    header = b"ID3\x03\0\0" + bytes((len(text) >> shift) & 0x7F for shift in (21, 14, 7, 0))
    assert extract(header + text + data).has_audio


def test_reasons_are_unique_and_come_back():
    assert len(set(BY_REASON)) == len(BY_REASON) >= 14
    for reason, error in BY_REASON.items():
        assert isinstance(media_error(reason, "x"), error)


def test_files_are_closed(tmp_path, clips):
    path = tmp_path / "a.wav"
    path.write_bytes(clips.audio(clips.tone(0.1)))
    with open_media(path) as media:
        assert media.stream("audio") is not None
    path.unlink()
