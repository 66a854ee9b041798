package command

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/listing"
	"github.com/reshelf/reshelf/shared/queue"
)

// defaultPool is the pool of batches that name none, and the only one of this machine.
const defaultPool = "default"

// placeFlags say where batches live and how this machine works.
type placeFlags struct {
	redis, ledger, prefix string
	exiftool, stores      string
	slots                 int
	logLevel              string
	// typed on the command line, rather than from the environment
	redisTyped, ledgerTyped bool
}

func (p *placeFlags) add(root *cobra.Command) {
	f := root.PersistentFlags()
	f.StringVar(&p.redis, "redis", "", "work with a fleet through Redis at `ADDRESS`: redis://, rediss://, redis+sentinel:// or redis+cluster://;\n"+
		"the password may come from RESHELF_REDIS_PASSWORD")
	f.StringVar(&p.ledger, "ledger", "", "directory or `URL` of the ledger (default on this machine: ~/.local/share/reshelf/ledger)")
	f.StringVar(&p.stores, "stores", "", "`FILE` of settings of S3 buckets: endpoint, region, path style, CA, profile")
	f.StringVar(&p.prefix, "prefix", "reshelf", "`PREFIX` of queues and keys in Redis")
	f.StringVar(&p.exiftool, "exiftool", "", "ExifTool's `PROGRAM` (default exiftool from PATH)")
	f.IntVar(&p.slots, "slots", 0, "work on `N` segments at once on this machine (default the number of CPUs)")
	f.StringVar(&p.logLevel, "log-level", "warn", "log from `LEVEL` on: debug, info, warn or error")
}

// shownRedis is the address without its password.
func (p *placeFlags) shownRedis() string {
	if a, err := queue.ParseAddress(p.redis); err == nil {
		return a.WithPassword("").String()
	}
	return p.redis
}

// variable is the environment's name of a flag.
func variable(flag string) string {
	return "RESHELF_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// flagsFromEnvironment sets each flag that was not typed from its variable. Those that can be repeated take one value a line.
func (a *app) flagsFromEnvironment(cmd *cobra.Command) error {
	a.place.redisTyped, a.place.ledgerTyped = cmd.Flags().Changed("redis"), cmd.Flags().Changed("ledger")
	var errs []error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		value := a.env.Getenv(variable(f.Name))
		if f.Changed || value == "" || f.Name == "help" {
			return
		}
		values := []string{value}
		if _, many := f.Value.(pflag.SliceValue); many {
			values = strings.Split(strings.TrimSpace(value), "\n")
		}
		for _, v := range values {
			if err := cmd.Flags().Set(f.Name, v); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", variable(f.Name), err))
			}
		}
	})
	return errors.Join(errs...)
}

// submission are the flags of all commands that make batches over an archive.
type submission struct {
	include, exclude         []string
	all                      bool
	manifest, manifestFormat string
	trustStoreChecksums      bool
	columns                  []string      // of the manifest that are read besides keys
	keys                     []archive.Key // a manifest of what stands on the command line
	batchFlags
}

// batchFlags are the flags of all commands that make batches.
type batchFlags struct {
	pool, priority, name, note string
	labels                     []string
	detach, json               bool
	assumeSingleWriter         bool
	removeEmptyFolders         bool
}

func (s *submission) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVar(&s.include, "include", nil, "take only objects that match `GLOB`; ** spans folders; may be repeated")
	f.StringArrayVar(&s.exclude, "exclude", nil, "leave out objects and folders that match `GLOB`; may be repeated")
	f.BoolVar(&s.all, "all", false, "take what is left out by default: "+strings.Join(listing.DefaultExclusions(), " "))
	f.StringVar(&s.manifest, "manifest", "", "take the keys that are listed in `FILE` (- for standard input) instead of the whole archive")
	f.StringVar(&s.manifestFormat, "manifest-format", string(listing.FormatAuto), fmt.Sprintf("`FORMAT` of the manifest: one of %v", listing.Formats()))
	f.BoolVar(&s.trustStoreChecksums, "trust-store-checksums", false,
		"take digests that the store keeps of whole objects (S3) from it, without reading the object where nothing else is needed;\n"+
			"where it is read, compare")
	s.batchFlags.add(cmd)
}

func (s *batchFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.pool, "pool", defaultPool, "`POOL` of workers that can reach the archive")
	f.StringVar(&s.priority, "priority", string(batch.Normal), fmt.Sprintf("one of %v", batch.Priorities()))
	f.StringVar(&s.name, "name", "", "`NAME` of the batch")
	f.StringVar(&s.note, "note", "", "a `NOTE` kept with the batch")
	f.StringArrayVar(&s.labels, "label", nil, "a `LABEL` kept with the batch; may be repeated")
	f.BoolVar(&s.detach, "detach", false, "on a fleet: do not wait, print the batch's id")
	f.BoolVar(&s.json, "json", false, "print the result as JSON")
}

// addSingleWriter adds the flag of commands that rename.
func (s *batchFlags) addSingleWriter(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&s.assumeSingleWriter, "assume-single-writer", false,
		"rename also where it is safe only as long as nobody else writes to the archive")
	cmd.Flags().BoolVar(&s.removeEmptyFolders, "remove-empty-folders", false,
		"remove the folders that objects were moved out of, if nothing is left in them")
}

// choice checks a flag that takes one of a few values.
func choice[T ~string](cmd *cobra.Command, flag string, value string, of []T) (T, error) {
	for _, v := range of {
		if string(v) == value {
			return v, nil
		}
	}
	return "", badUsage(cmd, "--%s %q: want one of %v", flag, value, of)
}

// completions of a flag's values.
func completeWith[T ~string](cmd *cobra.Command, flag string, values []T) {
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = string(v)
	}
	// The error says that there is no such flag.
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(texts, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err)
	}
}
