package s3store

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/store"
)

// ClientOptions configure Clients; the zero value works.
type ClientOptions struct {
	// Stores is the file of settings of buckets, "" for none (see ReadStores).
	Stores string
	// Getenv defaults to os.Getenv. Of the environment these are used, as by Amazon's own tools: AWS_ENDPOINT_URL_S3,
	// AWS_ENDPOINT_URL, AWS_REGION, AWS_DEFAULT_REGION, AWS_PROFILE, AWS_CA_BUNDLE and AWS_EC2_METADATA_DISABLED; and those of
	// the credentials, which are read from the process's own environment.
	Getenv func(string) string
	// Patience is how long a store that does not answer is asked again. Defaults to 90 s.
	Patience time.Duration
}

// Clients are the connections of a process to S3 servers: one for each endpoint and its credentials, shared by all stores
// that are opened through it. It is safe for concurrent use.
type Clients struct {
	options ClientOptions
	mu      sync.Mutex
	stores  *Stores // read when first needed
	made    map[settings]*endpoint
}

// NewClients returns clients; connections are made when they are needed.
func NewClients(o ClientOptions) *Clients {
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	o.Patience = cmp.Or(o.Patience, 90*time.Second)
	return &Clients{options: o, made: map[settings]*endpoint{}}
}

// Close closes idle connections. Stores must be closed before.
func (c *Clients) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.made {
		for _, t := range e.transports {
			t.CloseIdleConnections()
		}
	}
}

// Slowed says which endpoints ask for fewer calls at the moment, and how often they did; empty while none does.
func (c *Clients) Slowed() map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]string{}
	for s, e := range c.made {
		if err := e.pace.state(); err != nil {
			out[s.endpoint] = err.Error()
		}
	}
	return out
}

// settings are how a server is reached. They are comparable.
type settings struct {
	endpoint, region, ca, profile string
	lookup                        minio.BucketLookupType
}

// amazon is the endpoint where none is set.
const amazon = "https://s3.amazonaws.com"

// settingsOf are those of the root's query, else of the stores file, else of the environment.
func (c *Clients) settingsOf(root archive.Root) (settings, error) {
	stores, err := c.readStores()
	if err != nil {
		return settings{}, err
	}
	file, env := stores.of(root.Bucket()), c.options.Getenv
	s := settings{
		endpoint: strings.TrimSuffix(cmp.Or(root.Setting(archive.SettingEndpoint), file.Endpoint, env("AWS_ENDPOINT_URL_S3"), env("AWS_ENDPOINT_URL"), amazon), "/"),
		region:   cmp.Or(root.Setting(archive.SettingRegion), file.Region, env("AWS_REGION"), env("AWS_DEFAULT_REGION")),
		ca:       cmp.Or(root.Setting(archive.SettingCA), file.CA, env("AWS_CA_BUNDLE")),
		profile:  cmp.Or(root.Setting(archive.SettingProfile), file.Profile),
	}
	own := !strings.HasSuffix(s.endpoint, ".amazonaws.com")
	if own { // a server of one's own has no regions to look up, and seldom names for its buckets
		s.region = cmp.Or(s.region, "us-east-1")
	}
	switch cmp.Or(root.Setting(archive.SettingPathStyle), file.PathStyle) {
	case "true":
		s.lookup = minio.BucketLookupPath
	case "false":
		s.lookup = minio.BucketLookupDNS
	default:
		s.lookup = minio.BucketLookupAuto
		if own {
			s.lookup = minio.BucketLookupPath
		}
	}
	return s, nil
}

func (c *Clients) readStores() (*Stores, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stores == nil {
		read, err := ReadStores(c.options.Stores)
		if err != nil {
			return nil, err
		}
		c.stores = read
	}
	return c.stores, nil
}

// endpoint is one server with one set of credentials.
type endpoint struct {
	address string // http(s)://host:port
	// calls is for calls that answer soon, copies for those that answer when the server has copied. Neither repeats a call
	// by itself: after a conditional call whose answer was lost, one has to look, or takes one's own object for another's.
	calls, copies *minio.Core
	transports    []*http.Transport
	pace          pace
}

func (c *Clients) endpoint(ctx context.Context, root archive.Root) (*endpoint, error) {
	s, err := c.settingsOf(root)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	e := c.made[s]
	c.mu.Unlock()
	if e != nil {
		return e, nil
	}
	if e, err = c.connect(ctx, s); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if made := c.made[s]; made != nil {
		return made, nil
	}
	c.made[s] = e
	return e, nil
}

func (c *Clients) connect(ctx context.Context, s settings) (*endpoint, error) {
	u, err := url.Parse(s.endpoint)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || u.User != nil || u.Path != "" || u.RawQuery != "" {
		return nil, fmt.Errorf("%w: the endpoint is to be http://host:port or https://host:port, without user, path or query", archive.ErrRoot)
	}
	creds := c.credentials(s)
	if err := usable(ctx, creds); err != nil {
		return nil, err
	}
	e := &endpoint{address: s.endpoint}
	for _, to := range []struct {
		core   **minio.Core
		header time.Duration
	}{{&e.calls, attemptFor}, {&e.copies, 0}} {
		t, err := transport(s, to.header)
		if err != nil {
			return nil, err
		}
		e.transports = append(e.transports, t)
		*to.core, err = minio.NewCore(u.Host, &minio.Options{
			Creds: creds, Secure: u.Scheme == "https", Transport: conditional{t}, Region: s.region, BucketLookup: s.lookup, MaxRetries: 1,
		})
		if err != nil {
			return nil, fmt.Errorf("endpoint %s: %w", s.endpoint, err)
		}
		(*to.core).SetAppInfo("reshelf", "1")
	}
	return e, nil
}

// credentials are those of Amazon's standard chain: the environment, the shared credentials file, and what the machine or
// its web identity is given. A profile that was named is the only place that is looked at.
func (c *Clients) credentials(s settings) *credentials.Credentials {
	if s.profile != "" {
		return credentials.NewChainCredentials([]credentials.Provider{&credentials.FileAWSCredentials{Profile: s.profile}})
	}
	chain := []credentials.Provider{&credentials.EnvAWS{}, &credentials.FileAWSCredentials{Profile: c.options.Getenv("AWS_PROFILE")}}
	given := c.options.Getenv("AWS_WEB_IDENTITY_TOKEN_FILE") != "" || c.options.Getenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") != "" ||
		c.options.Getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI") != ""
	if given || !strings.EqualFold(c.options.Getenv("AWS_EC2_METADATA_DISABLED"), "true") {
		chain = append(chain, &credentials.IAM{Client: &http.Client{Timeout: machineWithin, Transport: http.DefaultTransport}})
	}
	return credentials.NewChainCredentials(chain)
}

// machineWithin bounds the question for a machine's own credentials, which nobody answers outside of a cloud.
const machineWithin = 3 * time.Second

// usable reports store.ErrUnavailable where there are no credentials at all: requests without any are never sent.
func usable(ctx context.Context, creds *credentials.Credentials) error {
	v, err := creds.GetWithContext(&credentials.CredContext{Client: &http.Client{Timeout: machineWithin}})
	if err := ctx.Err(); err != nil {
		return err
	}
	if err == nil && v.AccessKeyID != "" && v.SecretAccessKey != "" {
		return nil
	}
	return fmt.Errorf("%w: there are no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile of ~/.aws/credentials "+
		"with AWS_PROFILE, in the stores file or as ?profile=NAME", errors.Join(store.ErrUnavailable, err))
}

// transport keeps a connection for each call that may be under way at once; connecting anew costs more than a small call.
func transport(s settings, header time.Duration) (*http.Transport, error) {
	t, err := minio.DefaultTransport(strings.HasPrefix(s.endpoint, "https:"))
	if err != nil {
		return nil, err
	}
	t.MaxIdleConns, t.MaxIdleConnsPerHost = 512, 256
	t.ResponseHeaderTimeout = header
	t.DialContext = dialer().DialContext
	if s.ca == "" {
		return t, nil
	}
	pem, err := os.ReadFile(s.ca)
	if err != nil {
		return nil, fmt.Errorf("certificates for %s: %w", s.endpoint, err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("certificates for %s: %s holds none", s.endpoint, archive.EscapeText(s.ca))
	}
	if t.TLSClientConfig == nil {
		t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	t.TLSClientConfig.RootCAs = pool
	return t, nil
}

// conditional adds headers that minio-go has no way to set. They need not be signed (Signature Version 4 asks for that only
// of x-amz- headers).
type conditional struct{ *http.Transport }

type headersKey struct{}

// withHeader has a call made under the context bear a header.
func withHeader(ctx context.Context, name, value string) context.Context {
	return context.WithValue(ctx, headersKey{}, [2]string{name, value})
}

// RoundTrip implements http.RoundTripper. A listing that would go on after a garbled name is ended: servers whose tokens are
// names put U+FFFD into them too, and would leave out what is in between.
func (c conditional) RoundTrip(r *http.Request) (*http.Response, error) {
	if garbled(r.URL.Query().Get("continuation-token")) {
		return nil, errSpoilt
	}
	if h, ok := r.Context().Value(headersKey{}).([2]string); ok {
		r = r.Clone(r.Context())
		r.Header.Set(h[0], h[1])
	}
	return c.Transport.RoundTrip(r)
}
