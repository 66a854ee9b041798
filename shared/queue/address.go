package queue

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// ErrAddress is wrapped by every error of [ParseAddress]. Its text never repeats what stood in the address, since that
// may be a password in the wrong place.
var ErrAddress = errors.New("invalid Redis address")

type topology int

const (
	single topology = iota
	sentinel
	cluster
)

// Address says where Redis is and how to log in. The zero Address is invalid. It prints without its passwords.
type Address struct {
	topology   topology
	tls        bool
	skipVerify bool
	user       string
	password   string
	hosts      []string // host:port, or one absolute path of a socket
	master     string   // of a sentinel address
	db         int

	sentinelUser, sentinelPassword string
}

// ParseAddress parses one of
//
//	redis://[user[:password]@]host[:port][/db]                               one server
//	unix://[user[:password]@]/path/redis.sock[?db=n]                         one server, by its socket
//	redis+sentinel://[user[:password]@]host[:port][,host[:port]…]/master     a server found by Sentinels
//	redis+cluster://[user[:password]@]host[:port][,host[:port]…]             a Redis Cluster
//
// A scheme that begins with rediss instead of redis means TLS. Ports default to 6379, those of Sentinels to 26379.
// Special characters in user names and passwords are percent-encoded; user and password are for the servers, not for
// the Sentinels. Options: db=n (not for a cluster), skip_verify=true (TLS without checking certificates),
// sentinel_user=name. "host:port" alone is one server without TLS.
func ParseAddress(text string) (Address, error) {
	if !strings.Contains(text, "://") {
		text = "redis://" + text
	}
	scheme, rest, _ := strings.Cut(text, "://")
	var a Address
	if err := a.setScheme(scheme); err != nil {
		return Address{}, err
	}
	authority, tail := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, tail = rest[:i], rest[i:]
	}
	if strings.Contains(tail, "@") {
		return Address{}, addressError("@ after the host: write / ? # and @ in a user name or password as %%2F %%3F %%23 and %%40")
	}
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		if err := a.setUser(authority[:i]); err != nil {
			return Address{}, err
		}
		authority = authority[i+1:]
	}
	u, err := url.Parse(tail)
	if err != nil || u.Fragment != "" || u.Host != "" {
		return Address{}, addressError("what follows the host is not a path with options")
	}
	if err := a.setPlace(scheme, authority, u.Path); err != nil {
		return Address{}, err
	}
	return a, a.setOptions(u.RawQuery)
}

// AddressFrom parses an address as [ParseAddress] does, with the passwords of Redis and of its Sentinels from the environment:
// RESHELF_REDIS_PASSWORD and RESHELF_REDIS_SENTINEL_PASSWORD. Those are how every program is given them.
func AddressFrom(text string, getenv func(string) string) (Address, error) {
	a, err := ParseAddress(text)
	if err != nil {
		return Address{}, err
	}
	if password := getenv("RESHELF_REDIS_PASSWORD"); password != "" {
		a = a.WithPassword(password)
	}
	if password := getenv("RESHELF_REDIS_SENTINEL_PASSWORD"); password != "" {
		a = a.WithSentinelPassword(password)
	}
	return a, nil
}

func addressError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrAddress, fmt.Sprintf(format, args...))
}

func (a *Address) setScheme(scheme string) error {
	base, kind, _ := strings.Cut(scheme, "+")
	a.tls = base == "rediss"
	switch {
	case scheme == "unix", (base == "redis" || base == "rediss") && kind == "":
		a.topology = single
	case (base == "redis" || base == "rediss") && kind == "sentinel":
		a.topology = sentinel
	case (base == "redis" || base == "rediss") && kind == "cluster":
		a.topology = cluster
	default:
		return addressError("unknown scheme; want redis, rediss, unix, redis+sentinel, rediss+sentinel, redis+cluster or rediss+cluster")
	}
	return nil
}

func (a *Address) setUser(info string) error {
	user, password, _ := strings.Cut(info, ":")
	var err1, err2 error
	a.user, err1 = url.PathUnescape(user)
	a.password, err2 = url.PathUnescape(password)
	if err1 != nil || err2 != nil {
		return addressError("the user name or password is not percent-encoded")
	}
	return nil
}

// setPlace reads the hosts and the path, whose meaning depends on the scheme.
func (a *Address) setPlace(scheme, authority, path string) error {
	if scheme == "unix" {
		if authority != "" || len(path) < 2 {
			return addressError("a socket is unix:///path/redis.sock")
		}
		a.hosts = []string{path}
		return nil
	}
	port := "6379"
	if a.topology == sentinel {
		port = "26379"
	}
	for host := range strings.SplitSeq(authority, ",") {
		hostport, err := withPort(host, port)
		if err != nil {
			return err
		}
		a.hosts = append(a.hosts, hostport)
	}
	if a.topology == single && len(a.hosts) > 1 {
		return addressError("several hosts; want redis+sentinel or redis+cluster as the scheme")
	}
	return a.setPath(strings.TrimPrefix(path, "/"))
}

func (a *Address) setPath(path string) error {
	switch a.topology {
	case sentinel:
		if path == "" || strings.Contains(path, "/") {
			return addressError("want the master's name as the path: redis+sentinel://host1,host2/mymaster")
		}
		a.master = path
	case cluster:
		if path != "" {
			return addressError("a cluster has no path and no databases")
		}
	default:
		return a.setDB(path)
	}
	return nil
}

func (a *Address) setDB(text string) error {
	if text == "" {
		return nil
	}
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return addressError("the database is not a number of at least 0")
	}
	a.db = int(n)
	return nil
}

func (a *Address) setOptions(query string) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return addressError("the options after ? are not name=value, separated by &")
	}
	for name, all := range values {
		value := all[len(all)-1]
		switch {
		case name == "db" && a.topology != cluster:
			if err := a.setDB(value); err != nil {
				return err
			}
		case name == "skip_verify" && a.tls && (value == "true" || value == "false"):
			a.skipVerify = value == "true"
		case name == "sentinel_user" && a.topology == sentinel:
			a.sentinelUser = value
		default:
			return addressError("unknown or unfitting option; there are db=n, skip_verify=true (with TLS) and sentinel_user=name (with Sentinel)")
		}
	}
	return nil
}

// withPort checks one host and adds the port if it has none.
func withPort(text, port string) (string, error) {
	host := text
	if h, p, err := net.SplitHostPort(text); err == nil {
		host, port = h, p
	} else if strings.HasPrefix(text, "[") && strings.HasSuffix(text, "]") {
		host = text[1 : len(text)-1]
	} else if strings.Contains(text, ":") {
		return "", addressError("a host is name, name:port, IPv4, [IPv6] or [IPv6]:port")
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return "", addressError("a port is a number from 1 to 65535")
	}
	if host == "" || strings.ContainsFunc(host, notInHost) {
		return "", addressError("no host, or one with characters that no host has")
	}
	return net.JoinHostPort(host, strconv.FormatUint(n, 10)), nil
}

func notInHost(r rune) bool {
	letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
	return !letter && !strings.ContainsRune(".-_:", r)
}

// WithPassword returns a with the password that came by another way than its text: a file or the environment.
func (a Address) WithPassword(password string) Address {
	a.password = password
	return a
}

// WithSentinelPassword returns a with the password for the Sentinels themselves.
func (a Address) WithSentinelPassword(password string) Address {
	a.sentinelPassword = password
	return a
}

// IsZero reports whether a is the zero Address.
func (a Address) IsZero() bool { return len(a.hosts) == 0 }

// String is the text form with every password as "xxxxx".
func (a Address) String() string {
	if a.IsZero() {
		return ""
	}
	u := url.URL{Scheme: a.scheme(), Host: strings.Join(a.hosts, ",")}
	switch {
	case a.password != "":
		u.User = url.UserPassword(a.user, "xxxxx")
	case a.user != "":
		u.User = url.User(a.user)
	}
	q := url.Values{}
	switch {
	case u.Scheme == "unix":
		u.Host, u.Path = "", a.hosts[0]
		a.addDB(q)
	case a.topology == sentinel:
		u.Path = "/" + a.master
		a.addDB(q)
	case a.topology == single && a.db != 0:
		u.Path = "/" + strconv.Itoa(a.db)
	}
	if a.skipVerify {
		q.Set("skip_verify", "true")
	}
	if a.sentinelUser != "" {
		q.Set("sentinel_user", a.sentinelUser)
	}
	u.RawQuery = q.Encode()
	return u.String()
}

func (a Address) addDB(q url.Values) {
	if a.db != 0 {
		q.Set("db", strconv.Itoa(a.db))
	}
}

// GoString keeps passwords out of %#v.
func (a Address) GoString() string { return "queue.Address(" + a.String() + ")" }

// MarshalText is String: passwords are never written.
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

func (a Address) scheme() string {
	if slices.ContainsFunc(a.hosts, func(h string) bool { return strings.HasPrefix(h, "/") }) {
		return "unix"
	}
	s := "redis"
	if a.tls {
		s = "rediss"
	}
	switch a.topology {
	case sentinel:
		s += "+sentinel"
	case cluster:
		s += "+cluster"
	}
	return s
}
