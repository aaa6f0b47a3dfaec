{{/* The configuration of Flyte that routes tasks to the services: the same that
     `flyteagents propeller-config` prints. It reads lists where keys have capitals, since keys of
     maps lose them when Flyte loads them. A dict: routes, generation, resyncInterval. */}}

{{- define "flyteagents.flyteConfig" -}}
{{- $two := eq (int .generation) 2 -}}
{{- $wide := .routes.wide -}}
{{- $narrow := ternary .routes.narrow list $two -}}
{{- $types := list -}}
{{- range concat $wide $narrow -}}{{- $types = concat $types .types -}}{{- end -}}
{{- $types = $types | uniq | sortAlpha -}}
tasks:
  task-plugins:
    {{- if $two }}
    # The executor does not ask for task types: one that is not named runs as a pod.
    default-for-task-types:
      {{- range $types }}
      {{ . }}: connector-service
      {{- end }}
    {{- else }}
    # This list replaces yours: keep the plugins that you have.
    enabled-plugins: [container, sidecar, k8s-array, connector-service]
    {{- end }}
plugins:
  connector-service:
    {{- $named := list }}
    {{- range $wide }}
    {{- if .default }}
    defaultConnector:
      {{- include "flyteagents.flyteDeployment" (dict "entry" . "two" $two) | nindent 6 }}
    {{- else }}
    {{- $named = append $named . }}
    {{- end }}
    {{- end }}
    {{- with concat $named $narrow }}
    connectors:
      {{- range . }}
      {{ .name }}:
        {{- include "flyteagents.flyteDeployment" (dict "entry" . "two" $two) | nindent 8 }}
      {{- end }}
    {{- end }}
    {{- $pins := list }}
    {{- range $entry := $named }}
    {{- range .types }}
    {{- /* Flyte 1 takes a pinned type for an asynchronous one. */}}
    {{- if or $two (not (has . $entry.sync)) }}
    {{- $pins = append $pins (dict . $entry.name) }}
    {{- end }}
    {{- end }}
    {{- end }}
    {{- with $pins }}
    # Both lists replace yours: keep what you have for other services.
    connectorForTaskTypes:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    supportedTaskTypes:
      {{- toYaml $types | nindent 6 }}
    webApi:
      caching:
        # Failed polls that a task survives. Flyte's 5 are used up by an outage of three minutes.
        maxSystemFailures: 100000
        # The pause between two looks at a job; 5s is the least that Flyte takes.
        resyncInterval: {{ .resyncInterval }}
{{- end -}}

{{- define "flyteagents.flyteDeployment" -}}
{{- $service := ternary "flyteidl2.connector.AsyncConnectorService" "flyteidl.service.AsyncAgentService" .two -}}
{{- $again := dict "maxAttempts" 4 "initialBackoff" "0.1s" "maxBackoff" "1s" "backoffMultiplier" 3 -}}
{{- $broken := merge (dict "retryableStatusCodes" (list "UNAVAILABLE" "CANCELLED")) $again -}}
{{- /* Its UNAVAILABLE says that the job has not stopped yet, and Flyte is to come back later. */ -}}
{{- $cancelled := merge (dict "retryableStatusCodes" (list "CANCELLED")) $again -}}
{{- $methods := list
      (dict "name" (list (dict "service" $service "method" "CreateTask")) "waitForReady" true "retryPolicy" $broken)
      (dict "name" (list (dict "service" $service "method" "DeleteTask")) "waitForReady" true "retryPolicy" $cancelled)
      (dict "name" (list (dict "service" $service "method" "GetTask")) "retryPolicy" $broken)
-}}
{{- if not .two -}}
{{- $methods = append $methods (dict "name" (list (dict "service" "flyteidl.service.SyncAgentService")) "waitForReady" true) -}}
{{- end -}}
{{- $config := dict "loadBalancingConfig" (list (dict "round_robin" dict)) "methodConfig" $methods -}}
endpoint: {{ .entry.endpoint }}
insecure: {{ .entry.insecure }}
{{- if .two }}
{{- with .entry.project }}
project: {{ . }}
{{- end }}
{{- with .entry.domain }}
domain: {{ . }}
{{- end }}
{{- end }}
defaultTimeout: 10s
# A minute without a server burns no attempt and ends no workflow; a call that waits holds a worker.
timeouts:
  - CreateTask: 60s
  - DeleteTask: 60s
  - GetTask: 10s
  {{- if not .two }}
  - ExecuteTaskSync: 60s
  {{- end }}
  - ListConnectors: 5s
# round_robin: all replicas are used. waitForReady: calls wait for a server instead of failing; not
# GetTask, whose ten workers serve all services. retryPolicy: a server that stops cancels what it
# has not looked at; another one is asked.
defaultServiceConfig: {{ $config | toJson | squote }}
{{- end -}}
