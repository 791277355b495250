#!/bin/sh
# A stand-in for a pipeline of one tile: run_possum_tile.sh TILE
set -eu
[ "$#" -eq 1 ] || { echo "one argument wanted, $# given" >&2; exit 2; }
echo "tile $1 starts"
sleep "${TILE_SECONDS:-0}"
echo "tile $1 done"
