package settings

import (
	"github.com/certctl-io/certctl/internal/pki"
	"github.com/certctl-io/certctl/internal/problem"
	"github.com/certctl-io/certctl/internal/targets"
)

// PEMFiles name where the parts of a version go, each in PEM. All may be left
// out.
type PEMFiles struct {
	Certificate Path `json:"certificate" title:"Certificate" help:"File for the leaf certificate alone." example:"/etc/myapp/tls/cert.pem"`
	Key         Path `json:"key" title:"Private key" help:"File for the private key (PKCS #8)." example:"/etc/myapp/tls/key.pem"`
	Chain       Path `json:"chain" title:"Chain" help:"File for the certificates above the leaf." example:"/etc/myapp/tls/chain.pem"`
	FullChain   Path `json:"fullchain" title:"Full chain" help:"File for the leaf and the certificates above it." example:"/etc/myapp/tls/fullchain.pem"`
	Combined    Path `json:"combined" title:"Combined" help:"File for the private key, the leaf and the certificates above it, in this order." example:"/etc/myapp/tls/combined.pem"`
}

// NamedPath is a path and the setting that it stands in.
type NamedPath struct {
	Setting string
	Path    Path
}

// Named lists the paths with their settings.
func (f PEMFiles) Named() []NamedPath {
	return []NamedPath{
		{"certificate", f.Certificate}, {"key", f.Key}, {"chain", f.Chain}, {"fullchain", f.FullChain}, {"combined", f.Combined},
	}
}

// Distinct tells whether two settings name the same file.
func Distinct(paths ...NamedPath) *problem.Error {
	first := map[Path]string{}
	for _, p := range paths {
		if p.Path == "" {
			continue
		}
		if other, taken := first[p.Path]; taken {
			return problem.Invalid("settings."+p.Setting, "%s is the path of %s too", p.Path, other).Hint("give each its own file")
		}
		first[p.Path] = p.Setting
	}
	return nil
}

// Plan gives the files that are named, with the parts of the bundle.
func (f PEMFiles) Plan(b pki.Bundle, o Ownership) ([]targets.File, error) {
	var files []targets.File
	public := func(path Path, data []byte) {
		if path != "" {
			files = append(files, o.File(path, data, false))
		}
	}
	public(f.Certificate, b.CertPEM())
	public(f.Chain, b.ChainPEM())
	public(f.FullChain, b.FullChainPEM())
	if f.Key == "" && f.Combined == "" {
		return files, nil
	}
	key, err := b.KeyPEM()
	if err != nil {
		return nil, err
	}
	if f.Key != "" {
		files = append(files, o.File(f.Key, key, true))
	}
	if f.Combined != "" {
		files = append(files, o.File(f.Combined, Combine(key, b), true))
	}
	return files, nil
}

// Combine gives one PEM file of a private key and the full chain.
func Combine(key []byte, b pki.Bundle) []byte {
	return append(append([]byte{}, key...), b.FullChainPEM()...)
}

// Ownership says whom the files belong to.
type Ownership struct {
	Owner Account `json:"owner" title:"Owner" help:"User that the files belong to. Left out, existing files keep theirs. Giving files away needs an agent that runs as root." example:"www-data"`
	Group Account `json:"group" title:"Group" help:"Group that the files belong to. Left out, existing files keep theirs." example:"ssl-cert"`
	Mode  KeyMode `json:"mode" title:"Mode of key files" help:"Mode of files that hold the private key, in octal digits; the others are readable by everybody. Left out, existing files keep theirs, and new ones get 0600." example:"0640"`
}

// File makes a file of a plan; secret says that it holds the private key.
func (o Ownership) File(path Path, data []byte, secret bool) targets.File {
	file := targets.File{Path: string(path), Data: data, Owner: string(o.Owner), Group: string(o.Group), Secret: secret}
	if secret {
		file.Mode = o.Mode.FileMode()
	}
	return file
}

// Probe says where a TLS handshake shows what is served, for kinds that can do
// without it.
type Probe struct {
	Address    Address    `json:"address" required:"true" title:"Address" help:"Host and port, as the agent reaches it, where the certificate must be served after a deployment." example:"127.0.0.1:443"`
	ServerName ServerName `json:"server_name" title:"Server name" help:"Name to ask for (SNI). Left out, it is the first DNS name of the certificate." example:"www.example.com"`
	Timeout    Duration   `json:"timeout" title:"Time limit" help:"How long the server may take until it serves the new certificate." default:"10s"`
}

// Plan gives the probe of a plan, nil for none.
func (p *Probe) Plan(b pki.Bundle) *targets.Probe {
	if p == nil {
		return nil
	}
	name := string(p.ServerName)
	if name == "" {
		name = targets.ProbeName(b.Names)
	}
	return &targets.Probe{Address: string(p.Address), ServerName: name, Timeout: p.Timeout.Duration()}
}

// ServerProbe is the probe of a server whose usual address is known: it is
// always made.
type ServerProbe struct {
	Address    Address    `json:"address" title:"Address" help:"Host and port, as the agent reaches it, where the certificate must be served after a deployment." default:"127.0.0.1:443"`
	ServerName ServerName `json:"server_name" title:"Server name" help:"Name to ask for (SNI). Left out, it is the first DNS name of the certificate." example:"www.example.com"`
	Timeout    Duration   `json:"timeout" title:"Time limit" help:"How long the server may take until it serves the new certificate." default:"10s"`
}

// Plan gives the probe of a plan.
func (p ServerProbe) Plan(b pki.Bundle) *targets.Probe {
	probe := Probe(p)
	if probe.Address == "" {
		probe.Address = "127.0.0.1:443"
	}
	return probe.Plan(b)
}
