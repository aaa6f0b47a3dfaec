{{/* Names and labels. `of` is a dict: root (the chart's scope), name (of the service in `services`)
     and values (its own over the defaults). */}}

{{- define "flyteagents.fullname" -}}
{{- printf "%s-%s" .root.Release.Name .name | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "flyteagents.host" -}}
{{- printf "%s.%s.svc.%s" (include "flyteagents.fullname" .) .root.Release.Namespace .root.Values.clusterDomain -}}
{{- end -}}

{{- define "flyteagents.selector" -}}
app.kubernetes.io/name: flyteagents
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .name }}
{{- end -}}

{{- define "flyteagents.labels" -}}
{{ include "flyteagents.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: flyte
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{- define "flyteagents.metadata" -}}
name: {{ .object | default (include "flyteagents.fullname" .) }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "flyteagents.labels" . | nindent 2 }}
{{- end -}}

{{- define "flyteagents.serviceAccount" -}}
{{- $account := .values.serviceAccount -}}
{{- if $account.create -}}
{{- $account.name | default (include "flyteagents.fullname" .) -}}
{{- else -}}
{{- $account.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- define "flyteagents.tlsSecret" -}}
{{- if .values.tls.secret -}}
{{- .values.tls.secret -}}
{{- else if .values.tls.issuer -}}
{{- include "flyteagents.fullname" . }}-tls
{{- end -}}
{{- end -}}

{{/* A service's own values over the defaults, checked where a schema cannot. As JSON. */}}
{{- define "flyteagents.values" -}}
{{- $at := printf "services.%s" .name -}}
{{- $values := mergeOverwrite (deepCopy .root.Values.defaults) (deepCopy (.own | default dict)) -}}
{{- if not $values.plugins -}}
{{- fail (printf "%s.plugins: name at least one plugin, such as bigquery" $at) -}}
{{- end -}}
{{- with (.own | default dict).tls -}}
{{- if and .secret .issuer -}}
{{- fail (printf "%s.tls: set secret, or issuer for cert-manager to make one, not both" $at) -}}
{{- end -}}
{{- end -}}
{{- $several := or $values.autoscaling.enabled (gt (int $values.replicas) 1) -}}
{{- if and (has "duckdb" $values.plugins) $several (not $values.duckdb.claim) -}}
{{- fail (printf "%s.duckdb.claim: several replicas must share the directory of DuckDB's jobs: name a ReadWriteMany claim, or set replicas to 1" $at) -}}
{{- end -}}
{{- $read := $values.namespaceSecrets -}}
{{- if and $read.enabled $read.serviceAccounts (not $read.namespaces) -}}
{{- fail (printf "%s.namespaceSecrets.namespaces: name the namespaces; a right to make tokens of all accounts of the cluster is a right to everything" $at) -}}
{{- end -}}
{{- $scaling := $values.autoscaling -}}
{{- if and $scaling.enabled (lt (int $scaling.maxReplicas) (int $scaling.minReplicas)) -}}
{{- fail (printf "%s.autoscaling: maxReplicas is less than minReplicas" $at) -}}
{{- end -}}
{{- $values | toJson -}}
{{- end -}}
