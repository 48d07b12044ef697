package kinds_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl-io/certctl/internal/targets/kinds"
)

func TestKindsAreKnownByTheirNames(t *testing.T) {
	t.Parallel()
	all := kinds.All()
	want := []string{"exec", "file", "haproxy", "kubernetes", "nginx"}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(all))); diff != "" {
		t.Error(diff)
	}
	for name, kind := range all {
		if kind.Name() != name {
			t.Errorf("the kind %q stands under %q", kind.Name(), name)
		}
	}
}
