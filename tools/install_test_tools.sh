#!/bin/sh
# Installs the Debian packages that the tests use, where they are missing and this user may.
# PostgreSQL is not among them: the tests take the server on PATH, or the one from the Python lock.
set -eu

missing=""
command -v strace >/dev/null || missing="$missing strace" # counts system calls and kills a server inside one
command -v promtool >/dev/null || missing="$missing prometheus" # checks exported rules, answers questions

[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "note: tests that need$missing will skip; on Debian: sudo apt-get install$missing" >&2
    exit 0
fi

export DEBIAN_FRONTEND=noninteractive
export RUNLEVEL=1 # nothing that is installed shall start by itself
install="apt-get install -qq --yes --no-install-recommends"
# shellcheck disable=SC2086 # a list of words on purpose
$install $missing >/dev/null 2>&1 || { apt-get update -qq >/dev/null && $install $missing >/dev/null; }
