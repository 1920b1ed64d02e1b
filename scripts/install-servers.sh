#!/usr/bin/env bash
# Makes sure that the servers and tools the tests run against are on this machine,
# and installs the missing ones with apt, as root or through sudo. It starts no
# service: the tests start their own servers, on free ports, and stop them.
# Exits 1 with what is missing if it cannot be installed.
set -euo pipefail

# Debian keeps servers in sbin, which is not on everybody's PATH.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# One line each: the package, then a command that succeeds where it is there.
needed=(
	"redis-server      command -v redis-server"
	"mariadb-server    command -v mariadbd"
	"beanstalkd        command -v beanstalkd"
	"curl              command -v curl"
	"thrift-compiler   command -v thrift"
	"python3           test -x /usr/bin/python3"
	"python3-thrift    /usr/bin/python3 -c 'import thrift'"
	"haproxy           command -v haproxy"
	"iproute2          command -v ip"
	"systemd           command -v systemd-analyze"
	"php-cli           command -v php"
	"jq                command -v jq"
	"php-thrift        test -e /usr/lib/php/Transport/TSocket.php"
)

missing() {
	local row package check
	for row in "${needed[@]}"; do
		read -r package check <<<"$row"
		eval "$check" >/dev/null 2>&1 || printf '%s\n' "$package"
	done
}

mapfile -t packages < <(missing)
[ ${#packages[@]} -gt 0 ] || exit 0

give_up() {
	echo "missing: ${packages[*]}: $1" >&2
	echo "on Debian or Ubuntu: apt-get install ${packages[*]}" >&2
	exit 1
}

command -v apt-get >/dev/null || give_up "no apt-get here; install them with this system's own tools"
if [ "$(id -u)" -eq 0 ]; then
	root=()
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
	root=(sudo -n)
else
	give_up "neither root nor sudo without a password"
fi

# Packages must not start their services: policy-rc.d answers 101, "not allowed",
# for as long as this script runs, unless the machine has a policy of its own.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	trap '"${root[@]}" rm -f "$policy"' EXIT
	printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee "$policy" >/dev/null
	"${root[@]}" chmod 755 "$policy"
fi

apt() { "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=120 "$@"; }
echo "installing ${packages[*]}"
apt update >/dev/null || echo "apt-get update failed; trying with the lists that are here" >&2
apt install -y --no-install-recommends "${packages[@]}" >/dev/null || give_up "apt-get install failed"

mapfile -t packages < <(missing)
[ ${#packages[@]} -eq 0 ] || give_up "installed, but still not found"
