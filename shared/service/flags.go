package service

import (
	"errors"
	"flag"
	"fmt"
	"strings"
)

// errUnexpected does not repeat the argument: it may be a URL with a secret in it.
var errUnexpected = errors.New("unexpected argument: everything is set by flags, see --help")

// ParseFlags parses args, and sets each flag that is not among them from its variable: --log-level from RESHELF_LOG_LEVEL. A
// variable is not the default of its flag: usage prints defaults, and an address may hold a password. Arguments that are no
// flags are an error.
func ParseFlags(f *flag.FlagSet, args []string, getenv func(string) string) error {
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() > 0 {
		return errUnexpected
	}
	given := map[string]bool{}
	f.Visit(func(g *flag.Flag) { given[g.Name] = true })
	var errs []error
	f.VisitAll(func(g *flag.Flag) {
		variable := "RESHELF_" + strings.ToUpper(strings.ReplaceAll(g.Name, "-", "_"))
		value := getenv(variable)
		if value == "" || given[g.Name] {
			return
		}
		if err := f.Set(g.Name, value); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", variable, err))
		}
	})
	return errors.Join(errs...)
}
