package secret_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/certctl-io/certctl/internal/secret"
)

func newBox(t *testing.T, fill byte) *secret.Box {
	t.Helper()
	box, err := secret.NewBox(bytes.Repeat([]byte{fill}, secret.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	return box
}

func TestSealedValueOpensOnlyForItsPurposeAndKey(t *testing.T) {
	t.Parallel()
	box := newBox(t, 1)
	sealed, err := box.Seal("row/1", []byte("top secret"))
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := box.Open("row/1", sealed); err != nil || string(plain) != "top secret" {
		t.Fatalf("open: %q, %v", plain, err)
	}
	if _, err := box.Open("row/2", sealed); err == nil {
		t.Error("opened for another purpose")
	}
	if _, err := newBox(t, 2).Open("row/1", sealed); !errors.Is(err, secret.ErrWrongKey) {
		t.Errorf("another key: %v, want ErrWrongKey", err)
	}
	for i := range sealed {
		damaged := bytes.Clone(sealed)
		damaged[i] ^= 1
		if _, err := box.Open("row/1", damaged); err == nil {
			t.Fatalf("opened with byte %d changed", i)
		}
	}
	if _, err := box.Open("row/1", sealed[:20]); err == nil {
		t.Error("opened a truncated value")
	}
}

func TestStringNeverPrints(t *testing.T) {
	t.Parallel()
	s := struct{ Key secret.String }{secret.New("hunter2")}
	asJSON, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		fmt.Sprint(s), fmt.Sprintf("%+v", s), fmt.Sprintf("%#v", s.Key), fmt.Sprintf("%q", s.Key),
		fmt.Sprintf("%x", s.Key), string(asJSON), s.Key.LogValue().String(),
	} {
		if strings.Contains(text, "hunter2") || strings.Contains(text, "68756e74") {
			t.Errorf("secret shown: %s", text)
		}
	}
	if !s.Key.Equal("hunter2") || s.Key.Equal("hunter3") {
		t.Error("Equal is wrong")
	}
}

func TestKeyFileIsMadeOnceByRacingProcesses(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "encryption.key")
	keys := make([][]byte, 8)
	var group sync.WaitGroup
	for i := range keys {
		group.Go(func() {
			key, err := secret.LoadOrCreateKey(path)
			if err != nil {
				t.Error(err)
			}
			keys[i] = key
		})
	}
	group.Wait()
	for _, key := range keys[1:] {
		if !bytes.Equal(key, keys[0]) {
			t.Fatal("two different keys")
		}
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := secret.LoadOrCreateKey(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("readable key file: %v", err)
	}
}
