#!/usr/bin/env bash
# Remakes every row of LEADERBOARD.md from nothing: the demo dataset, each method and variant with five seeds, the table.
# About half an hour on two cores. BIRDMML names the program, for a virtual environment that is not active; JOBS is how
# many trainings run at a time (each takes one core).
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
# The models are large and can be made again; the outcomes of every item stay, so that the rows can be checked.
rm -rf "$work"/results/models results
mv "$work/results" results
"$birdmml" leaderboard table results --allow-demo --out LEADERBOARD.md
