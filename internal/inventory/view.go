package inventory

import (
	"time"

	"github.com/certctl-io/certctl/internal/duration"
	"github.com/certctl-io/certctl/internal/pki"
)

// WishView is what is asked for with a certificate, as the API shows it.
type WishView struct {
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	CommonName string            `json:"common_name,omitempty"`
	Names      []string          `json:"names" nullable:"false"`
	KeyType    pki.KeyType       `json:"key_type"`
	Lifetime   duration.Duration `json:"lifetime"`
	Profile    string            `json:"profile" doc:"Name of the profile."`
	Issuer     string            `json:"issuer" doc:"Name of the issuer."`
	Owner      string            `json:"owner,omitempty"`
	Tags       map[string]string `json:"tags,omitempty"`
	Targets    []string          `json:"targets" nullable:"false" doc:"Names of its targets; their agents hold its keys."`
	Renewal    Renewal           `json:"renewal"`
}

// View is a certificate as the API shows it.
type View struct {
	WishView
	Status       Status     `json:"status" enum:"unassigned,pending,active,expiring,expired,revoked,failing,archived"`
	StatusReason string     `json:"status_reason" doc:"Why it has this status, one sentence; empty when it is active."`
	NotAfter     *time.Time `json:"not_after,omitempty" doc:"Of the active version that ends first, as the next three."`
	RenewAt      *time.Time `json:"renew_at,omitempty" doc:"When that version should be replaced."`
	Serial       string     `json:"serial,omitempty" doc:"Its serial number in hex."`
	Fingerprint  string     `json:"fingerprint,omitempty" doc:"SHA-256 of its leaf in hex."`
	CreatedAt    time.Time  `json:"created_at"`
	UpdatedAt    time.Time  `json:"updated_at"`
	Revision     int        `json:"revision"`
}

func (s Standing) wishView() WishView {
	return WishView{
		ID: s.ID, Name: s.Name, CommonName: s.CommonName, Names: s.Names.List(), KeyType: s.KeyType, Lifetime: duration.Duration(s.Lifetime),
		Profile: s.Profile, Issuer: s.Issuer, Owner: s.Owner, Tags: s.Tags, Targets: s.Targets, Renewal: s.Renewal,
	}
}

func (s Standing) view() View {
	v := View{
		WishView: s.wishView(), Status: s.Status, StatusReason: s.Reason,
		CreatedAt: s.CreatedAt, UpdatedAt: s.UpdatedAt, Revision: s.Revision,
	}
	if soonest := s.Soonest; soonest != nil {
		v.NotAfter, v.RenewAt, v.Serial, v.Fingerprint = &soonest.NotAfter, &soonest.RenewAt, soonest.Serial, soonest.Fingerprint
	}
	return v
}

// VersionView is a version as the API shows it.
type VersionView struct {
	ID               string       `json:"id"`
	Certificate      string       `json:"certificate" doc:"Name of the certificate."`
	OrderID          string       `json:"order_id"`
	Agent            string       `json:"agent" doc:"Name of the key holder."`
	Issuer           string       `json:"issuer" doc:"Name of the issuer."`
	Serial           string       `json:"serial"`
	Fingerprint      string       `json:"fingerprint" doc:"SHA-256 of the leaf in hex."`
	Subject          string       `json:"subject"`
	KeyType          pki.KeyType  `json:"key_type"`
	State            VersionState `json:"state" enum:"issued,active,superseded,expired,revoked"`
	NotBefore        time.Time    `json:"not_before"`
	NotAfter         time.Time    `json:"not_after"`
	RenewAt          time.Time    `json:"renew_at"`
	CreatedAt        time.Time    `json:"created_at"`
	ActivatedAt      *time.Time   `json:"activated_at,omitempty"`
	SupersededAt     *time.Time   `json:"superseded_at,omitempty"`
	RevokedAt        *time.Time   `json:"revoked_at,omitempty"`
	RevocationReason string       `json:"revocation_reason,omitempty"`
	PEM              string       `json:"pem,omitempty" doc:"Leaf and chain; only when the version is read by itself."`
}

func (v NamedVersion) view(now time.Time) VersionView {
	view := VersionView{
		ID: v.ID, Certificate: v.Certificate, OrderID: v.OrderID, Agent: v.Agent, Issuer: v.Issuer, Serial: v.Serial,
		Fingerprint: v.Fingerprint, Subject: v.Subject, KeyType: v.KeyType, State: v.State(now),
		NotBefore: v.NotBefore, NotAfter: v.NotAfter, RenewAt: v.RenewAt, CreatedAt: v.CreatedAt,
		ActivatedAt: v.ActivatedAt, SupersededAt: v.SupersededAt, RevokedAt: v.RevokedAt, PEM: string(v.Chain.PEM()),
	}
	if v.RevocationReason != nil {
		view.RevocationReason = v.RevocationReason.String()
	}
	return view
}
