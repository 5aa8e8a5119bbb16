#!/usr/bin/env bash
# Fetches the CustomResourceDefinitions that the chart's monitors and certificates are checked against from
# the Go modules beside this script, and prints their folder as the last line of stdout.
#
# The folder carries the versions in its name, so a changed pin gets a new one. It is renamed into place when
# it is whole, hence one that is there is good. Safe to run many times and in parallel.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
tools="${REMOTEMOUNT_TOOLS:-$HOME/.cache/remotemount/tools}"
manager=github.com/cert-manager/cert-manager
prometheus=github.com/prometheus-operator/prometheus-operator
pinned() { sed -nE "s|^[[:space:]]*$1 v([^ ]+).*|\1|p" "$here/crds/go.mod" | head -1; }
folder="$tools/crds-cert-manager-$(pinned "$manager")-prometheus-operator-$(pinned "$prometheus")"

if [[ ! -d "$folder" ]]; then
    export GOTOOLCHAIN=local GOWORK=off
    if ! command -v go >/dev/null; then
        echo "Go 1.26 is needed to fetch the CRDs that the chart is checked against" >&2
        exit 1
    fi
    mkdir -p "$tools"
    exec 9>"$tools/.crds.lock"
    flock 9
    # Another run may have finished while this one waited for the lock.
    if [[ ! -d "$folder" ]]; then
        rm -rf "$folder.new"
        mkdir "$folder.new"
        of() { (cd "$here/crds" && go mod download -json "$1" | sed -nE 's|^[[:space:]]*"Dir": "(.*)",?$|\1|p'); }
        from="$(of "$manager")"
        cp "$from"/deploy/crds/cert-manager.io_{certificates,issuers}.yaml "$folder.new"
        from="$(of "$prometheus")"
        cp "$from"/example/prometheus-operator-crd/monitoring.coreos.com_{podmonitors,prometheusrules,servicemonitors}.yaml "$folder.new"
        # The module cache is read-only, and its files were copied with that.
        chmod u+w "$folder.new"/*
        mv "$folder.new" "$folder"
    fi
    exec 9>&-
fi

echo "$folder"
