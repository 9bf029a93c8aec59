"""What the keys of predictions.json mean."""

from flax_unet.nn.decision import DISAGREEMENT, RAW, THRESHOLD, Calibration, decision
from flax_unet.predict.results import AGGREGATION, ENOUGH_FRAMES, ENOUGH_SHARE
from flax_unet.predict.stretch import LEAST_FRAMES, LEAST_SECONDS, LEAST_SHARE, NEAR

_ENOUGH = (
    f"in at least {ENOUGH_SHARE:.0%} of the frames with a face to judge, and in "
    f"{ENOUGH_FRAMES} or more; if nobody is, the person seen in the most frames counts"
)

_SUSPICIOUS = (
    "seconds: the first and the last frame of the longest stretch in which a person looks forged, "
    f"whatever the verdict is: most frames within {NEAR:g} s of each are FAKE (at least of those "
    f"before and after it), and it has {LEAST_SECONDS:g} s, {LEAST_FRAMES} frames and "
    f"{LEAST_SHARE:.0%} of the person's frames or more; null: there is none. In predictions.csv "
    "the row of a file has the longest of anyone in it"
)


def meaning(threshold: float = THRESHOLD, calibration: Calibration | None = None) -> dict[str, str]:
    """What the keys of predictions.json mean."""
    real = "probability that the face is REAL (the classifier's class 1)"
    raw = {}
    if calibration is not None:
        raw[RAW] = f"1 - the network's own {real}, before calibration; threshold is not for it"
        real += (
            f", calibrated: sigmoid(logit / {calibration.temperature:g}). Means over frames are of "
            "calibrated probabilities"
        )
    return {
        "worth": "what the weights were trained and measured on, as recorded in the checkpoint",
        "worth_in_short": "how far to trust the verdicts",
        "false_alarm_rate": "share of the REAL frames of its calibration that the checkpoint's own "
        "threshold calls FAKE at most, as recorded; null: not recorded, or not calibrated",
        "weights_sha256": "SHA-256 of the weights as tensors, the same for every copy",
        "face_model": "SHA-256 of the file that --face-model names; null: the installed one",
        "batch_size": "of --batch-size: faces that the network judges at a time, and pictures of a "
        "lot",
        "archive": "how many files the command was given, of all parts together, and the SHA-256 "
        "of their paths, each with a NUL behind it",
        "file": "its path, as named on the command line or found in a folder named there; bytes "
        "that are not text as escapes",
        "kind": "picture, video, or folder (which cannot be read, or holds neither)",
        "status": "ok or failed. A failed file is not checked, a video that is cut short only up "
        "to there",
        "problem": "why the file failed; null, and in predictions.csv empty: it did not",
        "notes": "what to mind about the file besides; in predictions.csv with ; in between",
        "level": "what a row of predictions.csv is about: file (a row for each), person (a row for "
        "each person in a video), or face (a row for each face of a picture, and of each frame of "
        "a video)",
        "face": "in predictions.csv, the number of a face in its picture or frame, from 1, in the "
        "order of `faces`",
        "frame": "number of a frame in its video, from 0",
        "seconds": "when a frame of a video is shown, from its beginning; in predictions.csv, of a "
        "person the first frame in which they were judged",
        "frames": "in predictions.csv, how many frames of a video have a face that was judged; of "
        "a person, in how many frames they were judged. In predictions.json, of a person the same, "
        "and of a video all frames that were looked at",
        "frames_read, frames_judged": "how many frames of a video were looked at, and how many of "
        "these have a face that was judged",
        "first_seconds, last_seconds": "the first and the last frame in which a person was judged",
        "real_probability": real,
        "fake_probability": "1 - real_probability",
        **raw,
        "verdict": decision(threshold),
        "verdict of a picture": "that of the face with the highest fake_probability",
        "verdict of a video": f"of the {AGGREGATION}",
        "person": "a face followed through a video, numbered in the order of appearance; their "
        "probabilities are means over the frames in which they were judged",
        "seen_in_enough_frames": _ENOUGH,
        "suspicious_from, suspicious_to": _SUSPICIOUS,
        "detection_confidence": "how sure the face finder is that this is a face, in [0, 1]; of a "
        "person, the mean over frames; null: no faces were looked for",
        "doubts": "what makes a face doubtful: blurred, cut off (by the picture's edge), uncertain "
        "(little detection_confidence)",
        "manipulated_share": "share of the box's pixels marked MANIPULATED (the mask's class 1)",
        "manipulated_share of a picture": "that of the face whose verdict it has, or the mean over "
        "all faces if the network has no classifier",
        "manipulated_share of a video": "mean over the faces of the person whose verdict it has, "
        "or over all faces if the network has no classifier",
        "heads_disagree": f"{DISAGREEMENT}; of a picture, by the face whose verdict it has; of "
        "a person and a video, by their means; null: the "
        "network lacks a head",
        "box": "left, top, right, bottom in pixels of the picture, the last two not included",
        "too_small": "faces that were found and are too small to judge",
        "close_up": "JPEG of the frame in which the person whose verdict a video has is FAKE most "
        "likely: the face, drawn as in the overlay",
        "mask": "palette PNG at the picture's size; index 1 = MANIPULATED, 0 = untouched",
        "mask_threshold": "a pixel is marked MANIPULATED where its probability of that is above "
        "it; null: where MANIPULATED (the mask's class 1) is the likelier class",
        "logits": "NumPy file, (faces, H, W, 2) float32: the mask head's output on the network's "
        "grid, which covers a face's box; class 0 untouched, class 1 MANIPULATED; faces in the "
        "order of `faces`, of a video frame by frame",
    }
