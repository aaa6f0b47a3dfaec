{{/* The container of an agent service. */}}

{{- define "flyteagents.image" -}}
{{- $image := .values.image -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository ($image.tag | default .root.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* The plain variables: what follows from other values, and `env`. As JSON. */}}
{{- define "flyteagents.env" -}}
{{- $values := .values -}}
{{- $env := dict
      "FLYTEAGENTS_PLUGINS" (join "," $values.plugins)
      "FLYTEAGENTS_DRAIN_DELAY" (include "flyteagents.text" $values.drain.delay)
      "FLYTEAGENTS_DRAIN_LIMIT" (include "flyteagents.text" $values.drain.limit)
-}}
{{- with $values.allow }}{{- $_ := set $env "FLYTEAGENTS_ALLOW" (join "," .) }}{{- end }}
{{- with $values.cluster }}{{- $_ := set $env "FLYTEAGENTS_CLUSTER" . }}{{- end }}
{{- if $values.secrets }}{{- $_ := set $env "FLYTEAGENTS_SECRETS_DIR" "/etc/flyteagents/secrets" }}{{- end }}
{{- if include "flyteagents.tlsSecret" . }}
{{- $_ := set $env "FLYTEAGENTS_TLS_CERT" "/etc/flyteagents/tls/tls.crt" }}
{{- $_ := set $env "FLYTEAGENTS_TLS_KEY" "/etc/flyteagents/tls/tls.key" }}
{{- end }}
{{- if has "duckdb" $values.plugins }}
{{- $_ := set $env "FLYTEAGENTS_DUCKDB_DATA_DIR" "/var/lib/flyteagents/duckdb" }}
{{- end }}
{{- /* In a cluster the agent would look there by itself, and fail for the want of a right. */}}
{{- if has "databricks" $values.plugins }}
{{- $_ := set $env "FLYTEAGENTS_DATABRICKS_NAMESPACE_SECRETS" (toString $values.namespaceSecrets.enabled) }}
{{- end }}
{{- range $plugin, $entries := $values.credentials }}
{{- /* By hand: the first pattern that fits counts, and toJson would sort them. */}}
{{- $pairs := list }}
{{- range $entries }}{{- $pairs = append $pairs (printf "%s: %s" (toJson .tenants) (toJson .use)) }}{{- end }}
{{- $name := printf "FLYTEAGENTS_%s_CREDENTIALS" ($plugin | upper | replace "-" "_") }}
{{- $_ := set $env $name (printf "{%s}" (join ", " $pairs)) }}
{{- end }}
{{- with $values.otlp.endpoint }}
{{- $_ := set $env "OTEL_EXPORTER_OTLP_ENDPOINT" . }}
{{- $_ := set $env "OTEL_EXPORTER_OTLP_PROTOCOL" $values.otlp.protocol }}
{{- $_ := set $env "OTEL_SERVICE_NAME" (include "flyteagents.fullname" $) }}
{{- $_ := set $env "OTEL_RESOURCE_ATTRIBUTES" (printf "service.namespace=%s,k8s.namespace.name=%s,k8s.pod.name=$(POD_NAME)" $.root.Release.Name $.root.Release.Namespace) }}
{{- end }}
{{- range $name, $value := $values.env }}
{{- if or (hasKey $env $name) (has $name (list "FLYTEAGENTS_HOST" "FLYTEAGENTS_PORT" "FLYTEAGENTS_METRICS_HOST" "FLYTEAGENTS_METRICS_PORT" "FLYTEAGENTS_ALLOW" "FLYTEAGENTS_CLUSTER" "FLYTEAGENTS_TLS_CERT" "FLYTEAGENTS_TLS_KEY" "FLYTEAGENTS_SECRETS_DIR")) }}
{{- fail (printf "services.%s.env.%s: other values set this variable, or the chart relies on it; see the chart's README" $.name $name) }}
{{- end }}
{{- $_ := set $env $name (include "flyteagents.text" $value) }}
{{- end }}
{{- $env | toJson -}}
{{- end -}}

{{/* A value as a variable has it: Helm would write 2592000 as 2.592e+06. */}}
{{- define "flyteagents.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}
{{- int64 . -}}
{{- else -}}
{{- . -}}
{{- end -}}
{{- end -}}

{{/* What a probe does. Kubernetes' own gRPC probe has no TLS, so with TLS the server's own command
     asks: it reads the same settings. */}}
{{- define "flyteagents.probe" -}}
{{- if include "flyteagents.tlsSecret" . -}}
exec:
  command: [flyteagents, probe]
{{- else -}}
grpc:
  port: 8000
{{- end -}}
{{- end -}}

{{- define "flyteagents.container" -}}
{{- $of := . -}}
{{- $values := .values -}}
name: flyteagents
image: {{ include "flyteagents.image" . }}
imagePullPolicy: {{ $values.image.pullPolicy }}
args: [serve]
ports:
  - {name: grpc, containerPort: 8000}
  - {name: metrics, containerPort: 9090}
env:
  - name: POD_NAME
    valueFrom: {fieldRef: {fieldPath: metadata.name}}
  {{- with $values.otlp.headers }}
  - name: OTEL_EXPORTER_OTLP_HEADERS
    valueFrom:
      secretKeyRef:
        {{- toYaml . | nindent 8 }}
  {{- end }}
  {{- range $name, $value := include "flyteagents.env" . | fromJson }}
  - name: {{ $name }}
    value: {{ $value | quote }}
  {{- end }}
  {{- with $values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
resources:
  {{- toYaml $values.resources | nindent 2 }}
startupProbe:
  {{- include "flyteagents.probe" . | nindent 2 }}
  {{- toYaml $values.probes.startup | nindent 2 }}
readinessProbe:
  {{- include "flyteagents.probe" . | nindent 2 }}
  {{- toYaml $values.probes.readiness | nindent 2 }}
livenessProbe:
  {{- /* A server that drains is NOT_SERVING and alive: the kubelet stops asking once a pod ends. */}}
  {{- include "flyteagents.probe" . | nindent 2 }}
  {{- toYaml $values.probes.liveness | nindent 2 }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  capabilities:
    drop: [ALL]
volumeMounts:
  - {name: tmp, mountPath: /tmp}
  {{- if $values.secrets }}
  - {name: secrets, mountPath: /etc/flyteagents/secrets, readOnly: true}
  {{- end }}
  {{- if include "flyteagents.tlsSecret" . }}
  - {name: tls, mountPath: /etc/flyteagents/tls, readOnly: true}
  {{- end }}
  {{- if $values.tokens }}
  - {name: tokens, mountPath: /var/run/flyteagents/tokens, readOnly: true}
  {{- end }}
  {{- if has "duckdb" $values.plugins }}
  - {name: duckdb, mountPath: /var/lib/flyteagents/duckdb}
  {{- end }}
  {{- with $values.volumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "flyteagents.volumes" -}}
{{- $values := .values -}}
- name: tmp
  emptyDir: {}
{{- with $values.secrets }}
- name: secrets
  projected:
    {{- /* Readable to the pod's group, and to nobody else. */}}
    defaultMode: 0440
    sources:
      {{- range . }}
      - secret:
          name: {{ .name }}
          {{- if .optional }}
          optional: true
          {{- end }}
          {{- with .items }}
          items:
            {{- range $key, $path := . }}
            - {key: {{ $key | quote }}, path: {{ $path | quote }}}
            {{- end }}
          {{- end }}
      {{- end }}
{{- end }}
{{- with include "flyteagents.tlsSecret" . }}
- name: tls
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- with $values.tokens }}
- name: tokens
  projected:
    defaultMode: 0440
    sources:
      {{- range . }}
      - serviceAccountToken:
          audience: {{ .audience | quote }}
          expirationSeconds: {{ .expirationSeconds | default 3600 | int64 }}
          path: {{ .name }}
      {{- end }}
{{- end }}
{{- if has "duckdb" $values.plugins }}
- name: duckdb
  {{- if $values.duckdb.claim }}
  persistentVolumeClaim:
    claimName: {{ $values.duckdb.claim }}
  {{- else }}
  emptyDir:
    sizeLimit: {{ $values.duckdb.size }}
  {{- end }}
{{- end }}
{{- with $values.volumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}
