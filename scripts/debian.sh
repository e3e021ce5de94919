# Sourced by the other scripts: installs Debian packages whose programs are missing.

needed=""

# need PROGRAM PACKAGE: notes the package if the program is missing.
need() {
    if ! (PATH="$PATH:/usr/sbin:/usr/local/sbin"; command -v "$1" >/dev/null 2>&1); then
        needed="$needed $2"
    fi
}

# need_python MODULE PACKAGE: notes the package if Debian's Python lacks the module.
need_python() {
    if ! /usr/bin/python3 -c "import $1" >/dev/null 2>&1; then
        needed="$needed python3 $2"
    fi
}

# Installs what was noted.
install_needed() {
    [ -n "$needed" ] || return 0
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "error: please install:$needed (this script knows apt-get only)" >&2
        exit 1
    fi
    sudo=""
    if [ "$(id -u)" -ne 0 ]; then
        if ! command -v sudo >/dev/null 2>&1; then
            echo "error: as root, please run: apt-get install$needed" >&2
            exit 1
        fi
        sudo="sudo"
    fi
    echo "installing$needed" >&2
    $sudo apt-get update -q
    # shellcheck disable=SC2086 # the packages are words, and sudo may be empty
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $needed
}
