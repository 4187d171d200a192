#!/usr/bin/env bash
# Builds libcuda, libcudnn, libcublas and libcurand that compute on the CPU, with the project's kernels inside:
#   tests/cuda_emulator/build.sh DEST        then SYNTH_CUDA_LIBS=DEST
# Needs bash and g++. Only what has changed is compiled again. CXX and JOBS (2) may be set.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
dest=$(realpath -m "${1:?usage: build.sh DEST [KERNELS_FOLDER...]}")
shift
folders=("$root/ops/src/cuda/kernels" "$here/selftest" "$@")
cxx=${CXX:-g++}
mkdir -p "$dest/objects"
cd "$dest/objects"

common=(-std=c++17 -fPIC -fvisibility=hidden -Wall -Wextra -I"$here/device" -I"$here/driver" -I"$here/host")
# Undefined behaviour in a kernel is printed with its line and ends the launch; no contraction: as with -fmad=false.
kernel=(-O1 -g1 -fno-strict-aliasing -ffp-contract=off -fsanitize=alignment,bounds,integer-divide-by-zero,shift,signed-integer-overflow
        -Wno-unknown-pragmas -Wno-unused -Wno-maybe-uninitialized)
# The libraries' loops, for this machine's vectors: sums may be taken in any order, NaN and infinity stay.
library=(-O3 -g1 -march=native -fassociative-math -fno-signed-zeros -fno-trapping-math -fno-math-errno)
# Everything that a source may include; `sources` adds what only the kernels of one folder do.
shopt -s nullglob
headers=("$here"/*/*.h "$here/build.sh")
sources=()
failed=0

compile() { # compile OBJECT SOURCE FLAG...: in the background, if the source or a header is newer
  local object=$1 source=$2 newer=0 h
  shift 2
  for h in "$source" "${headers[@]}" "${sources[@]}"; do [ "$h" -nt "$object" ] && newer=1; done
  [ "$newer" = 1 ] || return 0
  while [ "$(jobs -rp | wc -l)" -ge "${JOBS:-2}" ]; do wait -n || failed=1; done
  "$cxx" "${common[@]}" "$@" -c -o "$object" "$source" &
}

put() { # put FILE: writes stdin into it if that changes it
  local new
  new=$(cat)
  [ -e "$1" ] && [ "$new" = "$(cat "$1")" ] || printf '%s\n' "$new" >"$1"
}

# ---- the project's kernels: a source that includes the .cu file and lists what the preprocessor finds in it
cuda_objects=()
for folder in "${folders[@]}"; do
  for cu in "$folder"/*.cu; do
    stem=$(basename "$cu" .cu)
    names=$("$cxx" -std=c++17 -E -P -x c++ -I"$here/device" -I"$folder" -DEMULATOR_LISTS_KERNELS -include cuda_runtime.h "$cu" |
      tr '\n' ' ' | { grep -oP 'emulator_kernel\s+void\s+\K\w+' || true; } | sort)
    [ -n "$names" ] || { echo "$cu: no kernel in it" >&2; exit 1; }
    sources=("$folder"/*.cuh "$cu")
    {
      # Each file by itself: functions of the same name in two of them are different functions.
      printf '#include "launch.h"\n#include "cuda_bf16.h"\nnamespace {\n#include "%s"\n}\n' "$cu"
      for name in $names; do
        printf 'static emulator::Enlisted enlisted_%s("%s", "%s", %s);\n' "$name" "$stem" "$name" "$name"
      done
    } | put "kernel_$stem.cpp"
    compile "kernel_$stem.o" "kernel_$stem.cpp" "${kernel[@]}" -I"$folder"
    cuda_objects+=("kernel_$stem.o")
  done
done

# ---- the libraries
sources=()
objects_of() { # objects_of FOLDER: compiles what is in it, into the array `objects`
  objects=()
  local source
  for source in "$here/$1"/*.cpp "$here/$1"/*.S; do
    local object="$1_$(basename "$source").o"
    compile "$object" "$source" "${library[@]}"
    objects+=("$object")
  done
}
objects_of driver; cuda_objects+=("${objects[@]}")
objects_of cudnn; cudnn_objects=("${objects[@]}")
objects_of cublas; cublas_objects=("${objects[@]}")
objects_of curand; curand_objects=("${objects[@]}")
while [ -n "$(jobs -rp)" ]; do wait -n || failed=1; done
wait || failed=1
[ "$failed" = 0 ] || { echo "the emulator does not compile" >&2; exit 1; }

link() { # link SONAME LIST STATUS OBJECT...: what LIST names and no object defines becomes a function that says so
  local so=$1 list=$2 status=$3 o
  shift 3
  {
    echo '#include "trap.h"'
    comm -23 <(tr -s ' \n' '\n' <"$root/ops/build/lazy_cuda/$list.txt" | grep . | sort -u) \
      <(for o in "$@"; do nm -g --defined-only "$o"; done | awk '{print $3}' | sort -u) | sed "s/.*/TRAP(&, $status)/"
  } | put "traps_$list.cpp"
  [ "traps_$list.o" -nt "traps_$list.cpp" ] || "$cxx" "${common[@]}" -O1 -c -o "traps_$list.o" "traps_$list.cpp"
  local with=()
  [ "$so" = libcuda.so.1 ] || with=(-L"$dest" -l:libcuda.so.1)
  "$cxx" -shared -Wl,-soname,"$so" -Wl,-z,defs -Wl,-rpath,'$ORIGIN' -fsanitize=undefined -o "$dest/$so.new" "$@" "traps_$list.o" "${with[@]}"
  mv "$dest/$so.new" "$dest/$so" # never half a library under that name
}
link libcuda.so.1 libcuda 801 "${cuda_objects[@]}"
link libcudnn.so.9 libcudnn 3000 "${cudnn_objects[@]}"
for major in 12 13; do
  link libcublas.so.$major libcublas 15 "${cublas_objects[@]}"
  link libcublasLt.so.$major libcublasLt 15
done
link libcurand.so.10 libcurand 203 "${curand_objects[@]}"
echo "SYNTH_CUDA_LIBS=$dest"
