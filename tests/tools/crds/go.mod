// Modules whose CustomResourceDefinitions the chart's monitors and certificates are checked against, pinned.
// Nothing is built of them; ../crds.sh says where their files are.
module remotemount.dev/tests/tools/crds

go 1.26.0

require (
	github.com/cert-manager/cert-manager v1.21.2
	github.com/prometheus-operator/prometheus-operator v0.85.0
)
