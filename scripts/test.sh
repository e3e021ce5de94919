#!/bin/sh
# Runs every test: units, documentation, examples, and end to end against real servers, which it installs (Debian, Ubuntu).
# What is given goes to cargo test: scripts/test.sh -p dlm-http
set -eu
cd "$(dirname "$0")/.."
. scripts/debian.sh
need nginx nginx-light
need cc gcc
need opentracker opentracker
need_python libtorrent python3-libtorrent
need_python ensurepip python3-venv
need transmission-daemon transmission-daemon
need aria2c aria2
need node nodejs
need npm npm
install_needed
if ! command -v cargo >/dev/null 2>&1; then
    echo "error: cargo is missing; https://rustup.rs installs it" >&2
    exit 1
fi
. scripts/programs.sh
install_libtorrent
install_npm_tracker
install_rqbit
[ $# -gt 0 ] || set -- --workspace
exec cargo test --all-features "$@"
