#!/usr/bin/env bash
# Everything that a machine with a card can say about synth, in one call: the tests on the card, the steps in time, the same
# steps in PyTorch beside them, an evaluation against the CPU's, a short run of both stages.
#
#   benches/gpu.sh PROGRAMS
#
# PROGRAMS is a folder with what was built with `--features cuda` somewhere else (see docs/GPU.md): the program `synth` and the
# test programs `kernels` and `card`. Everything is written to $OUT (default: ./gpu-result): `log` as
# it goes, `summary.tsv` with one line per measurement. Nothing here stops at the first failure: what can be known is written down.
set -u
programs=$(realpath "${1:?folder with synth and the test programs}")
cd "$(dirname "$0")/.."
out=${OUT:-$PWD/gpu-result}
seconds=${SECONDS_EACH:-6}
mkdir -p "$out"
if compgen -G "$programs/*.xz" >/dev/null; then # packed for the way
  mkdir -p "$out/programs"
  find "$programs" -maxdepth 1 -type f ! -name "*.xz" -exec cp {} "$out/programs" \;
  for packed in "$programs"/*.xz; do
    name=$(basename "$packed" .xz)
    "${PYTHON:-python3}" -c 'import lzma, shutil, sys; shutil.copyfileobj(lzma.open(sys.argv[1]), open(sys.argv[2], "wb"))' \
      "$packed" "$out/programs/$name" && chmod +x "$out/programs/$name"
  done
  programs=$out/programs
fi
exec > >(tee "$out/log") 2>&1
step() { printf '\n== %s (%s s)\n' "$*" "$SECONDS"; }
python=${PYTHON:-python3}
peer=benches/torch_step.py
# The driver keeps what it compiles from PTX; the first use of each kernel is then not measured twice.
export CUDA_CACHE_PATH=${CUDA_CACHE_PATH:-$out/ptx-cache}

step "the machine"
nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv,noheader
"$programs/synth" --version
"$python" -c 'import torch; print("torch", torch.__version__, torch.version.cuda, "cuDNN", torch.backends.cudnn.version())'
echo "commit ${COMMIT:-$(git rev-parse --short HEAD 2>/dev/null)}"

step "the tests on the card"
for test in kernels card; do
  [ -x "$programs/$test" ] || { echo "no $test"; continue; }
  [ "$test" = card ] && only=--ignored || only="--skip threads::"
  SYNTH_TEST_DEVICE=cuda CARGO_MANIFEST_DIR=$PWD RUST_BACKTRACE=0 timeout "${TEST_SECONDS:-240}" \
    "$programs/$test" $only --test-threads 1 >"$out/$test.txt" 2>&1
  printf 'test\t%s\t%s\n' "$test" "$(grep '^test result' "$out/$test.txt" || echo "ended with $?")" | tee -a "$out/summary.tsv"
  grep -E 'panicked|off by|instead of|CUDNN|CUDA_' -A1 "$out/$test.txt" | head -20
done

# The median of what a benchmark prints: its last JSON object.
median() { "$python" -c 'import json,sys; text = sys.stdin.read(); print(json.loads(text[text.rindex("{"):])["median_ms"])'; }

# One step here and in PyTorch, one after the other so that clocks are alike.
beside() { # beside PASS NET TEACHER BATCH PRECISION...
  local pass=$1 net=$2 teacher=$3 batch=$4 ours theirs precision
  for precision in "${@:5}"; do
    local amp=$([ $precision = bf16 ] && echo --amp)
    local taught=()
    [ "$pass" != distill ] || taught=(--teacher "$(name "$teacher")")
    ours=$("$programs/synth" bench step --net "$(name "$net")" "${taught[@]}" --batch "$batch" --pass "$pass" \
      --seconds "$seconds" --device cuda --precision $precision --json | median)
    theirs=$("$python" "$peer" --net "$net" --teacher "$teacher" --batch "$batch" --pass "$pass" --seconds "$seconds" \
      --device cuda $amp | median)
    printf 'step\t%s\t%s\t%s\t%s\t%s\tsynth %s ms\tpytorch %s ms\tratio %s\n' "$pass" "$net" "$teacher" "$batch" $precision \
      "$ours" "$theirs" "$("$python" -c "print(round(${ours:-nan} / ${theirs:-nan}, 3))" 2>/dev/null)" | tee -a "$out/summary.tsv"
  done
}
ways() { # ways NET BATCH: a training step recorded as a CUDA graph, queued call by call, and recorded with Muon in place of SGD
  for how in "" --no-cuda-graphs --muon; do
    printf 'ways\t%s\t%s\t%s\t%s ms\n' "$1" "$2" "${how:-recorded}" "$("$programs/synth" bench step --net "$1" --batch "$2" --pass train \
      --seconds "$seconds" --device cuda $how --json | median)" |
      tee -a "$out/summary.tsv"
  done
}
name() { case $1 in resnet18 | resnet34) echo "cifar-$1" ;; *) echo "$1" ;; esac; }

step "one step beside PyTorch"
# With QUICK set, small cases only: a trial of this script on a machine without a card.
cases=${QUICK:+train resnet8 resnet14 4 bf16 f32}
cases=${cases:-train resnet18 resnet56 256 bf16 f32
train resnet34 resnet56 256 bf16
train wrn-40-2 resnet56 256 bf16
distill resnet18 resnet34 256 bf16
invert resnet34 resnet56 256 bf16
infer resnet34 resnet56 256 bf16
train resnet20 resnet56 128 bf16}
while read -r pass net teacher batch precisions; do beside "$pass" "$net" "$teacher" "$batch" $precisions </dev/null; done <<<"$cases"

step "PyTorch compiled"
compiled() { # compiled NET BATCH MODE
  printf 'compiled\ttrain\t%s\t%s\t%s\tpytorch %s ms\n' "$1" "$2" "$3" "$(timeout 120 "$python" "$peer" \
    --net "$1" --batch "$2" --device cuda --compile "$3" --amp --seconds "$seconds" 2>"$out/compiled.err" | median)" | tee -a "$out/summary.tsv"
}
[ -n "${QUICK:-}" ] || for mode in default reduce-overhead; do compiled resnet18 256 $mode </dev/null; done

step "what the card can do: a product of matrices in bf16, a copy"
"$python" - <<'EOF' | tee -a "$out/summary.tsv"
import torch
if torch.cuda.is_available():
    def ms(f):
        for _ in range(3): f()
        a, b = torch.cuda.Event(True), torch.cuda.Event(True)
        a.record()
        for _ in range(10): f()
        b.record(); torch.cuda.synchronize()
        return a.elapsed_time(b) / 10
    x, y = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    print(f"peak\tbf16\t{2 * 8192**3 / ms(lambda: x @ y) / 1e9:.0f} TFLOP/s")
    c = torch.randn(1 << 30, device="cuda"); d = torch.empty_like(c)
    print(f"copy\t{2 * c.numel() * 4 / ms(lambda: d.copy_(c)) / 1e9:.2f} TB/s")
EOF

step "CUDA graphs, and Muon in place of SGD"
stepped=${QUICK:+resnet8 4}
while read -r net batch; do ways "$net" "$batch" </dev/null; done <<<"${stepped:-resnet20 128
wrn-40-2 256
cifar-resnet18 256}"

step "which kernels take the time"
net=${QUICK:+resnet8} batch=${QUICK:+4}
net=${net:-cifar-resnet18} batch=${batch:-256}
if command -v nsys >/dev/null; then
  nsys profile -o "$out/train" --force-overwrite true "$programs/synth" bench step --net $net --batch $batch --pass train \
    --seconds 2 --device cuda --json
  nsys stats --report cuda_gpu_kern_sum "$out/train.nsys-rep" | head -40
fi
"$programs/synth" -vv bench step --net $net --batch $batch --pass train --seconds 1 --device cuda --json 2>&1 | grep cuDNN | head -60

step "both stages, small"
short=${QUICK:+--samples 20 --set practice=0 --set batch=8 --set rounds=1 --set finish_steps=2 --set adversary_steps=1 --set generator.width=8 --set generator.inner_steps=1 --set generator.warmup_steps=1 --set student.batch=8}
"$programs/synth" run -o "$out/run" --force --student resnet14 ${short:---samples 2000 --set rounds=20 --set finish_steps=400} --device cuda --json
"$python" -c 'import json,sys; p=json.load(open(sys.argv[1])); print({k: p.get(k) for k in ("device", "precision", "wall_seconds", "metrics")})' \
  "$out/run/student/synth.json"

step "done"
cat "$out/summary.tsv"
