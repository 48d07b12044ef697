package targets_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/certctl-io/certctl/internal/targets"
	"github.com/certctl-io/certctl/internal/targets/targetstest"
)

func TestLinkStaysAndItsFileIsReplaced(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	first, next := h.issue(t), h.issue(t)
	h.place(t, first)
	cert, _ := contents(t, next)
	for _, dir := range []string{"real", "there"} {
		if err := os.Mkdir(h.path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	targetstest.WriteFile(t, h.path("real/cert.pem"), "old", 0o640)
	link(t, "../real/cert.pem", h.path("there/middle.pem"))
	link(t, h.path("there/middle.pem"), h.path("linked.pem"))
	link(t, h.path("real/new.pem"), h.path("dangling.pem"))
	job := h.job(t, "dep_1", next)
	for _, name := range []string{"linked.pem", "dangling.pem"} {
		job.Plan.Files = append(job.Plan.Files, targets.File{Path: h.path(name), Data: []byte(cert)})
	}

	h.spoil(t, "no-check")
	targetstest.WantOutcome(t, h.engine(t).Deploy(t.Context(), job), targets.OutcomeRolledBack)
	if got := targetstest.ReadFile(t, h.path("real/cert.pem")); got != "old" {
		t.Errorf("the file behind the link holds %q", got)
	}
	if _, err := os.Lstat(h.path("real/new.pem")); !os.IsNotExist(err) {
		t.Errorf("the new file behind the link is not gone: %v", err)
	}
	h.repair(t, "no-check")
	targetstest.WantOutcome(t, h.engine(t).Deploy(t.Context(), job), targets.OutcomeDeployed)
	for _, name := range []string{"linked.pem", "dangling.pem", "there/middle.pem"} {
		if at, err := os.Lstat(h.path(name)); err != nil || at.Mode()&fs.ModeSymlink == 0 {
			t.Errorf("%s is no link any more: %v", name, err)
		}
	}
	if targetstest.ReadFile(t, h.path("real/cert.pem")) != cert || targetstest.ReadFile(t, h.path("real/new.pem")) != cert {
		t.Error("the files behind the links are not replaced")
	}
	wantMode(t, h.path("real/cert.pem"), 0o640)
}

func link(t testing.TB, to, path string) {
	t.Helper()
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
}

func wantMode(t testing.TB, path string, mode fs.FileMode) {
	t.Helper()
	at, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if at.Mode().Perm() != mode {
		t.Errorf("%s has mode %04o and not %04o", path, at.Mode().Perm(), mode)
	}
}

func TestLinksThatLeadNowhereGoodAreRefused(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	first := h.issue(t)
	h.place(t, first)
	link(t, h.path("loop.pem"), h.path("loop.pem"))
	link(t, h.path("none/cert.pem"), h.path("lost.pem"))
	link(t, "/dev/null", h.path("device.pem"))
	link(t, h.path("tls/key.pem"), h.path("same.pem"))
	for name, reason := range map[string]string{
		"loop.pem": "symbolic links", "lost.pem": "does not exist", "device.pem": "not a regular file", "same.pem": "the same file",
	} {
		job := h.job(t, "dep_1", h.issue(t))
		job.Plan.Files = append(job.Plan.Files, targets.File{Path: h.path(name), Data: []byte("x")})
		report := h.engine(t).Deploy(t.Context(), job)
		if report.Outcome != targets.OutcomeFailed || !strings.Contains(report.Reason, reason) {
			t.Errorf("%s: %s, %s", name, report.Outcome, report.Reason)
		}
	}
	h.wantServed(t, first)
}

const (
	someUser  = 4242
	someGroup = 4243
)

func rootOnly(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give files to other users")
	}
}

func chown(t testing.TB, path string, uid, gid int) {
	t.Helper()
	if err := os.Lchown(path, uid, gid); err != nil {
		t.Fatal(err)
	}
}

func TestLinksOfOthersLeadOnlyToTheirOwnFiles(t *testing.T) {
	t.Parallel()
	rootOnly(t)
	for name, test := range map[string]struct {
		make    func(h *host) (path string)
		refused bool
	}{
		"a link to a file of root": {func(h *host) string {
			targetstest.WriteFile(t, h.path("secret"), "x", 0o600)
			link(t, h.path("secret"), h.path("his.pem"))
			chown(t, h.path("his.pem"), someUser, someGroup)
			return h.path("his.pem")
		}, true},
		"a link to a directory of root": {func(h *host) string {
			link(t, h.path("run"), h.path("his"))
			chown(t, h.path("his"), someUser, someGroup)
			return h.path("his/new.pem")
		}, true},
		"a link to his own file": {func(h *host) string {
			targetstest.WriteFile(t, h.path("own"), "x", 0o600)
			chown(t, h.path("own"), someUser, someGroup)
			link(t, h.path("own"), h.path("his.pem"))
			chown(t, h.path("his.pem"), someUser, someGroup)
			return h.path("his.pem")
		}, false},
		"a link of root": {func(h *host) string {
			link(t, h.path("run"), h.path("ours"))
			return h.path("ours/new.pem")
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			h.place(t, h.issue(t))
			job := h.job(t, "dep_1", h.issue(t))
			job.Plan.Files = append(job.Plan.Files, targets.File{Path: test.make(h), Data: []byte("x")})
			report := h.engine(t).Deploy(t.Context(), job)
			if refused := report.Outcome == targets.OutcomeFailed; refused != test.refused {
				t.Errorf("%s: %s", report.Outcome, report.Reason)
			}
		})
	}
}

func TestNewFilesAreReadableByWhomTheyMayBe(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	targetstest.WantOutcome(t, h.deploy(t, "dep_1", h.issue(t)), targets.OutcomeDeployed)
	wantMode(t, h.path("tls/cert.pem"), 0o644)
	wantMode(t, h.path("tls/key.pem"), 0o600)
}

func TestModesOfExistingFilesAreKeptUnlessThePlanSaysOtherwise(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.place(t, h.issue(t))
	for path, mode := range map[string]fs.FileMode{"tls/cert.pem": 0o444, "tls/key.pem": 0o440} {
		if err := os.Chmod(h.path(path), mode); err != nil {
			t.Fatal(err)
		}
	}
	b := h.issue(t)
	targetstest.WantOutcome(t, h.deploy(t, "dep_1", b), targets.OutcomeDeployed)
	wantMode(t, h.path("tls/cert.pem"), 0o444)
	wantMode(t, h.path("tls/key.pem"), 0o440)

	job := h.job(t, "dep_2", b)
	job.Plan.Files[1].Mode = 0o640
	targetstest.WantOutcome(t, h.engine(t).Deploy(t.Context(), job), targets.OutcomeDeployed)
	wantMode(t, h.path("tls/key.pem"), 0o640)

	h.spoil(t, "no-check")
	job = h.job(t, "dep_3", h.issue(t))
	job.Plan.Files[1].Mode = 0o600
	targetstest.WantOutcome(t, h.engine(t).Deploy(t.Context(), job), targets.OutcomeRolledBack)
	wantMode(t, h.path("tls/key.pem"), 0o640)
}

func TestOwnersAreKeptAndSet(t *testing.T) {
	t.Parallel()
	rootOnly(t)
	h := newHost(t)
	first := h.issue(t)
	h.place(t, first)
	chown(t, h.path("tls/key.pem"), someUser, someGroup)
	h.spoil(t, "no-check")
	targetstest.WantOutcome(t, h.deploy(t, "dep_1", h.issue(t)), targets.OutcomeRolledBack)
	wantOwner(t, h.path("tls/key.pem"), someUser, someGroup)
	h.repair(t, "no-check")

	job := h.job(t, "dep_2", h.issue(t))
	job.Plan.Files[0].Owner, job.Plan.Files[0].Group = "4244", "4245"
	targetstest.WantOutcome(t, h.engine(t).Deploy(t.Context(), job), targets.OutcomeDeployed)
	wantOwner(t, h.path("tls/cert.pem"), 4244, 4245)
	wantOwner(t, h.path("tls/key.pem"), someUser, someGroup)
}

func wantOwner(t testing.TB, path string, uid, gid uint32) {
	t.Helper()
	at, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if is := at.Sys().(*syscall.Stat_t); is.Uid != uid || is.Gid != gid {
		t.Errorf("%s belongs to %d:%d and not to %d:%d", path, is.Uid, is.Gid, uid, gid)
	}
}

func TestWithoutRightsTheReasonSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 {
		targetstest.AsNobody(t, "^(TestWithoutRights.*|TestDeployEnds.*|TestFailureAtEach.*|TestNewFiles.*)$")
		return
	}
	h := newHost(t)
	first := h.issue(t)
	h.place(t, first)
	for name, test := range map[string]struct {
		change func(job *targets.Job)
		reason string
	}{
		"owner":     {func(j *targets.Job) { j.Plan.Files[0].Owner = "root" }, "may not give files away"},
		"group":     {func(j *targets.Job) { j.Plan.Files[0].Group = "0" }, "is not in it"},
		"directory": {func(j *targets.Job) { j.Plan.Files[0].Path = "/etc/certctl-test.pem" }, "give this user access"},
	} {
		job := h.job(t, "dep_1", h.issue(t))
		test.change(&job)
		report := h.engine(t).Deploy(t.Context(), job)
		if report.Outcome != targets.OutcomeRolledBack || !strings.Contains(report.Reason, test.reason) {
			t.Errorf("%s: %s, %s", name, report.Outcome, report.Reason)
		}
		h.wantServed(t, first)
	}
}

func TestFilesOfOtherTargetsAndLeftoversAreToldApart(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.place(t, h.issue(t))
	leftover := targets.TempPath("tgt_1", h.path("tls/key.pem"))
	foreign := targets.TempPath("tgt_2", h.path("tls/key.pem"))
	for _, path := range []string{leftover, foreign} {
		targetstest.WriteFile(t, path, "half a key", 0o600)
	}
	targetstest.WantOutcome(t, h.deploy(t, "dep_1", h.issue(t)), targets.OutcomeDeployed)
	h.wantNothingLeft(t, filepath.Base(foreign), "cert.pem", "key.pem")
}

func TestDirectoryThatBecomesALinkMeanwhileIsNotFollowed(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"observe", "backup", "write", "staged", "validate"} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			h.place(t, h.issue(t))
			if err := os.Mkdir(h.path("elsewhere"), 0o755); err != nil {
				t.Fatal(err)
			}
			engine := h.engine(t)
			engine.OnReached(func(at string) {
				if _, err := os.Lstat(h.path("moved")); at != point || err == nil {
					return
				}
				if err := os.Rename(h.path("tls"), h.path("moved")); err != nil {
					t.Error(err)
				}
				link(t, h.path("elsewhere"), h.path("tls"))
			})
			h.spoil(t, "no-check") // for the point at which all is written already
			report := engine.Deploy(t.Context(), h.job(t, "dep_1", h.issue(t)))
			targetstest.WantOutcome(t, report, targets.OutcomeFailed)
			if left, err := os.ReadDir(h.path("elsewhere")); err != nil || len(left) > 0 {
				t.Errorf("the agent wrote %v, %v (%s)", left, err, report.Reason)
			}
		})
	}
}
