package agentapi

import "testing"

func TestWithIDEscapesTheID(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]string{
		"ord_1":     "/agent/orders/ord_1/csr",
		"../x?y#z/": "/agent/orders/..%2Fx%3Fy%23z%2F/csr",
	} {
		if got := WithID(PathOrderCSR, id); got != want {
			t.Errorf("WithID(%q) = %q, want %q", id, got, want)
		}
	}
}
