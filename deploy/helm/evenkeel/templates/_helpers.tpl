{{/* An image of ours: its name comes as the first of the list, the context as the second. */}}
{{- define "evenkeel.image" -}}
{{- $root := index . 1 -}}
{{ $root.Values.image.registry }}/{{ index . 0 }}:{{ $root.Values.image.tag | default $root.Chart.AppVersion }}
{{- end }}

{{- define "evenkeel.labels" -}}
app.kubernetes.io/name: evenkeel
app.kubernetes.io/component: {{ . }}
app.kubernetes.io/part-of: evenkeel
{{- end }}

{{- define "evenkeel.pullSecrets" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/* What a run of `evenkeel-discovery certificates` is, on install and weekly. */}}
{{- define "evenkeel.certificates" -}}
metadata:
  labels:
    {{- include "evenkeel.labels" "certificates" | nindent 4 }}
spec:
  serviceAccountName: evenkeel-certificates
  automountServiceAccountToken: true
  restartPolicy: OnFailure
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    seccompProfile:
      type: RuntimeDefault
  {{- include "evenkeel.pullSecrets" . | nindent 2 }}
  containers:
    - name: certificates
      image: {{ include "evenkeel.image" (list "evenkeel-discovery" .) }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args:
        - certificates
        - --namespace=$(POD_NAMESPACE)
        - --secret=evenkeel-discovery-tls
        - --ca-secret=evenkeel-ca
        - --config-map=evenkeel-ca
        - --dns-name=evenkeel-discovery.$(POD_NAMESPACE).svc
        - --dns-name=evenkeel-discovery.$(POD_NAMESPACE).svc.cluster.local
        {{- range .Values.certificates.extraNames }}
        - {{ printf "--dns-name=%s" . | quote }}
        {{- end }}
      env:
        - name: POD_NAMESPACE
          valueFrom:
            fieldRef:
              fieldPath: metadata.namespace
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      resources:
        requests:
          cpu: 10m
          memory: 16Mi
        limits:
          memory: 128Mi
{{- end }}
