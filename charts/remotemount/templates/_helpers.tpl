{{/* The chart's name. */}}
{{- define "remotemount.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* What names begin with: the release's name, with the chart's if that is not in it. Short enough for a Service's name. */}}
{{- define "remotemount.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* The operator: its Deployment, Service and roles. */}}
{{- define "remotemount.operator" -}}
{{- include "remotemount.fullname" . }}-operator
{{- end }}

{{- define "remotemount.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "remotemount.operator" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.create is false: name one that is there in serviceAccount.name" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* By which the operator's pods are found; never changes in a release. */}}
{{- define "remotemount.selectorLabels" -}}
app.kubernetes.io/name: {{ include "remotemount.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "remotemount.labels" -}}
app.kubernetes.io/name: {{ include "remotemount.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: remotemount
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- range $key, $value := omit .Values.commonLabels "app.kubernetes.io/name" "app.kubernetes.io/instance" }}
{{ $key }}: {{ $value | quote }}
{{- end }}
{{- end }}

{{/* Labels and annotations of an object: those of all, and its own, by (dict "root" $ "labels" map "annotations" map). */}}
{{- define "remotemount.metadata" -}}
{{- $labels := merge (dict) (.labels | default dict) (include "remotemount.labels" .root | fromYaml) }}
{{- $annotations := merge (dict) (.annotations | default dict) (.root.Values.commonAnnotations | default dict) -}}
labels:
  {{- toYaml $labels | nindent 2 }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* An image's reference, of (list root image). */}}
{{- define "remotemount.image" -}}
{{- $root := index . 0 }}
{{- $image := index . 1 }}
{{- $registry := default $image.registry $root.Values.global.imageRegistry | trimSuffix "/" }}
{{- with $registry }}{{ . }}/{{ end }}{{ $image.repository }}:{{ default $root.Chart.AppVersion $image.tag }}{{ with $image.digest }}@{{ . }}{{ end }}
{{- end }}

{{/* The Secret with certificate files, where the operator is not its own CA. */}}
{{- define "remotemount.tlsSecret" -}}
{{- if .Values.webhook.existingSecret }}
{{- .Values.webhook.existingSecret }}
{{- else if .Values.webhook.certManager.enabled }}
{{- include "remotemount.operator" . }}-tls
{{- end }}
{{- end }}

{{/* What the operator may do in each namespace that it looks after. operator/deploy/rbac.yaml says why; a test holds both to one list. */}}
{{- define "remotemount.rules" -}}
- apiGroups: [remotemount.dev]
  resources: [remotemounts]
  verbs: [list, watch, patch]
- apiGroups: [remotemount.dev]
  resources: [remotemounts/status]
  verbs: [patch]
- apiGroups: [""]
  resources: [configmaps]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}

{{/* The restricted contexts of what runs for a moment: tests. Users are the operator's, so that a platform that gives them can. */}}
{{- define "remotemount.restricted.pod" -}}
runAsNonRoot: true
{{- with pick (.Values.podSecurityContext | default dict) "runAsUser" "runAsGroup" }}
{{ toYaml . }}
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end }}
{{- define "remotemount.restricted.container" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Where the test mounts and reads. */}}
{{- define "remotemount.tests.namespace" -}}
{{- default (default "default" (first (without .Values.watchNamespaces .Release.Namespace))) .Values.tests.namespace }}
{{- end }}

{{/* Whom roles are bound to. */}}
{{- define "remotemount.subject" -}}
- kind: ServiceAccount
  name: {{ include "remotemount.serviceAccount" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}
