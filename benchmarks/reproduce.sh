#!/usr/bin/env bash
# Remakes every row of LEADERBOARD.md from nothing: the demo dataset, each method and variant with five seeds, the table.
# About half an hour on two cores. BIRDMML names the program, for a virtual environment that is not active; JOBS is how
# many trainings run at a time (each takes one core). AVMNIST_RAW, if set, is a folder with MNIST's four files and WAVs
# of spoken digits: then the rows of avmnist-cpu are remade, too, else they stay as they are. XOR has xor.sh.
set -euo pipefail
cd "$(dirname "$0")"
birdmml=${BIRDMML:-birdmml}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$birdmml" build --out "$work/data"
rows() {
  printf '%s paper\n' confu tri_clip clip symile gram triangle
  printf '%s reference\n' confu tri_clip symile gram triangle
}
run() { # The released CLIP has no variant of its own.
  variant=()
  [ "$1" = clip ] || variant=(--set "method.variant=$2")
  "$birdmml" bench --method "$1" "${variant[@]}" --data "$work/data" --seeds 5 --out "$work/results" >/dev/null
  echo "$1 ($2)"
}
export -f run
export birdmml work
rows | xargs -P "${JOBS:-2}" -L 1 bash -c 'set -euo pipefail; run "$@"' _
if [ -n "${AVMNIST_RAW:-}" ]; then
  "$birdmml" prepare av_mnist --from "$AVMNIST_RAW" --out "$work/av_mnist"
  "$birdmml" bench --protocol avmnist-cpu --all-methods --data "$work/av_mnist" --out "$work/results" >/dev/null
elif [ -d results ]; then
  find results -maxdepth 1 -name '*-avmnist-cpu-*' -exec cp -r {} "$work/results" ';'
fi
# The models are large and can be made again; the outcomes of every item stay, so that the rows can be checked.
rm -rf "$work"/results/models "$work"/results/table.* results
mv "$work/results" results
"$birdmml" leaderboard table results --allow-demo --out LEADERBOARD.md
