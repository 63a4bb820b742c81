# Sourced by the scripts: what must be on the machine, the build with its progress, and tools in target/tools.

# need COMMAND_OR_FILE PACKAGE …: installs missing Debian packages, or says exactly what to install.
need() {
    local missing=()
    while [ $# -gt 0 ]; do
        if ! command -v "$1" >/dev/null 2>&1 && [ ! -e "$1" ]; then missing+=("$2"); fi
        shift 2
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    local list="${missing[*]}"
    if [ "$(id -u)" -ne 0 ]; then
        if command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
            echo "installing: $list"
            sudo apt-get update -qq >/dev/null && sudo DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $list >/dev/null && return 0
        fi
        echo "missing packages: $list" >&2
        echo "next: run  sudo apt-get install -y $list  and start this again" >&2
        exit 2
    fi
    echo "installing: $list"
    local log
    log=$(mktemp)
    if ! { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $list; } >"$log" 2>&1; then
        cat "$log" >&2
        echo "next: install by hand:  apt-get install -y $list" >&2
        exit 1
    fi
    rm -f "$log"
}

# need_cargo: the Rust toolchain cannot be installed from here.
need_cargo() {
    if ! command -v cargo >/dev/null 2>&1; then
        echo "missing: a Rust toolchain (cargo 1.90 or newer)" >&2
        echo "next: install Rust, then start this again" >&2
        exit 2
    fi
}

# progress WHAT CARGO-ARGS…: cargo with one line of progress; its whole output only when it fails.
progress() {
    local what=$1 log total crates=0 shown=0 status=0 start=$SECONDS
    shift
    log=$(mktemp)
    total=$(grep -c '^\[\[package\]\]' Cargo.lock)
    cargo "$@" 2>&1 | tee "$log" | while IFS= read -r line; do
        case "$line" in *Compiling* | *Checking*) crates=$((crates + 1)) ;; esac
        if [ -t 1 ]; then
            printf '\r  %s: %d crates of about %d, %d s ' "$what" "$crates" "$total" $((SECONDS - start))
        elif [ $((SECONDS - start - shown)) -ge 30 ]; then
            shown=$((SECONDS - start))
            printf '  %s: %d crates of about %d, %d s\n' "$what" "$crates" "$total" "$shown"
        fi
    done || status=${PIPESTATUS[0]}
    if [ -t 1 ]; then printf '\r%*s\r' 60 ''; fi
    if [ "$status" -ne 0 ]; then
        cat "$log" >&2
        rm -f "$log"
        exit 1
    fi
    rm -f "$log"
    echo "  $what: done in $((SECONDS - start)) s"
}

# python_tool NAME PACKAGE==VERSION …: these Python packages in an environment of their own, target/tools/NAME.
python_tool() {
    local name=$1 home=target/tools/$1
    shift
    if [ -f "$home/ready" ] && [ "$(cat "$home/ready")" = "$*" ]; then return 0; fi
    mkdir -p "$(dirname "$home")"
    python3 -m venv --clear "$home" >/dev/null
    installed "$name" "$home" "$*" "$home/bin/pip" install --quiet --disable-pip-version-check "$@"
}

# node_tool NAME PACKAGE@VERSION …: these Node packages in target/tools/NAME/node_modules. Their own scripts are not run.
node_tool() {
    local name=$1 home=target/tools/$1
    shift
    if [ -f "$home/ready" ] && [ "$(cat "$home/ready")" = "$*" ]; then return 0; fi
    rm -rf "$home"
    mkdir -p "$home"
    echo '{ "private": true }' >"$home/package.json"
    installed "$name" "$home" "$*" npm install --silent --ignore-scripts --no-audit --no-fund --prefix "$home" "$@"
}

# installed NAME HOME WHAT COMMAND …: runs an installation; what it said only when it fails.
installed() {
    local name=$1 home=$2 what=$3
    shift 3
    if ! "$@" >"$home/install.log" 2>&1; then
        cat "$home/install.log" >&2
        echo "next: $name ($what) could not be installed; check the network" >&2
        exit 1
    fi
    printf '%s' "$what" >"$home/ready"
}
