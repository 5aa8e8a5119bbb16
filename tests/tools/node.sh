#!/usr/bin/env bash
# Makes available what a node runs beside Kubernetes (containerd, runc, CNI plugins, iptables, ip, a small
# CoreDNS), and what its workload image is made of (busybox; curl with its libraries, below workload/), and
# prints the folder that holds all that as the last line of stdout; all else it says goes to stderr.
#
# Debian's packages are unpacked into the folder and not installed: the machine stays as it is but for
# apt's own lists. The folder is named after the hash of what is in it; its .complete mark is written last.
# Safe to run many times and in parallel. It ends with 3 where the packages cannot be had here.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
tools="${REMOTEMOUNT_TOOLS:-$HOME/.cache/remotemount/tools}"
packages="$here/debian-packages.txt"
hash="$(cat "$packages" "$here"/coredns/{go.mod,go.sum,main.go} "${BASH_SOURCE[0]}" | sha256sum | cut -c1-12)"
folder="$tools/node-$hash"

cannot() {
    echo "no node here: $*" >&2
    exit 3
}

# Unpacks the packages listed for a folder. The pinned version of each; where the mirror has gone on to a later fix of
# the same release, that one.
unpack() {
    local wanted=() package
    mapfile -t wanted < <(sed -n "s/^$1 //p" "$packages")
    mkdir -p "$folder/$1" "$folder/debs"
    (
        cd "$folder/debs"
        if ! apt-get download -qq "${wanted[@]}" 2>said; then
            apt-get update -qq >/dev/null 2>said || cannot "apt-get update fails: $(tail -1 said)"
            for package in "${wanted[@]}"; do
                apt-get download -qq "$package" 2>/dev/null && continue
                apt-get download -qq "${package%%=*}" 2>said || cannot "there is no package ${package%%=*}: $(tail -1 said)"
                echo "there is no $package any more; taking the one there is" >&2
            done
        fi
    )
    for package in "$folder"/debs/*.deb; do
        dpkg-deb -x "$package" "$folder/$1"
    done
    rm -rf "$folder/debs" "$folder/$1/usr/share"
}

# A program in bin/ that finds its libraries and extensions, whoever starts it.
wrap() {
    local name="$1" program="$2"
    [[ -x "$program" ]] || { echo "the packages have no $program" >&2; exit 1; }
    if LD_LIBRARY_PATH="$libraries" ldd "$program" 2>/dev/null | grep 'not found' >&2; then
        echo "$program lacks libraries" >&2
        exit 1
    fi
    printf '#!/bin/sh\nexport LD_LIBRARY_PATH="%s" XTABLES_LIBDIR="%s/xtables"\nexec "%s" "$@"\n' \
        "$libraries" "$libraries" "$program" >"$folder/bin/$name"
    chmod +x "$folder/bin/$name"
}

# Some packages keep their libraries beside /usr.
merge_usr() {
    [[ ! -d "$1/lib" ]] || cp -a "$1"/lib/. "$1/usr/lib/"
}

# curl and exactly the libraries that it needs, where it looks for them.
cut_workload() {
    local unpacked="$folder/unpacked" loader library name
    mv "$folder/workload" "$unpacked"
    # The loader's place is written in the program; its package has a link there.
    name="$(cd "$unpacked" && find lib lib64 -maxdepth 1 -name 'ld-linux*' | head -1)"
    merge_usr "$unpacked"
    libraries="$(dirname "$(find "$unpacked/usr/lib" -name libcurl.so.4)")"
    loader="$(find "$libraries" -name 'ld-linux*.so.*')"
    mkdir -p "$folder/workload/usr/bin" "$folder/workload/lib"
    cp "$unpacked/usr/bin/curl" "$folder/workload/usr/bin/"
    "$loader" --list --library-path "$libraries" "$unpacked/usr/bin/curl" | sed -nE 's/.* => (.*) \(.*/\1/p' >"$folder/needed"
    while read -r library; do
        [[ "$library" == "$libraries"/* ]] || { echo "curl would take $library from this machine" >&2; exit 1; }
        cp -L "$library" "$folder/workload/lib/"
    done <"$folder/needed"
    mkdir -p "$folder/workload/$(dirname "$name")"
    cp -L "$loader" "$folder/workload/$name"
    rm -rf "$unpacked" "$folder/needed"
}

make_available() {
    local name
    rm -rf "$folder"
    mkdir -p "$folder/bin"
    unpack node
    merge_usr "$folder/node"
    libraries="$(dirname "$(find "$folder/node/usr/lib" -name libseccomp.so.2)")"
    for name in containerd containerd-shim-runc-v2 ctr; do
        wrap "$name" "$folder/node/usr/bin/$name"
    done
    wrap runc "$folder/node/usr/sbin/runc"
    for name in iptables ip6tables; do
        for part in "" -save -restore; do
            wrap "$name$part" "$folder/node/usr/sbin/$name-nft$part"
        done
    done
    wrap ip "$folder/node/bin/ip"
    ln -s node/usr/lib/cni "$folder/cni"
    ln -s node/bin/busybox "$folder/busybox"
    unpack workload
    cut_workload
    (cd "$here/coredns" && GOTOOLCHAIN=local GOWORK=off CGO_ENABLED=0 \
        go build -mod=readonly -trimpath -ldflags "-s -w" -o "$folder/bin/coredns" .) >&2
    touch "$folder/.complete"
}

if [[ ! -e "$folder/.complete" ]]; then
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || cannot "it is made of Debian's packages, and there is no apt-get"
    command -v go >/dev/null || { echo "Go 1.26 is needed to build CoreDNS" >&2; exit 1; }
    mkdir -p "$tools"
    exec 9>"$tools/.node.lock"
    flock 9
    # Another run may have finished while this one waited for the lock.
    if [[ ! -e "$folder/.complete" ]]; then
        echo "getting what the node of the tests runs (Debian's containerd, runc, CNI plugins and iptables; CoreDNS) into $folder; this is done once" >&2
        make_available
    fi
    exec 9>&-
fi

echo "$folder"
