# Sourced by test.sh: installs programs that Debian has not, into a folder of their own, where the tests look for them.
# Each is of one version, and is there for good once it was installed.

programs=${DLM_TEST_PROGRAMS:-$HOME/.cache/dlm-test-programs}

# libtorrent of PyPI, which is newer than Debian's.
install_libtorrent() {
    ! "$programs/python/bin/python" -c "import libtorrent" >/dev/null 2>&1 || return 0
    echo "installing libtorrent into $programs" >&2
    /usr/bin/python3 -m venv --clear "$programs/python"
    "$programs/python/bin/python" -m pip install -q --disable-pip-version-check libtorrent==2.1.1
}

# A tracker. It needs none of the binaries that it would bring, and runs nothing when it is installed.
install_npm_tracker() {
    [ ! -e "$programs/npm/node_modules/bittorrent-tracker/server.js" ] || return 0
    echo "installing bittorrent-tracker into $programs" >&2
    npm install --prefix "$programs/npm" --ignore-scripts --omit=optional --no-audit --no-fund --loglevel=error \
        bittorrent-tracker@11.2.3
}

# A peer. Optimized less than a release, which would take minutes more, and no test needs it.
install_rqbit() {
    [ ! -x "$programs/rqbit/bin/rqbit" ] || return 0
    echo "installing rqbit into $programs" >&2
    CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_DEBUG=0 \
        CARGO_PROFILE_RELEASE_CODEGEN_UNITS=64 CARGO_TARGET_DIR="$programs/rqbit/target" \
        cargo install rqbit --version 9.1.0 --locked --no-default-features --features rust-tls --root "$programs/rqbit"
    rm -rf "$programs/rqbit/target"
}
