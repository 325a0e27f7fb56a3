"""Archives: the same data as the folder, hostile members harmless, damage contained; and the decoded copies."""

from __future__ import annotations

import gc
import io
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from amalgan import data
from amalgan.data import cache, files, store, survey
from amalgan.errors import AmalganError, UsageError

RNG = np.random.default_rng(1)


def png(size: int = 16, value: int | None = None) -> bytes:
    a = (
        RNG.integers(0, 256, (size, size, 3), dtype=np.uint8)
        if value is None
        else np.full((size, size, 3), value, np.uint8)
    )
    file = io.BytesIO()
    Image.fromarray(a).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part, n in (("train", 15), ("test", 5)):
        for label in ("cat", "dog"):
            where = tmp_path / "pets" / part / label
            where.mkdir(parents=True)
            for i in range(n):
                (where / f"{i}.png").write_bytes(png())
    return tmp_path / "pets"


def zipped(folder: Path) -> Path:
    return Path(shutil.make_archive(str(folder), "zip", folder.parent, folder.name))


def tarred(folder: Path, mode: str) -> Path:
    path = folder.with_name(f"pets.tar.{mode}".rstrip("."))
    with tarfile.open(path, f"w:{mode}") as archive:
        archive.add(folder, arcname="pets")
    return path


def same(a: data.Data, b: data.Data) -> bool:
    splits = ("train", "validation", "test")
    return a.fingerprint == b.fingerprint and all(
        torch.equal(getattr(a, s).tensor(), getattr(b, s).tensor())
        and (a.spec.classes == () or torch.equal(getattr(a, s).c, getattr(b, s).c))
        for s in splits
    )


def test_archives_hold_the_same_data_as_the_folder(folder):
    d = data.open(folder)
    assert [len(s) for s in (d.train, d.validation, d.test)] == [27, 3, 10] and d.spec.classes == ("cat", "dog")
    assert same(d, data.open(zipped(folder)))
    for mode in ("", "gz", "bz2", "xz"):
        assert same(d, data.open(tarred(folder, mode))), mode


def test_streamed_data_has_the_values_of_data_in_memory(folder):
    held = data.open(folder)
    for source in (folder, zipped(folder), tarred(folder, ""), tarred(folder, "gz")):
        for _ in range(2):  # decoded, and with the index from its copy
            streamed = data.open(source, in_memory_bytes=1000)
            assert "streamed" in repr(streamed.train) and "in memory" in repr(held.train)
            assert same(held, streamed)
            index = torch.tensor([7, 0, 7, 3])
            streamed.train.prefetch(index)
            x, c = streamed.train.batch(index)
            y, k = held.train.batch(index)
            assert torch.equal(x, y) and torch.equal(c, k)
    for i in range(30):  # more than may wait: the oldest are dropped, and read again when asked for
        streamed.train.prefetch(torch.tensor([i % 27]))
    assert torch.equal(streamed.train.batch(torch.tensor([0]))[0], held.train.batch(torch.tensor([0]))[0])
    assert streamed.train.batch(torch.arange(0))[0].shape == (0, 3, 16, 16)


def test_streamed_grey_files_have_one_channel(tmp_path):
    for i in range(10):
        (tmp_path / f"{i}.png").write_bytes(png(8, 20 * i))
    streamed, held = data.open(tmp_path, in_memory_bytes=10), data.open(tmp_path)
    assert streamed.spec.shape == (1, 8, 8) and same(streamed, held)


def test_pixels_are_decoded_once(folder, own_cache, monkeypatch):
    """What does not fit into the memory is read from a file of pixels, now and when it is opened again."""
    held, first = data.open(folder, cache=False), data.open(folder, in_memory_bytes=1000)
    (kept,) = own_cache.glob("*.pixels")
    assert kept.stat().st_size == 40 * 3 * 16 * 16 and not list(own_cache.glob(".*.part"))
    monkeypatch.setattr(survey, "picture", lambda *_: pytest.fail("decoded again"))
    monkeypatch.setattr(data, "open_files", lambda *_: pytest.fail("listed again"))
    for d in (first, data.open(folder, in_memory_bytes=1000)):
        assert same(held, d) and "streamed" in repr(d.train)
        assert d.train.x.waited > 0


def test_files_are_closed_with_the_data(folder):
    gc.collect()  # of what other tests left open
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        data.open(folder, in_memory_bytes=1000)
        gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_another_process_sweeps_away_takes_no_pixels_along(folder, own_cache, monkeypatch):
    """A file that was listed is gone when it is looked at: what was just kept stays kept."""
    monkeypatch.setattr(Path, "iterdir", lambda self: iter([self / "gone.safetensors"]))
    d = data.open(folder, in_memory_bytes=1000)
    assert list(own_cache.glob("*.pixels")) and not any("could not be kept" in note for note in d.notes)


def test_pixels_that_were_swept_away_are_kept_anew(folder, own_cache, monkeypatch, tmp_path_factory):
    data.open(folder, in_memory_bytes=1000)
    (first,) = own_cache.glob("*.pixels")
    index = first.with_suffix(".safetensors")
    os.utime(index, (first.stat().st_mtime + 1,) * 2)  # used last, and so kept if it can be
    other = tmp_path_factory.mktemp("other")
    for i in range(12):
        (other / f"{i}.png").write_bytes(png(16, 20 * i))
    monkeypatch.setattr(cache, "KEEP", index.stat().st_size)
    data.open(other, in_memory_bytes=1000)
    assert not first.exists()
    data.open(folder, in_memory_bytes=1000)
    assert first.exists()


@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
def test_damaged_pixels_are_decoded_again(folder, own_cache, harm):
    held, first = data.open(folder, cache=False), data.open(folder, in_memory_bytes=1000)
    (kept,) = own_cache.glob("*.pixels")
    whole = kept.read_bytes()
    if harm == "remove":
        kept.unlink()
    else:
        kept.write_bytes(whole[:-5000] if harm == "cut" else whole[:9000] + bytes([whole[9000] ^ 255]) + whole[9001:])
        assert same(held, first)
    assert same(held, data.open(folder, in_memory_bytes=1000))


def test_a_disk_without_room_for_pixels_is_no_obstacle(folder, own_cache, monkeypatch):
    held = data.open(folder, cache=False)
    monkeypatch.setattr(store, "SHARE", 0.0)
    assert same(held, data.open(folder, in_memory_bytes=1000)) and not list(own_cache.glob("*.pixels"))
    monkeypatch.setattr(store, "SHARE", 0.5)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.Store, "write", full)
    for path in own_cache.iterdir():
        path.unlink()
    assert same(held, data.open(folder, in_memory_bytes=1000))
    assert not list(own_cache.glob("*.pixels")) and not list(own_cache.glob(".*.part"))


def shard(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


@pytest.mark.parametrize("again", ["first", "again", "without pixels"])
@pytest.mark.parametrize("memory", [None, 1000])
def test_shards_are_one_set_with_their_labels(tmp_path, own_cache, memory, again):
    """As WebDataset packs them: an image, its class, and what nobody reads, by one name."""
    grey = [png(8, 10 * i) for i in range(20)]
    for k in range(2):
        members = {}
        for i in range(10):  # both shards count from 0
            members |= {f"{i:03d}.png": grey[10 * k + i], f"{i:03d}.cls": b"odd" if i % 2 else b"even\n"}
            members |= {f"{i:03d}.json": b"{}"}
        shard(tmp_path / f"shard-{k}.tar", members)
    d = data.open(tmp_path, in_memory_bytes=memory)
    if again != "first":
        for pixels in own_cache.glob("*.pixels") if again == "without pixels" else ():
            pixels.unlink()
        d = data.open(tmp_path, in_memory_bytes=memory)
    assert d.spec.classes == ("even", "odd") and not d.skipped
    assert memory is None or (d.train.x.store is None) == (again == "without pixels")
    for part in (d.train, d.validation, d.test):
        x, c = part.batch(torch.arange(len(part)))
        value = (255 * x[:, 0, 0, 0]).round().long() // 10
        assert torch.equal(value % 2, c)
    assert len(d.train) + len(d.validation) + len(d.test) == 20


def test_shards_hold_what_the_folder_holds(folder, tmp_path):
    where = tmp_path / "shards"
    where.mkdir()
    files = sorted(folder.rglob("*.png"))
    for k in range(3):
        names = {str(path.relative_to(folder)): path.read_bytes() for path in files[k::3]}
        shard(where / f"{k}.tar", names)
    assert same(data.open(folder), data.open(where))


def test_a_file_that_vanishes_later_is_named(folder):
    d = data.open(folder, in_memory_bytes=1000, cache=False)
    shutil.rmtree(folder)
    with pytest.raises(AmalganError, match="No such file"):
        d.train.batch(torch.tensor([0]))


def test_names_that_climb_out_write_nothing(tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    with zipfile.ZipFile(inside / "evil.zip", "w") as archive:
        for i in range(5):
            archive.writestr(f"../../outside{i}.png", png())
        archive.writestr("/absolute.png", png())
    with tarfile.open(inside / "evil.tar", "w") as archive:
        for i in range(5):
            raw, member = png(), tarfile.TarInfo(f"../outside{i}.png")
            member.size = len(raw)
            archive.addfile(member, io.BytesIO(raw))
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        pipe = tarfile.TarInfo("pipe.png")
        pipe.type = tarfile.FIFOTYPE
        archive.addfile(pipe)
    d = data.open(inside / "evil.zip")
    assert len(d.train) + len(d.validation) + len(d.test) == 6
    d = data.open(inside / "evil.tar")
    assert len(d.train) + len(d.validation) + len(d.test) == 5
    assert {name for name, _ in d.skipped} == {"link.png", "pipe.png"}
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["evil.tar", "evil.zip"]


def test_what_file_managers_leave_is_ignored_quietly(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.mkdir("photos")
        for i in range(5):
            archive.writestr(f"photos/{i}.png", png())
            archive.writestr(f"__MACOSX/photos/._{i}.png", b"junk")
        archive.writestr("photos/.DS_Store", b"junk")
    d = data.open(tmp_path / "a.zip")
    assert d.skipped == [] and len(d.train) + len(d.validation) + len(d.test) == 5


def test_damage_in_a_zip_member_is_that_member_s(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(6):
            archive.writestr(f"{i}.png", png())
        offset = archive.getinfo("3.png").header_offset
    raw = bytearray(path.read_bytes())
    raw[offset + 200] ^= 255
    path.write_bytes(raw)
    d = data.open(path)
    assert [name for name, _ in d.skipped] == ["3.png"] and "damaged in the archive" in d.skipped[0][1]


@pytest.mark.parametrize("mode", ["", "gz"])
def test_a_tar_cut_short_gives_what_comes_before_and_says_so(folder, mode):
    path = tarred(folder, mode)
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) * 2 // 3])
    d = data.open(path)
    assert 10 < len(d.train) + len(d.validation) + len(d.test) < 40
    assert any("cut short" in reason or "damaged after" in reason for _, reason in d.skipped)
    with pytest.raises(UsageError, match="strict"):
        data.open(path, strict=True)


def test_a_damaged_header_inside_a_tar_is_not_taken_for_its_end(folder):
    path = tarred(folder, "")
    with tarfile.open(path) as archive:
        offset = archive.getmembers()[20].offset
    raw = bytearray(path.read_bytes())
    raw[offset + 150] ^= 255
    path.write_bytes(raw)
    d = data.open(path)
    assert any("damaged after" in reason for _, reason in d.skipped)


def test_bombs_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_BYTES", 100_000)
    monkeypatch.setattr(files, "LOOSE", 200_000)
    for name in ("a.zip", "a.tar"):
        big = b"\0" * 150_000
        if name == "a.zip":
            with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("bomb.png", big)
                for i in range(4):
                    archive.writestr(f"{i}.png", png())
        else:
            with tarfile.open(tmp_path / name, "w") as archive:
                for member, raw in [("bomb.png", big), *((f"{i}.png", png()) for i in range(4))]:
                    info = tarfile.TarInfo(member)
                    info.size = len(raw)
                    archive.addfile(info, io.BytesIO(raw))
        d = data.open(tmp_path / name)
        assert [n for n, _ in d.skipped] == ["bomb.png"] and "not read" in d.skipped[0][1]
    with tarfile.open(tmp_path / "b.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("x.png")
        info.size = 3_000_000
        archive.addfile(info, io.BytesIO(b"\0" * info.size))
    with pytest.raises(UsageError, match="far more than images would"):
        data.open(tmp_path / "b.tar.gz")


def test_the_copy_is_used_until_the_source_changes(folder, own_cache, monkeypatch):
    first = data.open(folder)
    (copy,) = own_cache.glob("*.safetensors")
    monkeypatch.setattr(data, "image_files", None)  # decoding again would fail
    assert same(first, data.open(folder))
    monkeypatch.undo()
    os.environ["AMALGAN_CACHE"] = str(own_cache)
    (folder / "train" / "cat" / "new.png").write_bytes(png())
    assert data.open(folder).fingerprint != first.fingerprint
    assert len(list(own_cache.glob("*.safetensors"))) == 2 and copy.exists()
    assert not list(own_cache.glob(".*.part"))


@pytest.mark.parametrize("harm", ["cut", "flip", "garbage", "empty", "headless"])
def test_a_damaged_copy_is_discarded_and_noted(folder, own_cache, harm):
    first = data.open(folder)
    (copy,) = own_cache.glob("*.safetensors")
    raw = bytearray(copy.read_bytes())
    if harm == "flip":
        raw[-100] ^= 1
    copy.write_bytes({"cut": raw[:-500], "flip": raw, "garbage": b"x" * 500, "empty": b"", "headless": raw[9:]}[harm])
    again = data.open(folder)
    assert same(first, again) and any("damaged copy" in note for note in again.notes)
    assert not any("damaged copy" in note for note in data.open(folder).notes)


def test_a_cache_that_cannot_be_written_never_fails_the_opening(folder, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    d = data.open(folder, cache=tmp_path / "file")
    assert any("could not be kept" in note for note in d.notes)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "save_file", full)
    d = data.open(folder, cache=tmp_path / "new")
    assert any("No space left" in note for note in d.notes) and not list((tmp_path / "new").iterdir())


def test_no_cache_keeps_nothing_and_a_folder_of_choice_is_used(folder, own_cache, tmp_path):
    data.open(folder, cache=False)
    assert not list(own_cache.iterdir())
    data.open(folder, cache=tmp_path / "mine")
    assert len(list((tmp_path / "mine").iterdir())) == 1 and not list(own_cache.iterdir())


def test_old_copies_leave_when_room_is_short(folder, own_cache, monkeypatch):
    data.open(folder)
    monkeypatch.setattr(cache, "KEEP", 60_000)  # one copy takes 32 kB
    for size in (15, 14):
        data.open(folder, size=size)
    copies = list(own_cache.glob("*.safetensors"))
    assert len(copies) == 2 and sum(p.stat().st_size for p in copies) <= 60_000
