#!/usr/bin/env bash
# Kills, full disks, vanished teachers and the rest, as often as docs/FAULTS.md asks for, and writes that page.
#
#   benches/faults.sh
#
# About ten minutes on two cores. As root it also mounts small file systems in memory below the temporary folder; with libfaketime
# (package `faketime`) clocks jump in running processes, too.
set -eu
cd "$(dirname "$0")/.."
SYNTH_FAULTS=full cargo test --release --test faults -- --nocapture "$@"
