#!/usr/bin/env bash
# Builds the control plane of the tests (etcd, kube-apiserver, kube-controller-manager, kubectl) from
# the Go modules beside this script and prints the folder that holds the programs as the last line of
# stdout; all else it says goes to stderr. With names as arguments, it builds those programs only.
#
# A program that $KUBEBUILDER_ASSETS has is not built: whoever sets that variable chose a version.
# The folder carries the versions in its name, so a changed pin gets a new one. Each program is moved
# into it when it is whole, hence one that is there is good. Safe to run many times and in parallel.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
tools="${REMOTEMOUNT_TOOLS:-$HOME/.cache/remotemount/tools}"
pinned() { sed -nE "s|^(require[[:space:]]+)?[[:space:]]*$2 v([^ ]+).*|\2|p" "$here/$1/go.mod" | head -1; }
kubernetes="$(pinned kubernetes k8s.io/kubernetes)"
etcd="$(pinned etcd go.etcd.io/etcd/server/v3)"
folder="$tools/kubernetes-$kubernetes-etcd-$etcd/bin"

missing=()
for program in "${@:-etcd kube-apiserver kube-controller-manager kubectl}"; do
    for name in $program; do
        [[ -n "${KUBEBUILDER_ASSETS:-}" && -x "$KUBEBUILDER_ASSETS/$name" ]] || missing+=("$name")
    done
done

there() {
    for name in "${missing[@]}"; do
        [[ -x "$folder/$name" ]] || return 1
    done
}

# The version and flags of Go decide what comes out: 1.27 builds an API server whose OpenAPI document
# kubectl and Helm cannot read.
check_go() {
    local wanted="to build the control plane of the tests; install it, or set KUBEBUILDER_ASSETS to a folder that has ${missing[*]}"
    if ! command -v go >/dev/null; then
        echo "Go 1.26 is needed $wanted" >&2
        exit 1
    fi
    local found
    found="$(cd / && go env GOVERSION)"
    if [[ "$found" != go1.26 && "$found" != go1.26.* ]]; then
        echo "Go 1.26 is needed $wanted; this is $found" >&2
        exit 1
    fi
}

build() {
    local name="$1" module=kubernetes package="k8s.io/kubernetes/cmd/$1" flags="-s -w"
    if [[ "$name" == etcd ]]; then
        module=etcd package=go.etcd.io/etcd/server/v3
    else
        local version="k8s.io/component-base/version" major="${kubernetes%%.*}" rest="${kubernetes#*.}"
        # Else it calls itself v0.0.0 and kubectl warns of the skew.
        flags+=" -X $version.gitVersion=v$kubernetes -X $version.gitMajor=$major -X $version.gitMinor=${rest%%.*} -X $version.gitTreeState=clean"
    fi
    (cd "$here/$module" && CGO_ENABLED=0 go build -mod=readonly -trimpath -ldflags "$flags" -o "$folder/.$name.new" "$package") >&2
    if [[ "$name" == kube-apiserver ]]; then
        local said
        said="$("$folder/.$name.new" --version)"
        if [[ "$said" != "Kubernetes v$kubernetes" ]]; then
            echo "kube-apiserver says it is \"$said\", not v$kubernetes" >&2
            exit 1
        fi
    fi
    mv "$folder/.$name.new" "$folder/$name"
}

if ! there; then
    export GOTOOLCHAIN=local GOWORK=off
    check_go
    mkdir -p "$folder"
    exec 9>"$tools/.control-plane.lock"
    flock 9
    # Another run may have finished while this one waited for the lock.
    if ! there; then
        echo "building the control plane of the tests (Kubernetes $kubernetes, etcd $etcd: ${missing[*]}) into $folder; this takes minutes and is done once" >&2
        for name in "${missing[@]}"; do
            [[ -x "$folder/$name" ]] || build "$name"
        done
    fi
    exec 9>&-
fi

echo "$folder"
