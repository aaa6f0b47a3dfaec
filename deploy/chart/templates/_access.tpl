{{/* Who reaches it, and what it may reach. */}}

{{- define "flyteagents.service" -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "flyteagents.metadata" . | nindent 2 }}
spec:
  {{- /* Headless: gRPC keeps one connection, so callers must see each replica to use them all. */}}
  clusterIP: None
  selector:
    {{- include "flyteagents.selector" . | nindent 4 }}
  ports:
    - {name: grpc, port: 8000, targetPort: grpc, appProtocol: grpc}
    - {name: metrics, port: 9090, targetPort: metrics, appProtocol: http}
{{- end -}}

{{- define "flyteagents.account" -}}
{{- if .values.serviceAccount.create -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "flyteagents.metadata" (merge (dict "object" (include "flyteagents.serviceAccount" .)) .) | nindent 2 }}
  {{- with .values.serviceAccount.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
{{- end -}}
{{- end -}}

{{- define "flyteagents.network" -}}
{{- $policy := .values.networkPolicy -}}
{{- if $policy.enabled -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "flyteagents.metadata" . | nindent 2 }}
spec:
  podSelector:
    matchLabels:
      {{- include "flyteagents.selector" . | nindent 6 }}
  policyTypes: [Ingress]
  ingress:
    - ports:
        - {port: grpc, protocol: TCP}
      from:
        {{- toYaml $policy.callers | nindent 8 }}
    {{- with $policy.scrapers }}
    - ports:
        - {port: metrics, protocol: TCP}
      from:
        {{- toYaml . | nindent 8 }}
    {{- end }}
{{- end -}}
{{- end -}}

{{- define "flyteagents.monitor" -}}
{{- $monitor := .values.serviceMonitor -}}
{{- if $monitor.enabled -}}
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  {{- include "flyteagents.metadata" . | nindent 2 }}
  {{- with $monitor.labels }}
  {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  selector:
    matchLabels:
      {{- include "flyteagents.selector" . | nindent 6 }}
  endpoints:
    - port: metrics
      interval: {{ $monitor.interval }}
{{- end -}}
{{- end -}}

{{- define "flyteagents.certificate" -}}
{{- if and .values.tls.issuer (not .values.tls.secret) -}}
apiVersion: cert-manager.io/v1
kind: Certificate
metadata:
  {{- include "flyteagents.metadata" . | nindent 2 }}
spec:
  secretName: {{ include "flyteagents.tlsSecret" . }}
  {{- /* Flyte compares the name with the endpoint's, or with `service.namespace` for k8s://. */}}
  dnsNames:
    - {{ include "flyteagents.host" . }}
    - {{ include "flyteagents.fullname" . }}.{{ .root.Release.Namespace }}.svc
    - {{ include "flyteagents.fullname" . }}.{{ .root.Release.Namespace }}
  issuerRef:
    name: {{ .values.tls.issuer.name }}
    kind: {{ .values.tls.issuer.kind | default "Issuer" }}
  privateKey:
    rotationPolicy: Always
{{- end -}}
{{- end -}}
