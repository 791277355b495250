#!/bin/sh
# A stand-in for a photometry pipeline: run_PhotoPipe.sh LIST THREADS
set -eu
[ "$#" -eq 2 ] || { echo "expected two arguments, got $#" >&2; exit 2; }
while read -r tile; do
    echo "photometry of $tile on $2 threads"
done <"$1"
echo "end of $1" >&2
