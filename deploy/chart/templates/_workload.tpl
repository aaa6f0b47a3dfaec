{{/* What runs: the Deployment, how many of it, and where. */}}

{{- define "flyteagents.deployment" -}}
{{- $values := .values -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "flyteagents.metadata" . | nindent 2 }}
spec:
  {{- if not $values.autoscaling.enabled }}
  replicas: {{ $values.replicas }}
  {{- end }}
  {{- /* A gRPC client asks a name again after 30 s at the soonest, and a name server's answer may be
         five old: until then it may know of no pod but those that are going to end. */}}
  minReadySeconds: 40
  revisionHistoryLimit: 3
  strategy:
    type: RollingUpdate
    rollingUpdate:
      {{- /* A new pod is ready before an old one drains: callers always have a server. */}}
      maxUnavailable: 0
      maxSurge: 1
  selector:
    matchLabels:
      {{- include "flyteagents.selector" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "flyteagents.labels" . | nindent 8 }}
        {{- with $values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      annotations:
        kubectl.kubernetes.io/default-container: flyteagents
        {{- with $values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: {{ include "flyteagents.serviceAccount" . }}
      {{- /* Clouds' identities and projected tokens do without it. */}}
      automountServiceAccountToken: {{ $values.namespaceSecrets.enabled }}
      {{- /* Its variables would look like settings of ours. */}}
      enableServiceLinks: false
      {{- /* Callers move away, calls end, detached requests end, exporters flush. */}}
      terminationGracePeriodSeconds: {{ add (ceil $values.drain.delay) (mul 2 (ceil $values.drain.limit)) 10 }}
      {{- with $values.image.pullSecrets }}
      imagePullSecrets:
        {{- range . }}
        - name: {{ . }}
        {{- end }}
      {{- end }}
      {{- with $values.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      securityContext:
        runAsNonRoot: true
        runAsUser: 10001
        runAsGroup: 10001
        fsGroup: 10001
        fsGroupChangePolicy: OnRootMismatch
        seccompProfile:
          type: RuntimeDefault
      {{- if $values.spread.enabled }}
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: {{ $values.spread.topologyKey }}
          whenUnsatisfiable: {{ $values.spread.whenUnsatisfiable }}
          labelSelector:
            matchLabels:
              {{- include "flyteagents.selector" . | nindent 14 }}
          {{- /* Or an old release's pods would count while a new one comes. */}}
          matchLabelKeys: [pod-template-hash]
      {{- end }}
      {{- range $field := list "nodeSelector" "tolerations" "affinity" }}
      {{- with index $values $field }}
      {{ $field }}:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- end }}
      containers:
        - {{- include "flyteagents.container" . | nindent 10 }}
      volumes:
        {{- include "flyteagents.volumes" . | nindent 8 }}
{{- end -}}

{{- define "flyteagents.disruption" -}}
{{- $scaling := .values.autoscaling -}}
{{- $least := ternary $scaling.minReplicas .values.replicas $scaling.enabled | int -}}
{{- /* With one replica it would block every drain of its node. */}}
{{- if and .values.disruption.enabled (gt $least 1) -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "flyteagents.metadata" . | nindent 2 }}
spec:
  maxUnavailable: {{ .values.disruption.maxUnavailable }}
  selector:
    matchLabels:
      {{- include "flyteagents.selector" . | nindent 6 }}
{{- end -}}
{{- end -}}

{{- define "flyteagents.autoscaler" -}}
{{- $scaling := .values.autoscaling -}}
{{- if $scaling.enabled -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  {{- include "flyteagents.metadata" . | nindent 2 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ include "flyteagents.fullname" . }}
  minReplicas: {{ $scaling.minReplicas }}
  maxReplicas: {{ $scaling.maxReplicas }}
  metrics:
    {{- if $scaling.polls }}
    - type: Pods
      pods:
        metric:
          name: flyteagents_in_flight
          selector:
            matchLabels: {operation: get}
        target:
          type: AverageValue
          averageValue: {{ $scaling.polls | quote }}
    {{- end }}
    {{- if or $scaling.cpu (not $scaling.polls) }}
    - type: Resource
      resource:
        name: cpu
        target:
          type: Utilization
          averageUtilization: {{ $scaling.cpu | default 70 }}
    {{- end }}
  behavior:
    scaleDown:
      {{- /* Each step makes its callers connect again. */}}
      stabilizationWindowSeconds: 600
      policies:
        - {type: Pods, value: 1, periodSeconds: 120}
{{- end -}}
{{- end -}}
