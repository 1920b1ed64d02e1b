#!/usr/bin/env bash
# Checks the structure that the compiler does not: who may import whom, who may
# touch the process, what lies at the top level. Prints every breach and exits 1.
set -euo pipefail
cd "$(dirname "$0")/.."

module=$(go list -m)
breaches=$(mktemp)
trap 'rm -f "$breaches"' EXIT
breach() { printf '%s\n' "$*" >>"$breaches"; }

# Imports of product code; a row is a package and what it imports, ours without
# the module's name. Test files may import what they like.
imports=$(go list -f '{{$p := .ImportPath}}{{range .Imports}}{{$p}} {{.}}{{"\n"}}{{end}}' ./... | sed "s#$module/##g")
rooms='redisstore|scheduler/memstore|actions|rpc'

while read -r package import; do
	[ -n "$package" ] || continue
	# Packages that exist for tests go where they like, and product code nowhere
	# near them.
	[[ $package/ == *test/* ]] && continue
	[[ $import/ == *test/* && $import != *.*/* ]] && breach "$package imports $import: a package for tests"

	case $package in
	scheduler)
		# The domain depends on nothing of ours, and on few others.
		case $import in
		scheduler/* | redisstore* | actions* | rpc* | cmd/*) breach "$package imports $import: the domain imports no other package of ours" ;;
		github.com/rs/zerolog | golang.org/x/sys/* | github.com/netresearch/go-cron) ;;
		*.*/*) breach "$package imports $import: only the standard library, zerolog, x/sys and the cron parser" ;;
		esac
		;;
	scheduler/*)
		case $import in redisstore* | actions* | rpc*) breach "$package imports $import: below scheduler, only scheduler is imported" ;; esac
		;;
	scripts/chaos/*)
		# A witness that shares code with whom it watches would share its errors.
		[[ $import =~ ^(scheduler|redisstore|actions|rpc|cmd)(/|$) ]] && breach "$package imports $import: the ledger imports nothing of ours"
		;;
	# Programs, where everything meets; of deploy, those that have actions of their own.
	cmd/* | deploy/*) continue ;;
	esac

	# Adapters meet only in cmd; the thrift action alone may use the generated code.
	room=$(grep -oE "^($rooms)(/|$)" <<<"$package/" | sed "s,/\$,," || true)
	other=$(grep -oE "^($rooms)(/|$)" <<<"$import/" | sed "s,/\$,," || true)
	if [ -n "$room" ] && [ -n "$other" ] && [ "$room" != "$other" ]; then
		[ "$room" = actions ] && [[ $import == rpc/gen* ]] ||
			breach "$package imports $import: $room and $other meet only in cmd"
	fi
	[[ $import == cmd/* ]] && breach "$package imports $import: nothing imports cmd"

	case $import in
	github.com/redis/rueidis*)
		case $package in redisstore | redisstore/* | actions | scripts/chaos/ledger) ;; *) breach "$package imports $import: rueidis is for redisstore, actions/redis.go, cmd and the ledger" ;; esac
		;;
	github.com/go-redsync/*)
		case $package in redisstore | redisstore/*) ;; *) breach "$package imports $import: redsync is for redisstore" ;; esac
		;;
	esac
done <<<"$imports"

# found PATTERN FILE... prints where a pattern stands, and never fails.
found() { grep -nHE "$@" /dev/null || true; }

mapfile -t sources < <(git ls-files -co --exclude-standard -- '*.go' | grep -vE '_test\.go$|/gen/' |
	while IFS= read -r file; do [ ! -f "$file" ] || printf '%s\n' "$file"; done)
mapfile -t inner < <(printf '%s\n' "${sources[@]}" | grep -vE '^(cmd|scripts|deploy)/|^redisstore/redistest/')

while IFS= read -r line; do
	breach "$line: only cmd reads flags and environment, handles signals, exits"
done < <(found '\b(os\.(Exit|Getenv|LookupEnv|Environ|Args)\b|signal\.Notify|log\.Fatal|flag\.(Parse|String|Int|Bool)\()' "${inner[@]}")

while IFS= read -r line; do
	case $line in actions/redis.go:*) ;; actions/*) breach "$line: rueidis belongs in actions/redis.go" ;; esac
done < <(found '"github.com/redis/rueidis' "${sources[@]}")

while IFS= read -r line; do
	breach "$line: no hand-written init(): code that runs by being linked in hides what it does"
done < <(found '^func init\(\)' "${sources[@]}")

# The top level.
allowed=' actions cmd deploy redisstore rpc scheduler scripts CHANGELOG.md CONTRIBUTING.md LICENSE Makefile README.md README.zh-CN.md go.mod go.sum '
while read -r name; do
	case $name in .*) continue ;; esac
	[[ $allowed == *" $name "* ]] || breach "$name: does not belong at the top level"
done < <(git ls-files -co --exclude-standard | cut -d/ -f1 | sort -u)

if [ -s "$breaches" ]; then
	sort -u "$breaches" >&2
	exit 1
fi
