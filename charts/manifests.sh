#!/usr/bin/env bash
# Writes the chart, rendered for kubectl, into a file: `manifests.sh FILE [helm template's flags…]`.
#
# The namespace comes first. What only Helm understands is left out: hooks, its labels, and what it is to
# keep. Helm is that of $HELM, or the pinned one, which is built for it.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
file="$1"
shift
helm="$(bash "$here/../tests/tools/helm.sh" | tail -1)"
mkdir -p "$(dirname "$file")"
{
    cat <<'YAML'
# RemoteMount, for `kubectl apply --server-side -f`. Made by `make manifests` from charts/remotemount.
apiVersion: v1
kind: Namespace
metadata:
  name: remotemount-system
  labels:
    app.kubernetes.io/part-of: remotemount
    pod-security.kubernetes.io/enforce: restricted
YAML
    "$helm" template remotemount "$here/remotemount" --namespace remotemount-system --kube-version 1.30 --no-hooks \
        --set crds.keep=false,tests.enabled=false "$@" |
        sed -e '/^ *app.kubernetes.io\/managed-by: Helm$/d' -e '/^ *helm.sh\/chart: /d' -e '/^# Source: /d'
} >"$file.new"
mv "$file.new" "$file"
