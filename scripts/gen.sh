#!/bin/sh
# Generates rpc/gen from rpc/forsun.thrift, or into the directory given.
# Needs the Thrift compiler 0.17 (Debian: thrift-compiler).
set -eu
cd "$(dirname "$0")/.."
out=${1:-rpc/gen}
command -v thrift >/dev/null || { echo "gen.sh: the Thrift compiler is missing (Debian: thrift-compiler)" >&2; exit 1; }
case $(thrift -version) in
*" 0.17."*) ;;
*) echo "gen.sh: Thrift compiler 0.17 is needed, this is $(thrift -version)" >&2; exit 1 ;;
esac
mkdir -p "$out"
rm -rf "$out/forsun"
thrift --gen go:package_prefix=github.com/snower/forsun/rpc/gen/,skip_remote -out "$out" rpc/forsun.thrift
gofmt -w "$out"
