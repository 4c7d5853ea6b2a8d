#!/usr/bin/env bash
# Remakes this project's own board from nothing: trains and scores, puts the results into submissions, verifies each, and
# builds site/ and LEADERBOARD.md. About half an hour on two cores for the demo's rows (each method and variant, five
# seeds). BIRDMML names the program, for a virtual environment that is not active; JOBS is how many trainings run at a
# time (each takes one core).
#   AVMNIST_RAW=DIR   MNIST's four files and WAVs of spoken digits: remakes the rows of avmnist-cpu, too.
#   XOR=1             remakes the XOR figure and what stands beside it (xor.sh), about 25 minutes.
# What is not remade stays as it is.
set -euo pipefail
cd "$(dirname "$0")"
birdmml=${BIRDMML:-birdmml}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

submit() { # name, what it learned from, results...
  rm -rf "submissions/$1"
  "$birdmml" submit "${@:3}" --out "submissions/$1" --name "birdmml, $1" --training-data "$2" \
    --contact "the developers of birdmml, by an issue where its code is kept" --license CC0-1.0 --allow-demo >/dev/null
}
rows() {
  printf '%s paper\n' confu tri_clip clip symile gram triangle
  printf '%s reference\n' confu tri_clip symile gram triangle
}
run() { # The released CLIP has no variant of its own.
  variant=()
  [ "$1" = clip ] || variant=(--set "method.variant=$2")
  "$birdmml" bench --method "$1" "${variant[@]}" --data "$work/data" --seeds 5 --out "$work/demo" >/dev/null
  echo "$1 ($2)"
}
export -f run
export birdmml work

"$birdmml" build --out "$work/data"
rows | xargs -P "${JOBS:-2}" -L 1 bash -c 'set -euo pipefail; run "$@"' _
submit demo "The train split of birdmml's own demo, which is computed; every weight from scratch." "$work/demo"
if [ -n "${AVMNIST_RAW:-}" ]; then
  "$birdmml" prepare av_mnist --from "$AVMNIST_RAW" --out "$work/av_mnist"
  "$birdmml" bench --protocol avmnist-cpu --all-methods --data "$work/av_mnist" --out "$work/digits" >/dev/null
  submit avmnist-cpu "MNIST's training digits and spoken digits beside them; every weight from scratch." "$work/digits"
fi
if [ -n "${XOR:-}" ]; then
  BIRDMML="$birdmml" ./xor.sh "$work/xor"
  rm -rf xor && mkdir xor && cp -r "$work"/xor/rate-* "$work"/xor/wide xor/
  mkdir xor/figure && cp "$work"/xor/figure/xor.* xor/figure/
  submit xor "Fresh samples of the XOR test, which are computed; every weight from scratch." "$work/xor/figure"
fi

for one in submissions/*/; do "$birdmml" verify "$one" >/dev/null; done
"$birdmml" leaderboard build --submissions submissions --out site --strict
cp site/LEADERBOARD.md LEADERBOARD.md
