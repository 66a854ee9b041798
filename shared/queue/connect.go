package queue

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// ErrServer is wrapped when Redis answers but cannot be used: too old, or set to throw keys away.
var ErrServer = errors.New("unsuitable Redis server")

const (
	dialTimeout    = 5 * time.Second
	ioTimeout      = 3 * time.Second
	connectTimeout = 15 * time.Second
	// syncTimeout bounds one late write of asynq, see asynqLateWrites.
	syncTimeout = 5 * time.Second
)

// Client is a connection to Redis for everything in this process that talks to it.
type Client = redis.UniversalClient

// Connect returns a client of the Redis at a, for everything in this process that talks to it: queues and live state.
// It checks that Redis answers, is of version 6.2 or newer and has the eviction policy noeviction (anything else would
// throw tasks and claims away); otherwise it wraps [ErrServer]. What cannot be read, which managed services often
// forbid, is a warning for the log.
//
// The client's commands give up after some seconds without an answer, so a dead Redis is an error and never a hang.
// The caller closes the client after everything that uses it has stopped.
func Connect(ctx context.Context, a Address) (client redis.UniversalClient, warnings []string, err error) {
	if a.IsZero() {
		return nil, nil, addressError("it is empty")
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	client = redis.NewUniversalClient(a.options())
	client.AddHook(asynqLateWrites{})
	warnings, err = checkServers(ctx, client)
	if err != nil {
		_ = client.Close()
		return nil, nil, fmt.Errorf("connect to %v: %w", a, err)
	}
	return client, warnings, nil
}

func (a Address) options() *redis.UniversalOptions {
	o := &redis.UniversalOptions{
		Addrs: a.hosts, IsClusterMode: a.topology == cluster, MasterName: a.master, DB: a.db,
		Username: a.user, Password: a.password,
		SentinelUsername: a.sentinelUser, SentinelPassword: a.sentinelPassword,
		DialTimeout: dialTimeout, ReadTimeout: ioTimeout, WriteTimeout: ioTimeout, PoolTimeout: ioTimeout,
		MaxRetries: 2, DialerRetries: 2, ContextTimeoutEnabled: true,
		// A handshake that only Redis' own cloud answers.
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if a.tls {
		o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: a.skipVerify} //nolint:gosec // asked for by skip_verify
	}
	return o
}

// checkServers checks the server, or each master of a cluster.
func checkServers(ctx context.Context, client redis.UniversalClient) ([]string, error) {
	c, ok := client.(*redis.ClusterClient)
	if !ok {
		return checkServer(ctx, client)
	}
	var mu sync.Mutex
	var all []string
	err := c.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
		warnings, err := checkServer(ctx, node)
		mu.Lock()
		defer mu.Unlock()
		all = append(all, warnings...)
		return err
	})
	return all, err
}

func checkServer(ctx context.Context, client redis.Cmdable) (warnings []string, err error) {
	if err := client.Ping(ctx).Err(); err != nil {
		return nil, err
	}
	text, err := client.Info(ctx).Result()
	if err != nil {
		var answer redis.Error
		if !errors.As(err, &answer) {
			return nil, err
		}
		text = ""
	}
	info := parseInfo(text)
	version := info["redis_version"]
	switch {
	case version == "":
		warnings = append(warnings, "the version of Redis cannot be read; it must be 6.2 or newer")
	case !atLeast(version, 6, 2):
		return nil, fmt.Errorf("%w: version %q; want 6.2 or newer", ErrServer, version)
	}
	policy := info["maxmemory_policy"]
	if policy == "" {
		policy = configuredPolicy(ctx, client)
	}
	switch policy {
	case "noeviction":
	case "":
		warnings = append(warnings, "the eviction policy of Redis cannot be read; it must be noeviction, or Redis may drop tasks when its memory is full")
	default:
		return nil, fmt.Errorf("%w: maxmemory-policy is %q, which drops tasks when memory is full; set it to noeviction", ErrServer, policy)
	}
	return warnings, nil
}

// configuredPolicy is "" where CONFIG is forbidden.
func configuredPolicy(ctx context.Context, client redis.Cmdable) string {
	m, err := client.ConfigGet(ctx, "maxmemory-policy").Result()
	if err != nil {
		return ""
	}
	return m["maxmemory-policy"]
}

// parseInfo reads the answer of INFO: lines of name:value.
func parseInfo(text string) map[string]string {
	m := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			m[name] = value
		}
	}
	return m
}

func atLeast(version string, major, minor int) bool {
	a, rest, _ := strings.Cut(version, ".")
	b, _, _ := strings.Cut(rest, ".")
	x, err1 := strconv.Atoi(a)
	y, err2 := strconv.Atoi(b)
	return err1 == nil && err2 == nil && (x > major || x == major && y >= minor)
}

// asynqLateWrites lets asynq acknowledge a finished task after its first try failed.
//
// Asynq v0.25 to v0.26 cancel the context of that first try and then repeat the write every 5 s with the same context
// (processor.go markAsDone, syncer.go), so every repetition fails, and the finished task runs again a minute later. This
// hook gives asynq's scripts a fresh context when theirs has ended. It is safe because asynq drops what it could not
// write before the task's lease ended. Scripts of others, whose keys begin otherwise, are left alone: to them an ended
// context means stop.
type asynqLateWrites struct{}

func (asynqLateWrites) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (asynqLateWrites) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if ctx.Err() == nil || !isAsynqScript(cmd) {
			return next(ctx, cmd)
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), syncTimeout)
		defer cancel()
		return next(ctx, cmd)
	}
}

func (asynqLateWrites) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { return next(ctx, cmds) }
}

// isAsynqScript reports whether cmd is EVAL or EVALSHA (name, script, number of keys, first key, …) on asynq's keys.
func isAsynqScript(cmd redis.Cmder) bool {
	if name := cmd.Name(); name != "eval" && name != "evalsha" {
		return false
	}
	args := cmd.Args()
	if len(args) < 4 {
		return false
	}
	key, ok := args[3].(string)
	return ok && strings.HasPrefix(key, asynqPrefix)
}
