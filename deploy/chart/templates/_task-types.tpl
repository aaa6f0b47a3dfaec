{{/* The task types of this project's plugins, as `flyteagents list` shows them. As JSON. */}}
{{- define "flyteagents.taskTypes" -}}
bigquery: [bigquery_query_job_task]
databricks: [databricks]
duckdb: [duckdb_query]
snowflake: [snowflake]
{{- end -}}

{{/* What a service serves: the types of its plugins that are known here, and those that it names. */}}
{{- define "flyteagents.served" -}}
{{- $known := include "flyteagents.taskTypes" . | fromYaml -}}
{{- $types := concat .values.taskTypes .values.syncTaskTypes -}}
{{- range .values.plugins -}}
{{- $types = concat $types (index $known . | default list) -}}
{{- end -}}
{{- $spark := index .values.env "FLYTEAGENTS_DATABRICKS_SERVE_SPARK" | default false -}}
{{- if and (has "databricks" .values.plugins) (has (toString $spark | lower) (list "true" "1" "yes" "on")) -}}
{{- $types = append $types "spark" -}}
{{- end -}}
{{- $types | uniq | sortAlpha | toJson -}}
{{- end -}}

{{/* Refuses plugins whose types are known neither here nor from the values: Flyte would not be told
     of them, and would run their tasks as pods. */}}
{{- define "flyteagents.noStrangers" -}}
{{- $known := include "flyteagents.taskTypes" . | fromYaml -}}
{{- if not (or .values.taskTypes .values.syncTaskTypes) -}}
{{- range .values.plugins -}}
{{- if not (hasKey $known .) -}}
{{- fail (printf "services.%s.taskTypes: the chart does not know the task types of the plugin %s; name them (flyteagents list shows them)" $.name .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Which service gets which task types: those of `default` first, then by name. As JSON:
     entries (name, endpoint, insecure, types, sync, project, domain, default), types, sync. */}}
{{- define "flyteagents.routes" -}}
{{- $routed := list -}}
{{- range $name, $own := .Values.services -}}
{{- $of := dict "root" $ "name" $name "own" $own -}}
{{- $_ := set $of "values" (include "flyteagents.values" $of | fromJson) -}}
{{- if $of.values.route.enabled -}}
{{- $route := $of.values.route -}}
{{- include "flyteagents.noStrangers" $of -}}
{{- $entry := dict
      "name" $name
      "endpoint" (printf "dns:///%s:8000" (include "flyteagents.host" $of))
      "insecure" (not (include "flyteagents.tlsSecret" $of))
      "types" (include "flyteagents.served" $of | fromJsonArray)
      "sync" ($of.values.syncTaskTypes | sortAlpha)
      "project" $route.project
      "domain" $route.domain
      "default" $route.default
-}}
{{- $routed = append $routed $entry -}}
{{- end -}}
{{- end -}}
{{- $wide := list -}}
{{- $narrow := list -}}
{{- $defaults := list -}}
{{- range $routed -}}
{{- if or .project .domain -}}
{{- if .default -}}
{{- fail (printf "services.%s.route: the default takes what no project and no domain takes; it has none itself" .name) -}}
{{- end -}}
{{- $narrow = append $narrow . -}}
{{- else -}}
{{- $wide = append $wide . -}}
{{- if .default -}}{{- $defaults = append $defaults .name -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- if gt (len $defaults) 1 -}}
{{- fail (printf "services.%s.route.default: there is one default, and %s is it already" (last $defaults) (first $defaults)) -}}
{{- end -}}
{{- if eq (len $wide) 1 -}}{{- $_ := set (first $wide) "default" true -}}{{- end -}}
{{- $ordered := list -}}
{{- range $wide -}}{{- if .default -}}{{- $ordered = append $ordered . -}}{{- end -}}{{- end -}}
{{- range $wide -}}{{- if not .default -}}{{- $ordered = append $ordered . -}}{{- end -}}{{- end -}}
{{- $owners := dict -}}
{{- range $entry := $ordered -}}
{{- range $type := .types -}}
{{- with index $owners $type -}}
{{- fail (printf "services.%s.route: %s goes to %s already; set route.domain or route.project, which Flyte 2 tells apart, or route.enabled to false where another Flyte calls this service" $entry.name $type .) -}}
{{- end -}}
{{- $_ := set $owners $type $entry.name -}}
{{- end -}}
{{- end -}}
{{- dict "wide" $ordered "narrow" $narrow | toJson -}}
{{- end -}}
