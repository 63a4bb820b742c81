# Sourced by scripts/demo and scripts/test: what must be on the machine, and the build with its progress.

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
