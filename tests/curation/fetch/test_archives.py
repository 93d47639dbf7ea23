import gzip
import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.fetch import archives, gunzip
from curation.fetch.archives import Archive, MemberDamage, Reading, group_archives, stream_members
from curation.fetch.gunzip import Damage
from tests.support.archives import zip_of
from tests.support.upstream import write_files

FILES = {f"in/{number}.bin": bytes([number]) * (700 * number) for number in range(1, 9)}


def tar_of(files: Mapping[str, bytes], *, packed: bool = False) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return gzip.compress(buffer.getvalue(), mtime=0) if packed else buffer.getvalue()


def read_archive(root: Path, archive: Archive) -> tuple[dict[str, bytes], Reading]:
    """The members that are whole, and what was met."""
    reading = Reading()
    whole: dict[str, bytes] = {}
    for member in stream_members(archive, root, reading):
        try:
            whole[member.name] = member.read()
        except Damage:
            continue
    return whole, reading


def split(data: bytes, name: str, suffixes: list[str]) -> dict[str, bytes]:
    size = -(-len(data) // len(suffixes))
    return {f"{name}{suffix}": data[n * size : (n + 1) * size] for n, suffix in enumerate(suffixes)}


# --- Which files belong together ----------------------------------------------------------------------------------------


def test_parts_are_joined_in_numeric_order():
    names = [f"allava.tar.gz_part{number}" for number in (10, 2, 1, 12, 11, *range(3, 10))]
    assert group_archives(names) == [Archive("allava.tar.gz", tuple(f"allava.tar.gz_part{n}" for n in range(1, 13)))]


def test_lettered_parts_and_whole_archives_in_one_folder():
    names = ["d/partI.tar.gz", "d/partII.tar.gz_part_ab", "d/partII.tar.gz_part_aa", "d/partII.tar.gz_part_ac"]
    assert group_archives(names) == [
        Archive("d/partI.tar.gz", ("d/partI.tar.gz",)),
        Archive("d/partII.tar.gz", tuple(f"d/partII.tar.gz_part_a{letter}" for letter in "abc")),
    ]


def test_a_gap_between_parts_is_known_before_reading():
    [archive] = group_archives(["x.tar_part0", "x.tar_part1", "x.tar_part3"])
    assert archive.parts == ("x.tar_part0", "x.tar_part1")
    assert archive.lack == "the part after 'x.tar_part1' is missing"
    [archive] = group_archives(["x.tar_part2", "x.tar_part3"])
    assert archive.parts == () and "first part is missing" in str(archive.lack)


# --- Members ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["tar", "tar.gz", "zip", "tar.gz in two members"])
def test_members_are_read_whole(tmp_path: Path, form: str):
    data = {"tar": tar_of(FILES), "tar.gz": tar_of(FILES, packed=True), "zip": zip_of(FILES)}.get(form)
    if data is None:
        plain = tar_of(FILES)
        data = gzip.compress(plain[:5_000]) + gzip.compress(plain[5_000:]) + bytes(512)
    write_files(tmp_path, {"a": data})
    whole, reading = read_archive(tmp_path, Archive("a", ("a",)))
    assert whole == FILES
    assert (reading.num_members, reading.damage) == (len(FILES), None)


@pytest.mark.parametrize("suffixes", [[f"_part{n}" for n in range(1, 13)], [f"_part_a{c}" for c in "abcdefg"]])
def test_split_archives_are_one_stream(tmp_path: Path, suffixes: list[str]):
    write_files(tmp_path, split(tar_of(FILES, packed=True), "a.tar.gz", suffixes))
    [archive] = group_archives([path.name for path in tmp_path.iterdir()])
    whole, reading = read_archive(tmp_path, archive)
    assert whole == FILES and reading.damage is None


@pytest.mark.parametrize("packed", [False, True])
@given(data=st.data())
def test_a_cut_tar_gives_what_was_whole_and_says_so(
    tmp_path_factory: pytest.TempPathFactory, packed: bool, data: st.DataObject
):
    content = tar_of(FILES, packed=packed)
    end = len(tar_of(FILES).rstrip(b"\0")) if not packed else len(content)
    cut = data.draw(st.integers(0, end - 1))
    folder = write_files(tmp_path_factory.mktemp("cut"), {"a": content[:cut]})
    whole, reading = read_archive(folder, Archive("a", ("a",)))
    assert reading.damage is not None
    assert list(whole.items()) == list(FILES.items())[: len(whole)]


@given(st.data())
def test_a_flipped_bit_in_gzip_never_changes_a_member_unsaid(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject):
    content = bytearray(tar_of(FILES, packed=True))
    content[data.draw(st.integers(10, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    folder = write_files(tmp_path_factory.mktemp("flip"), {"a": bytes(content)})
    whole, reading = read_archive(folder, Archive("a", ("a",)))
    assert reading.damage is not None or whole == FILES


def test_a_cut_zip_gives_what_was_whole(tmp_path: Path):
    content = zip_of(FILES)
    write_files(tmp_path, {"a.zip": content[: content.index(b"in/6.bin") + 10]})
    whole, reading = read_archive(tmp_path, Archive("a.zip", ("a.zip",)))
    assert whole == {name: data for name, data in FILES.items() if name < "in/6"}
    assert "directory is missing" in str(reading.damage)


def test_one_damaged_entry_of_a_zip_spoils_only_itself(tmp_path: Path):
    content = bytearray(zip_of(FILES))
    content[content.index(b"in/3.bin") + 10] ^= 0xFF
    write_files(tmp_path, {"a.zip": bytes(content)})
    reading = Reading()
    outcome = {}
    for member in stream_members(Archive("a.zip", ("a.zip",)), tmp_path, reading):
        try:
            outcome[member.name] = member.read()
        except MemberDamage as problem:
            assert "in/3.bin" in str(problem)
    assert outcome == {name: data for name, data in FILES.items() if name != "in/3.bin"}
    assert reading.damage is None


@pytest.mark.parametrize("content", [b"", b"not an archive at all" * 100, bytes(10)])
def test_what_is_no_archive_is_said_to_be_damaged(tmp_path: Path, content: bytes):
    write_files(tmp_path, {"a": content})
    assert read_archive(tmp_path, Archive("a", ("a",)))[1].damage


def test_a_missing_file_is_said(tmp_path: Path):
    assert "No such file" in str(read_archive(tmp_path, Archive("a", ("a",)))[1].damage)


def test_a_lack_is_the_reason_given(tmp_path: Path):
    parts = split(tar_of(FILES, packed=True), "a.tar.gz_part", ["1", "2", "3"])
    write_files(tmp_path, {name: parts[name] for name in ("a.tar.gz_part1", "a.tar.gz_part3")})
    [archive] = group_archives([path.name for path in tmp_path.iterdir()])
    _, reading = read_archive(tmp_path, archive)
    assert str(reading.damage).endswith("the part after 'a.tar.gz_part1' is missing")


# --- Names and sizes are not believed -----------------------------------------------------------------------------------


def test_links_devices_and_escaping_names_are_passed_over(tmp_path: Path):
    with tarfile.open(tmp_path / "a", "w") as tar:
        for name, kind in (
            ("/etc/passwd", tarfile.REGTYPE),
            ("../up", tarfile.REGTYPE),
            ("a/../../up", tarfile.REGTYPE),
            ("link", tarfile.SYMTYPE),
            ("hard", tarfile.LNKTYPE),
            ("device", tarfile.CHRTYPE),
            ("folder", tarfile.DIRTYPE),
            ("./fine", tarfile.REGTYPE),
        ):
            member = tarfile.TarInfo(name)
            member.type = kind
            tar.addfile(member)
    with zipfile.ZipFile(tmp_path / "z", "w") as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("../up", "x")
        archive.writestr("fine", "x")
    whole, reading = read_archive(tmp_path, Archive("a", ("a",)))
    assert list(whole) == ["fine"]
    assert reading.skipped == {"unsafe name": 3, "link": 2, "special file": 1}
    whole, reading = read_archive(tmp_path, Archive("z", ("z",)))
    assert list(whole) == ["fine"]
    assert reading.skipped == {"unsafe name": 1, "link": 1}


def test_a_header_cannot_claim_memory(tmp_path: Path):
    header = tarfile.TarInfo("long")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 1 << 33
    write_files(tmp_path, {"a": header.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 21)})
    assert "a header claims 8,589,934,592 bytes" in str(read_archive(tmp_path, Archive("a", ("a",)))[1].damage)


def test_decompression_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gunzip, "FREE_BYTES", 1 << 20)
    write_files(tmp_path, {"a": tar_of({"zeros": bytes(8 << 20)}, packed=True)})
    whole, reading = read_archive(tmp_path, Archive("a", ("a",)))
    assert whole == {} and "unpacks to more than 200 times its size" in str(reading.damage)


def test_members_that_are_not_read_cost_no_memory(tmp_path: Path):
    import tracemalloc

    write_files(tmp_path, {"a": tar_of({"large": bytes(48 << 20), "b": b"b"}, packed=True)})
    tracemalloc.start()
    names = [member.name for member in stream_members(Archive("a", ("a",)), tmp_path, Reading())]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert names == ["large", "b"]
    assert peak < 8 << 20


def test_part_names_are_told_from_names_that_hold_the_word():
    assert archives.group_archives(["partI.tar.gz", "apartment.tar"]) == [
        Archive("apartment.tar", ("apartment.tar",)),
        Archive("partI.tar.gz", ("partI.tar.gz",)),
    ]
