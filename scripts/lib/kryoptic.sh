#!/usr/bin/env bash
# Builds the PKCS#11 module kryoptic from crates.io, with an OpenSSL of its own (its Ed25519 needs 3.2, Debian 12 has
# 3.0). Takes minutes the first time. Prints the path of the library.
set -euo pipefail
cd "$(dirname "$0")/../.."
home=$PWD/target/tools/kryoptic
library=$home/kryoptic/target/release/libkryoptic_pkcs11.so
if [ -f "$library" ]; then
    echo "$library"
    exit 0
fi
mkdir -p "$home/fetch"
log=$home/build.log
trap 'status=$?; [ $status -eq 0 ] || { tail -n 30 "$log" >&2; echo "next: the whole log is $log" >&2; }' EXIT
: >"$log"

# A package that names both brings their sources here by cargo's own means.
cat >"$home/fetch/Cargo.toml" <<'MANIFEST'
[package]
name = "fetch"
version = "0.0.0"
edition = "2024"
[lib]
path = "lib.rs"
[dependencies]
kryoptic = "=1.5.4"
openssl-src = "=300.6.1"
[workspace]
MANIFEST
: >"$home/fetch/lib.rs"
source_of() {
    cargo metadata --manifest-path "$home/fetch/Cargo.toml" --format-version 1 2>>"$log" | python3 -c '
import json, os, sys
print(next(os.path.dirname(one["manifest_path"]) for one in json.load(sys.stdin)["packages"] if one["name"] == sys.argv[1]))
' "$1"
}
for name in kryoptic openssl-src; do
    [ -d "$home/$name" ] || cp -r "$(source_of $name)" "$home/$name"
done

cd "$home/openssl-src/openssl"
if [ ! -f libcrypto.a ]; then
    ./Configure no-shared no-module no-apps no-tests no-docs -fPIC >>"$log" 2>&1
    make -j "$(nproc)" build_libs >>"$log" 2>&1
fi
cd "$home/kryoptic"
KRYOPTIC_OPENSSL_SOURCES=$home/openssl-src/openssl CARGO_TARGET_DIR=$home/kryoptic/target \
    cargo build --release --locked --lib --no-default-features --features standard,ossl/ossl-sys >>"$log" 2>&1
echo "$library"
