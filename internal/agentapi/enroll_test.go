package agentapi

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/certctl-io/certctl/internal/problem"
)

func TestEnrolmentProofSurvivesTheWire(t *testing.T) {
	t.Parallel()
	body, err := json.Marshal(MakeEnrollRequest(newKey(t), "cet_secret", "web-1", noon.Add(123*time.Millisecond)))
	if err != nil {
		t.Fatal(err)
	}
	var received EnrollRequest
	if err := json.Unmarshal(body, &received); err != nil {
		t.Fatal(err)
	}
	if err := received.VerifyProof(noon); err != nil {
		t.Error(err)
	}
}

func TestEnrolmentProofCoversWhatMatters(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(r *EnrollRequest)
		want  problem.Kind
	}{
		"another token":    {func(r *EnrollRequest) { r.Token = "cet_other" }, problem.KindInvalid},
		"another name":     {func(r *EnrollRequest) { r.Name = "web-2" }, problem.KindInvalid},
		"another key":      {func(r *EnrollRequest) { r.PublicKey = public(newKey(t)) }, problem.KindInvalid},
		"a short key":      {func(r *EnrollRequest) { r.PublicKey = r.PublicKey[:31] }, problem.KindInvalid},
		"another time":     {func(r *EnrollRequest) { r.Time = r.Time.Add(time.Second) }, problem.KindInvalid},
		"no proof":         {func(r *EnrollRequest) { r.Proof = nil }, problem.KindInvalid},
		"token into name":  {func(r *EnrollRequest) { r.Token, r.Name = r.Name, r.Token }, problem.KindInvalid},
		"nothing":          {func(*EnrollRequest) {}, ""},
		"labels and words": {func(r *EnrollRequest) { r.Labels, r.OS = map[string]string{"a": "b"}, "linux/arm64" }, ""},
	} {
		r := MakeEnrollRequest(newKey(t), "cet_secret", "web-1", noon)
		c.spoil(&r)
		if err := r.VerifyProof(noon); problem.KindOf(err) != c.want {
			t.Errorf("%s: got %v, want kind %q", name, err, c.want)
		}
	}
}

func TestEnrolmentFindsAWrongClock(t *testing.T) {
	t.Parallel()
	r := MakeEnrollRequest(newKey(t), "cet_secret", "web-1", noon)
	for late, good := range map[time.Duration]bool{
		-31 * time.Second: false, -30 * time.Second: true, 90 * time.Second: true, 91 * time.Second: false,
	} {
		err := r.VerifyProof(noon.Add(late))
		if good != (err == nil) {
			t.Errorf("%s late: got %v, want good: %t", late, err, good)
		}
		if !good && problem.KindOf(err) != problem.KindUnauthenticated {
			t.Errorf("%s late: got %v, want it unauthenticated", late, err)
		}
	}
}
