package targets_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/certctl-io/certctl/internal/targets"
	"github.com/certctl-io/certctl/internal/targets/targetstest"
)

// accessList is a POSIX access list as the kernel stores it: the owner reads
// and writes, one user reads, and nobody else does anything.
func accessList(t testing.TB) []byte {
	t.Helper()
	type entry struct {
		Tag, Permissions uint16
		ID               uint32
	}
	const none = 1<<32 - 1
	var list bytes.Buffer
	for _, part := range []any{uint32(2), []entry{{0x01, 6, none}, {0x02, 4, someUser}, {0x04, 0, none}, {0x10, 4, none}, {0x20, 0, none}}} {
		if err := binary.Write(&list, binary.LittleEndian, part); err != nil {
			t.Fatal(err)
		}
	}
	return list.Bytes()
}

func TestAccessListsAreKept(t *testing.T) {
	t.Parallel()
	const attribute = "system.posix_acl_access"
	h := newHost(t)
	first := h.issue(t)
	h.place(t, first)
	want := accessList(t)
	err := unix.Setxattr(h.path("tls/key.pem"), attribute, want, 0)
	if errors.Is(err, unix.ENOTSUP) {
		t.Skip("the file system knows no access lists")
	}
	if err != nil {
		t.Fatal(err)
	}
	wantKept := func() {
		t.Helper()
		got := make([]byte, 1024)
		n, err := unix.Getxattr(h.path("tls/key.pem"), attribute, got)
		if err != nil || !bytes.Equal(got[:n], want) {
			t.Errorf("the access list is %x, %v", got[:max(n, 0)], err)
		}
	}
	h.spoil(t, "no-check")
	targetstest.WantOutcome(t, h.deploy(t, "dep_1", h.issue(t)), targets.OutcomeRolledBack)
	wantKept()
	h.repair(t, "no-check")
	targetstest.WantOutcome(t, h.deploy(t, "dep_2", h.issue(t)), targets.OutcomeDeployed)
	wantKept()
}
