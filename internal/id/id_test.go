package id_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/certctl-io/certctl/internal/id"
	"github.com/certctl-io/certctl/internal/problem"
)

func TestIdentifiersSortByTheTimeTheyWereMade(t *testing.T) {
	t.Parallel()
	made := make([]string, 1000)
	for i := range made {
		made[i] = id.New("crt")
	}
	if !slices.IsSorted(made) {
		t.Error("identifiers made one after the other are not sorted")
	}
	if slices.Sort(made); len(slices.Compact(made)) != 1000 {
		t.Error("an identifier was made twice")
	}
}

func TestIsTellsIdentifiersFromNames(t *testing.T) {
	t.Parallel()
	made := id.New("crt")
	for ref, want := range map[string]bool{
		made:                                   true,
		strings.Replace(made, "crt", "ord", 1): false,
		made[:len(made)-1]:                     false,
		made + "0":                             false,
		"crt_" + strings.Repeat("g", 32):       false,
		"www":                                  false,
		"":                                     false,
		strings.TrimPrefix(made, "crt_"):       false,
		"crt-" + strings.TrimPrefix(made, "crt_"): false,
	} {
		if got := id.Is("crt", ref); got != want {
			t.Errorf("Is(%q) = %t, want %t", ref, got, want)
		}
	}
}

func TestNamesStandInURLsAndShellsWithoutQuoting(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a", "www", "web-1", "shop.example_eu", "0", strings.Repeat("x", 100)} {
		if err := id.CheckName("crt", name); err != nil {
			t.Errorf("%q is refused: %v", name, err)
		}
	}
	for _, name := range []string{"", "Web", "web 1", "-web", "web-", ".web", "web/1", "wéb", "web\n", strings.Repeat("x", 101), id.New("crt")} {
		err := id.CheckName("crt", name)
		if err == nil {
			t.Errorf("%q is accepted", name)
			continue
		}
		if err.Kind != problem.KindInvalid || err.Field != "name" {
			t.Errorf("%q: kind %s and field %q, want invalid and name", name, err.Kind, err.Field)
		}
	}
}

func TestANameMayLookLikeAnIdentifierOfAnotherType(t *testing.T) {
	t.Parallel()
	if err := id.CheckName("crt", id.New("tgt")); err != nil {
		t.Errorf("refused: %v", err)
	}
}
