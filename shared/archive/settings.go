package archive

import (
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"
)

// Settings that an S3 root may carry in its query.
const (
	// SettingEndpoint is the server: http:// or https://, a host, and a port if it is not the scheme's own.
	SettingEndpoint = "endpoint"
	// SettingRegion is the region that requests are signed for.
	SettingRegion = "region"
	// SettingPathStyle is "true" where the bucket is part of the path, "false" where it is part of the host name.
	SettingPathStyle = "path-style"
	// SettingCA is the absolute path of a file of certificates (PEM) that the server's is checked against.
	SettingCA = "ca"
	// SettingProfile names the credentials in the shared credentials file.
	SettingProfile = "profile"
)

// Setting is the value of one of the settings of an S3 root, "" if it does not carry it.
func (r Root) Setting(name string) string {
	values, err := url.ParseQuery(r.settings)
	if err != nil { // parseSettings made it
		return ""
	}
	return values.Get(name)
}

// parseSettings checks a query and returns its canonical form: sorted by name, each value escaped but for : and /. Its
// errors do not repeat what it does not know: that may be secrets that do not belong there.
func parseSettings(query string) (string, error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return "", fmt.Errorf("%w: its query cannot be read", ErrRoot)
	}
	names := make([]string, 0, len(values))
	for name, given := range values {
		if err := CheckSetting(name, given[0]); err != nil {
			return "", err
		}
		if len(given) != 1 { // a name that was checked: others may be secrets, too
			return "", fmt.Errorf("%w: the setting %s is there %d times", ErrRoot, name, len(given))
		}
		names = append(names, name)
	}
	slices.Sort(names)
	for i, name := range names {
		names[i] = name + "=" + strings.NewReplacer("%3A", ":", "%2F", "/").Replace(url.QueryEscape(values.Get(name)))
	}
	return strings.Join(names, "&"), nil
}

// CheckSetting reports ErrRoot, without repeating the value, where an S3 root cannot have that setting.
func CheckSetting(name, value string) error {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."
	word := value != "" && len(value) <= 64 && strings.Trim(value, letters) == ""
	ok, want := false, ""
	switch name {
	case SettingEndpoint:
		ok, want = validEndpoint(value), "http://host:port or https://host:port, without user, path or query"
	case SettingRegion:
		ok, want = word, "a name such as us-east-1"
	case SettingProfile:
		ok, want = word, "the name of a profile in the shared credentials file"
	case SettingPathStyle:
		ok, want = value == "true" || value == "false", "true or false"
	case SettingCA:
		ok, want = path.IsAbs(value) && path.Clean(value) == value && !strings.ContainsAny(value, "\x00\n"), "the absolute path of a PEM file"
	default:
		return fmt.Errorf("%w: an s3 archive has no setting of that name; it may have %s, %s, %s, %s and %s, and never credentials", ErrRoot,
			SettingEndpoint, SettingRegion, SettingPathStyle, SettingCA, SettingProfile)
	}
	if !ok {
		return fmt.Errorf("%w: the setting %s is to be %s", ErrRoot, name, want)
	}
	return nil
}

func validEndpoint(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.Hostname() != "" && u.User == nil &&
		s == u.Scheme+"://"+u.Host
}
