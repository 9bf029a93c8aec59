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
        "mask": "palette PNG at the picture's size; index 1 = MANIPULATED, 0 = untouched",
        "mask_threshold": "a pixel is marked MANIPULATED where its probability of that is above "
        "it; null: where MANIPULATED (the mask's class 1) is the likelier class",
        "logits": "NumPy file, (faces, H, W, 2) float32: the mask head's output on the network's "
        "grid, which covers a face's box; class 0 untouched, class 1 MANIPULATED; faces in the "
        "order of `faces`, of a video frame by frame",
    }
