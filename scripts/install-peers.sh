#!/bin/sh
# Installs the programs that benches/side-by-side compares dlm with (Debian, Ubuntu).
set -eu
cd "$(dirname "$0")/.."
. scripts/debian.sh
need curl curl
need aria2c aria2
need axel axel
need wget2 wget2
need nginx nginx-light
install_needed
