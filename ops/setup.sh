# What the demo and the tests need on a Debian machine; sourced by ops/demo and ops/test.
#
# Installs what is missing and says so. Without root it installs nothing and ends with one line
# that says what to install.

picket_fail() {
    printf '%s\n' "$*" >&2
    exit 1
}

# Postgres keeps its server programs outside PATH on Debian.
picket_have_postgres() {
    command -v postgres >/dev/null 2>&1 && command -v initdb >/dev/null 2>&1 && return 0
    local bin
    for bin in /usr/lib/postgresql/*/bin; do
        [ -x "$bin/postgres" ] && [ -x "$bin/initdb" ] && return 0
    done
    return 1
}

# usage: picket_setup [nginx]
picket_setup() {
    command -v cargo >/dev/null 2>&1 ||
        picket_fail "cargo is missing: install a Rust toolchain of at least $(picket_rust_version) (https://rustup.rs) and run this again"

    local packages=()
    command -v cc >/dev/null 2>&1 || packages+=(gcc libc6-dev)
    picket_have_postgres || packages+=(postgresql)
    if [ "${1:-}" = nginx ]; then
        command -v nginx >/dev/null 2>&1 || [ -x /usr/sbin/nginx ] || packages+=(nginx-light)
    fi
    [ ${#packages[@]} -eq 0 ] && return 0

    command -v apt-get >/dev/null 2>&1 ||
        picket_fail "missing: ${packages[*]} (names of Debian packages); install them and run this again"
    [ "$(id -u)" -eq 0 ] ||
        picket_fail "missing: ${packages[*]}; as root, run: apt-get install --no-install-recommends ${packages[*]}"

    printf 'installing %s\n' "${packages[*]}"
    picket_install "${packages[@]}"
}

# Packages bring services that start at once; nothing here wants them running, and no cluster of
# the system's Postgres is created on the side.
picket_install() {
    local policy=/usr/sbin/policy-rc.d made_policy=no log status=0
    log=$(mktemp)
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        made_policy=yes
    fi
    if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
        mkdir -p /etc/postgresql-common/createcluster.d
        printf 'create_main_cluster = false\n' >/etc/postgresql-common/createcluster.d/picket.conf
    fi
    {
        apt-get update -q &&
            DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
    } >"$log" 2>&1 </dev/null || status=$?
    [ $made_policy = yes ] && rm -f "$policy"
    if [ $status -ne 0 ]; then
        tail -n 15 "$log" >&2
        rm -f "$log"
        picket_fail "could not install: $*"
    fi
    rm -f "$log"
}

picket_rust_version() {
    sed -n 's/^rust-version = "\(.*\)"/\1/p' "$(dirname "${BASH_SOURCE[0]}")/../Cargo.toml"
}
