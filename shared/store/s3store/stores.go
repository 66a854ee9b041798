package s3store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"go.yaml.in/yaml/v3"

	"github.com/reshelf/reshelf/shared/archive"
)

// Stores are the settings of buckets from a file in YAML:
//
//	buckets:
//	  photos:
//	    endpoint: https://nas.local:9000
//	    region: eu-central-1
//	    pathStyle: true
//	    ca: /etc/reshelf/nas.pem
//	    profile: nas
//	  "*": {endpoint: https://s3.example.org}
//
// The bucket "*" stands for all that are not named. There is no place for credentials in it: profile names a section of
// the shared credentials file.
type Stores struct {
	Buckets map[string]BucketSettings `yaml:"buckets"`
}

// BucketSettings say how a bucket is reached; see the settings of archive.Root. What is empty is taken from elsewhere.
type BucketSettings struct {
	Endpoint  string `yaml:"endpoint"`
	Region    string `yaml:"region"`
	PathStyle string `yaml:"pathStyle"`
	CA        string `yaml:"ca"`
	Profile   string `yaml:"profile"`
}

// maxStores bounds the file, in bytes.
const maxStores = 1 << 20

// ReadStores reads a stores file; "" is a file without buckets. What is wrong in it is told without its values.
func ReadStores(path string) (*Stores, error) {
	if path == "" {
		return &Stores{}, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("stores file: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxStores+1))
	if err != nil {
		return nil, fmt.Errorf("stores file: %w", err)
	}
	if len(text) > maxStores {
		return nil, fmt.Errorf("stores file %s: it is larger than %d bytes", archive.EscapeText(path), maxStores)
	}
	s, err := parseStores(text)
	if err != nil {
		return nil, fmt.Errorf("stores file %s: %w", archive.EscapeText(path), err)
	}
	return s, nil
}

var errStores = errors.New("want buckets: NAME: {endpoint, region, pathStyle, ca, profile}, and nothing else; credentials do not belong there")

func parseStores(text []byte) (*Stores, error) {
	var s Stores
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&s); err != nil && !errors.Is(err, io.EOF) {
		return nil, errStores // the decoder's words repeat what it read
	}
	for name, b := range s.Buckets {
		if err := b.check(); err != nil {
			return nil, fmt.Errorf("bucket %s: %w", archive.EscapeText(name), err)
		}
	}
	return &s, nil
}

// check applies the rules of a root's settings.
func (b BucketSettings) check() error {
	var errs []error
	for name, value := range map[string]string{
		archive.SettingEndpoint: b.Endpoint, archive.SettingRegion: b.Region, archive.SettingPathStyle: b.PathStyle,
		archive.SettingCA: b.CA, archive.SettingProfile: b.Profile,
	} {
		if value != "" {
			errs = append(errs, archive.CheckSetting(name, value))
		}
	}
	return errors.Join(errs...)
}

// of are the settings of a bucket.
func (s *Stores) of(bucket string) BucketSettings {
	if b, ok := s.Buckets[bucket]; ok {
		return b
	}
	return s.Buckets["*"]
}
