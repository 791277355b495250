#!/bin/sh
# A stand-in for the program that makes a cube: make_cube.sh GALAXY RESULTS, with TOKEN in the environment.
set -eu
[ -n "$TOKEN" ] || { echo "no token" >&2; exit 1; }
mkdir -p "$2"
echo "$1 $ITEM_RAM" >"$2/$1.cube"
echo "cube of $1 done"
