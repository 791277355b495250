"""``--script``: chunk and stripe in POSIX sh and awk, for images without skahactl."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from skahactl.split.shares import Share

_SCRIPT = r"""#!/bin/sh
# Prints this replica's share of a list, one item per line, like "skahactl split". It needs only sh and awk.
#   sh split.sh [-s chunk|stripe] [-n I/N] [LIST...]        lists of lines (not NUL-separated), or standard input
# Every line ends with a newline, also the last one of a list that ends without one.
# REPLICA_ID (1..N) and REPLICA_COUNT (N) select the share; -n overrides them. Written by skahactl @VERSION@.
LC_ALL=C
export LC_ALL
strategy=@STRATEGY@ share=@SHARE@

die() {
    echo "split.sh: $1" >&2
    exit 2
}

while getopts s:n: option; do
    case $option in
    s) strategy=$OPTARG ;;
    n) share=$OPTARG ;;
    *) die 'usage: sh split.sh [-s chunk|stripe] [-n I/N] [LIST...]' ;;
    esac
done
shift $((OPTIND - 1))
[ $# -gt 0 ] || set -- @LISTS@

case $strategy in
chunk | stripe) ;;
*) die "invalid strategy '$strategy' (chunk or stripe)" ;;
esac

if [ -n "$share" ]; then
    case $share in
    */*) replica=${share%%/*} replicas=${share#*/} ;;
    *) die "invalid -n '$share' (expected I/N, for example 3/10)" ;;
    esac
elif [ -n "${REPLICA_ID+set}${REPLICA_COUNT+set}" ]; then
    [ -n "${REPLICA_ID+set}" ] || die 'REPLICA_COUNT is set, but REPLICA_ID is not'
    [ -n "${REPLICA_COUNT+set}" ] || die 'REPLICA_ID is set, but REPLICA_COUNT is not'
    replica=$REPLICA_ID replicas=$REPLICA_COUNT
elif [ -n "${skaha_sessionid+set}${SKAHA_SESSIONID+set}" ]; then
    die 'REPLICA_ID and REPLICA_COUNT are not set in this session: every replica would process all items'
else
    echo 'split.sh: REPLICA_ID and REPLICA_COUNT are not set: printing every item' >&2
    replica=1 replicas=1
fi
for number in "$replica" "$replicas"; do
    case $number in
    '' | *[!0-9]*) die "not a whole number of 1 or more: '$number'" ;;
    esac
done
[ "$replicas" -ge 1 ] || die "the number of replicas must be at least 1, not $replicas"
[ "$replica" -ge 1 ] || die "replica $replica does not exist: replicas count from 1"
[ "$replica" -le "$replicas" ] || die "replica $replica of $replicas does not exist (replicas: 1 to $replicas)"

if [ $# -eq 0 ]; then
    [ ! -t 0 ] || die 'no list: standard input is a terminal'
    ! [ /dev/stdin -ef /dev/null ] 2>/dev/null || die 'no list: standard input is /dev/null'
    set -- -
fi
count=$#
while [ "$count" -gt 0 ]; do
    list=$1
    shift
    count=$((count - 1))
    case $list in
    - | /*) ;;
    *) list=./$list ;; # awk would read a=b as an assignment
    esac
    if [ "$list" != - ]; then
        [ ! -d "$list" ] || die "$list: is a directory"
        [ -r "$list" ] || die "$list: cannot read this list"
    fi
    set -- "$@" "$list"
done

if [ "$strategy" = stripe ]; then
    exec awk -v i="$replica" -v n="$replicas" 'FNR == 1 { sub(/^\357\273\277/, "") } NR % n == i % n' "$@"
fi
exec awk -v i="$replica" -v n="$replicas" '
    FNR == 1 { sub(/^\357\273\277/, "") }
    { line[NR] = $0 }
    END {
        size = int(NR / n)
        longer = NR % n
        first = (i - 1) * size + (i - 1 < longer ? i - 1 : longer)
        last = first + size + (i <= longer)
        for (at = first + 1; at <= last; at++) print line[at]
    }' "$@"
"""


def script(strategy: str, share: Share | None, lists: Sequence[str], version: str) -> str:
    """Return the text of the script; ``strategy``, ``share`` and ``lists`` are its defaults."""
    words = {
        "@VERSION@": version,
        "@STRATEGY@": strategy,
        "@SHARE@": f"{share.replica}/{share.total}" if share else "",
        "@LISTS@": " ".join(map(shlex.quote, lists)),
    }
    text = _SCRIPT
    for mark, word in words.items():
        text = text.replace(mark, word)
    return text
