#!/bin/sh
# Starts forsund in a container: docker-entrypoint [forsund] [OPTION...], or any
# other command. As root it gives mounted directories that belong to somebody
# else to forsun, and goes on as forsun.
set -eu

if [ $# -eq 0 ] || [ "${1#-}" != "$1" ]; then
	set -- forsund "$@"
fi

if [ "$(id -u)" -eq 0 ]; then
	for dir in /var/lib/forsun /var/log/forsun; do
		if [ -d "$dir" ] && [ "$(stat -c %u "$dir")" -ne 65532 ]; then
			chown -R 65532:65532 "$dir" || echo "docker-entrypoint: $dir stays $(stat -c %U "$dir")'s" >&2
		fi
	done
	exec setpriv --reuid=65532 --regid=65532 --clear-groups --no-new-privs -- "$@"
fi
exec "$@"
