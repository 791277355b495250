#!/bin/sh
# A stand-in for the command of that name in unions/shapepipe: it records that a tile is done.
# A file fail/TILE in the run directory makes that tile fail, once.
set -eu
while getopts j:p:e:d: option; do
    case $option in
    j) jobs=$OPTARG ;;
    p) stage=$OPTARG ;;
    e) tile=$OPTARG ;;
    d) rundir=$OPTARG ;;
    *) exit 2 ;;
    esac
done
if rm "$rundir/fail/$tile" 2>/dev/null; then
    echo "$stage of $tile fails as it was told" >&2
    exit 1
fi
mkdir -p "$rundir"
echo "replica ${REPLICA_ID:-?}, $jobs jobs" >>"$rundir/$tile.OK"
echo "$stage of $tile done"
