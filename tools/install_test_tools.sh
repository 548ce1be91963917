#!/bin/sh
# Installs the Debian packages that the tests use, where they are missing and this user may.
# PostgreSQL is not among them: the tests take the server on PATH, or the one from the Python lock.
set -eu

# etcd is unpacked beside the test environment's programs, and not installed: the package would start a server.
bin=.venvs/test/bin
if [ -d "$bin" ] && [ ! -x "$bin/etcd" ] && ! command -v etcd >/dev/null; then
    folder=$(mktemp -d)
    if command -v apt-get >/dev/null &&
        (cd "$folder" && { apt-get download -qq etcd-server || { apt-get update -qq && apt-get download -qq etcd-server; }; }) >/dev/null 2>&1 &&
        dpkg-deb -x "$folder"/etcd-server_*.deb "$folder"; then
        install -m 755 "$folder/usr/bin/etcd" "$bin/etcd"
    else
        echo "note: tests that need etcd will skip; on Debian: sudo apt-get install etcd-server" >&2
    fi
    rm -rf "$folder"
fi

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
