#!/usr/bin/env bash
# Installs the S3 servers of the tests (weed, rclone, moto_server) into a Python venv of their own
# and prints that venv's path as the last line of stdout; all else it says goes to stderr.
#
# The venv is named after the hash of requirements.txt, so a changed pin gets a new one and an old
# one is never altered. A venv cannot be moved once made, hence the .complete mark, written last:
# one without it is half made and is started over. Safe to run many times and in parallel.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
requirements="$here/requirements.txt"
tools="${REMOTEMOUNT_TOOLS:-$HOME/.cache/remotemount/tools}"
hash="$(sha256sum "$requirements" | cut -c1-12)"
venv="$tools/python-$hash"

if [[ ! -e "$venv/.complete" ]]; then
    mkdir -p "$tools"
    exec 9>"$tools/.lock"
    flock 9
    # Another run may have finished it while this one waited for the lock.
    if [[ ! -e "$venv/.complete" ]]; then
        echo "downloading the S3 servers of the tests ($(grep -v '^#' "$requirements" | paste -sd' ')) into $venv; this is done once" >&2
        rm -rf "$venv"
        python3 -m venv "$venv" >&2
        "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$requirements" >&2
        touch "$venv/.complete"
    fi
    exec 9>&-
fi

echo "$venv"
