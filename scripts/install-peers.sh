#!/bin/sh
# Installs the programs that benches/side-by-side and benches/swarm compare dlm with (Debian, Ubuntu).
set -eu
cd "$(dirname "$0")/.."
. scripts/debian.sh
need curl curl
need aria2c aria2
need axel axel
need wget2 wget2
need nginx nginx-light
need opentracker opentracker
need strace strace
need_python ensurepip python3-venv
install_needed
. scripts/programs.sh
install_libtorrent
# Not the one of the tests, which is optimized less.
command -v rqbit >/dev/null 2>&1 ||
    cargo install rqbit --version 9.1.0 --locked --no-default-features --features rust-tls
