#!/usr/bin/env bash
# Builds Helm, by which tests install the chart, from the Go module beside this script and prints the
# program's path as the last line of stdout; all else it says goes to stderr.
#
# Where $HELM names a program, that one is printed and nothing is built: whoever sets it chose a version.
# The folder carries the version in its name, so a changed pin gets a new one. The program is moved into
# it when it is whole, hence one that is there is good. Safe to run many times and in parallel.
set -euo pipefail

if [[ -n "${HELM:-}" ]]; then
    if ! command -v "$HELM"; then
        echo "HELM=$HELM is no program" >&2
        exit 1
    fi
    exit
fi

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
tools="${REMOTEMOUNT_TOOLS:-$HOME/.cache/remotemount/tools}"
pinned() { sed -nE "s|^[[:space:]]*$1 v([^ ]+).*|\1|p" "$here/helm/go.mod" | head -1; }
version="$(pinned helm.sh/helm/v4)"
folder="$tools/helm-$version/bin"

if [[ ! -x "$folder/helm" ]]; then
    export GOTOOLCHAIN=local GOWORK=off
    if ! command -v go >/dev/null; then
        echo "Go 1.26 is needed to build Helm; install it, or set HELM to a helm that is there" >&2
        exit 1
    fi
    mkdir -p "$folder"
    exec 9>"$tools/.helm.lock"
    flock 9
    # Another run may have finished while this one waited for the lock.
    if [[ ! -x "$folder/helm" ]]; then
        echo "building Helm $version into $folder; this takes a minute and is done once" >&2
        (cd "$here/helm" && CGO_ENABLED=0 go build -mod=readonly -trimpath \
            -ldflags "-s -w -X helm.sh/helm/v4/internal/version.version=v$version" \
            -o "$folder/.helm.new" helm.sh/helm/v4/cmd/helm) >&2
        mv "$folder/.helm.new" "$folder/helm"
    fi
    exec 9>&-
fi

echo "$folder/helm"
