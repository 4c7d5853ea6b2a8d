#!/usr/bin/env bash
# Remakes xor/: the figure on seeds that chose nothing, what the learning rate does to it, and 1,024-d.
# About 25 minutes on two cores. BIRDMML names the program, for a virtual environment that is not active.
set -euo pipefail
cd "$(dirname "$0")"
birdmml=${BIRDMML:-birdmml}
out=${1:-xor}
rm -rf "$out"
xor() { # The folder that is named after the plan gives its content to the one that is named here.
  $birdmml bench --suite xor --out "$out/$1.part" "${@:2}"
  mv "$out/$1.part"/xor-* "$out/$1" && rmdir "$out/$1.part"
}
xor figure --seed 100 --seeds 5
for rate in 0.001 0.005; do
  xor "rate-$rate" --seed 200 --seeds 2 --p 0.1,0.5,1 --learning-rate "$rate" \
    --method confu --method symile --method gram --method triangle
done
xor wide --seed 100 --seeds 1 --p 0.5,1 --dim 1024 --method confu --method symile --method gram --method triangle
