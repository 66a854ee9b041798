package digest

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"
	"hash/crc32"
	"slices"
	"strings"

	"github.com/minio/crc64nvme"
	"github.com/zeebo/blake3"
	"github.com/zeebo/xxh3"
)

// Algorithm is a hash function. Its String is the stable lower-case name used everywhere.
type Algorithm uint8

// The algorithms. They are stored by name.
const (
	// CRC32 is the CRC of IEEE 802.3, zip and PNG (RFC 1952, section 8; "CRC-32/ISO-HDLC").
	CRC32 Algorithm = 1 + iota
	// CRC32C is the CRC of Castagnoli's polynomial (RFC 3720, section 12.1; "CRC-32/ISCSI").
	CRC32C
	// MD5 is RFC 1321.
	MD5
	// SHA1 is FIPS 180-4, section 6.1.
	SHA1
	// SHA256 is FIPS 180-4, section 6.2.
	SHA256
	// SHA512 is FIPS 180-4, section 6.4.
	SHA512
	// BLAKE3 is the unkeyed hash with 32 bytes of output (https://github.com/BLAKE3-team/BLAKE3-specs).
	BLAKE3
	// XXH364 is XXH3 of 64 bits with seed 0 (https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md).
	XXH364
	// XXH3128 is XXH3 of 128 bits with seed 0, from the same specification.
	XXH3128
	// CRC64NVME is the CRC that S3 keeps of every new object ("CRC-64/NVME"; NVM Express, NVM Command Set Specification 1.0,
	// section 5.2.1.3.4).
	CRC64NVME

	lastAlgorithm = CRC64NVME
)

// Algorithms are all algorithms, in the order in which sets and digests are listed.
func Algorithms() []Algorithm {
	all := make([]Algorithm, 0, lastAlgorithm)
	for a := CRC32; a <= lastAlgorithm; a++ {
		all = append(all, a)
	}
	return all
}

// ParseAlgorithm reads a name as String writes it, in either case of letters.
func ParseAlgorithm(name string) (Algorithm, error) {
	lower := strings.ToLower(name)
	for _, a := range Algorithms() {
		if a.String() == lower {
			return a, nil
		}
	}
	return 0, fmt.Errorf("%w: unknown algorithm %q; want one of %s", ErrInvalid, name, allSet)
}

func (a Algorithm) valid() bool { return a >= CRC32 && a <= lastAlgorithm }

// String is the name, "" if a is none of the constants.
func (a Algorithm) String() string {
	switch a {
	case CRC32:
		return "crc32"
	case CRC32C:
		return "crc32c"
	case MD5:
		return "md5"
	case SHA1:
		return "sha1"
	case SHA256:
		return "sha256"
	case SHA512:
		return "sha512"
	case BLAKE3:
		return "blake3"
	case XXH364:
		return "xxh3-64"
	case XXH3128:
		return "xxh3-128"
	case CRC64NVME:
		return "crc64nvme"
	}
	return ""
}

// Size is the length of a sum in bytes, 0 if a is none of the constants.
func (a Algorithm) Size() int {
	switch a {
	case CRC32, CRC32C:
		return crc32.Size
	case XXH364, CRC64NVME:
		return 8
	case MD5, XXH3128:
		return md5.Size
	case SHA1:
		return sha1.Size
	case SHA256, BLAKE3:
		return sha256.Size
	case SHA512:
		return sha512.Size
	}
	return 0
}

// Cryptographic reports whether equal sums prove equal contents, even where someone tries to forge them: true for
// SHA256, SHA512 and BLAKE3. Collisions of MD5 (RFC 6151) and SHA1 (https://shattered.io) are published, and the CRCs
// and XXH3 were never meant to resist any.
func (a Algorithm) Cryptographic() bool {
	return slices.Contains([]Algorithm{SHA256, SHA512, BLAKE3}, a)
}

// MarshalText implements encoding.TextMarshaler with String.
func (a Algorithm) MarshalText() ([]byte, error) {
	if !a.valid() {
		return nil, fmt.Errorf("%w: no algorithm number %d", ErrInvalid, a)
	}
	return []byte(a.String()), nil
}

// UnmarshalText implements encoding.TextUnmarshaler with ParseAlgorithm.
func (a *Algorithm) UnmarshalText(text []byte) error {
	p, err := ParseAlgorithm(string(text))
	*a = p
	return err
}

// newHash returns the running hash of a valid algorithm.
func (a Algorithm) newHash() hash.Hash {
	switch a {
	case CRC32:
		return crc32.NewIEEE()
	case CRC32C:
		return crc32.New(crc32.MakeTable(crc32.Castagnoli))
	case MD5:
		return md5.New()
	case SHA1:
		return sha1.New()
	case SHA256:
		return sha256.New()
	case SHA512:
		return sha512.New()
	case BLAKE3:
		return blake3.New()
	case XXH364:
		return xxh3.New()
	case XXH3128:
		return xxh3.New128()
	case CRC64NVME:
		return crc64nvme.New()
	}
	panic(fmt.Sprintf("digest: no algorithm number %d", a))
}
