{{- define "zhiyin.name" -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "zhiyin.labels" -}}
app.kubernetes.io/name: zhiyin
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- /* (dict "root" . "part" "gateway") */ -}}
{{- define "zhiyin.selector" -}}
app.kubernetes.io/name: zhiyin
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{- define "zhiyin.image" -}}
{{ required "image.registry: where the images were pushed" .root.Values.image.registry }}/zhiyin-{{ .part }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{- define "zhiyin.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch  # else each start walks through all runs
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "zhiyin.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "zhiyin.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "zhiyin.storeEnv" -}}
- name: ZHIYIN_STORE
{{- if .Values.redis.enabled }}
  value: redis://{{ include "zhiyin.name" . }}-redis:6379/0
{{- else }}
  valueFrom:
    secretKeyRef:
      name: {{ required "storeSecret: the Secret with the address of the store, since redis.enabled is false" .Values.storeSecret }}
      key: url
{{- end }}
{{- end }}

{{- define "zhiyin.runsClaim" -}}
{{ .Values.storage.runs.existingClaim | default (printf "%s-runs" (include "zhiyin.name" .)) }}
{{- end }}

{{- define "zhiyin.dataMount" -}}
{{- if .Values.storage.data.existingClaim }}
- {name: data, mountPath: /zhiyin/data, readOnly: true}
{{- end }}
{{- end }}

{{- define "zhiyin.dataVolume" -}}
{{- with .Values.storage.data.existingClaim }}
- name: data
  persistentVolumeClaim: {claimName: {{ . }}, readOnly: true}
{{- end }}
{{- end }}

{{- define "zhiyin.secretsMount" -}}
{{- if .Values.gateway.pseudonymsSecret }}
- {name: secrets, mountPath: /secrets, readOnly: true}
{{- end }}
{{- end }}

{{- define "zhiyin.secretsVolume" -}}
{{- with .Values.gateway.pseudonymsSecret }}
- name: secrets
  secret:
    secretName: {{ . }}
    defaultMode: 0440
    items: [{key: pseudonyms, path: pseudonyms}]
{{- end }}
{{- end }}
