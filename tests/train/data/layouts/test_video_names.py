"""The video of a crop: the right one, or a fault where it is ambiguous."""

import time

import pytest

from flax_unet import InputError
from train.data.layouts.video_names import VideoNames

FACEFORENSICS = ("000.mp4", "003.mp4", "120.mp4", "000_003.mp4", "003_000.mp4")
ORIGINALS = ("000.mp4", "003.mp4")
DFDC = ("aagfhgtpmv.mp4", "bbbbbbbbbb.mp4")
CELEB = ("id0_0000.mp4", "id0_id1_0000.mp4", "00001.mp4")
WORDS = ("p1.mp4", "p1_fake.mp4", "p2.mp4")
FOLDERS = ("0000.mp4", "0001.mp4", "0000_fake.mp4", "fake_0001.mp4")
PEOPLE = ("donald.mp4", "obama.mp4")
SUFFIXES = ("a.mp4", "a.avi", "b", "clip.v1.MOV")


@pytest.mark.parametrize(
    ("videos", "crop", "expected"),
    [
        # As published: the name up to its first underscore.
        (DFDC, "aagfhgtpmv_10.png", "aagfhgtpmv.mp4"),
        (DFDC, "aagfhgtpmv_10_0.png", "aagfhgtpmv.mp4"),
        (DFDC, "aagfhgtpmv_anything_at_all.png", "aagfhgtpmv.mp4"),
        (DFDC, "aagfhgtpmv.png", "aagfhgtpmv.mp4"),
        (DFDC, "crops_testing/aagfhgtpmv_3.png", "aagfhgtpmv.mp4"),
        (DFDC, "dfdc_train_part_0/aagfhgtpmv_3.png", "aagfhgtpmv.mp4"),
        (DFDC, "aagfhgtpmv/10_0.png", "aagfhgtpmv.mp4"),
        (DFDC, "part_0/aagfhgtpmv/10.png", "aagfhgtpmv.mp4"),
        (DFDC, "aagfhgtpmv/aagfhgtpmv_10.png", "aagfhgtpmv.mp4"),
        # A fake has the names of two videos, and names of frames are those of videos.
        (FACEFORENSICS, "000_0.png", "000.mp4"),
        (FACEFORENSICS, "000_003_0.png", "000_003.mp4"),
        (FACEFORENSICS, "000_003_120_0.png", "000_003.mp4"),
        (FACEFORENSICS, "original/000_120.png", "000.mp4"),
        (FACEFORENSICS, "000_003/120.png", "000_003.mp4"),
        (FACEFORENSICS, "000_003/120_0.png", "000_003.mp4"),
        (FACEFORENSICS, "000_003/000_003_1.png", "000_003.mp4"),
        (FACEFORENSICS, "000_003.mp4/7.png", "000_003.mp4"),
        (FACEFORENSICS, "000/000_003/7.png", "000_003.mp4"),
        (FACEFORENSICS, "120/000_003.png", "120.mp4"),  # its frame 0, face 3
        (FACEFORENSICS[3:], "000_003.png", "000_003.mp4"),  # the only crop of it
        (ORIGINALS, "000_12.png", "000.mp4"),
        (ORIGINALS, "000.png", "000.mp4"),
        (CELEB, "id0_0000_12.png", "id0_0000.mp4"),
        (CELEB, "id0_0000_12_0.png", "id0_0000.mp4"),
        (CELEB, "id0_id1_0000.png", "id0_id1_0000.mp4"),
        (CELEB, "00001_3.png", "00001.mp4"),
        # Folders that are not a video's and cannot be one's.
        (FACEFORENSICS, "c23/000_0.png", "000.mp4"),
        (FACEFORENSICS, "youtube/c23/000_0.png", "000.mp4"),
        (FACEFORENSICS, "part_1/000_5.png", "000.mp4"),
        (FACEFORENSICS, "manipulated_sequences/c23/000_003_0.png", "000_003.mp4"),
        (CELEB, "part_1/c23/00001_3.png", "00001.mp4"),
        # Words and names of other videos.
        (WORDS, "p2_3.png", "p2.mp4"),
        (WORDS, "p2_3_0.png", "p2.mp4"),
        (WORDS, "fake/p1_fake_3.png", "p1_fake.mp4"),
        (FOLDERS, "real/0000_3.png", "0000.mp4"),
        (FOLDERS, "fake/0000_fake/3.png", "0000_fake.mp4"),
        (FOLDERS, "fake/0000_fake_3.png", "0000_fake.mp4"),
        (PEOPLE, "donald_anything_0.png", "donald.mp4"),
        (PEOPLE, "donald/12_0.png", "donald.mp4"),
        (SUFFIXES, "a.avi/0.png", "a.avi"),
        (SUFFIXES, "b_0.png", "b"),
        (SUFFIXES, "clip.v1_0.png", "clip.v1.MOV"),
    ],
)
def test_video(videos: tuple[str, ...], crop: str, expected: str) -> None:
    assert VideoNames(videos).of(crop) == expected


@pytest.mark.parametrize(
    ("videos", "crop", "message"),
    [
        (ORIGINALS, "000_003_0.png", "may be 000.mp4 or 000_003;"),  # of a fake that is missing
        (ORIGINALS, "000_003_12_0.png", "may be 000.mp4 or 000_003;"),
        (ORIGINALS, "000_fake.png", "may be 000.mp4 or 000_fake;"),
        (FACEFORENSICS, "000_120_0.png", "may be 000.mp4 or 000_120;"),
        (FACEFORENSICS, "000_003.png", "may be 000_003.mp4 or 000;"),
        (FACEFORENSICS, "000/000_003_0.png", "may be 000.mp4 or 000_003.mp4;"),
        (FACEFORENSICS, "000/000_003.png", "may be 000.mp4 or 000_003.mp4;"),
        (FACEFORENSICS, "003_000/000_003_0.png", "may be 003_000.mp4 or 000_003.mp4;"),
        (FACEFORENSICS, "005_009/120.png", "may be 120.mp4 or 005_009;"),
        (FACEFORENSICS, "005_009/120_0.png", "may be 120.mp4 or 005_009;"),
        (CELEB, "id0_id2_0000/00001.png", "may be 00001.mp4 or id0_id2_0000;"),
        (("a1.mp4", "a2_b7.mp4"), "a1_b5_0.png", "may be a1.mp4 or a1_b5;"),
        (WORDS, "p2_fake.png", "may be p2.mp4 or p2_fake;"),
        (WORDS, "p2_fake_3.png", "may be p2.mp4 or p2_fake;"),
        (WORDS, "p2/fake/3.png", "may be p2.mp4 or one named like p1_fake.mp4;"),
        (("clip.mp4", "000_003.mp4"), "clip_x_0.png", "may be clip.mp4 or clip_x;"),
        (PEOPLE, "donald_obama_0.png", "may be donald.mp4 or donald_obama;"),
        (PEOPLE, "donald_and_obama.png", "may be donald.mp4 or donald_and;"),
        (("a1", "a2"), "a1_a2_0.png", "may be a1 or a1_a2;"),
        (FOLDERS, "fake/0000_3.png", "may be 0000.mp4 or one named like fake_0001.mp4;"),
        (FOLDERS, "Fake/0001_3.png", "may be 0001.mp4 or one named like fake_0001.mp4;"),
        (FOLDERS, "0000/fake/3.png", "may be 0000.mp4 or one named like fake_0001.mp4;"),
        (FOLDERS, "0001_fake/0000_3.png", "may be 0000.mp4 or 0001_fake;"),
        (("a", "b_7"), "a_5_0.png", "may be a or a_5;"),
        (FACEFORENSICS, "c23/005_009/120.png", "may be 120.mp4 or 005_009;"),
        (DFDC, "aagfhgtpmv/bbbbbbbbbb_0.png", "may be aagfhgtpmv.mp4 or bbbbbbbbbb.mp4;"),
        (SUFFIXES, "a_0.png", "may be a.mp4 or a.avi;"),
        (SUFFIXES, "a/0.png", "may be a.mp4 or a.avi;"),
        (DFDC, "cccccccccc_0.png", "its video cccccccccc.mp4 is not in metadata.json"),
        (DFDC, "aagfhgtpmvx_0.png", "its video aagfhgtpmvx.mp4 is not in metadata.json"),
        (DFDC, "cccccccccc/0.png", "no video of its folder's name cccccccccc, or of its own"),
        ((), "a_0.png", "its video a.mp4 is not in metadata.json"),
    ],
)
def test_ambiguous_or_missing_videos(videos: tuple[str, ...], crop: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        VideoNames(videos).of(crop)


def test_many_videos_and_crops_take_no_longer_each() -> None:
    videos = [f"v{i}_w{i}.mp4" for i in range(50_000)]
    crops = [f"v{i}_w{i}_{i}_0.png" for i in range(50_000)]
    started = time.process_time()
    names = VideoNames(videos)
    assert [names.of(crop) for crop in crops] == videos
    assert time.process_time() - started < 20  # a search through all videos takes minutes
