# shellcheck shell=bash
# settings.sh : what our shell scripts share: where things are, how progress and errors look, Python and uv.
ROOT=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)
[ -n "${HOME:-}" ] || HOME=$(getent passwd "$(id -u)" | cut -d: -f6)
: "${AGENTTASK_CACHE:=$HOME/.cache/agenttask}" # what outlives a checkout, each part named by what it is made from
: "${CLUSTER:=local}"                          # local | kind | current
export ROOT HOME AGENTTASK_CACHE CLUSTER

say() { if [ -t 2 ]; then printf '\e[1m==> %s\e[0m\n' "$*" >&2; else printf '==> %s\n' "$*" >&2; fi; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }
have() { command -v "$1" > /dev/null; }

# Packages of the system, where we are root on a Debian: else a word on what to install.
install_packages() { # install_packages PACKAGE...
	if [ "$(id -u)" != 0 ] || ! have apt-get; then die "missing: $*; install them with your system's package tool"; fi
	say "installing $*"
	{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@"; } > /dev/null < /dev/null || die "apt-get could not install $*"
}

# uv does not read pip's configuration; what that says of the package index holds for uv too.
index_settings() { # index_settings PIP...
	local key value
	while IFS='=' read -r key value; do
		value=${value#\'} value=${value%\'}
		case ${key##*.} in
		index-url) export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$value} ;;
		extra-index-url) export UV_INDEX=${UV_INDEX:-$value} ;;
		trusted-host) export UV_INSECURE_HOST=${UV_INSECURE_HOST:-$value} ;;
		cert) [ ! -r "$value" ] || export SSL_CERT_FILE=${SSL_CERT_FILE:-$value} ;;
		esac
	done < <("$@" config list 2> /dev/null)
}

find_python() { # sets python: PYTHON, or the first in PATH that is 3.11 or later
	local candidate
	python=${PYTHON:-}
	for candidate in python3 python3.13 python3.12 python3.11; do
		[ -z "$python" ] && have "$candidate" && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' && python=$candidate
	done
	[ -n "$python" ] || die "no Python 3.11 or later in PATH; set PYTHON to one"
}
find_uv() { # sets uv: by hash, in a small environment of its own
	local tools
	tools=$AGENTTASK_CACHE/uv-$({ "$python" -VV; cat "$ROOT/requirements/bootstrap.txt"; } | sha256sum | cut -c1-16)
	if [ ! -x "$tools/bin/uv" ]; then
		say "uv into $tools"
		rm -rf "$tools"
		"$python" -c 'import ensurepip' 2> /dev/null || install_packages python3-venv
		"$python" -m venv "$tools"
		"$tools/bin/python" -m pip install -q --disable-pip-version-check --require-hashes -r "$ROOT/requirements/bootstrap.txt"
	fi
	index_settings "$tools/bin/python" -m pip
	# shellcheck disable=SC2034 # for the script that reads this file
	uv=$tools/bin/uv
}
