// Package config holds every setting of the certctl server in one typed struct.
//
// A setting has one name, written in the struct tag. From the name data-dir
// come the flag --data-dir, the environment variable CERTCTL_DATA_DIR and the
// key data_dir of the optional YAML file. A flag wins over a variable, a
// variable over the file, the file over the default; where each value came
// from is kept, so that "certctl config" can tell. An unknown variable or key
// and a value that cannot be used stop the start, and every such mistake is
// reported at once.
//
// The help of the command line and docs/configuration.md are made from the
// same tags.
package config

import (
	"crypto/tls"
	"encoding/base64"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/certctl-io/certctl/internal/secret"
)

// masterKeySize is the size of the master key in bytes: AES-256.
const masterKeySize = 32

// Server is the settings of "certctl server". Tags: name; help; default, or
// computed (how the default is found when it depends on the machine); min and
// max for numbers, durations and sizes; enum for a closed set; group orders
// help and docs. A field of type secret.String is masked wherever it is shown.
type Server struct {
	Config string `name:"config" placeholder:"FILE" computed:"no file" group:"Configuration" help:"YAML file with any of these settings. It cannot be set in the file itself."`

	DataDir string `name:"data-dir" placeholder:"DIR" computed:"/var/lib/certctl for root, else $XDG_STATE_HOME/certctl or ~/.local/state/certctl" group:"Storage" help:"Directory of the SQLite database and the master key. It is made when missing."`

	DatabaseURL      secret.String `name:"database-url" placeholder:"URL" computed:"SQLite in data_dir" group:"Storage" help:"PostgreSQL 15 or newer: postgres://user:password@host:5432/database?sslmode=verify-full."`
	DatabasePassword secret.String `name:"database-password" placeholder:"PASSWORD" computed:"the one in database_url" group:"Storage" help:"Password for database_url, as it is: nothing in it is encoded. It wins over one in the URL."`
	DatabaseWait     time.Duration `name:"database-wait" default:"30s" min:"0s" max:"30m" group:"Storage" help:"How long a start waits for PostgreSQL to let it in. 0 means not at all."`
	DatabaseMaxConns int           `name:"database-max-conns" default:"0" min:"0" max:"10000" group:"Storage" help:"Connections to PostgreSQL that one replica opens at most, at least 4; on SQLite the size of its pool of readers. 0 means 25 on PostgreSQL and one reader per core (at least 4) on SQLite."`
	EncryptionKey    secret.String `name:"encryption-key" placeholder:"BASE64" computed:"data_dir/master.key, made at first start" group:"Storage" help:"Master key that wraps every secret at rest: 32 random bytes in base64 (openssl rand -base64 32). All replicas on one database need the same."`

	Listen          string        `name:"listen" placeholder:"ADDRESS" default:":8443" group:"API" help:"Address of the HTTPS listener."`
	PublicURL       string        `name:"public-url" placeholder:"URL" computed:"https://HOSTNAME:PORT of listen" group:"API" help:"URL at which people and agents reach the API."`
	RateLimitRPS    float64       `name:"rate-limit-rps" default:"100" min:"0" max:"1000000" group:"API" help:"Requests per second that one client (its key, or its address before it is known) may make on average. 0 turns the limit off."`
	RateLimitBurst  int           `name:"rate-limit-burst" default:"200" min:"1" max:"1000000" group:"API" help:"Requests that one client may make at once on top of the average."`
	BodyLimit       Bytes         `name:"body-limit" default:"1MiB" min:"16KiB" max:"64MiB" group:"API" help:"Largest request body that the API reads."`
	PollWait        time.Duration `name:"poll-wait" default:"30s" min:"1s" max:"55s" group:"API" help:"How long an agent's poll is held open when there is no work. It must be shorter than the idle timeout of proxies in between."`
	BootstrapAPIKey secret.String `name:"bootstrap-api-key" placeholder:"KEY" computed:"a random key, printed once at first start" group:"API" help:"Admin key for automation, at least 24 characters; several are separated by commas. It is kept as one of the API keys, hashed."`

	BootstrapEnrolmentToken secret.String `name:"bootstrap-enrolment-token" placeholder:"TOKEN" computed:"none" group:"Agents" help:"Enrolment token for automation, at least 24 characters. It lets in any number of agents, is kept as one of the enrolment tokens, hashed, and does not come back once it is revoked."`
	KubernetesTokenReview   string        `name:"kubernetes-token-review" default:"auto" enum:"auto,on,off" group:"Agents" help:"Whether the ServiceAccount tokens of agents in Kubernetes are checked with a TokenReview, so that an agent that has lost its key may join again: on, off, or auto: on in a pod that has credentials for the API server."`
	KubernetesAudience      string        `name:"kubernetes-audience" placeholder:"NAME" default:"certctl" group:"Agents" help:"Audience that these tokens must be made for. Servers in one cluster need different ones."`

	TLSCertificate string   `name:"tls-certificate" placeholder:"FILE" computed:"a certificate that the server makes, under a CA of its own" group:"TLS" help:"PEM file with the server's certificate, then its chain up to the CA that agents pin. It is read again when it changes."`
	TLSKey         string   `name:"tls-key" placeholder:"FILE" computed:"made together with the certificate" group:"TLS" help:"PEM file with the private key of tls_certificate."`
	TLSHostnames   []string `name:"tls-hostnames" placeholder:"NAME,..." computed:"localhost, HOSTNAME, the host of public_url, 127.0.0.1 and ::1" group:"TLS" help:"DNS names and IP addresses in the self-made certificate."`
	TLSMinVersion  string   `name:"tls-min-version" default:"1.3" enum:"1.2,1.3" group:"TLS" help:"Oldest TLS version that is accepted: 1.2 or 1.3."`

	StatusListen   string `name:"status-listen" placeholder:"ADDRESS" default:":8080" group:"Certificate authority" help:"Address of the plain HTTP listener for CRL and OCSP, or \"off\" where another replica serves them."`
	StatusURL      string `name:"status-url" placeholder:"URL" computed:"http://HOSTNAME:PORT of status_listen" group:"Certificate authority" help:"URL of that listener as it stands in issued certificates. Certificates keep the URL they were issued with."`
	CRLShardSize   int    `name:"crl-shard-size" default:"10000" min:"100" max:"1000000" group:"Certificate authority" help:"Number of certificates that share one CRL."`
	CAOrganization string `name:"ca-organization" placeholder:"NAME" default:"certctl" group:"Certificate authority" help:"Organization in the names of CAs that certctl makes. It is read when a CA is made."`

	LogLevel        string        `name:"log-level" default:"info" enum:"debug,info,warn,error" group:"Operation" help:"Least severe log level that is written: debug, info, warn or error."`
	LogFormat       string        `name:"log-format" default:"auto" enum:"auto,json,text" group:"Operation" help:"json, text, or auto: text on a terminal and json elsewhere."`
	QueueWorkers    int           `name:"queue-workers" default:"100" min:"1" max:"10000" group:"Operation" help:"Background jobs that one replica works on at the same time."`
	ShutdownDelay   time.Duration `name:"shutdown-delay" default:"0s" min:"0s" max:"5m" group:"Operation" help:"How long a stop goes on serving while /ready answers 503, so that load balancers turn away first."`
	ShutdownTimeout time.Duration `name:"shutdown-timeout" default:"30s" min:"1s" max:"10m" group:"Operation" help:"How long a stop waits for running requests and jobs before it hands them back."`
}

// StatusOff is the value of StatusListen that turns the listener off.
const StatusOff = "off"

// Values of KubernetesTokenReview that are not "on".
const (
	ReviewAuto = "auto"
	ReviewOff  = "off"
)

// MasterKey decodes EncryptionKey; it is nil when none is set.
func (s *Server) MasterKey() ([]byte, error) {
	if s.EncryptionKey.Empty() {
		return nil, nil
	}
	key, err := base64.StdEncoding.DecodeString(s.EncryptionKey.Reveal())
	if err != nil || len(key) != masterKeySize {
		// The decoder's error would quote a character of the key.
		return nil, errors.New("it is not the base64 form of 32 bytes")
	}
	return key, nil
}

// BootstrapAPIKeys are the keys in BootstrapAPIKey.
func (s *Server) BootstrapAPIKeys() []secret.String {
	var keys []secret.String
	if s.BootstrapAPIKey.Empty() {
		return nil
	}
	for text := range strings.SplitSeq(s.BootstrapAPIKey.Reveal(), ",") {
		keys = append(keys, secret.New(strings.TrimSpace(text)))
	}
	return keys
}

// MinTLSVersion is TLSMinVersion as crypto/tls knows it.
func (s *Server) MinTLSVersion() uint16 {
	if s.TLSMinVersion == "1.2" {
		return tls.VersionTLS12
	}
	return tls.VersionTLS13
}

// Level is LogLevel as slog knows it.
func (s *Server) Level() slog.Level {
	var level slog.Level
	if err := level.UnmarshalText([]byte(s.LogLevel)); err != nil {
		return slog.LevelInfo
	}
	return level
}
