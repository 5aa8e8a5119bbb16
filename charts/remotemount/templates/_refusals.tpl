{{/*
What values.schema.json cannot say: values that do not go together, and a second operator. Each message says what to change.
*/}}
{{- define "remotemount.refusals" -}}
{{- if and .Values.webhook.existingSecret .Values.webhook.certManager.enabled }}
{{- fail "webhook.existingSecret and webhook.certManager.enabled: choose one; cert-manager writes a Secret of its own" }}
{{- end }}
{{- if and .Values.webhook.caBundle (not .Values.webhook.existingSecret) }}
{{- fail "webhook.caBundle is for webhook.existingSecret alone: the operator writes its own CA, and that of cert-manager, into the webhook's configuration" }}
{{- end }}
{{- if and .Values.webhook.certManager.issuerRef (not .Values.webhook.certManager.enabled) }}
{{- fail "webhook.certManager.issuerRef has no effect without webhook.certManager.enabled" }}
{{- end }}
{{- $ports := list .Values.webhook.port .Values.control.port .Values.metrics.port | uniq }}
{{- if lt (len $ports) 3 }}
{{- fail "webhook.port, control.port and metrics.port must differ: one pod listens on all three" }}
{{- end }}
{{- if eq (int .Values.control.port) 443 }}
{{- fail "control.port cannot be 443: the Service has the webhook there" }}
{{- end }}
{{- if and .Values.metrics.podMonitor.enabled (not .Values.sidecar.metrics.enabled) }}
{{- fail "metrics.podMonitor.enabled needs sidecar.metrics.enabled: without it sidecars show their metrics to their own pod alone" }}
{{- end }}
{{- if and .Values.tests.enabled (eq (include "remotemount.tests.namespace" .) .Release.Namespace) .Values.tests.namespace }}
{{- fail "tests.namespace is the release's own: pods there get no sidecar; name another" }}
{{- end }}
{{- if and .Values.tests.enabled .Values.watchNamespaces }}
{{- if not (has (include "remotemount.tests.namespace" .) .Values.watchNamespaces) }}
{{- fail (printf "tests.namespace must be one of watchNamespaces and not the release's, or its pod gets no sidecar: %s is not; or set tests.enabled=false" (include "remotemount.tests.namespace" .)) }}
{{- end }}
{{- end }}
{{- if .Values.pdb.enabled }}
{{- $stay := toString .Values.pdb.minAvailable }}
{{- $away := toString .Values.pdb.maxUnavailable }}
{{- if and (eq $stay "") (has $away (list "" "0" "0%")) }}
{{- fail "pdb.maxUnavailable: at least 1, or no node with a replica is ever emptied; pdb.enabled=false has no budget at all" }}
{{- end }}
{{- if or (eq $stay "100%") (and (regexMatch "^[0-9]+$" $stay) (ge (atoi $stay) (int .Values.replicaCount)) (gt (int .Values.replicaCount) 0)) }}
{{- fail "pdb.minAvailable must be less than replicaCount, or no node with a replica is ever emptied" }}
{{- end }}
{{- end }}
{{- if .Values.webhook.enabled }}
{{- $there := lookup "admissionregistration.k8s.io/v1" "MutatingWebhookConfiguration" "" "remotemount" }}
{{- $of := dig "metadata" "annotations" dict ($there | default dict) | default dict }}
{{- $release := get $of "meta.helm.sh/release-name" }}
{{- $namespace := get $of "meta.helm.sh/release-namespace" }}
{{- if and $release (or (ne $release .Release.Name) (ne $namespace .Release.Namespace)) }}
{{- fail (printf "release %s of namespace %s is an operator of this cluster already, and a cluster has one: add to its watchNamespaces, or uninstall it first" $release $namespace) }}
{{- end }}
{{- end }}
{{- end }}
