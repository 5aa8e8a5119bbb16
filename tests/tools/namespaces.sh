#!/usr/bin/env bash
# Runs a program in namespaces of its own (processes, mounts, network, host name), where a node can be
# started that the machine never sees, and leaves nothing behind.
#
#   namespaces.sh check              says why this machine allows no node, and ends with 3; else says nothing
#   namespaces.sh run PROGRAM ARG…   runs it there, and ends as it does; also as the runner of cargo test
#
# The program's first process ends last: when it goes, the kernel ends every process of the namespace, and
# mounts and network with them. What a node writes (/run, /var/lib, /var/log, temporary files) is in memory and
# goes too. Only cgroups are the machine's own: one subtree a run, which this script makes and removes; that of a
# run which was killed is removed by the next. At the end it looks from outside whether anything is left.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
tools="${REMOTEMOUNT_TOOLS:-$HOME/.cache/remotemount/tools}"
prefix=remotemount-node
controllers=(cpu cpuacct cpuset memory devices freezer blkio pids)

# Where the hierarchies of cgroups are, each once. runc makes cgroups in that of v2 too where there is one beside v1.
hierarchies() {
    awk '$3 ~ /^cgroup2?$/ {print $2}' /proc/self/mounts | sort -u
}

hierarchy_of() {
    awk -v wanted="$1" '$3 == "cgroup" {n = split($4, options, ","); for (i = 1; i <= n; i++) if (options[i] == wanted) {print $2; exit}}' \
        /proc/self/mounts
}

# To be run in a subshell, which becomes it: so it ends with the one who started it.
in_namespaces() {
    # Without the proxies of whoever runs it: nothing in there is reached by one.
    exec env -u http_proxy -u https_proxy -u HTTP_PROXY -u HTTPS_PROXY -u all_proxy -u ALL_PROXY \
        setpriv --pdeathsig KILL unshare --pid --fork --kill-child --mount-proc --mount --net --uts --ipc -- "$@"
}

check() {
    local program controller hierarchy probe said status=0
    cannot() {
        echo "this machine allows no node: $*"
        exit 3
    }
    [[ "$(uname -s)" == Linux ]] || cannot "it runs no Linux"
    [[ "$(id -u)" == 0 ]] || cannot "that takes root"
    for program in unshare setpriv mount flock awk; do
        command -v "$program" >/dev/null || cannot "there is no $program (util-linux)"
    done
    for controller in "${controllers[@]}"; do
        hierarchy="$(hierarchy_of "$controller")"
        [[ -n "$hierarchy" ]] || cannot "cgroup v1 has no controller $controller here, and v2 has not been tried"
        probe="$hierarchy/$prefix-check-$$"
        mkdir "$probe" 2>/dev/null || cannot "cgroups cannot be made in $hierarchy"
        rmdir "$probe"
    done
    said="$(bash "$here/node.sh" 2>&1 >/dev/null)" || status=$?
    [[ "$status" != 3 ]] || cannot "${said##*no node here: }"
    [[ "$status" == 0 ]] || { echo "$said" >&2; exit 1; }
    said="$(in_namespaces bash "${BASH_SOURCE[0]}" try "$(bash "$here/node.sh")/bin" 2>&1)" || cannot "${said:-namespaces cannot be made}"
}

# What a node does to its namespaces, once each.
try() {
    PATH="$1:$PATH"
    mount --make-rshared / || { echo "mounts cannot be shared"; exit 1; }
    mount -t tmpfs tmpfs /run || { echo "no tmpfs can be mounted"; exit 1; }
    mkdir /run/{lower,upper,work,merged}
    mount -t overlay overlay -o lowerdir=/run/lower,upperdir=/run/upper,workdir=/run/work /run/merged || { echo "no overlay can be mounted"; exit 1; }
    ip link add one type veth peer name other || { echo "no veth can be made"; exit 1; }
    iptables -t nat -A POSTROUTING -m comment --comment x -j MASQUERADE || { echo "iptables cannot translate addresses"; exit 1; }
}

# Whether a cgroup of that name, in any hierarchy, has processes.
inhabited() {
    local hierarchy
    for hierarchy in $(hierarchies); do
        [[ ! -d "$hierarchy/$1" || -z "$(find "$hierarchy/$1" -name cgroup.procs -exec cat {} + 2>/dev/null)" ]] || return 0
    done
    return 1
}

# The cgroups of that name that are there.
cgroups() {
    local hierarchy
    for hierarchy in $(hierarchies); do
        [[ ! -d "$hierarchy/$1" ]] || echo "$hierarchy/$1"
    done
}

remove_cgroups() {
    local hierarchy try
    for try in {1..100}; do
        for hierarchy in $(hierarchies); do
            [[ -d "$hierarchy/$1" ]] || continue
            # A frozen process does not end.
            find "$hierarchy/$1" -name freezer.state -exec sh -c 'echo THAWED >"$1"' sh {} \; 2>/dev/null
            find "$hierarchy/$1" -depth -type d -exec rmdir {} + 2>/dev/null
        done || true
        [[ -n "$(cgroups "$1")" ]] || return 0
        sleep 0.1
    done
    return 1
}

make_cgroups() {
    local hierarchy file
    for hierarchy in $(hierarchies); do
        mkdir "$hierarchy/$1"
        # A new one has none, and takes no process without.
        for file in cpuset.cpus cpuset.mems; do
            [[ ! -e "$hierarchy/$file" ]] || cat "$hierarchy/$file" >"$hierarchy/$1/$file"
        done
    done
}

# What a node might change of the machine, in a form that can be compared.
seen_from_outside() {
    local setting
    for setting in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes \
        net/ipv4/ip_forward; do
        echo "setting $setting = $(cat "/proc/sys/$setting")"
    done
    ls -d /run/containerd /run/netns /var/lib/kubelet /var/lib/containerd /var/lib/cni /var/log/pods /var/log/containers /etc/cni /opt/cni \
        /usr/libexec/kubernetes 2>/dev/null | sed 's/^/folder /' || true
    # Not every mount of a container runtime: the machine may have one of its own, which goes on.
    grep -E 'kubelet|remotemount-node' /proc/self/mounts | sed 's/^/mount /' || true
    find /sys/class/net -type l -name 'node*' | sed 's/^/link /'
}

run() {
    local name="$prefix-$$" pids home before child="" status=0 old
    # A cargo that is killed must not leave this running; this one still tidies up.
    [[ -n "${REMOTEMOUNT_BOUND:-}" ]] || REMOTEMOUNT_BOUND=1 exec setpriv --pdeathsig TERM bash "${BASH_SOURCE[0]}" run "$@"
    trap 'exit 143' TERM
    trap 'exit 130' INT
    pids="$(hierarchy_of pids)"
    home="$pids$(awk -F: '$2 == "pids" {print $3}' /proc/self/cgroup)"
    # The names of the namespaces go through a file without a name.
    old="$(mktemp)"
    exec 8<>"$old"
    rm "$old"
    exec 9>"$tools/.namespaces.lock"
    flock 9
    for old in "$pids/$prefix"-*; do
        old="${old##*/}"
        [[ "$old" == "$prefix-*" ]] || inhabited "$old" || remove_cgroups "$old" || echo "the cgroups $old of an earlier run cannot be removed" >&2
    done
    before="$(seen_from_outside)"
    trap tidy EXIT
    make_cgroups "$name"
    # Every process of this run is in here, whoever its parent is by then; so the next run sees that this one lives.
    echo $$ >"$pids/$name/cgroup.procs"
    exec 9>&-
    REMOTEMOUNT_NODE="$name" in_namespaces bash "${BASH_SOURCE[0]}" inside "$@" &
    child=$!
    wait "$child" || status=$?
    child=""
    exit "$status"
}

# Ends what still runs, removes the cgroups, and looks whether that was all.
tidy() {
    local status=$? left
    trap '' TERM INT
    [[ -z "$child" ]] || kill -KILL "$child" 2>/dev/null || true
    wait 2>/dev/null || true
    echo $$ >"$home/cgroup.procs"
    left="$(
        for _ in {1..100}; do
            inhabited "$name" || break
            sleep 0.1
        done
        ! inhabited "$name" || echo "processes in the cgroups $name"
        remove_cgroups "$name" || true
        cgroups "$name"
        readlink /proc/[0-9]*/ns/* 2>/dev/null | grep -xF -f "/proc/$$/fd/8" | sort -u | sed 's/^/the namespace /'
        diff <(echo "$before") <(seen_from_outside) | grep '^[<>]'
    )" || true
    if [[ -n "$left" ]]; then
        printf 'the node has left something behind:\n%s\n' "$left" >&2
        exit 1
    fi
    exit "$status"
}

# The first process of the namespace: sets it up as a machine's would be, and waits for what became orphaned.
inside() {
    local setting file
    readlink /proc/self/ns/{pid,mnt,net,uts,ipc} >&8
    exec 8>&-
    PATH="$(bash "$here/node.sh")/bin:$PATH"
    # What kubelet would write is the machine's: it is shown that all is as it wants it.
    mkdir -p /tmp
    mount --make-rprivate /
    for file in /run /var/lib /var/log; do
        mount -t tmpfs -o mode=755,size=75% remotemount "$file"
    done
    for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 kernel/keys/root_maxkeys=1000000 \
        kernel/keys/root_maxbytes=25000000; do
        file="/run/settings/${setting%%=*}"
        mkdir -p "${file%/*}"
        echo "${setting##*=}" >"$file"
        mount --bind "$file" "/proc/sys/${setting%%=*}"
    done
    # Kubelet wants to share mounts with pods.
    mount --make-rshared /
    hostname node
    ip link set lo up
    # Kubelet wants an address that is not loopback, and a way out; the other end of this one goes nowhere.
    ip link add node type veth peer name node-end
    ip addr add 10.99.0.1/24 dev node
    ip link set node up
    ip link set node-end up
    ip route add default via 10.99.0.254 dev node
    echo 1 >/proc/sys/net/ipv4/ip_forward
    export TMPDIR=/run/tmp
    mkdir -m 1777 "$TMPDIR"
    "$@"
}

case "${1:-}" in
    check | try | run | inside) "$@" ;;
    *) echo "usage: namespaces.sh check | run PROGRAM ARG…" >&2; exit 2 ;;
esac
