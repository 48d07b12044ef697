package chart

import (
	"testing"

	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
)

func TestHelmLints(t *testing.T) {
	t.Parallel()
	for _, message := range lint.RunAll(chartDir, values(t, installed), "certctl").Messages {
		if message.Severity >= support.WarningSev {
			t.Error(message)
		}
	}
}
